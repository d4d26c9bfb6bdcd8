"""The synthetic scans: one body on every grid, lesions of the size asked for, the same voxels for the same seed."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palpate.errors import GeometryError, OutputError, ScanError
from palpate.phantom import Phantom, Site, make_phantom, oblique_affine, write_phantom
from palpate.phantom.scanner import _noise
from palpate.volume import Grid

SMALL = (60, 60, 48)
EDGES = (3.0, 3.0, 4.0)


def small(
    *,
    orientation: str = "RAS",
    angles_deg: tuple[float, float, float] = (0, 0, 0),
    noise_hu: float = 0.0,
    seed: int = 0,
) -> Phantom:
    """The default body, coarsely, on a grid of some orientation."""
    order = ["RAS".find(a) if a in "RAS" else "LPI".find(a) for a in orientation]
    shape = tuple(SMALL[i] for i in order)
    spacing = tuple(EDGES[i] for i in order)
    affine = oblique_affine(shape, spacing, orientation=orientation, angles_deg=angles_deg)  # type: ignore[arg-type]
    return make_phantom(shape=shape, affine=affine, noise_hu=noise_hu, seed=seed)  # type: ignore[arg-type]


def hu_at(phantom: Phantom, mm: tuple[float, float, float]) -> int:
    """The scan's value in the voxel nearest to a place."""
    x, y, z = np.rint(phantom.volume.grid.to_index(mm)).astype(int)
    return int(phantom.volume.array[x, y, z])


def test_default_is_what_its_description_says() -> None:
    phantom = make_phantom()
    assert phantom.volume.array.dtype == np.int16
    assert phantom.volume.shape == (128, 128, 96)
    assert phantom.volume.spacing == pytest.approx((1.5, 1.5, 2.5))
    assert phantom.lesion.grid.same_as(phantom.volume.grid, 1e-3)
    assert phantom.title == "synthetic scan: 28 mm lesion, liver, seed 0"


def test_tissues_lie_where_they_lie_in_people() -> None:
    scale = 180 / 340
    phantom = make_phantom(noise_hu=0)
    right, left = 75 * scale, -75 * scale
    assert hu_at(phantom, (0, 92, 0)) == -1000
    assert hu_at(phantom, (right, 0, 0)) > 50  # the liver is on the right; no lung at its level
    assert hu_at(phantom, (right, -20 * scale, 150 * scale)) < -700
    assert hu_at(phantom, (left, -20 * scale, 150 * scale)) < -700
    assert hu_at(phantom, (0, -62 * scale, 0)) > 180  # a vertebra's body
    assert hu_at(phantom, (0, 109 * scale, 0)) == pytest.approx(-105, abs=10)  # fat under the skin
    assert hu_at(phantom, (62 * scale, -44 * scale, -120 * scale)) == pytest.approx(165, abs=3)  # right kidney
    assert hu_at(phantom, (-24 * scale, 26 * scale, 78 * scale)) == pytest.approx(140, abs=3)  # heart


def test_noise_has_the_deviation_asked_for_and_is_grainy_in_slices_only() -> None:
    quiet, noisy = make_phantom(noise_hu=0), make_phantom(noise_hu=12)
    difference = (noisy.volume.array.astype(float) - quiet.volume.array)[quiet.volume.array > -900]
    assert difference.mean() == pytest.approx(0, abs=0.1)
    assert difference.std() == pytest.approx(12, rel=0.02)
    grain = _noise((64, 64, 20), 2, 0, 0)
    assert grain.std() == pytest.approx(1, abs=0.02)
    assert np.mean(grain[1:] * grain[:-1]) > 0.4
    assert abs(np.mean(grain[:, :, 1:] * grain[:, :, :-1])) < 0.03


