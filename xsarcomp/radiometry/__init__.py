"""Radiometry of backscatter: scales, decibels, invalid pixels. NumPy only; imports nothing of the package but errors.

- ``scales``: power, decibel or amplitude, inferred from texts and values.
- ``pixel_classes``: valid pixels, the kinds of invalid ones, and their exact return.
- ``decibel``: backscatter to the signal of the codec and back.
- ``filling``: invalid pixels of the signal, filled from their neighbors.
- ``speckle_statistics``: looks, correlation and level of flat windows.
- ``domain``: usual ranges of these statistics in training data, and deviations from them.
"""
