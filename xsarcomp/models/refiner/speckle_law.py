"""Fit the constants of synthetic speckle (:mod:`xsarcomp.codec.speckle`) to planes of a training split.

The three functions compute, in this order, ``USUAL_CALM_VARIANCES_DB2``, ``coarsest`` and ``others``, and ``shares``::

    planes = load_planes(root, [SceneSource(pattern="train/grd_decibel/*.tif", scale="decibel")])
    coder = load_coder("s1-grd-10m")
    print(usual_calm_variances(coder, planes), missing_shares(coder, planes, step_db=8.0))
    print([share_for_looks(coder, planes, step_db) for step_db in LAW.steps_db])
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.lapped import BLOCK, OVERLAP
from xsarcomp.codec.speckle import LAW, POINT_CLASSES, Speckle
from xsarcomp.codec.speckle_spectrum import calm_variances, energies, latents_inside
from xsarcomp.codec.window import decode_planes, encode_planes
from xsarcomp.metrics.speckle import enl_ratio
from xsarcomp.radiometry.filling import round_to_signal_steps
from xsarcomp.training.planes import Plane

LOOKS_RATIO = 0.98
"""ENL ratio that shares aim at: slightly too much speckle is better than smoothed windows in some scenes."""
SATURATED = 4.0
"""Smallest ratio of the calm variance to the largest missing one at which a channel counts for ``coarsest``."""


def usual_calm_variances(coder: LappedCoder, planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Median over planes of the calm variances, made symmetric in the two directions.

    Parameters
    ----------
    coder : LappedCoder
    planes : sequence of Plane
        Those without calm latents are ignored.

    Returns
    -------
    ndarray of float64, shape (vertical=8, horizontal=8), dB2
    """
    calm_of_planes = [_calm_variances(coder, plane) for plane in planes]
    usual = np.median([calm for calm in calm_of_planes if calm is not None], axis=0).reshape(BLOCK, BLOCK)
    return (usual + usual.T) / 2


def missing_shares(coder: LappedCoder, planes: Sequence[Plane], step_db: float) -> NDArray[np.float64]:
    """Mean squared difference of latents and restored latents in squared steps.

    Parameters
    ----------
    coder : LappedCoder
    planes : sequence of Plane
    step_db : float

    Returns
    -------
    ndarray of float64, shape (trellis=2, POINT_CLASSES)
        Channels without and with trellis; NaN where there are none. For points 0, only of channels whose variance is far
        above that of latents that are quantized to 0.
    """
    trellised = coder.trellised(step_db)
    squared, count = np.zeros((2, POINT_CLASSES)), np.zeros((2, POINT_CLASSES))
    for plane in planes:
        latents, calm = _latents(coder, plane), _calm_variances(coder, plane)
        if calm is None:
            continue
        points = coder.points(encode_planes(_signal(coder, plane), coder, step_db), step_db)
        restored = coder.restore(points, step_db)
        beyond = (points.shape[2] - restored.shape[2]) // 2
        inside = (..., slice(beyond, points.shape[2] - beyond), slice(beyond, points.shape[3] - beyond))
        error = (latents[inside] - restored) ** 2 / step_db**2
        classes = np.minimum(np.abs(points[inside]), POINT_CLASSES - 1)
        for channel in range(1, len(calm)):
            of_channel = classes[:, channel].ravel()
            is_counted = (of_channel > 0) | (calm[channel] > SATURATED * LAW.coarsest[0] * step_db**2)
            of_channel, errors = of_channel[is_counted], error[:, channel].ravel()[is_counted]
            row = int(trellised[channel])
            squared[row] += np.bincount(of_channel, errors, minlength=POINT_CLASSES)
            count[row] += np.bincount(of_channel, minlength=POINT_CLASSES)
    return np.divide(squared, count, out=np.full(squared.shape, np.nan), where=count > 0)


def share_for_looks(coder: LappedCoder, planes: Sequence[Plane], step_db: float, target: float = LOOKS_RATIO) -> float:
    """Find, by bisection, the share of the missing variance at which the median ENL ratio over planes is the target.

    It is one share for all frequencies; the split into low and high ones was chosen around it, by the semivariogram.

    Parameters
    ----------
    coder : LappedCoder
    planes : sequence of Plane
        Those without calm latents are ignored.
    step_db : float
    target : float
        Ratio of the number of looks after decoding to that of the original.

    Returns
    -------
    float
        0 to 2.
    """
    coded = [(plane, encode_planes(_signal(coder, plane), coder, step_db)) for plane in planes]
    calm = [_calm_variances(coder, plane) for plane in planes]

    def looks(share: float) -> float:
        law = replace(LAW, steps_db=(step_db,), shares=(((share,), (share,)),) * 2)
        ratios = []
        for number, ((plane, symbols), variances) in enumerate(zip(coded, calm, strict=True)):
            if variances is None:
                continue
            speckle = Speckle(keys=np.array([number], np.uint64), calm_db2=variances, law=law)
            height, width = (BLOCK * size for size in symbols.shape[2:])
            restored = decode_planes(symbols, (height, width), coder, step_db, speckle)[0]
            original_power = 10 ** (plane.decibel[:height, :width].astype(np.float64) / 10)
            restored_power = 10 ** (restored.astype(np.float64) / 10)
            ratios.append(enl_ratio(original_power, restored_power, plane.valid[:height, :width]))
        return float(np.median(ratios))

    low, high = 0.0, 2.0
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if looks(middle) > target else (low, middle)
    return (low + high) / 2


def _signal(coder: LappedCoder, plane: Plane) -> NDArray[np.float64]:
    """Whole blocks of a plane as a signal, shape (1, y, x)."""
    height, width = (size // BLOCK * BLOCK for size in plane.decibel.shape)
    return round_to_signal_steps(plane.decibel[None, :height, :width].astype(np.float64) - coder.card.offset_db)


def _latents(coder: LappedCoder, plane: Plane) -> NDArray[np.float64]:
    """Latents of all whole blocks of a plane, shape (1, latent=64, y_latent, x_latent), mirrored at the edges."""
    around = (OVERLAP, OVERLAP)
    return coder.analyze(np.pad(_signal(coder, plane), ((0, 0), around, around), mode="symmetric"))


def _calm_variances(coder: LappedCoder, plane: Plane) -> NDArray[np.float64] | None:
    """Variances of the calm latents of one plane, shape (latent=64,), dB2; None if it has too few of them."""
    signal = _signal(coder, plane)
    valid = plane.valid[None, : signal.shape[1], : signal.shape[2]]
    calm = calm_variances(energies(*latents_inside(signal, valid, coder)))
    return None if calm is None else np.array(calm)