def test_slices_do_not_depend_on_the_slab_that_they_are_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small(noise_hu=12, angles_deg=(9, 5, -7))
    monkeypatch.setattr("palpate.phantom.scanner._SLAB_VOXELS", 7 * 60 * 60)
    assert np.array_equal(small(noise_hu=12, angles_deg=(9, 5, -7)).volume.array, whole.volume.array)


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others() -> None:
    first, again, other = small(noise_hu=12), small(noise_hu=12), small(noise_hu=12, seed=1)
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.lesion.full(), again.lesion.full())
    assert first.click == again.click
    assert not np.array_equal(first.volume.array, other.volume.array)
    assert not np.array_equal(first.lesion.full(), other.lesion.full())


@pytest.mark.parametrize("site", ["liver", "lung", "kidney"])
@pytest.mark.parametrize("diameter", [12.0, 28.0])
def test_lesion_has_the_volume_of_its_sphere(site: Site, diameter: float) -> None:
    phantom = make_phantom(spacing=(1, 1, 1.25), shape=(96, 96, 80), site=site, lesion_diameter_mm=diameter)
    # pi/6 d^3: 0.905 mL of 12 mm, 11.494 mL of 28 mm.
    assert phantom.lesion.volume_ml == pytest.approx(math.pi / 6 * diameter**3 / 1000, rel=0.02)


@pytest.mark.parametrize(("site", "inside"), [("liver", 55), ("lung", 40), ("kidney", 60)])
def test_lesion_differs_from_what_it_grows_in(site: Site, inside: int) -> None:
    phantom = make_phantom(site=site, noise_hu=0)
    assert phantom.volume.array[phantom.click.index] == inside
    assert make_phantom(site=site, noise_hu=0, lesion_hu=-20).volume.array[phantom.click.index] == -20
    ring = np.median(phantom.volume.array[phantom.lesion.box][~phantom.lesion.array])
    assert abs(ring - inside) > 40


@pytest.mark.parametrize("seed", range(4))
def test_lesion_is_irregular_and_in_one_piece(seed: int) -> None:
    from scipy.ndimage import label

    lesion = make_phantom(spacing=(1, 1, 1), shape=(64, 64, 64), seed=seed, noise_hu=0).lesion
    assert label(lesion.array)[1] == 1
    reach = np.array(lesion.extent_mm) / 28
    assert reach.max() - reach.min() > 0.01
    assert 0.75 < reach.min() < reach.max() < 1.5


def test_click_is_the_voxel_farthest_from_the_border() -> None:
    lesion, click = (p := small()).lesion, p.click
    assert lesion.full()[click.index]
    outside = p.volume.grid.to_mm(np.argwhere(~np.pad(lesion.array, 1)) - 1)
    inside = p.volume.grid.to_mm(np.argwhere(lesion.array))
    depth = np.linalg.norm(inside[:, None] - outside[None], axis=-1).min(axis=1)
    mine = depth[(np.argwhere(lesion.array) + lesion.start == click.index).all(axis=1)]
    assert mine == pytest.approx(depth.max())


@pytest.mark.parametrize(
    ("orientation", "back"),
    [("LPS", (slice(None, None, -1), slice(None, None, -1), slice(None))), ("RAI", (..., slice(None, None, -1)))],
)
def test_a_flipped_grid_shows_the_flipped_array(orientation: str, back: tuple[slice, ...]) -> None:
    straight, flipped = small(), small(orientation=orientation)
    assert np.abs(flipped.volume.array[back].astype(int) - straight.volume.array).max() <= 1
    assert np.array_equal(flipped.lesion.full()[back], straight.lesion.full())


def test_a_permuted_grid_shows_the_permuted_array() -> None:
    straight, turned = small(), small(orientation="SRA")
    assert turned.volume.shape == (48, 60, 60)
    assert np.abs(turned.volume.array.transpose(1, 2, 0).astype(int) - straight.volume.array).max() <= 1
    assert np.array_equal(turned.lesion.full().transpose(1, 2, 0), straight.lesion.full())


