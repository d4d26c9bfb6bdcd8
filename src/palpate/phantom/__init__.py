"""Synthetic CT-like scans with one synthetic lesion, for demonstrations and tests; nothing in them was ever measured.

One body is described in millimetres, as tissues painted over each other (`body`), and a scan asks for it at its voxels
through its own affine (`scanner`), so that coarse, flipped and oblique grids all show the same body. Every random
choice comes from `(seed, what, index)`: another organ moves no lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from ..errors import GeometryError, ScanError
from ..files import writing
from ..masks import Mask, Patch
from ..prompts import Click
from ..volume import FloatArray, Grid, Index3, Volume
from .body import ADULT_WIDTH_MM, body
from .lesion import LESION_HU, Blob, Site, placed
from .scanner import body_affine, box_around, coordinates, scan

__all__ = ["Phantom", "Site", "make_phantom", "oblique_affine", "phantom_files", "write_phantom"]

_ROOM_MM = 10.0


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan and what is known about it.

    Attributes:
        volume: the synthetic scan, int16 HU `[X, Y, Z]`.
        lesion: the synthetic lesion: the voxels whose centre lies inside it.
        click: the voxel of the lesion farthest from its border.
        title: one line that describes it, beginning with "synthetic".
    """

    volume: Volume
    lesion: Mask
    click: Click
    title: str


def make_phantom(
    *,
    shape: Index3 = (128, 128, 96),
    spacing: Sequence[float] = (1.5, 1.5, 2.5),
    affine: npt.ArrayLike | None = None,
    seed: int = 0,
    site: Site = "liver",
    lesion_diameter_mm: float = 28.0,
    lesion_hu: float | None = None,
    noise_hu: float = 12.0,
    body_width_mm: float = 180.0,
) -> Phantom:
    """A synthetic CT-like scan of a trunk with one lesion; the same arguments give the same voxels.

    Args:
        shape: voxels along the array's axes.
        spacing: their edges, mm, where no affine is given.
        affine: voxel index to RAS millimetres, `[4, 4]`; the body's origin, at the level of its liver, is the origin
            of space. None gives a straight RAS grid around the origin, moved as far as the lesion needs.
        seed: of the body's small variations, the lesion's shape and place, and the noise; not negative.
        site: the organ of the lesion: hypodense in the liver, a nodule in the lung, or growing out of a kidney.
        lesion_diameter_mm: of the sphere that has the lesion's volume.
        lesion_hu: the lesion's Hounsfield units; None chooses what is usual for the site.
        noise_hu: standard deviation of the scanner's noise; 0 for none.
        body_width_mm: of the trunk, from skin to skin; the default is a child that the default grid holds.

    Raises:
        GeometryError: a spacing, a shape or an affine that makes no grid, or a grid that does not hold the lesion.
        ScanError: a seed, site, size or noise that makes no sense, or a lesion too large for its organ.
    """
    hu = LESION_HU.get(site, 0.0) if lesion_hu is None else lesion_hu
    _check(seed, site, diameter=lesion_diameter_mm, hu=hu, noise=noise_hu, width=body_width_mm)
    scale = body_width_mm / ADULT_WIDTH_MM
    tissues = body(seed)
    blob = placed(seed, tissues, site, lesion_diameter_mm / scale)
    if blob is None:
        raise ScanError(
            f"a synthetic lesion of {lesion_diameter_mm:g} mm finds no place in the {site} of a body "
            f"{body_width_mm:g} mm wide (seed {seed}); make the lesion smaller or the body wider"
        )
    if affine is None:
        centre = _centre_for(blob, scale, np.asarray(shape) * _edges(shape, spacing))
        affine = oblique_affine(shape, spacing, centre_mm=centre)
    grid = Grid(shape, np.asarray(affine, dtype=np.float64))
    lesion = _truth(blob, grid, scale)
    tissues.append(blob.tissue(hu))
    volume = Volume(scan(tissues, grid, scale, noise_hu, seed), grid.affine, unit="HU")
    title = f"synthetic scan: {lesion_diameter_mm:g} mm lesion, {site}, seed {seed}"
    return Phantom(volume, lesion, _deepest(lesion), title)


