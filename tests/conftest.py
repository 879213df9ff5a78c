"""Fixtures of several rooms: where the real data lies, small scenes, and a small model fitted to a simulated scene.

Those of one room stand in its own ``conftest.py``. None leaves anything on disk.
"""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# no example has a deadline, and none is too slow to be made: a busy machine is no fault of the code
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

OFFSET_DB = -15.0
ANCHOR_STEPS_DB = (1.0, 3.6, 10.0)
LAGRANGIAN = 0.12


@pytest.fixture
def interruptible():
    """Let SIGINT raise in this test: a shell starts what runs in the background deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(items):
    """Slow tests first: short files at the end let all workers end together, with ``--no-loadscope-reorder``."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def sar_data():
    """Folder of the real Sentinel-1 samples, or a skip that says how to provide it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("XSARCOMP_DATA", default))
    if not (folder / "index.csv").is_file():
        pytest.skip(f"no real SAR data in {folder}: set XSARCOMP_DATA to the folder that holds index.csv")
    return folder


@pytest.fixture(scope="session")
def model_content():
    """Bytes of a small model file without a network, fitted to a simulated scene of 256 x 256 pixels."""
    from xsarcomp.codec import lapped, model_file
    from xsarcomp.codec.entropy_tables import EntropyTables
    from xsarcomp.codec.model_card import ModelCard
    from xsarcomp.codec.trellis import BLOCK_TRELLIS, Trellis
    from xsarcomp.models.refiner.tables import fit_anchor
    from xsarcomp.scenes.simulation import simulate_scene

    decibel = 10 * np.log10(simulate_scene((256, 256), seed=11, nodata_border=False).astype(np.float64))
    signal = np.rint((decibel - OFFSET_DB) * 512) / 512
    around = lapped.OVERLAP
    padded = np.pad(signal, ((0, 0), (around, around), (around, around)), mode="symmetric")
    basis = lapped.lapped_basis()
    latents = lapped.analyze(padded, basis)
    with pytest.MonkeyPatch.context() as patch:  # as the first models were fitted, which have a path for each block
        patch.setattr("xsarcomp.models.refiner.tables.CELL_TRELLIS", Trellis(16, 8, BLOCK_TRELLIS.spacing))
        fitted = [fit_anchor([latents], step_db, LAGRANGIAN, rounds=1) for step_db in ANCHOR_STEPS_DB]
    tables = EntropyTables(
        **{name: np.stack([arrays[name] for arrays, _, _ in fitted]) for name in EntropyTables.names()}
    )
    card = ModelCard(
        name="simulated-small",
        architecture="lapped",
        network=None,
        offset_db=OFFSET_DB,
        lowest_db=float(decibel.min()),
        highest_db=float(decibel.max()),
        anchor_steps_db=ANCHOR_STEPS_DB,
        lagrangian=LAGRANGIAN,
        mean_corrections_db=(0.01, 0.1, 0.3),
        texture_gains=(1.0, 1.02, 1.05),
    )
    return model_file.model_bytes(card, basis, tables, np.stack([shifts for _, shifts, _ in fitted]))


@pytest.fixture(scope="session")
def coder(model_content):
    """A ready :class:`~xsarcomp.codec.coder.LappedCoder` with tables for 1, 3.6 and 10 dB."""
    from xsarcomp.codec.model_file import coder_from_bytes

    return coder_from_bytes(model_content)


@pytest.fixture(scope="session")
def disturbed_refiner():
    """Function (config, seed) -> a :class:`~xsarcomp.models.refiner.network.LatentRefiner` with random numbers everywhere."""
    import torch

    from xsarcomp.models.refiner.network import LatentRefiner

    def make(config, seed=0):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            refiner = LatentRefiner(config)
            with torch.no_grad():
                for parameter in refiner.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return refiner.eval()

    return make


@pytest.fixture(scope="session")
def network_content(coder, disturbed_refiner):
    """Bytes of a model file: the small model with a random integer network of 16 channels and 2 blocks."""
    from dataclasses import replace

    from xsarcomp.codec.model_file import model_bytes
    from xsarcomp.models.refiner.export import integer_arrays
    from xsarcomp.models.refiner.network import RefinerConfig

    card = replace(
        coder.card, name="simulated-network", architecture="lapped-residual", network={"channels": 16, "blocks": 2}
    )
    arrays = integer_arrays(disturbed_refiner(RefinerConfig(channels=16, blocks=2)))
    return model_bytes(card, coder.basis, coder.tables, coder.shifts, arrays)


@pytest.fixture(scope="session")
def network_coder(network_content):
    """A ready :class:`~xsarcomp.codec.network.coder.ResidualCoder` of ``network_content``."""
    from xsarcomp.codec.model_file import coder_from_bytes

    return coder_from_bytes(network_content)


@pytest.fixture(scope="session")
def speckled():
    """A small simulated plane of sigma0: float32, shape (y=88, x=104), dB, all pixels valid; read-only."""
    from xsarcomp.scenes.simulation import simulate_scene

    decibel = 10 * np.log10(simulate_scene((88, 104), seed=7, nodata_border=False)[0])
    decibel.setflags(write=False)
    return decibel


@pytest.fixture(scope="session")
def scene():
    """A simulated scene as a reader gives it: vv and vh, float32 power, (y=300, x=360), NaN borders, CRS; read-only."""
    from xsarcomp.scenes.simulation import simulated_dataset

    dataset = simulated_dataset((300, 360), seed=3)
    for name in ("vv", "vh"):
        dataset[name].values.setflags(write=False)
    return dataset


@pytest.fixture(scope="session")
def classic_content():
    """Bytes of the model file of a small classic autoencoder, trained for some steps on a simulated scene."""
    from dataclasses import asdict

    import torch

    from xsarcomp.models.classic.model_file import ClassicCard, classic_model_bytes
    from xsarcomp.models.classic.network import ClassicAutoencoder, ClassicConfig
    from xsarcomp.scenes.simulation import simulate_scene
    from xsarcomp.training.loop import training_loop
    from xsarcomp.training.patches import PatchConfig, PatchSampler
    from xsarcomp.training.planes import Plane
    from xsarcomp.training.schedule import LoopConfig

    decibel = 10 * np.log10(simulate_scene((256, 256), seed=11, nodata_border=False)[0])
    sampler = PatchSampler([Plane("a", "vv", decibel, np.ones(decibel.shape, bool))], PatchConfig(patch=64, batch=4))
    config = ClassicConfig(latents=6, width=4, variant="attention")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = ClassicAutoencoder(config, -40.0, 10.0)
    loop = LoopConfig(steps=120, learning_rate=5e-3, warmup_steps=10, threads=1, ema_decay=0.5)
    for _ in training_loop(model, sampler, loop):
        pass
    card = ClassicCard(
        name="simulated-classic", network=asdict(config), offset_db=OFFSET_DB, lowest_db=-40.0, highest_db=10.0
    )
    return classic_model_bytes(card, {name: tensor.numpy() for name, tensor in model.state_dict().items()})


@pytest.fixture(scope="session")
def classic_codec(classic_content):
    """A ready :class:`~xsarcomp.models.classic.codec.ClassicCodec` of ``classic_content``."""
    from xsarcomp.models.classic.model_file import classic_codec_from_bytes

    return classic_codec_from_bytes(classic_content)
