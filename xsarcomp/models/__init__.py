"""Systems that can be trained, each in a folder of its own that no other system knows.

* `config` reads the TOML file of a training, `registry` finds the system that it names, `fitting` does what all share.
* `refiner/`: the default codec, its network at stride 8 and everything that a model file freezes.
* `classic/`: the convolutional autoencoder with a bottleneck, for comparison.

The room may import training and everything below it; neither benchmarks nor the accessors. Systems do not import each other.
"""