def oblique_affine(
    shape: Index3,
    spacing: Sequence[float],
    *,
    orientation: str = "RAS",
    angles_deg: Sequence[float] = (0.0, 0.0, 0.0),
    centre_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> FloatArray:
    """The affine `[4, 4]` of a grid around a point, its axes named by letters and then turned.

    Args:
        shape: voxels along the array's axes.
        spacing: their edges along the same axes, mm.
        orientation: where the array's axes point before the turn: "RAS", "LPS", "PIR", ...
        angles_deg: turns about the R, A and S axes, in that order.
        centre_mm: RAS millimetres of the grid's centre.

    Raises:
        GeometryError: edges that are not positive, letters that are not one of each of R/L, A/P and S/I, or angles
            or a centre that are not three numbers.
    """
    edges = _edges(shape, spacing)
    for expected, value in (
        ("angles are three numbers of degrees", angles_deg),
        ("a centre is three RAS millimetres", centre_mm),
    ):
        if np.shape(value) != (3,) or not np.isfinite(value).all():
            raise GeometryError(f"{expected}, not {value!r}")
    rows = [next((row for row, pair in enumerate(("RL", "AP", "SI")) if a in pair), -1) for a in orientation.upper()]
    if sorted(rows) != [0, 1, 2]:
        raise GeometryError(f"an orientation is one each of R/L, A/P and S/I, such as LPS, not {orientation!r}")
    directions = np.zeros((3, 3))
    for axis, (row, letter) in enumerate(zip(rows, orientation.upper(), strict=True)):
        directions[row, axis] = 1 if letter in "RAS" else -1
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() @ directions * edges
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def phantom_files(folder: str | Path) -> tuple[Path, Path]:
    """The scan's and the lesion's file in a folder, as `write_phantom` names them."""
    return Path(folder) / "synthetic_scan.nii.gz", Path(folder) / "synthetic_lesion.nii.gz"


def write_phantom(phantom: Phantom, folder: str | Path) -> tuple[Path, Path]:
    """Write `synthetic_scan.nii.gz` and `synthetic_lesion.nii.gz` into a folder, which is made where it is missing.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    from ..formats import write

    folder = Path(folder)
    with writing(folder, "choose another place", action="make the folder"):
        folder.mkdir(parents=True, exist_ok=True)
    scan_path, lesion_path = phantom_files(folder)
    write(Patch(phantom.volume.array, (0, 0, 0), phantom.volume.grid), scan_path)
    write(phantom.lesion, lesion_path)
    return scan_path, lesion_path


def _check(seed: int, site: str, *, diameter: float, hu: float, noise: float, width: float) -> None:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ScanError(f"a seed is a whole number from 0 up, not {seed!r}")
    if site not in LESION_HU:
        raise ScanError(f"a synthetic lesion's site is one of {', '.join(LESION_HU)}, not {site!r}")
    for name, value in (("lesion's diameter", diameter), ("body's width", width)):
        if not (np.isfinite(value) and value > 0):
            raise ScanError(f"a synthetic {name} is a positive number of mm, not {value!r}")
    if not -1024 <= hu <= 3071:
        raise ScanError(f"a synthetic lesion has from -1024 to 3071 HU, not {hu!r}")
    if not (np.isfinite(noise) and noise >= 0):
        raise ScanError(f"noise is a standard deviation in HU, 0 or more, not {noise!r}")


def _edges(shape: Index3, spacing: Sequence[float]) -> FloatArray:
    """The voxels' edges, if they and the shape make a grid."""
    if np.shape(shape) != (3,) or min(shape) < 1:
        raise GeometryError(f"a scan needs three axes of at least one voxel, not shape {shape!r}")
    edges = np.asarray(spacing, dtype=np.float64)
    if edges.shape != (3,) or not np.isfinite(edges).all() or (edges <= 0).any():
        raise GeometryError(f"voxel edges are three positive lengths in mm, not {spacing!r}")
    return edges


def _centre_for(blob: Blob, scale: float, size: FloatArray) -> list[float]:
    """The centre nearest to the origin whose straight grid of `size` mm holds the lesion with room around it."""
    surface = blob.surface() * scale
    low, high = surface.min(axis=0) - _ROOM_MM, surface.max(axis=0) + _ROOM_MM
    nearest = np.clip(0, high - size / 2, np.maximum(low + size / 2, high - size / 2))
    # A grid too small for so much room lies around the lesion.
    x, y, z = np.where(size < high - low, (low + high) / 2, nearest).tolist()
    return [x, y, z]


def _truth(blob: Blob, grid: Grid, scale: float) -> Mask:
    """The voxels whose centre lies inside the lesion."""
    index = grid.to_index(blob.surface() * scale)
    if (index < -0.5).any() or (index > np.array(grid.shape) - 0.5).any():
        centre = np.round(blob.centre * scale, 1).tolist()
        raise GeometryError(
            f"the synthetic lesion around {centre} mm (RAS) does not fit the grid, shape {grid.shape}, spacing "
            f"{np.round(grid.spacing, 3).tolist()} mm; use more voxels, or an affine that centres the grid on it"
        )
    tissue = blob.tissue(0)
    affine = body_affine(grid, scale)
    start, stop = box_around(tissue.low, tissue.high, affine, np.zeros(3, dtype=np.int64), np.array(grid.shape))
    inside = tissue.distance(*coordinates(affine, start, stop)) < 0
    if not inside.any():
        raise GeometryError(
            f"the synthetic lesion lies between the voxels of a grid of {np.round(grid.spacing, 3).tolist()} mm; "
            "make it larger or the voxels smaller"
        )
    x, y, z = start.tolist()
    return Mask(inside, (x, y, z), grid)


def _deepest(mask: Mask) -> Click:
    """The voxel farthest from the mask's border, the first of equals."""
    depth = distance_transform_edt(np.pad(mask.array, 1), sampling=mask.grid.spacing)[1:-1, 1:-1, 1:-1]
    inside = np.unravel_index(int(np.argmax(depth)), depth.shape)
    x, y, z = (int(i) + s for i, s in zip(inside, mask.start, strict=True))
    return Click((x, y, z))
