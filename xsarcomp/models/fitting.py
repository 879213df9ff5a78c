"""What every training has in common: its planes, and the loop with its log and its checkpoints."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from xsarcomp.models.config import TrainConfig
from xsarcomp.models.registry import load, system
from xsarcomp.training.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from xsarcomp.training.loop import Validate, log_to_tensorboard, seed_everything, training_loop
from xsarcomp.training.patches import PatchSampler
from xsarcomp.training.planes import Plane, assert_disjoint, load_planes_file, save_planes
from xsarcomp.training.scenes import load_planes

Report = Callable[[str], None]


def train(config: TrainConfig, *, resume: bool = False, report: Report = print) -> Path:
    """Train the system that a configuration names, and write its model file.

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
        The written model file; its JSON file stands beside it.

    Raises
    ------
    ConfigurationError
        If a split is empty, a scene is in both, or the architecture is unknown.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    seed_everything(config.loop.seed)
    planes = load_splits(config, report)
    return load(system(config.architecture).train)(config, *planes, resume=resume, report=report)


def load_splits(config: TrainConfig, report: Report) -> tuple[list[Plane], list[Plane]]:
    """Training and validation planes, from scenes or from the files that an earlier run wrote.

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


def fit(
    model: nn.Module,
    config: TrainConfig,
    planes: Sequence[Plane],
    validate: Validate,
    metadata: Mapping[str, Any],
    *,
    resume: bool,
    report: Report,
) -> None:
    """Train a model in place, and leave it with the averaged weights of the lowest validation loss.

    Parameters
    ----------
    model : torch.nn.Module
        With the method of `xsarcomp.training.loop.Trainable`.
    config : TrainConfig
        Its folder receives the checkpoints "last" and "best" and the log for TensorBoard.
    planes : sequence of Plane
        Training split.
    validate : callable
        See `xsarcomp.training.loop.training_loop`.
    metadata : mapping
        Written beside the weights.
    resume : bool
        Go on from the last checkpoint, where there is one.
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


def training_record(config: TrainConfig, train: Sequence[Plane], validation: Sequence[Plane]) -> dict[str, Any]:
    """What the JSON file of a model says about its training: configuration and scenes, no path of the machine."""
    configuration = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    for name in ("output", "data"):
        configuration.pop(name)  # a path of the training machine says nothing to a reader
    return {
        "configuration": configuration,
        "training_scenes": sorted({plane.name for plane in train}),
        "validation_scenes": sorted({plane.name for plane in validation}),
    }


def write_model(config: TrainConfig, name: str, content: bytes, record: Mapping[str, Any]) -> None:
    """Write a model file and its JSON file with the id, the description and a record."""
    write_atomically(config.output / f"{name}.safetensors", content)
    record = {"id": hashlib.sha256(content).hexdigest(), "name": name, **config.description, **record}
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    write_atomically(config.output / f"{name}.json", text.encode())
