"""The network that refines latents, in exact integer arithmetic; the only room of the codec that imports torch.

config (sizes), arithmetic (input levels, and roundings that training shares), layers (steps between convolutions and
memory), network (the network on the processor), gpu (the same bits on a GPU), coder (the network behind the interface of the
codec). May import the codec's other files and kernels, but neither models nor training.
"""
