"""Train the classic autoencoder with the common loop, and write its model file.

The radiometry comes from the training split, as for the default codec: the sigmoid spans the range of all training values,
so that bright targets are not clipped. Beside the loss, validation measures metrics that the loss does not contain: the
ratio of the number of looks, the edges, the error in dB, the bits.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xsarcomp.metrics.fidelity import edge_preservation
from xsarcomp.metrics.speckle import enl_ratio
from xsarcomp.models.classic.model_file import ClassicCard, classic_model_bytes
from xsarcomp.models.classic.network import STRIDE, ClassicAutoencoder, ClassicConfig
from xsarcomp.models.config import TrainConfig
from xsarcomp.models.fitting import ReportLine, fit, training_record, write_model
from xsarcomp.training.interfaces import ValidationResult
from xsarcomp.training.monitoring import latent_health
from xsarcomp.training.patches import fixed_batches
from xsarcomp.training.planes import Plane

VALIDATION_STEPS = (0.1, 0.3, 1.0)
"""Quantization steps of the validation; metrics beside the loss are measured at the second."""
VALIDATION_PATCHES = 32
"""Most patches of the validation."""


def train_classic(
    config: TrainConfig[ClassicConfig],
    train_planes: Sequence[Plane],
    validation_planes: Sequence[Plane],
    *,
    resume: bool,
    report: ReportLine,
) -> Path:
    """Train a classic autoencoder, and write its model file and its JSON file.

    Parameters
    ----------
    config : TrainConfig of ClassicConfig
    train_planes, validation_planes : sequence of Plane
    resume : bool
        Resume from the last checkpoint in the output folder.
    report : callable
        Receives lines about the progress.

    Returns
    -------
    Path
        The written model file.
    """
    card = _card(config, train_planes)
    report(f"0 to 1 is {card.lowest_db:g} to {card.highest_db:g} dB; the mean is {card.offset_db:g} dB")
    model = ClassicAutoencoder(config.network, card.lowest_db, card.highest_db)
    batches = fixed_batches(validation_planes, config.patches.patch, batch=4, limit=VALIDATION_PATCHES)

    def validate(averaged: ClassicAutoencoder) -> ValidationResult:
        return _validate(averaged, batches)

    metadata = {"name": config.name, "architecture": config.architecture, "card": asdict(card)}
    fit(model, config, train_planes, validate, metadata, resume=resume, report=report)
    with torch.inference_mode():
        scalars = _validate(model.eval(), batches).scalars
    content = classic_model_bytes(card, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    entries = {
        "architecture": config.architecture,
        "training": training_record(config, train_planes, validation_planes),
        "validation": {name: value for name, value in scalars.items() if math.isfinite(value)},
    }
    write_model(config, config.name, content, entries)
    return config.output / f"{config.name}.safetensors"


def _card(config: TrainConfig[ClassicConfig], planes: Sequence[Plane]) -> ClassicCard:
    """Card with the mean and the range of the training split; the range in whole decibels, rounded outward."""
    values = np.concatenate([plane.decibel[plane.valid] for plane in planes])
    return ClassicCard(
        name=config.name,
        network=asdict(config.network),
        offset_db=round(float(values.mean(dtype=np.float64)), 1),
        lowest_db=float(math.floor(values.min())),
        highest_db=float(math.ceil(values.max())),
    )


def _validate(model: ClassicAutoencoder, batches: Sequence[NDArray[np.float32]]) -> ValidationResult:
    """Measure loss and metrics over fixed patches and steps, with pictures and latents for TensorBoard."""
    scalars: dict[str, float] = {}
    for step in VALIDATION_STEPS:
        losses = [model.loss_at(torch.from_numpy(batch), step)["loss"].item() for batch in batches]
        scalars[f"loss_{step}"] = float(np.average(losses, weights=[len(batch) for batch in batches]))
    scalars["loss"] = float(np.mean([scalars[f"loss_{step}"] for step in VALIDATION_STEPS]))
    step = VALIDATION_STEPS[1]
    patches = np.concatenate(batches)
    symbols_of_batches = [torch.round(model.encode(torch.from_numpy(batch)) / step) for batch in batches]
    restored = np.concatenate([model.decibel(model.decode(step * symbols)).numpy() for symbols in symbols_of_batches])
    symbols = torch.cat(symbols_of_batches).numpy()
    scalars |= validation_metrics(patches, restored)
    scalars["bits_per_pixel"] = entropy_bits(symbols) * symbols.shape[1] / STRIDE**2
    scalars |= latent_health(torch.from_numpy(step * symbols))
    low, high = np.percentile(patches[0], [1, 99])
    planes = {"original": patches[0], "restored": restored[0]}
    images = {name: np.clip((plane - low) / (high - low), 0, 1) for name, plane in planes.items()}
    return ValidationResult(scalars=scalars, images=images, histograms={"latents": step * symbols.reshape(-1)})


def validation_metrics(patches_db: NDArray[np.float32], restored_db: NDArray[np.float32]) -> dict[str, float]:
    """Measure errors, speckle and edges, which the loss does not contain.

    Parameters
    ----------
    patches_db, restored_db : ndarray of float32, shape (patch, y, x), dB

    Returns
    -------
    dict of str to float
        "rmse_db" and "bias_db" (of the mean in dB) over all pixels; "enl_ratio", median over the patches; "edges", mean of
        the edge preservation.
    """
    error = restored_db.astype(np.float64) - patches_db
    pairs = [(patch.astype(np.float64), restored) for patch, restored in zip(patches_db, restored_db, strict=True)]
    valid = np.ones(patches_db.shape[1:], bool)
    looks = [enl_ratio(10 ** (first / 10), 10 ** (second.astype(np.float64) / 10), valid) for first, second in pairs]
    return {
        "rmse_db": float(np.sqrt((error**2).mean())),
        "bias_db": float(error.mean()),
        "enl_ratio": float(np.median(looks)),
        "edges": float(np.mean([edge_preservation(first, second, valid) for first, second in pairs])),
    }


def entropy_bits(symbols: NDArray) -> float:
    """Compute the empirical entropy of symbols, with frequencies of its own for each latent channel.

    Parameters
    ----------
    symbols : ndarray of integers in any dtype, shape (tile, latent, y, x)

    Returns
    -------
    float
        Bits for each symbol.
    """
    entropies = []
    for channel in symbols.swapaxes(0, 1):
        shares = np.unique(channel, return_counts=True)[1] / channel.size
        entropies.append(-(shares * np.log2(shares)).sum())
    return float(np.mean(entropies))