def test_coarse_voxels_hold_the_mean_of_the_fine_voxels_in_them() -> None:
    place = (38.0, 2.0, -33.0)
    fine_affine = oblique_affine((64, 64, 64), (1, 1, 1), centre_mm=place)
    coarse_affine = oblique_affine((32, 32, 16), (2, 2, 4), centre_mm=place)
    fine = make_phantom(shape=(64, 64, 64), affine=fine_affine, noise_hu=0, lesion_diameter_mm=14)
    coarse = make_phantom(shape=(32, 32, 16), affine=coarse_affine, noise_hu=0, lesion_diameter_mm=14)
    blocks = fine.volume.array.reshape(32, 2, 32, 2, 16, 4).mean(axis=(1, 3, 5))
    difference = np.abs(blocks - coarse.volume.array)
    assert difference.mean() < 2.5
    assert np.median(difference) < 1
    assert np.percentile(difference, 99) < 40  # of the 1000 HU and more that edges have
    assert coarse.lesion.volume_ml == pytest.approx(fine.lesion.volume_ml, rel=0.05)


@settings(deadline=None, max_examples=6)
@given(
    angles=st.tuples(*[st.floats(-25, 25)] * 3),
    orientation=st.sampled_from(["RAS", "LPS", "PIR", "SAL"]),
    thick=st.sampled_from([1.5, 2.0, 3.0]),
)
def test_every_grid_shows_the_same_body(angles: tuple[float, float, float], orientation: str, thick: float) -> None:
    shape, spacing = (44, 42, 40), (2.0, 1.7, thick)
    reference = make_phantom(shape=(64, 64, 64), spacing=(1.5, 1.5, 1.5), noise_hu=0)
    centre = reference.volume.grid.to_mm(reference.click.index).tolist()
    affine = oblique_affine(shape, spacing, orientation=orientation, angles_deg=angles, centre_mm=centre)
    other = make_phantom(shape=shape, affine=affine, noise_hu=0)
    assert other.lesion.volume_ml == pytest.approx(reference.lesion.volume_ml, rel=0.04)
    clicked = other.volume.grid.to_mm(other.click.index)
    assert np.linalg.norm(clicked - centre) < 5

    index = np.argwhere(np.ones(shape, dtype=bool))[::37]
    there = np.rint(reference.volume.grid.to_index(other.volume.grid.to_mm(index))).astype(int)
    seen = ((there >= 0) & (there < reference.volume.shape)).all(axis=1)
    mine = other.volume.array[tuple(index[seen].T)].astype(int)
    theirs = reference.volume.array[tuple(there[seen].T)].astype(int)
    # Nearest voxels: only those that edges cross may differ.
    assert np.median(np.abs(mine - theirs)) <= 1
    assert np.mean(np.abs(mine - theirs) < 60) > 0.8


def test_a_grid_too_small_for_the_body_is_moved_to_the_lesion() -> None:
    sites: tuple[Site, ...] = ("liver", "lung", "kidney")
    for site in sites:
        phantom = make_phantom(shape=(30, 30, 24), site=site)
        whole = make_phantom(site=site)
        assert phantom.lesion.volume_ml == pytest.approx(whole.lesion.volume_ml, rel=0.03)
        gap = phantom.volume.grid.to_mm(phantom.click.index) - whole.volume.grid.to_mm(whole.click.index)
        assert np.linalg.norm(gap) < 5


def test_oblique_affine_by_hand() -> None:
    affine = oblique_affine((3, 5, 1), (2, 3, 4), orientation="LAS", centre_mm=(10, 20, 30))
    # The centre is voxel (1, 2, 0); x runs to the left.
    assert affine.tolist() == [[-2, 0, 0, 12], [0, 3, 0, 14], [0, 0, 4, 30], [0, 0, 0, 1]]
    turned = oblique_affine((1, 1, 1), (2, 3, 4), angles_deg=(0, 0, 90))
    # A quarter turn about S takes R to A and A to L.
    assert turned[:3, :3] == pytest.approx(np.array([[0, -3, 0], [2, 0, 0], [0, 0, 4]]), abs=1e-12)
    assert Grid((9, 9, 9), oblique_affine((9, 9, 9), (1, 2, 3), orientation="PIR")).orientation == "PIR"


