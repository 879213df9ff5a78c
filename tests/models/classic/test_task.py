"""The classic autoencoder through the training of every model: one TOML file in, a model file out, the same loop."""

import json
import math
import re

import numpy as np
import pytest

from tests.support.paths import EXAMPLES
from xsarcomp.errors import ConfigurationError
from xsarcomp.metrics import fidelity, speckle
from xsarcomp.models.classic.model_file import load_classic
from xsarcomp.models.classic.task import entropy_bits, validation_metrics
from xsarcomp.models.config import read_config
from xsarcomp.models.fitting import train
from xsarcomp.scenes.simulation import simulate_scene
from xsarcomp.training.planes import Plane, save_planes

pytestmark = pytest.mark.slow

CONFIG = """
name = "classic-test"
architecture = "classic"
output = "run"
data = "planes"

[[train]]
pattern = "train/*.tif"
scale = "power"
[[validation]]
pattern = "validation/*.tif"
scale = "power"

[network]
latents = 4
width = 4
variant = "residual"

[patches]
patch = 64
batch = 2
seed = 1

[loop]
steps = 4
learning_rate = 1e-3
validate_every = 2
checkpoint_every = 2
threads = 1
ema_decay = 0.5

[description]
description = "for tests"
"""


def planes(*seeds):
    """One small simulated plane a seed."""
    powers = [simulate_scene((96, 112), seed=seed, nodata_border=False)[0] for seed in seeds]
    return [
        Plane(f"scene-{seed}", "vv", 10 * np.log10(power), np.ones(power.shape, bool))
        for seed, power in zip(seeds, powers, strict=True)
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Folder with planes of simulated scenes, and a configuration."""
    folder = tmp_path_factory.mktemp("classic")
    (folder / "planes").mkdir()
    save_planes(folder / "planes/train.safetensors", planes(1, 2))
    save_planes(folder / "planes/validation.safetensors", planes(3))
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(project):
    lines = []
    written = train(read_config(project / "config.toml"), report=lines.append)
    assert written == project / "run/classic-test.safetensors"
    return project / "run", lines


def test_the_written_model_is_found_by_name_and_codes(trained, monkeypatch):
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(trained[0]))
    codec = load_classic("classic-test")
    assert codec.model.config.variant == "residual"
    scene = planes(4)[0].decibel[None]
    assert codec.decode_planes(codec.encode_planes(scene, 0.5), 0.5, scene.shape[1:]).shape == scene.shape


def test_the_range_is_that_of_the_training_split_alone(trained, monkeypatch):
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(trained[0]))
    codec = load_classic("classic-test")
    values = np.concatenate([plane.decibel.ravel() for plane in planes(1, 2)])
    assert codec.model.lowest_db == math.floor(values.min())
    assert codec.model.highest_db == math.ceil(values.max())
    assert codec.offset_db == pytest.approx(values.mean(), abs=0.06)


def test_validation_watches_what_the_loss_does_not_see(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, lines = trained
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    watched = {"enl_ratio", "edges", "rmse_db", "bias_db", "bits_per_pixel", "latent_dead"}
    assert {f"validation/{name}" for name in watched} <= set(events.Tags()["scalars"])
    assert {"validation/original", "validation/restored"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Scalars("validation/enl_ratio")] == [2, 4]
    assert re.search(r"step 4 .*enl_ratio [0-9.]+", "\n".join(lines))


def test_the_json_file_says_what_was_measured_and_no_path(trained):
    folder, _ = trained
    text = (folder / "classic-test.json").read_text(encoding="utf-8")
    assert str(folder) not in text
    record = json.loads(text)
    assert record["architecture"] == "classic"
    assert record["training"]["configuration"]["network"]["variant"] == "residual"
    assert record["training"]["training_scenes"] == ["scene-1", "scene-2"]
    assert record["validation"]["rmse_db"] > 0
    assert "enl_ratio" in record["validation"]


class StopError(Exception):
    """Stands for a killed process."""


def test_resumed_training_gives_the_same_bytes(project, trained, tmp_path):
    text = CONFIG.replace('"planes"', f"'{project / 'planes'}'")
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    config = read_config(tmp_path / "config.toml")

    def stop(line):
        if line.startswith("step 4"):
            raise StopError

    with pytest.raises(StopError):
        train(config, report=stop)
    train(config, resume=True, report=lambda _line: None)
    name = "classic-test.safetensors"
    assert (config.output / name).read_bytes() == (trained[0] / name).read_bytes()


def test_validation_metrics_are_those_of_the_evaluation():
    original, restored = (np.stack([plane.decibel for plane in planes(*seeds)]) for seeds in ((5, 6), (7, 8)))
    restored = 0.6 * original + 0.4 * restored - 1
    metrics = validation_metrics(original, restored)
    valid = np.ones(original.shape[1:], bool)
    assert metrics["rmse_db"] == pytest.approx(np.sqrt(((original - restored) ** 2).mean()), rel=1e-5)
    assert metrics["bias_db"] == pytest.approx((restored - original).mean(), rel=1e-4)
    looks = [speckle.enl_ratio(10 ** (a / 10), 10 ** (b / 10), valid) for a, b in zip(original, restored, strict=True)]
    edges = [fidelity.edge_preservation(a, b, valid) for a, b in zip(original, restored, strict=True)]
    assert metrics["enl_ratio"] == pytest.approx(np.median(looks), rel=1e-4)
    assert metrics["edges"] == pytest.approx(np.mean(edges), rel=1e-4)


def test_entropy_counts_each_channel_by_itself():
    integers = np.zeros((2, 3, 4, 4))
    integers[:, 1, :, ::2] = 5  # one bit
    integers[:, 2] = np.arange(4)  # two bits
    assert entropy_bits(integers) == pytest.approx((0 + 1 + 2) / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('architecture = "classic"', 'architecture = "vit"'),
            "architecture is 'vit', expected one of lapped-residual, classic",
        ),
        (('architecture = "classic"', ""), "latents"),
        (("patch = 64", "patch = 72"), "expected a multiple of 16"),
        (("patch = 64", "patch = 16"), "of at least 32"),
        (("width = 4", "width = 5"), "multiple of 4"),
        (("width = 4", "channels = 4"), "channels"),
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_with_what_is_wrong(tmp_path, change, message):
    text = CONFIG.replace(*change)
    assert text != CONFIG
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_config(tmp_path / "config.toml")


def test_the_example_can_be_read():
    config = read_config(EXAMPLES / "classic.toml")
    assert config.architecture == "classic"
    assert (config.network.latents, config.network.ssim_weight) == (16, 0.5)
