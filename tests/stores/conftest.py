"""Small stores of each kind, which a test may damage: copies of what was written once."""

import shutil

import pytest


@pytest.fixture(scope="session")
def small():
    """3 x 4 chunks of 64 pixels, the last ones cut; the nodata border leaves no chunk empty."""
    from xsarcomp.scenes.simulation import simulated_dataset

    return simulated_dataset((150, 210), 5)


@pytest.fixture(scope="session")
def originals(small, tmp_path_factory):
    """A folder with a store of each kind, as it was written and with a manifest."""
    from tests.support.stored_scenes import KINDS, write
    from xsarcomp.stores.verification import write_manifest

    folder = tmp_path_factory.mktemp("stores")
    for kind in KINDS:
        write(kind, small, folder / kind)
        shutil.copytree(folder / kind, folder / f"{kind} recorded")
        write_manifest(folder / f"{kind} recorded")
    return folder


@pytest.fixture
def store(originals, tmp_path):
    """Function (kind, recorded) -> a copy of a store that may be damaged."""

    def copy(kind, recorded=True):
        path = tmp_path / f"{kind} {recorded}"
        shutil.copytree(originals / (f"{kind} recorded" if recorded else kind), path)
        return path

    return copy
