"""Inner loops of the codec, compiled by numba: flat arrays in, integers and float32 of defined bits out.

compile (how kernels are made and cached), contexts and signs (probabilities), trellis (cheapest paths), range_coder and
residuals (words and bits), channels (all channels of a chunk in one call), decoder (between symbols and latents), speckle
(synthetic speckle). Kernels import constants of the codec and each other; only compile imports numba.
"""
