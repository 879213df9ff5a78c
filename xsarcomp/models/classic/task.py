"""Train the classic autoencoder with the loop of every model, and write its model file.

The radiometry comes from the training split, as for the default codec: the range that the sigmoid spans is that of all
training values, so that bright targets are not cut. Beside the loss, validation watches what the loss does not see: the
ratio of the number of looks, the edges, the error in dB, the bits.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xsarcomp.metrics.fidelity import edge_preservation
from xsarcomp.metrics.speckle import enl_ratio
from xsarcomp.models.classic.model_file import ClassicCard, classic_model_bytes
from xsarcomp.models.classic.network import STRIDE, ClassicAutoencoder
from xsarcomp.models.config import TrainConfig
from xsarcomp.models.fitting import Report, fit, training_record, write_model
from xsarcomp.training.loop import latent_statistics
from xsarcomp.training.patches import fixed_batches
from xsarcomp.training.planes import Plane

VALIDATION_STEPS = (0.1, 0.3, 1.0)
"""Quantization steps of the validation; what is watched beside the loss is measured at the second."""
VALIDATION_PATCHES = 32


def train_classic(
    config: TrainConfig, train: Sequence[Plane], validation: Sequence[Plane], *, resume: bool, report: Report
) -> Path:
    """Train, and write the model file and its JSON file.

    Parameters
    ----------
    config : TrainConfig
        Of architecture "classic".
    train, validation : sequence of Plane
    resume : bool
        Go on from the last checkpoint in the output folder.
    report : callable
        Receives lines about the progress.

    Returns
    -------
    Path
        The written model file.
    """
    card = _card(config, train)
    report(f"0 to 1 is {card.lowest_db:g} to {card.highest_db:g} dB; the mean is {card.offset_db:g} dB")
    model = ClassicAutoencoder(config.network, card.lowest_db, card.highest_db)
    batches = fixed_batches(validation, config.patches.patch, batch=4, limit=VALIDATION_PATCHES)

    def validate(averaged: ClassicAutoencoder) -> dict[str, Any]:
        return _validate(averaged, batches)

    metadata = {"name": config.name, "architecture": config.architecture, "card": asdict(card)}
    fit(model, config, train, validate, metadata, resume=resume, report=report)
    with torch.inference_mode():
        watched = _validate(model.eval(), batches)
    measured = {name: value for name, value in watched.items() if isinstance(value, float) and math.isfinite(value)}
    content = classic_model_bytes(card, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    record = {"training": training_record(config, train, validation), "validation": measured}
    write_model(config, config.name, content, {"architecture": config.architecture, **record})
    return config.output / f"{config.name}.safetensors"


def _card(config: TrainConfig, planes: Sequence[Plane]) -> ClassicCard:
    """Range and mean of the training split, in whole decibels outward."""
    values = np.concatenate([plane.decibel[plane.valid] for plane in planes])
    return ClassicCard(
        name=config.name,
        network=asdict(config.network),
        offset_db=round(float(values.mean(dtype=np.float64)), 1),
        lowest_db=float(math.floor(values.min())),
        highest_db=float(math.ceil(values.max())),
    )


def _validate(model: ClassicAutoencoder, batches: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
    """Loss over fixed patches and steps, and what is watched beside it; pictures and latents for TensorBoard."""
    measured: dict[str, Any] = {}
    for step in VALIDATION_STEPS:
        losses = [model.loss_at(torch.from_numpy(batch), step)["loss"].item() for batch in batches]
        measured[f"loss_{step}"] = float(np.average(losses, weights=[len(batch) for batch in batches]))
    measured["loss"] = float(np.mean([measured[f"loss_{step}"] for step in VALIDATION_STEPS]))
    step = VALIDATION_STEPS[1]
    patches = np.concatenate(batches)
    rounded = [torch.round(model.encode(torch.from_numpy(batch)) / step) for batch in batches]
    restored = np.concatenate([model.decibel(model.decode(step * integers)).numpy() for integers in rounded])
    integers = torch.cat(rounded).numpy()
    measured |= watched_figures(patches, restored)
    measured["bits_per_pixel"] = entropy_bits(integers) * integers.shape[1] / STRIDE**2
    measured |= latent_statistics(torch.from_numpy(step * integers))
    low, high = np.percentile(patches[0], [1, 99])
    pictures = {"original": patches[0], "restored": restored[0]}
    measured["images"] = {name: np.clip((image - low) / (high - low), 0, 1) for name, image in pictures.items()}
    measured["histograms"] = {"latents": step * integers.reshape(-1)}
    return measured


def watched_figures(patches_db: NDArray[np.float32], restored_db: NDArray[np.float32]) -> dict[str, float]:
    """What the loss does not see.

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


def entropy_bits(integers: NDArray) -> float:
    """Empirical entropy of integers of shape (tile, channel, y, x), bits each, every channel with its own frequencies."""
    entropies = []
    for channel in integers.swapaxes(0, 1):
        shares = np.unique(channel, return_counts=True)[1] / channel.size
        entropies.append(-(shares * np.log2(shares)).sum())
    return float(np.mean(entropies))
