"""What holds for every format: endings, geometry from one to another, and files written whole or not at all."""

import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palpate.errors import FormatError, GeometryError, OutputError, ScanError, SeriesError
from palpate.formats import READABLE, WRITABLE, check_output, check_spared, list_series, read, write, written_files
from palpate.masks import Mask, Patch, Probability
from palpate.volume import FloatArray, Grid, Volume

OBLIQUE = np.array([[-0.9, 0.3, 0.2, 10.5], [-0.3, -0.9, 0, -20.25], [0.18, -0.06, 3, 300.125], [0, 0, 0, 1]])


def right_angled(affine: FloatArray) -> FloatArray:
    """The nearest affine without shear."""
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    out = affine.copy()
    out[:3, :3] = left @ right * np.linalg.norm(affine[:3, :3], axis=0)
    return out


GRID = Grid((5, 6, 7), right_angled(OBLIQUE))


def scan(grid: Grid) -> Patch:
    return Patch(np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape), (0, 0, 0), grid)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Oblique, flipped, anisotropic grids far from the origin."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    straight = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = (turn if draw(st.booleans()) else straight) * random.uniform(0.3, 6, 3)
    affine[:3, 3] = random.uniform(-400, 400, 3)
    x, y, z = random.integers(1, 7, 3).tolist()
    return Grid((x, y, z), affine)


@given(grids())
@settings(max_examples=8, deadline=None)
def test_every_voxel_keeps_its_place_from_any_format_to_any(grid: Grid) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in WRITABLE:
            path = folder / f"scan{source}"
            write(scan(grid), path)
            volume = read(path)
            assert volume.grid.same_as(grid, 1e-3)
            assert np.array_equal(volume.array, scan(grid).array)
            for target in WRITABLE:
                mask = Mask(volume.array[-2:] % 3 == 0, (max(grid.shape[0] - 2, 0), 0, 0), volume.grid, volume.source)
                mask.save(folder / f"mask{target}")
                back = read(folder / f"mask{target}")
                assert back.grid.same_as(volume.grid, 1e-3)
                assert back.array.dtype == np.uint8
                assert np.array_equal(back.array, mask.full())


@pytest.mark.parametrize("ending", WRITABLE)
def test_a_probability_is_float32(tmp_path: Path, ending: str) -> None:
    values = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    write(Probability(values, (1, 2, 3), GRID), tmp_path / f"p{ending}")
    back = read(tmp_path / f"p{ending}")
    assert back.array.dtype == np.float32
    assert np.array_equal(back.array[1:3, 2:4, 3:5], values)
    assert np.count_nonzero(back.array) == 7


