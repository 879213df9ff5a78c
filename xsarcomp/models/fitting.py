"""Steps that all systems share in training: planes, the loop with its log and checkpoints, the model file."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xsarcomp.models.config import TrainConfig
from xsarcomp.models.registry import load, system
from xsarcomp.training.checkpoint import load_checkpoint, save_checkpoint
from xsarcomp.training.interfaces import Model
from xsarcomp.training.loop import Validate, seed_everything, training_loop
from xsarcomp.training.monitoring import log_to_tensorboard
from xsarcomp.training.patches import PatchSampler
from xsarcomp.training.planes import Plane, assert_disjoint, load_planes_file, save_planes
from xsarcomp.training.scenes import SceneSource, load_planes
from xsarcomp.whole_files import write_atomically

ReportLine = Callable[[str], object]
"""Function that receives a line about the progress."""


def train(config: TrainConfig[Any], *, resume: bool = False, report: ReportLine = print) -> Path:
    """Train the system that a configuration names, and write its model file.

    Parameters
    ----------
    config : TrainConfig
    resume : bool
        Resume from the last checkpoint in the output folder.
    report : callable
        Receives lines about the progress.

    Returns
    -------
    Path
        The written model file; its JSON file stands beside it.

    Raises
    ------
    ConfigurationError
        If a split is empty, a scene is in both, or the architecture is unknown.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    seed_everything(config.loop.seed)
    train_planes, validation_planes = load_splits(config, report)
    train_system = load(system(config.architecture).train)
    return train_system(config, train_planes, validation_planes, resume=resume, report=report)


def load_splits(config: TrainConfig[Any], report: ReportLine) -> tuple[list[Plane], list[Plane]]:
    """Load training and validation planes, from scenes or from the files that an earlier run wrote.

    Planes that are read from scenes are stored in the folder ``planes`` of the output, as ``data`` of a later run.

    Parameters
    ----------
    config : TrainConfig
    report : callable
        Receives lines about the progress.

    Returns
    -------
    train, validation : list of Plane

    Raises
    ------
    ConfigurationError
        If a split is empty, or a scene is in both.
    """
    if (config.data / "train.safetensors").is_file():
        train_planes, validation_planes = (
            load_planes_file(config.data / f"{split}.safetensors") for split in ("train", "validation")
        )
    else:
        train_planes = _read_and_store("train", config.train, config, report)
        validation_planes = _read_and_store("validation", config.validation, config, report)
    assert_disjoint(train_planes, validation_planes)
    return train_planes, validation_planes


def _read_and_store(
    split: str, sources: Sequence[SceneSource], config: TrainConfig[Any], report: ReportLine
) -> list[Plane]:
    """Read the scenes of a split, and store their planes in the output folder."""
    planes = load_planes(config.data, sources)
    samples = sum(int(plane.valid.sum()) for plane in planes)
    report(f"{split}: {len(planes)} planes, {samples / 1e6:.1f} million valid samples")
    folder = config.output / "planes"
    folder.mkdir(exist_ok=True)
    save_planes(folder / f"{split}.safetensors", planes)
    return planes


def fit(
    model: Model,
    config: TrainConfig[Any],
    planes: Sequence[Plane],
    validate: Validate[Model],
    metadata: Mapping[str, Any],
    *,
    resume: bool,
    report: ReportLine,
) -> None:
    """Train a model in place, and give it the averaged weights of the lowest validation loss.

    Parameters
    ----------
    model : Trainable
    config : TrainConfig
        Its output folder receives the checkpoints "last" and "best" and the log for TensorBoard.
    planes : sequence of Plane
        Training split.
    validate : callable
        See `xsarcomp.training.loop.training_loop`.
    metadata : mapping
        JSON values that each checkpoint stores beside the weights.
    resume : bool
        Resume from the last checkpoint if it exists.
    report : callable
        Receives lines about the progress.
    """
    sampler = PatchSampler(planes, config.patches)
    state = load_checkpoint(config.output, "last")[0] if resume and (config.output / "last.json").is_file() else None
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


def training_record(
    config: TrainConfig[Any], train_planes: Sequence[Plane], validation_planes: Sequence[Plane]
) -> dict[str, Any]:
    """Describe a training for the JSON file of its model: configuration and scenes, without paths of the machine.

    Parameters
    ----------
    config : TrainConfig
    train_planes, validation_planes : sequence of Plane

    Returns
    -------
    dict
        JSON values: "configuration", "training_scenes" and "validation_scenes".
    """
    configuration = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    for name in ("output", "data"):
        configuration.pop(name)  # a path of the training machine says nothing to a reader
    return {
        "configuration": configuration,
        "training_scenes": sorted({plane.name for plane in train_planes}),
        "validation_scenes": sorted({plane.name for plane in validation_planes}),
    }


def write_model(config: TrainConfig[Any], name: str, content: bytes, entries: Mapping[str, Any]) -> None:
    """Write a model file, and beside it a JSON file with its id, its description and further entries.

    Parameters
    ----------
    config : TrainConfig
        Its description is copied; its output folder receives the files.
    name : str
        Name of the model.
    content : bytes
        The model file.
    entries : mapping
        JSON values.
    """
    write_atomically(config.output / f"{name}.safetensors", content)
    record = {"id": hashlib.sha256(content).hexdigest(), "name": name, **config.description, **entries}
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    write_atomically(config.output / f"{name}.json", text.encode())
