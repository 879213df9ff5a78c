"""Training from a configuration file to model files that can be used by name, on simulated scenes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from tests.support.paths import EXAMPLES
from xsarcomp.codec import installed_models
from xsarcomp.errors import ConfigurationError
from xsarcomp.models import fitting
from xsarcomp.models.config import read_config
from xsarcomp.models.fitting import train
from xsarcomp.models.refiner import task
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

CONFIG = """
name = "tiny-test"
output = "run"
data = "scenes"

[[train]]
pattern = "train/*.tif"
scale = "power"

[[validation]]
pattern = "validation/*.tif"
scale = "power"

[network]
channels = 8
blocks = 1

[patches]
patch = 120
batch = 2
seed = 1
[patches.augmentation]
gain_db = 1.0

[loop]
steps = 6
learning_rate = 1e-3
validate_every = 3
checkpoint_every = 3
threads = 1
ema_decay = 0.5

[description]
description = "for tests"
license = "Apache-2.0"
"""


def write_geotiff(path, seed, shape=(136, 144)):
    scene = simulated_dataset(shape, seed)
    bands = xr.concat([scene.vv, scene.vh], dim="band", combine_attrs="drop")
    path.parent.mkdir(parents=True, exist_ok=True)
    bands.assign_attrs(long_name=("vv", "vh")).rio.to_raster(path)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Folder with simulated scenes and a configuration; anchors are two, so that it takes seconds."""
    folder = tmp_path_factory.mktemp("training")
    write_geotiff(folder / "scenes/train/a.tif", 1)
    write_geotiff(folder / "scenes/train/b.tif", 2)
    write_geotiff(folder / "scenes/validation/c.tif", 3)
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def two_anchors():
    with pytest.MonkeyPatch.context() as patch:
        for module in (task, task.fit_tables.__globals__):
            target = module if isinstance(module, dict) else vars(module)
            patch.setitem(target, "ANCHOR_STEPS_DB", (2.0, 6.0))
        patch.setattr(task.fit_tables, "__defaults__", ((2.0, 6.0),))
        patch.setattr(
            "xsarcomp.models.refiner.domain.FEWEST_BLOCKS", 1
        )  # two small scenes make one block a polarization
        yield


@pytest.fixture(scope="module")
def trained(project):
    """The folder after training, and the lines that were reported."""
    lines = []
    written = train(read_config(project / "config.toml"), report=lines.append)
    assert written == project / "run/tiny-test.safetensors"
    return project, lines


@pytest.fixture
def installed(trained, monkeypatch):
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(trained[0] / "run"))
    return installed_models.installed_models()


def test_training_writes_both_models_with_their_ids(trained, installed):
    for name in ("tiny-test", "tiny-test-lapped"):
        record = installed[name]
        assert record["id"] == installed_models.resolve_model(name)
        coder = installed_models.load_coder(name)  # verifies the file against the id
        assert coder.model_id == record["id"]
        assert coder.card.name == name
        assert coder.card.anchor_steps_db == (2.0, 6.0)
        assert record["description"] == "for tests"
        assert record["validation"]["planes"] == 2
    assert installed_models.load_coder("tiny-test").card.network == {"channels": 8, "blocks": 1}
    assert installed_models.load_coder("tiny-test-lapped").card.network is None


def test_trained_models_compress_a_scene(installed):
    scene = simulated_dataset((96, 104), 9)
    for name in ("tiny-test", "tiny-test-lapped"):
        decoded = scene.sarcomp.encode(bits_per_pixel=1, model=name).sarcomp.decode()
        metrics = decoded.sarcomp.compare(scene)
        assert metrics["rmse_db"] < 1.5
        assert abs(metrics["bias_db"]) < 0.2


def test_json_files_say_what_is_usual_in_the_training_data(trained, installed):
    for name in ("tiny-test", "tiny-test-lapped"):
        found = installed_models.load_domain(installed[name]["id"])
        assert set(found.levels_db) == {"vv", "vh"}
        low, high = found.levels_db["vv"]
        assert high - low == pytest.approx(2.0, abs=1e-3)  # the gain of the augmentation, both ways
        assert 4 < found.ranges["looks"][0] < 8


def test_a_model_without_an_entry_or_that_is_not_installed_has_no_domain(trained, monkeypatch, tmp_path):
    path = trained[0] / "run/tiny-test-lapped.json"
    record = {name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name != "domain"}
    (tmp_path / path.name).write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / path.with_suffix(".safetensors").name).write_bytes(path.with_suffix(".safetensors").read_bytes())
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(tmp_path))
    assert installed_models.load_domain(record["id"]) is None
    assert installed_models.load_domain("0" * 64) is None


def test_json_files_hold_no_path_of_the_training_machine(trained):
    for name in ("tiny-test", "tiny-test-lapped"):
        text = (trained[0] / f"run/{name}.json").read_text(encoding="utf-8")
        assert str(trained[0]) not in text
        assert not re.search(r'"(/|[A-Za-z]:\\|~)', text)
        record = json.loads(text)
        assert record["training"]["training_scenes"] == ["a", "b"]
        assert record["training"]["validation_scenes"] == ["c"]
        assert record["training"]["configuration"]["network"]["channels"] == 8


def test_progress_is_reported_in_words(trained):
    text = "\n".join(trained[1])
    assert "train: 4 planes" in text
    assert "validation: 2 planes" in text
    assert "tables for a step of 2.00 dB" in text
    assert "step 3" in text
    assert "step 6" in text
    assert "tiny-test-lapped on 2 validation planes" in text


