"""The classic convolutional autoencoder: a bottleneck of 16 x 16 x C latents for 256 x 256 pixels, for comparison.

`network` is its module and loss, `task` trains it, `model_file` stores and loads it, `codec` applies it to planes of any size.
Decision 0014 says why no store takes it yet.

May import models.config, models.fitting, training and below; no other system.
"""
