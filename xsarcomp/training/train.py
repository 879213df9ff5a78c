"""Train a codec from a configuration file: radiometry, tables, network, gate, model files.

``xsarcomp train CONFIG`` runs :func:`train`. The order is that of what depends on what: the level of the signal comes
from the training split; the lapped transform gives latents; their statistics are frozen into tables; with the tables
the encoder's symbols are known, and the network learns to refine exactly those; the mean correction is measured last.
The result is two model files, with and without the network, and a report of both on the validation scenes.
"""

import dataclasses
import hashlib
import json
import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xsarcomp import lapped
from xsarcomp.coder import QUANTIZER_REACH, LappedCoder
from xsarcomp.entropy_tables import EntropyTables
from xsarcomp.errors import ConfigurationError
from xsarcomp.filling import rounded_signal
from xsarcomp.model_card import NAME_PATTERN, ModelCard
from xsarcomp.models.autoencoder import AutoencoderConfig, LappedAutoencoder, LatentRefiner
from xsarcomp.models.integer_arithmetic import input_levels
from xsarcomp.models.integer_network import integer_arrays
from xsarcomp.training.augmentation import AugmentationConfig
from xsarcomp.training.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from xsarcomp.training.domain import domain_entry
from xsarcomp.training.gate import gate, mean_corrections, texture_gains
from xsarcomp.training.loop import latent_statistics, log_to_tensorboard, seed_everything, training_loop
from xsarcomp.training.patches import PatchConfig, PatchSampler, fixed_batches
from xsarcomp.training.planes import Plane, assert_disjoint, load_planes_file, save_planes
from xsarcomp.training.scenes import SceneSource, load_planes
from xsarcomp.training.schedule import LoopConfig
from xsarcomp.training.tables import ANCHOR_STEPS_DB, fit_tables
from xsarcomp.weights import coder_from_bytes, model_bytes