def test_tensorboard_files_hold_the_curves_and_pictures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0] / "run/tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"training/loss", "validation/loss"} <= set(tags["scalars"])
    assert "validation/restored" in tags["images"]
    assert "validation/latents" in tags["histograms"]
    assert [event.step for event in events.Scalars("validation/loss")] == [3, 6]


def test_global_state_is_left_as_it_was(trained):
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def copy(trained, tmp_path):
    """A project of its own that shares the scenes."""

    def make(**changes):
        text = CONFIG.replace('data = "scenes"', f"data = '{trained[0] / 'scenes'}'")
        for old, new in changes.items():
            before = text
            text = text.replace(*new) if isinstance(new, tuple) else text.replace(old, new)
            assert text != before
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        return read_config(tmp_path / "config.toml")

    return make


class StopError(Exception):
    """Stands for a killed process."""


def test_resumed_training_gives_the_same_model_as_an_undisturbed_one(trained, copy):
    def stop(line):
        if line.startswith("step 3"):
            raise StopError

    config = copy()
    with pytest.raises(StopError):
        train(config, report=stop)
    # the report of step 3 comes before its checkpoint is written; the profile without a network is there already
    lines = []
    train(config, resume=True, report=lines.append)
    assert not any(line.startswith("tables") for line in lines)
    for name in ("tiny-test", "tiny-test-lapped"):
        assert (config.output / f"{name}.safetensors").read_bytes() == (
            trained[0] / f"run/{name}.safetensors"
        ).read_bytes()


def test_resuming_a_finished_training_changes_nothing(trained):
    before = (trained[0] / "run/tiny-test.safetensors").read_bytes()
    lines = []
    train(read_config(trained[0] / "config.toml"), resume=True, report=lines.append)
    assert (trained[0] / "run/tiny-test.safetensors").read_bytes() == before
    assert not any(line.startswith("step") for line in lines)


def test_planes_of_an_earlier_run_stand_for_the_scenes(trained, copy):
    config = copy(data=(str(trained[0] / "scenes"), str(trained[0] / "run/planes")))
    train_planes, validation_planes = fitting.load_splits(config, report=print)
    assert [len(train_planes), len(validation_planes)] == [4, 2]
    assert {plane.name for plane in train_planes} == {"a", "b"}


def test_scene_on_both_sides_is_refused(trained, copy):
    config = copy(pattern=('pattern = "validation/*.tif"', 'pattern = "train/*.tif"'))
    with pytest.raises(ConfigurationError, match="in both"):
        train(config, report=lambda _line: None)


def test_folder_without_scenes_is_refused(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    copy()
    with pytest.raises(ConfigurationError, match="no backscatter file matches"):
        train(read_config(tmp_path / "config.toml", tmp_path / "empty"), report=lambda _line: None)
    with pytest.raises(ConfigurationError, match="no backscatter file matches"):
        train(read_config(tmp_path / "config.toml", tmp_path / "absent"), report=lambda _line: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "tiny-test"', 'nom = "tiny-test"'), "nom"),
        (('name = "tiny-test"', ""), "name"),
        (('name = "tiny-test"', 'name = "Tiny Test"'), "Tiny Test"),
        (('name = "tiny-test"', 'name = "../../tmp/x"'), "expected"),
        (("steps = 6", "stepz = 6"), "stepz"),
        (("steps = 6", "steps = 0"), "steps"),
        (("steps = 6", 'steps = "six"'), "config.toml"),
        (("channels = 8", "width = 8"), "width"),
        (("channels = 8", "channels = 0"), "channels"),
        (("gain_db = 1.0", "gain = 1.0"), "gain"),
        (("patch = 120", "patch = 64"), "expected at least 72"),
        (('scale = "power"', 'scale = "linear"'), "linear"),
        (("[[train]]\npattern", "[train]\npattern"), "config.toml"),
        (("[loop]", "[loop"), "config.toml"),
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_with_what_is_wrong(tmp_path, change, message):
    text = CONFIG.replace(*change)
    assert text != CONFIG
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_config(tmp_path / "config.toml")


def test_missing_configuration_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        read_config(tmp_path / "absent.toml")


def test_folders_of_a_configuration_start_from_its_own_place(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/config.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = read_config(Path("there/config.toml"))
    assert config.output == tmp_path / "there/run"
    assert config.data == tmp_path / "there/scenes"


def test_configuration_of_the_shipped_model_can_be_read():
    path = EXAMPLES / "s1-grd-10m.toml"
    config = read_config(path)
    shipped = installed_models.installed_models()[config.name]["training"]["configuration"]
    assert config.name == "s1-grd-10m-v2"
    assert shipped["network"]["channels"] == config.network.channels
    assert shipped["patches"]["patch"] == config.patches.patch
    assert shipped["loop"]["steps"] == config.loop.steps
    assert shipped["lagrangian"] == config.lagrangian


def test_command_line_trains_with_another_data_folder(trained, tmp_path):
    """Real subprocess; two anchors there as well, one step."""
    text = CONFIG.replace("steps = 6", "steps = 1").replace('data = "scenes"', 'data = "nowhere"')
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    code = (
        "import xsarcomp.models.refiner.tables as t; t.ANCHOR_STEPS_DB = (2.0, 6.0); t.fit_tables.__defaults__ = ((2.0, 6.0),)\n"
        "from xsarcomp.cli import main; main()"
    )
    arguments = ["train", str(tmp_path / "config.toml"), "--data", str(trained[0] / "scenes")]
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ}, timeout=600
    )
    assert finished.returncode == 0, finished.stderr
    assert f"wrote {tmp_path / 'run/tiny-test.safetensors'}" in finished.stdout
    assert np.all([(tmp_path / f"run/tiny-test{part}.json").is_file() for part in ("", "-lapped")])
