"""Metrics of backscatter before and after compression. NumPy arrays in, numbers out; imports nothing of the package but errors.

- ``fidelity``: errors in dB, radiometric bias, PSNR, SSIM, edges.  ``structure``: multiscale SSIM, semivariograms, EPD-ROA.
- ``speckle``: looks (ENL) and the ratio image.  ``distribution``: Kolmogorov-Smirnov distance, biases of windows.
- ``point_targets``: peaks of strong scatterers.  ``maps``: water and change maps.
- ``rate_distortion``: error against bits per pixel, BD-rate.  ``arguments``: checks of arguments.

No metric calls the conversions of the codec: it must not share the faults of what it measures.
"""