@pytest.mark.parametrize("spacing", [(1, 0, 1), (1, -1, 1), (1, 1), (1, math.nan, 1)])
def test_edges_that_are_not_lengths(spacing: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="three positive lengths in mm, not"):
        make_phantom(spacing=spacing)


@pytest.mark.parametrize("letters", ["RRS", "RA", "XYZ", "RASL", ""])
def test_letters_that_are_no_orientation(letters: str) -> None:
    with pytest.raises(GeometryError, match=f"such as LPS, not '{letters}'"):
        oblique_affine((4, 4, 4), (1, 1, 1), orientation=letters)


def test_angles_and_places_that_are_not_three_numbers() -> None:
    with pytest.raises(GeometryError, match="angles are three numbers of degrees, not"):
        oblique_affine((4, 4, 4), (1, 1, 1), angles_deg=(1, 2))
    with pytest.raises(GeometryError, match="a centre is three RAS millimetres, not"):
        oblique_affine((4, 4, 4), (1, 1, 1), centre_mm=(1, 2, math.inf))


def test_shapes_that_are_no_grid() -> None:
    with pytest.raises(GeometryError, match="three axes of at least one voxel"):
        make_phantom(shape=(8, 0, 8))
    with pytest.raises(GeometryError, match="three axes of at least one voxel"):
        make_phantom(shape=(8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "whole number from 0 up, not -1"),
        ({"seed": 1.5}, "whole number from 0 up, not 1.5"),
        ({"site": "spleen"}, "one of liver, lung, kidney, not 'spleen'"),
        ({"lesion_diameter_mm": 0}, "lesion's diameter is a positive number of mm, not 0"),
        ({"body_width_mm": math.inf}, "body's width is a positive number of mm, not inf"),
        ({"noise_hu": -1}, "0 or more, not -1"),
        ({"lesion_hu": math.nan}, "from -1024 to 3071 HU, not nan"),
        ({"lesion_diameter_mm": 90}, "a synthetic lesion of 90 mm finds no place in the liver of a body 180 mm wide"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ScanError, match=message):
        make_phantom(**arguments)  # type: ignore[arg-type]


def test_grids_that_do_not_hold_the_lesion() -> None:
    with pytest.raises(GeometryError, match="does not fit the grid, shape \\(8, 8, 8\\)"):
        make_phantom(shape=(8, 8, 8))
    with pytest.raises(GeometryError, match="does not fit the grid"):
        make_phantom(affine=oblique_affine((128, 128, 96), (1, 1, 1), centre_mm=(0, 0, 300)))
    with pytest.raises(GeometryError, match="lies between the voxels"):
        make_phantom(shape=(10, 10, 10), spacing=(30, 30, 30), lesion_diameter_mm=2)


def test_written_files_say_synthetic_and_read_back(tmp_path: Path) -> None:
    import nibabel

    phantom = small(orientation="LPS", angles_deg=(4, 0, 6), noise_hu=12)
    scan, lesion = write_phantom(phantom, tmp_path / "new" / "folder")
    assert (scan.name, lesion.name) == ("synthetic_scan.nii.gz", "synthetic_lesion.nii.gz")
    read = nibabel.load(scan)
    assert np.array_equal(np.asarray(read.dataobj), phantom.volume.array)
    assert np.allclose(read.affine, phantom.volume.affine, atol=1e-4)
    assert np.array_equal(np.asarray(nibabel.load(lesion).dataobj) > 0, phantom.lesion.full())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_phantom(small(), tmp_path / "taken" / "below")
