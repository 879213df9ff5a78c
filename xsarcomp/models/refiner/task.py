"""Train a codec from a configuration file: radiometry, tables, network, gate, model files.

``xsarcomp train CONFIG`` runs :func:`train_refiner`. The order is that of what depends on what: the level of the signal comes
from the training split; the lapped transform gives latents; their statistics are frozen into tables; with the tables
the encoder's symbols are known, and the network learns to refine exactly those; the mean correction is measured last.
The result is two model files, with and without the network, and a report of both on the validation scenes.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import QUANTIZER_REACH, LappedCoder
from xsarcomp.codec.entropy_tables import EntropyTables
from xsarcomp.codec.model_card import ModelCard
from xsarcomp.codec.model_file import coder_from_bytes, model_bytes
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.models.config import TrainConfig
from xsarcomp.models.fitting import Report, fit, training_record, write_model
from xsarcomp.models.refiner.domain import domain_entry
from xsarcomp.models.refiner.export import integer_arrays
from xsarcomp.models.refiner.gate import gate, mean_corrections, texture_gains
from xsarcomp.models.refiner.network import LappedAutoencoder
from xsarcomp.models.refiner.tables import ANCHOR_STEPS_DB, fit_tables
from xsarcomp.radiometry.filling import round_to_signal_steps
from xsarcomp.training.checkpoint import write_atomically
from xsarcomp.training.loop import latent_statistics
from xsarcomp.training.patches import fixed_batches
from xsarcomp.training.planes import Plane

_log = logging.getLogger(__name__)

VALIDATION_STEPS_DB = (0.7, 1.7, 4.0, 9.6)


def train_refiner(
    config: TrainConfig, train_planes: list[Plane], validation_planes: list[Plane], *, resume: bool, report: Report
) -> Path:
    """Train, gate and write the default codec, with its network and without.

    Parameters
    ----------
    config : TrainConfig
    train_planes, validation_planes : list of Plane
    resume : bool
        Go on from the last checkpoint in the output folder.
    report : callable
        Receives lines about the progress.

    Returns
    -------
    Path
        The written model file, beside its JSON file and those of the profile without the network.
    """
    card = _radiometry(config, train_planes)
    report(f"signal 0 is {card.offset_db:.2f} dB; values from {card.lowest_db:.1f} to {card.highest_db:.1f} dB")
    linear = _linear_coder(config, card, train_planes, resume, report)
    network = _train_network(config, linear, train_planes, validation_planes, resume, report)
    card = dataclasses.replace(
        card,
        name=config.name,
        architecture="lapped-residual",
        network={"channels": config.network.channels, "blocks": config.network.blocks},
    )
    coder = _calibrated(card, (linear.basis, linear.tables, linear.shifts, network), train_planes)
    results = gate({coder.card.name: coder, linear.card.name: linear}, validation_planes)
    for line in results.lines():
        report(line)
    training = training_record(config, train_planes, validation_planes)
    record = {"training": training, **domain_entry(train_planes, config.patches.augmentation.gain_db)}
    for finished, arrays in ((linear, None), (coder, network)):
        content = model_bytes(finished.card, finished.basis, finished.tables, finished.shifts, arrays)
        write_model(config, finished.card.name, content, {**record, "validation": results.record(finished.card.name)})
    return config.output / f"{config.name}.safetensors"


def _radiometry(config: TrainConfig, planes: list[Plane]) -> ModelCard:
    """Card of the linear profile with the parameters of the dB signal, from the training split alone."""
    values = np.concatenate([plane.decibel[plane.valid] for plane in planes])
    return ModelCard(
        name=f"{config.name}-lapped",
        architecture="lapped",
        network=None,
        offset_db=round(float(values.mean(dtype=np.float64)), 1),
        lowest_db=float(values.min()),
        highest_db=float(values.max()),
        anchor_steps_db=ANCHOR_STEPS_DB,
        lagrangian=config.lagrangian,
        mean_corrections_db=(0.0,) * len(ANCHOR_STEPS_DB),
        texture_gains=(1.0,) * len(ANCHOR_STEPS_DB),
    )


def plane_latents(plane: Plane, offset_db: float, basis: NDArray[np.int32]) -> NDArray[np.float64]:
    """Latents of all whole blocks of a plane, shape (1, latent=64, y_latent, x_latent), mirrored at the edges."""
    signal = round_to_signal_steps(plane.decibel.astype(np.float64) - offset_db)
    height, width = (size // lapped.BLOCK * lapped.BLOCK for size in signal.shape)
    padded = np.pad(signal[:height, :width], lapped.OVERLAP, mode="symmetric")
    return lapped.analyze(padded[None], basis)


def _linear_coder(config, card: ModelCard, planes: list[Plane], resume: bool, report) -> LappedCoder:
    """Coder without a network: tables and reconstruction points from the training split."""
    path = config.output / f"{card.name}.safetensors"
    if resume and path.is_file():
        return coder_from_bytes(path.read_bytes())
    basis = lapped.lapped_basis()
    latents = [plane_latents(plane, card.offset_db, basis) for plane in planes]
    fitted, found = [], fit_tables(latents, config.lagrangian)
    for step_db, (arrays, shifts, _symbols) in zip(ANCHOR_STEPS_DB, found, strict=True):
        report(f"tables for a step of {step_db:.2f} dB")
        fitted.append((arrays, shifts))
    tables = EntropyTables(**{name: np.stack([arrays[name] for arrays, _ in fitted]) for name in EntropyTables.names()})
    shifts = np.stack([shifts for _, shifts in fitted])
    linear = _calibrated(card, (basis, tables, shifts), planes)
    write_atomically(path, model_bytes(linear.card, basis, tables, shifts))
    return linear


def encoder_quantizer(coder: LappedCoder):
    """What the network trains on: input and latents restored from the symbols that the encoder would choose."""

    def quantizer(latents: NDArray[np.float64], step_db: float) -> tuple[NDArray[np.int8], NDArray[np.float32], int]:
        points = coder.points(coder.quantize(latents, step_db), step_db)
        levels = input_levels(points, step_db, coder.trellised(step_db))
        return levels, coder.restore(points, step_db), QUANTIZER_REACH

    return quantizer


def _train_network(config: TrainConfig, linear: LappedCoder, train_planes, validation_planes, resume: bool, report):
    """Integer arrays of the network with the lowest validation loss."""
    model = LappedAutoencoder(config.network, encoder_quantizer(linear), linear.card.offset_db)
    batches = fixed_batches(validation_planes, config.patches.patch, batch=4, limit=32)
    metadata = {"name": config.name, "radiometry": {"offset_db": linear.card.offset_db}, "linear": linear.model_id}

    def validate(averaged: LappedAutoencoder) -> dict[str, Any]:
        return _validate(averaged, batches)

    fit(model, config, train_planes, validate, metadata, resume=resume, report=report)
    return integer_arrays(model.refiner)


@torch.no_grad()
def _validate(model: LappedAutoencoder, batches: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Mean loss over fixed patches and steps, with pictures and statistics of the latents for TensorBoard."""
    measured: dict[str, Any] = {}
    for step_db in VALIDATION_STEPS_DB:
        losses = [model.loss_at(torch.from_numpy(batch), step_db)["loss"].item() for batch in batches]
        measured[f"loss_{step_db}"] = float(np.mean(losses))
    measured["loss"] = float(np.mean([measured[f"loss_{step_db}"] for step_db in VALIDATION_STEPS_DB]))
    step_db = VALIDATION_STEPS_DB[2]
    latents = model.analyze(torch.from_numpy(batches[0][:1]) - model.offset_db)
    levels, restored, _ = model.quantizer(latents.double().numpy(), step_db)
    refined = model.synthesize(model.refine(levels, restored, step_db))[0, 8:-8, 8:-8].numpy()
    # channels that are quantized to zero everywhere carry nothing at this step
    measured |= latent_statistics(torch.from_numpy(restored))
    images = {"original": batches[0][0] - model.offset_db, "restored": refined}
    low, high = np.percentile(images["original"], [1, 99])
    measured["images"] = {name: np.clip((image - low) / (high - low), 0, 1) for name, image in images.items()}
    measured["histograms"] = {"latents": latents.numpy().reshape(-1)}
    return measured


def _calibrated(card: ModelCard, parts: tuple, planes: list[Plane]) -> LappedCoder:
    """Coder whose card has its own texture gains and, measured with these, its own mean corrections."""
    plain = coder_from_bytes(model_bytes(card, *parts))
    card = dataclasses.replace(card, texture_gains=texture_gains(plain, planes))
    textured = coder_from_bytes(model_bytes(card, *parts))
    card = dataclasses.replace(card, mean_corrections_db=mean_corrections(textured, planes))
    return coder_from_bytes(model_bytes(card, *parts))
