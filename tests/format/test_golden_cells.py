"""Golden frames of the models whose paths run through cells: they decode for ever, to the symbols and pixels of today.

``python -m tests.format.test_golden_cells`` wrote them; it refuses to write one again.
"""

from pathlib import Path

import numpy as np
import pytest

from xsarcomp.codec.chunk import Settings, decode_backscatter, encode_backscatter
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.scenes.simulation import simulated_dataset

FOLDER = Path(__file__).parent / "golden_cells"
CASES = {
    "network-1db": ("s1-grd-10m-v2", 1.0),
    "network-6db": ("s1-grd-10m-v2", 6.0),
    "plain-2db": ("s1-grd-10m-v2-lapped", 2.0),
}


def scene() -> np.ndarray:
    values = simulated_dataset((166, 150), 21, scale="decibel").vv.values.astype(np.float32)
    values[10:14, 20:40] = np.nan
    return values


@pytest.mark.parametrize("name", CASES)
def test_golden_frames_of_cells_decode_to_the_same_pixels(name):
    coder = load_coder(CASES[name][0])
    decoded = decode_backscatter((FOLDER / f"{name}.frame").read_bytes(), None, coder)
    expected = np.load(FOLDER / f"{name}.npy")
    assert (np.isnan(decoded) == np.isnan(expected)).all()
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=1e-3)  # section 8 of the format


def write() -> None:
    for name, (model, step_db) in CASES.items():
        coder = load_coder(model)
        frame = encode_backscatter(scene(), Settings(step_db=step_db, scale="decibel"), coder)
        with (FOLDER / f"{name}.frame").open("xb") as file:
            file.write(frame)
        np.save(FOLDER / f"{name}.npy", decode_backscatter(frame, None, coder))


if __name__ == "__main__":
    write()
