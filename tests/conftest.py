"""What tests of several rooms share."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_defaults_of_the_user() -> Iterator[None]:
    """Let no `palpate.toml` of whoever runs the tests change what commands do."""
    before = os.environ.get("PALPATE_CONFIG")
    os.environ["PALPATE_CONFIG"] = ""
    yield
    if before is None:
        del os.environ["PALPATE_CONFIG"]
    else:
        os.environ["PALPATE_CONFIG"] = before


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real scans, given by the environment variable PALPATE_DATA."""
    value = os.environ.get("PALPATE_DATA")
    if not value:
        pytest.skip("PALPATE_DATA is not set: name the folder of real scans in it to run these tests")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"PALPATE_DATA names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def pretrained_weights() -> Path:
    """The folder of pretrained weights, given by the environment variable PALPATE_WEIGHTS."""
    value = os.environ.get("PALPATE_WEIGHTS")
    if not value:
        pytest.skip("PALPATE_WEIGHTS is not set: name the folder of dinov2_vits14.safetensors in it to run these tests")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"PALPATE_WEIGHTS names {folder}, which is not a folder")
    return folder


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A temporary folder that other users can see into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def as_ordinary_user() -> Iterator[None]:
    """Run a test without root's rights, to which no permission is denied."""
    if os.geteuid() != 0:
        yield
        return
    # Imported under root: an ordinary user may not see where the libraries lie.
    for library in ("nibabel", "SimpleITK", "pydicom"):
        with contextlib.suppress(ImportError):
            __import__(library)
    nobody = 65534
    os.setresuid(nobody, nobody, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