@pytest.mark.parametrize("ending", WRITABLE)
def test_the_same_mask_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    mask = Mask(np.ones((2, 2, 2), bool), (0, 0, 0), GRID)
    mask.save(tmp_path / f"a{ending}")
    first = (tmp_path / f"a{ending}").read_bytes()
    mask.save(tmp_path / f"a{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == first


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
def test_a_sheared_grid_is_only_for_nifti(tmp_path: Path, ending: str) -> None:
    sheared = Mask(np.ones((2, 2, 2), bool), (0, 0, 0), Grid((2, 2, 2), OBLIQUE))
    with pytest.raises(OutputError, match=r"degrees off right angles.*save as \.nii\.gz"):
        sheared.save(tmp_path / f"mask{ending}")
    with pytest.raises(OutputError, match="right angles"):
        check_output(tmp_path / f"mask{ending}", sheared)
    assert not list(tmp_path.iterdir())
    sheared.save(tmp_path / "mask.nii")
    assert read(tmp_path / "mask.nii").grid.same_as(sheared.grid, 1e-3)


def test_endings_are_read_in_capitals_but_not_written(tmp_path: Path) -> None:
    for ending in WRITABLE:
        capitals = tmp_path / f"SCAN{ending.upper()}"
        with pytest.raises(OutputError, match="unknown ending; use one of"):
            write(scan(GRID), capitals)
        write(scan(GRID), tmp_path / f"scan{ending}")
        (tmp_path / f"scan{ending}").rename(capitals)
        assert read(capitals).grid.same_as(GRID, 1e-3)


def test_importing_formats_imports_no_library_of_files() -> None:
    code = "import sys, palpate.formats; print({'nibabel', 'SimpleITK', 'pydicom', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_an_unknown_ending(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"x" * 200)
    with pytest.raises(FormatError, match=r"scan\.png: unknown format; readable are .*\.nii\.gz.*DICOM"):
        read(path)
    with pytest.raises(OutputError, match=r"unknown ending; use one of \.nii, \.nii\.gz, \.nrrd, \.mha, \.mhd"):
        check_output(path)
    assert set(WRITABLE) < set(READABLE)


def test_a_missing_file_or_folder(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"none\.nii\.gz: no such file or folder; check the spelling"):
        read(tmp_path / "none.nii.gz")
    with pytest.raises(ScanError, match="no such folder"):
        list_series(tmp_path / "none")


def test_what_is_written_at_several_paths() -> None:
    files = written_files("a.nii.gz", None, Path("b.mhd"), "c.mha")
    assert files == (Path("a.nii.gz"), Path("b.zraw"), Path("b.mhd"), Path("c.mha"))
    assert written_files() == ()


def test_a_series_is_not_asked_of_a_file(tmp_path: Path) -> None:
    write(scan(GRID), tmp_path / "scan.nii")
    with pytest.raises(SeriesError, match="'3' was asked for, but this is a file"):
        read(tmp_path / "scan.nii", series="3")


@pytest.mark.parametrize("ending", WRITABLE)
def test_nothing_of_a_scan_goes_where_it_was_read_from(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    write(Patch(np.ones((5, 4, 3), np.int16), (0, 0, 0), Grid((5, 4, 3), np.eye(4))), path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    volume = read(path)
    mask = Mask(np.ones((2, 2, 2), bool), (0, 0, 0), volume.grid, volume.source)
    (tmp_path / f"link{ending}").symlink_to(path)
    (tmp_path / "below").mkdir()
    for name in (path.name, f"link{ending}", f"below/../{path.name}"):
        for refused in (check_output, check_spared):
            with pytest.raises(OutputError, match="the scan itself was read from it, and would be lost; name another"):
                refused(tmp_path / name, volume)
        with pytest.raises(OutputError, match="the scan itself was read from it"):
            mask.save(tmp_path / name)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    mask.save(tmp_path / f"mask{ending}")
    mask.save(tmp_path / f"mask{ending}")  # what is no scan's is replaced as ever
    assert check_spared(path, Volume(volume.array, volume.affine)) == path, "of a scan in memory nothing is lost"


def test_the_voxels_beside_a_header_are_the_scans_too(tmp_path: Path) -> None:
    write(Patch(np.ones((5, 4, 3), np.int16), (0, 0, 0), Grid((5, 4, 3), np.eye(4))), tmp_path / "scan.mhd")
    volume = read(tmp_path / "scan.mhd")
    with pytest.raises(OutputError, match=r"scan\.zraw: the scan itself was read from it"):
        check_spared(tmp_path / "scan.zraw", volume)


def test_check_output_returns_the_path_and_checks_the_folder(tmp_path: Path) -> None:
    for ending in WRITABLE:
        assert check_output(str(tmp_path / f"mask{ending}")) == tmp_path / f"mask{ending}"
    with pytest.raises(OutputError, match="make it first"):
        check_output(tmp_path / "none" / "mask.nii.gz")


@pytest.mark.parametrize("ending", WRITABLE)
@pytest.mark.usefixtures("as_ordinary_user")
def test_a_file_that_may_not_be_read(public_folder: Path, ending: str) -> None:
    path = public_folder / f"scan{ending}"
    write(scan(GRID), path)
    path.chmod(0)
    with pytest.raises(ScanError, match=r"no permission to read it; ask its owner"):
        read(path)


@pytest.mark.usefixtures("as_ordinary_user")
def test_a_folder_that_may_not_be_read(public_folder: Path) -> None:
    closed = public_folder / "closed"
    closed.mkdir(mode=0)
    for path in (closed, closed / "scan.nii.gz"):
        with pytest.raises(ScanError, match="no permission to read it"):
            read(path)
    closed.chmod(0o755)


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file of this process can grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Little room, where a library meets the limit while it closes the file, and more, where it meets it while it writes.
@pytest.mark.parametrize("room", [0, 100, 20_000])
@pytest.mark.parametrize("ending", WRITABLE)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, ending: str, room: int) -> None:
    path = tmp_path / f"mask{ending}"
    grid = Grid((64, 64, 64), GRID.affine)
    Mask(np.ones((2, 2, 2), bool), (0, 0, 0), grid).save(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    noise = Mask(np.random.default_rng(0).random(grid.shape) > 0.5, (0, 0, 0), grid)
    message = rf"cannot write .*mask{ending}: .*nothing was changed. Free some space"
    with pytest.raises(OutputError, match=message), full_disk(room):
        noise.save(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("ending", WRITABLE)
def test_a_small_mask_on_a_full_disk(tmp_path: Path, ending: str) -> None:
    with pytest.raises(OutputError, match="nothing was changed"), full_disk(60):
        Mask(np.ones((2, 2, 2), bool), (0, 0, 0), GRID).save(tmp_path / f"mask{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", WRITABLE)
def test_an_empty_or_foreign_file(tmp_path: Path, ending: str) -> None:
    for content in (b"", b"hello" * 100):
        path = tmp_path / f"scan{ending}"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=rf"scan{ending}: "):
            read(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file(tmp_path: Path, ending: str, part: float) -> None:
    path = tmp_path / f"scan{ending}"
    noise = np.random.default_rng(0).integers(-1000, 1000, (16, 16, 16)).astype(np.int16)
    write(Patch(noise, (0, 0, 0), Grid((16, 16, 16), np.eye(4))), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(FormatError, match=rf"scan{ending}: .*copy it again from where it came"):
        read(path)


@pytest.mark.parametrize("ending", WRITABLE)
def test_nan_among_the_voxels(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    values = np.zeros((2, 2, 2), np.float32)
    values[0, 0, 0] = np.nan
    write(Patch(values, (0, 0, 0), Grid((2, 2, 2), np.eye(4))), path)
    with pytest.raises(ScanError, match=rf"scan{ending}: 1 of 8 voxels are NaN or infinite"):
        read(path)


def test_the_path_comes_first_and_the_kind_of_error_stays(tmp_path: Path) -> None:
    import nibabel as nib

    path = tmp_path / "flat.nii"
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
    image.header.set_sform(np.diag([1, 0, 1, 1]), code=1)
    image.to_filename(path)
    with pytest.raises(GeometryError, match=r"flat\.nii: the affine cannot be inverted .*Repair the file's header"):
        read(path)
