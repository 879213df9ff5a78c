"""Train a tiny model on simulated scenes and compress with it by name: python train_a_model.py [FOLDER]

It shows the way; a gain takes thousands of steps. For that: ``xsarcomp train examples/s1-grd-10m.toml --data FOLDER``.
"""

import hashlib
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.model_file import model_bytes
from xsarcomp.models.refiner.export import integer_arrays
from xsarcomp.models.refiner.network import LappedAutoencoder, RefinerConfig
from xsarcomp.models.refiner.task import encoder_quantizer
from xsarcomp.scenes.simulation import simulate_scene, simulated_dataset
from xsarcomp.training.loop import seed_everything, training_loop
from xsarcomp.training.patches import PatchConfig, PatchSampler
from xsarcomp.training.planes import Plane
from xsarcomp.training.schedule import LoopConfig

NAME = "tiny"


def main(folder: Path) -> None:
    decibel = 10 * np.log10(np.concatenate([simulate_scene((256, 256), seed=s, nodata_border=False) for s in (1, 2)]))
    planes = [Plane(f"scene-{i}", "vv", plane, np.ones(plane.shape, bool)) for i, plane in enumerate(decibel)]

    # tables and quantizer are those of the shipped profile; a network of 16 channels is trained to refine its latents
    linear = load_coder("s1-grd-10m-lapped")
    seed_everything(0)
    sizes = RefinerConfig(channels=16, blocks=1, smallest_step_db=2.9, largest_step_db=3.1)
    model = LappedAutoencoder(sizes, encoder_quantizer(linear), linear.card.offset_db)
    batches = PatchSampler(planes, PatchConfig(patch=128, batch=2, seed=0))
    for report in training_loop(model, batches, LoopConfig(steps=20, learning_rate=3e-3, ema_decay=0.9)):
        if report.step % 5 == 0:
            print(f"step {report.step}: squared error {report.scalars['loss']:.3f} of that without the network")

    # the weights averaged over the last steps, as integers in a model file, and beside it a JSON file with its id
    model.load_state_dict(report.state["ema"])
    card = replace(linear.card, name=NAME, architecture="lapped-residual", network={"channels": 16, "blocks": 1})
    content = model_bytes(card, linear.basis, linear.tables, linear.shifts, integer_arrays(model.refiner))
    (folder / f"{NAME}.safetensors").write_bytes(content)
    (folder / f"{NAME}.json").write_text(json.dumps({"id": hashlib.sha256(content).hexdigest(), "name": NAME}))
    os.environ["XSARCOMP_MODEL_PATH"] = str(folder)  # where else models are looked up by name
    scene = simulated_dataset((192, 208), seed=9)
    for name in (NAME, "s1-grd-10m-lapped"):
        metrics = scene.sarcomp.encode(bits_per_pixel=1, model=name).sarcomp.decode().sarcomp.compare(scene)
        print(f"{name}: RMSE {metrics['rmse_db']:.4f} dB at 1 bit per pixel")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
