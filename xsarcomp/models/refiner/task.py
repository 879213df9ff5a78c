"""Train the default codec from a configuration: radiometry, tables, network, gate, model files.

``xsarcomp train CONFIG`` runs :func:`train_refiner`. Each step needs the one before: the level of the signal comes from
the training split; the lapped transform computes latents; tables are fitted to their statistics; the tables decide the
encoder's symbols, and the network learns to refine exactly those; the mean correction is measured last.
The result is two model files, with and without the network, and a report of both on the validation scenes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import EntropyTables
from xsarcomp.codec.installed_models import model_content, resolve_model
from xsarcomp.codec.model_card import ModelCard
from xsarcomp.codec.model_file import arrays_and_card, coder_from_bytes, model_bytes, network_arrays
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.codec.trellis import CELL_TRELLIS
from xsarcomp.models.config import TrainConfig
from xsarcomp.models.fitting import ReportLine, fit, training_record, write_model
from xsarcomp.models.refiner.domain import domain_entry
from xsarcomp.models.refiner.export import integer_arrays, load_integer_arrays
from xsarcomp.models.refiner.gate import gate, mean_corrections, texture_gains
from xsarcomp.models.refiner.network import LappedAutoencoder, QuantizedLatents, Quantizer
from xsarcomp.models.refiner.tables import ANCHOR_STEPS_DB, fit_tables
from xsarcomp.radiometry.filling import round_to_signal_steps
from xsarcomp.training.interfaces import ValidationResult
from xsarcomp.training.monitoring import latent_health
from xsarcomp.training.patches import fixed_batches
from xsarcomp.training.planes import Plane
from xsarcomp.whole_files import write_atomically

VALIDATION_STEPS_DB = (0.7, 1.7, 4.0, 9.6)
"""Quantization steps of the validation; pictures and statistics of the latents are those of the third."""


def train_refiner(
    config: TrainConfig[RefinerConfig],
    train_planes: Sequence[Plane],
    validation_planes: Sequence[Plane],
    *,
    resume: bool,
    report: ReportLine,
) -> Path:
    """Train, gate and write the default codec, with its network and without.

    Parameters
    ----------
    config : TrainConfig of RefinerConfig
    train_planes, validation_planes : sequence of Plane
    resume : bool
        Resume from the last checkpoint in the output folder.
    report : callable
        Receives lines about the progress.

    Returns
    -------
    Path
        The written model file, beside its JSON file and those of the profile without the network.
    """
    card = _linear_card(config, train_planes)
    report(f"signal 0 is {card.offset_db:.2f} dB; values from {card.lowest_db:.1f} to {card.highest_db:.1f} dB")
    linear = _linear_coder(config, card, train_planes, resume, report)
    network = _train_network(config, linear, train_planes, validation_planes, resume, report)
    card = dataclasses.replace(
        card,
        name=config.name,
        architecture="lapped-residual",
        network={"channels": config.network.channels, "blocks": config.network.blocks},
    )
    coder = _calibrated(card, linear.basis, linear.tables, linear.shifts, network, planes=train_planes)
    results = gate({coder.card.name: coder, linear.card.name: linear}, validation_planes)
    for line in results.lines():
        report(line)
    training = training_record(config, train_planes, validation_planes)
    entries = {"training": training, **domain_entry(train_planes, config.patches.augmentation.gain_db)}
    for finished, arrays in ((linear, None), (coder, network)):
        content = model_bytes(finished.card, finished.basis, finished.tables, finished.shifts, arrays)
        name = finished.card.name
        write_model(config, name, content, {**entries, "validation": results.to_json(name)})
    return config.output / f"{config.name}.safetensors"


def _linear_card(config: TrainConfig[RefinerConfig], planes: Sequence[Plane]) -> ModelCard:
    """Card of the profile without a network; the parameters of the dB signal come from the training split only."""
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
        trellis=CELL_TRELLIS,
    )


def plane_latents(plane: Plane, offset_db: float, basis: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compute the latents of all whole blocks of a plane, mirrored at the edges.

    Parameters
    ----------
    plane : Plane
    offset_db : float
        Level in dB that becomes signal 0.
    basis : ndarray of int32
        From `xsarcomp.codec.lapped.lapped_basis`.

    Returns
    -------
    ndarray of float64, shape (1, latent=64, y_latent, x_latent), dB
    """
    signal = round_to_signal_steps(plane.decibel.astype(np.float64) - offset_db)
    height, width = (size // lapped.BLOCK * lapped.BLOCK for size in signal.shape)
    padded = np.pad(signal[:height, :width], lapped.OVERLAP, mode="symmetric")
    return lapped.analyze(padded[None], basis)


def _linear_coder(
    config: TrainConfig[RefinerConfig], card: ModelCard, planes: Sequence[Plane], resume: bool, report: ReportLine
) -> LappedCoder:
    """Fit the coder without a network: tables and reconstruction points from the training split."""
    path = config.output / f"{card.name}.safetensors"
    if resume and path.is_file():
        return coder_from_bytes(path.read_bytes())
    basis = lapped.lapped_basis()
    latents = [plane_latents(plane, card.offset_db, basis) for plane in planes]
    arrays_of_anchors, shifts_of_anchors = [], []
    for step_db, anchor in zip(ANCHOR_STEPS_DB, fit_tables(latents, config.lagrangian), strict=True):
        report(f"tables for a step of {step_db:.2f} dB")
        arrays_of_anchors.append(anchor.arrays)
        shifts_of_anchors.append(anchor.shifts)
    tables = EntropyTables(
        **{name: np.stack([arrays[name] for arrays in arrays_of_anchors]) for name in EntropyTables.names()},
        trellis=CELL_TRELLIS,
    )
    shifts = np.stack(shifts_of_anchors)
    linear = _calibrated(card, basis, tables, shifts, None, planes=planes)
    write_atomically(path, model_bytes(linear.card, basis, tables, shifts))
    return linear


def encoder_quantizer(coder: LappedCoder) -> Quantizer:
    """Make the quantizer that the network trains with: it chooses the symbols that the encoder would choose.

    Parameters
    ----------
    coder : LappedCoder
        The profile without a network.

    Returns
    -------
    callable
        `xsarcomp.models.refiner.network.Quantizer`.
    """

    def quantizer(latents: NDArray[np.float64], step_db: float) -> QuantizedLatents:
        points = coder.points(coder.quantize(latents, step_db), step_db)
        levels = input_levels(points, step_db, coder.channels_with_trellis(step_db), coder.trellis.spacing)
        return QuantizedLatents(levels, coder.reconstruct(points, step_db), coder.quantizer_reach)

    return quantizer


def _train_network(
    config: TrainConfig[RefinerConfig],
    linear: LappedCoder,
    train_planes: Sequence[Plane],
    validation_planes: Sequence[Plane],
    resume: bool,
    report: ReportLine,
) -> dict[str, NDArray]:
    """Train the network, and return its integer arrays with the lowest validation loss."""
    model = LappedAutoencoder(config.network, encoder_quantizer(linear), linear.card.offset_db)
    if config.network.start_from is not None:
        arrays, _ = arrays_and_card(model_content(resolve_model(config.network.start_from)))
        load_integer_arrays(model.refiner, network_arrays(arrays))
    batches = fixed_batches(validation_planes, config.patches.patch, batch=4, limit=32)
    metadata = {"name": config.name, "radiometry": {"offset_db": linear.card.offset_db}, "linear": linear.model_id}

    def validate(averaged: LappedAutoencoder) -> ValidationResult:
        return _validate(averaged, batches)

    fit(model, config, train_planes, validate, metadata, resume=resume, report=report)
    return integer_arrays(model.refiner)


@torch.no_grad()
def _validate(model: LappedAutoencoder, batches: Sequence[NDArray[np.float32]]) -> ValidationResult:
    """Measure the mean loss over fixed patches and steps, with pictures and statistics of the latents for TensorBoard."""
    scalars: dict[str, float] = {}
    for step_db in VALIDATION_STEPS_DB:
        losses = [model.loss_at(torch.from_numpy(batch), step_db)["loss"].item() for batch in batches]
        scalars[f"loss_{step_db}"] = float(np.mean(losses))
    scalars["loss"] = float(np.mean([scalars[f"loss_{step_db}"] for step_db in VALIDATION_STEPS_DB]))
    step_db = VALIDATION_STEPS_DB[2]
    latents = model.analyze(torch.from_numpy(batches[0][:1]) - model.offset_db)
    quantized = model.quantize(latents.double().numpy(), step_db)
    refined = model.refine(quantized.levels, quantized.restored, step_db)
    # restored latents: channels that are quantized to zero everywhere carry nothing at this step
    scalars |= latent_health(torch.from_numpy(quantized.restored))
    planes = {
        "original": batches[0][0] - model.offset_db,
        "restored": model.synthesize(refined)[0, 8:-8, 8:-8].numpy(),
    }
    low, high = np.percentile(planes["original"], [1, 99])
    images = {name: np.clip((plane - low) / (high - low), 0, 1) for name, plane in planes.items()}
    return ValidationResult(scalars=scalars, images=images, histograms={"latents": latents.numpy().reshape(-1)})


def _calibrated(
    card: ModelCard,
    basis: NDArray[np.int32],
    tables: EntropyTables,
    shifts: NDArray[np.float32],
    network: Mapping[str, NDArray] | None,
    *,
    planes: Sequence[Plane],
) -> LappedCoder:
    """Coder whose card has its own texture gains and, measured with these, its own mean corrections."""

    def coder_with(card: ModelCard) -> LappedCoder:
        return coder_from_bytes(model_bytes(card, basis, tables, shifts, network))

    card = dataclasses.replace(card, texture_gains=texture_gains(coder_with(card), planes))
    card = dataclasses.replace(card, mean_corrections_db=mean_corrections(coder_with(card), planes))
    return coder_with(card)
