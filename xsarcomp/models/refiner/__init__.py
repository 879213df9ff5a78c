"""The default codec in training: from planes to the two model files, with its network and without.

`task` trains and writes them. `tables` and `sign_tables` fit the entropy coder, `network` is what gradients train and `export`
turns it into integers, `gate` measures corrections, texture gains and the curves of rate and error, `domain` the usual range
of the training data. `speckle_law` fits the constants of restored speckle; it is run by hand.

May import models.config, models.fitting, training and below; no other system.
"""