_log = logging.getLogger(__name__)
VALIDATION_STEPS_DB = (0.7, 1.7, 4.0, 9.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What ``xsarcomp train`` reads from a TOML file."""

    name: str
    """Name of the model with the network; the profile without it is called ``<name>-lapped``."""
    output: Path
    """Folder for checkpoints, tables, the log and the finished model files."""
    data: Path
    """Root of the scenes, or the folder ``planes`` that an earlier run wrote."""
    train: tuple[SceneSource, ...]
    """Scenes to train on."""
    validation: tuple[SceneSource, ...]
    """Scenes that choose the best weights and gate the model; no scene of the training split."""
    lagrangian: float = 0.12
    """Squared steps that one bit is worth to the encoder."""
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1000))
    description: Mapping[str, Any] = field(default_factory=dict)
    """Copied into the model's JSON file: data, licence, limits."""

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(f"{self.name}-lapped"):
            raise ConfigurationError(f"name is {self.name!r}, expected at most 57 of a-z, 0-9, dot and dash")
        smallest = lapped.BLOCK * (2 * (LatentRefiner(self.network).reach + QUANTIZER_REACH) + 3)
        if self.patches.patch < smallest:
            raise ConfigurationError(
                f"patch is {self.patches.patch} pixels, expected at least {smallest} for {self.network.blocks} blocks"
            )


def read_config(path: Path, data: Path | None = None) -> TrainConfig:
    """Read a training configuration.

    Parameters
    ----------
    path : Path
        TOML file; relative folders in it start from the file's own folder.
    data : Path, optional
        Root of the scenes, instead of the one in the file.

    Raises
    ------
    ConfigurationError
        If the file is no TOML, or a field is unknown, missing or wrong.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the training configuration {path.name}: {error}") from error
    parsers: dict[str, Callable] = {
        "output": lambda value: (path.parent / value).resolve(),
        "data": lambda value: (path.parent / value).resolve(),
        "train": lambda value: tuple(SceneSource(**source) for source in value),
        "validation": lambda value: tuple(SceneSource(**source) for source in value),
        "network": lambda value: AutoencoderConfig(**value),
        "patches": lambda value: PatchConfig(
            **{**value, "augmentation": AugmentationConfig(**value.get("augmentation", {}))}
        ),
        "loop": lambda value: LoopConfig(**value),
    }
    if data is not None:
        record["data"] = str(data.resolve())
    try:
        return TrainConfig(**{name: parsers.get(name, lambda value: value)(value) for name, value in record.items()})
    except TypeError as error:
        known = ", ".join(config_field.name for config_field in dataclasses.fields(TrainConfig))
        raise ConfigurationError(f"{path.name}: {error}. The fields are: {known}") from error


def train(config: TrainConfig, *, resume: bool = False, report: Callable[[str], None] = print) -> Path:
    """Train, gate and write a model.

    Parameters
    ----------
    config : TrainConfig
    resume : bool
        Go on from the last checkpoint in the output folder.
    report : callable
        Receives lines about the progress.

    Returns
    -------
    Path
        The written model file, beside its JSON file and those of the profile without the network.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    seed_everything(config.loop.seed)
    train_planes, validation_planes = _planes(config, report)
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
    training = {
        "configuration": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
        "training_scenes": sorted({plane.name for plane in train_planes}),
        "validation_scenes": sorted({plane.name for plane in validation_planes}),
    }
    for name in ("output", "data"):
        training["configuration"].pop(name)  # a path of the training machine says nothing to a reader
    record = {"training": training, **domain_entry(train_planes, config.patches.augmentation.gain_db)}
    for finished, arrays in ((linear, None), (coder, network)):
        _write_model(config, finished, arrays, {**record, "validation": results.record(finished.card.name)})
    return config.output / f"{config.name}.safetensors"


def _planes(config: TrainConfig, report) -> tuple[list[Plane], list[Plane]]:
    """Training and validation planes, from scenes or from the files that an earlier run wrote."""
    if (config.data / "train.safetensors").is_file():
        carried_splits = [load_planes_file(config.data / f"{split}.safetensors") for split in ("train", "validation")]
        assert_disjoint(*carried_splits)
        return carried_splits[0], carried_splits[1]
    carried = config.output / "planes"
    splits = []
    for split, sources in (("train", config.train), ("validation", config.validation)):
        planes = load_planes(config.data, sources)
        samples = sum(int(plane.valid.sum()) for plane in planes)
        report(f"{split}: {len(planes)} planes, {samples / 1e6:.1f} million valid samples")
        carried.mkdir(exist_ok=True)
        save_planes(carried / f"{split}.safetensors", planes)
        splits.append(planes)
    assert_disjoint(*splits)
    return splits[0], splits[1]


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
    signal = rounded_signal(plane.decibel.astype(np.float64) - offset_db)
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
    sampler = PatchSampler(train_planes, config.patches)
    batches = fixed_batches(validation_planes, config.patches.patch, batch=4, limit=32)
    state = load_checkpoint(config.output, "last")[0] if resume and (config.output / "last.json").is_file() else None
    metadata = {"name": config.name, "radiometry": {"offset_db": linear.card.offset_db}, "linear": linear.model_id}

    def validate(averaged: LappedAutoencoder) -> dict[str, Any]:
        return _validate(averaged, batches)

    reports = training_loop(model, sampler, config.loop, state=state, validate=validate)
    for entry in log_to_tensorboard(reports, config.output / "tensorboard"):
        if entry.is_validation:
            numbers = ", ".join(f"{name} {value:.4f}" for name, value in entry.scalars.items())
            report(f"step {entry.step} ({entry.seconds:.0f} s): {numbers}{', best' if entry.is_best else ''}")
        elif entry.step % 100 == 0:
            report(f"step {entry.step}: loss {entry.scalars['loss']:.4f}, {entry.seconds:.2f} s a step")
        if entry.state is not None:
            save_checkpoint(config.output, "last", entry.state, metadata)
        if entry.is_best:
            save_checkpoint(config.output, "best", entry.state, metadata)
    model.load_state_dict(load_checkpoint(config.output, "best")[0]["ema"])
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
    # channels that are quantised to zero everywhere carry nothing at this step
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


def _write_model(config: TrainConfig, coder: LappedCoder, network, record: dict[str, Any]) -> None:
    """Model file and its JSON file."""
    content = model_bytes(coder.card, coder.basis, coder.tables, coder.shifts, network)
    name = coder.card.name
    write_atomically(config.output / f"{name}.safetensors", content)
    record = {"id": hashlib.sha256(content).hexdigest(), "name": name, **config.description, **record}
    write_atomically(config.output / f"{name}.json", f"{json.dumps(record, indent=1, sort_keys=True)}\n".encode())
