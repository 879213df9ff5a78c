"""Learned compression of Sentinel-1 backscatter for xarray, Dask and Zarr.

``import xsarcomp`` registers ``.sarcomp`` on DataArray and Dataset. The way of one array, and the file of each step::

    cli, demo         the commands: cli_output
    accessor          .sarcomp.encode, decode, encoding, to_zarr, compare, info: dataset_accessor, array_accessor
    stores            what a compressed store holds, and its sizes: description
    files             scenes and stores by the kind of their path
    stored_writing    datasets into Zarr stores, block by block: stored_resuming
    verification      is a store sound: store_checks, chunk_checks
    backend           xr.open_dataset(store, engine="sarcomp")
    latents           datasets to datasets of latents
    restoration       ... and back
    joining           ... that are joined with earlier ones: plane_coding
    correction_parts  residuals and gains of both
    overview          ... to a quicklook: coarse_grid
    transparent       encodings of plain stores
    plan              what is encoded, with which step: variables, record, record_json, sampling, rate_control
    windows           lazy arrays, one Dask task a block
    codec_zarr, codec_numcodecs, codec_checks      codecs for Zarr format 3 and 2
    stored_groups, stored_chunks      what lies in a Zarr store, object by object
    manifest          what belongs into each chunk
    weights           model name or id -> verified coder; classic_weights: the autoencoder for comparison
    models/           torch networks
    chunk, integers_chunk      one stored chunk <-> bytes: frame_checks, verbatim
    block             one window of a scene <-> symbols
    calm_speckle, speckle_restoration, speckle_keys      speckle: its spectrum, and made up again on request
    coder             a ready model: analysis, quantization, reconstruction
    corrections       what keeps a promise: error_bound, tile_means
    radiometry        scales and decibels: scale_inference, pixel_classes, filling
    lapped            the transform
    quantization      latents <-> points
    trellis           points <-> symbols
    entropy_coding    symbols <-> bytes: contexts, signs, range_coder, entropy_tables
    residual_coding   planes of small integers <-> bytes
    channel_coding    all channels in one call: channel_kernels
    kernels, sign_kernels, trellis_kernels, range_kernels, residual_kernels, decoder_kernels, speckle_kernels
                      compiled inner loops: compiled
    bitstream         frame, checksums, limits; sections: its classes and exact values
    input_check       does the input look like the training data: domain_check
    model_card, model_arrays, tiling, errors
    pretrained/       models that ship with the package
    training/         patches, tables, one loop for every model
    evaluation/       metrics, baselines, simulation

``docs/architecture.md`` says which file may import which.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from xsarcomp import accessor as _array_accessor  # registers .sarcomp
from xsarcomp import accessor as _dataset_accessor
from xsarcomp.errors import DomainWarning, SarcompError

try:
    __version__ = _version("xsarcomp")
except _PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["DomainWarning", "SarcompError", "__version__"]

del _array_accessor, _dataset_accessor
