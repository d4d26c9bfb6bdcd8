"""A place outside the scan: what usually causes it, and where it was probably meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..volume import FloatArray, Grid
from .given import Places

_OF_INDEX = (
    "voxel indices count from 0, in the order of the file's axes (x, y, z); ITK-SNAP shows them from 1, and arrays of "
    "SimpleITK are (z, y, x)"
)
_OF_MM = "millimetres are RAS, as 3D Slicer shows them; DICOM and most archives show LPS: negate x and y"


def index_advice(places: Places, grid: Grid, option: str | None) -> str:
    """What usually puts a voxel index outside a scan; and where it lies inside after a correction, the option to type.

    Args:
        places: the prompt's voxels `[N, 3]`: one, or a box's two corners.
        grid: the scan's.
        option: what its index is typed after, as "--click", beside which "--click-mm" takes places in millimetres;
            None: it is not typed as an option.
    """
    if option is None:
        return _OF_INDEX
    candidates = [
        ("counted from 1", option, places - 1),
        ("in the order z, y, x", option, places[:, ::-1]),
        ("in the order z, y, x from 1", option, places[:, ::-1] - 1),
    ]
    for words, name, moved in candidates:
        if _inside(moved, grid):
            return f"{_OF_INDEX}. As an index {words} it lies inside: {name} {_typed(moved)}"
    for words, mm in _as_mm(places.astype(np.float64)):
        if _inside(_voxel(mm, grid), grid):
            return f"{_OF_INDEX}. As {words} it lies inside: {option}-mm={_typed(mm)}"
    return _OF_INDEX


def mm_advice(mm: FloatArray, grid: Grid, option: str | None) -> str:
    """What usually puts a place in millimetres outside a scan; and where a correction puts it inside, what to type.

    Args:
        mm: the place, `[3]`, as RAS millimetres.
        grid: the scan's.
        option: what the place alone is typed after, as "--click-mm"; None: it is a part of what is typed.
    """
    for words, moved in _as_mm(mm)[1:]:
        if _inside(_voxel(moved, grid), grid):
            typed = f"{option}={_typed(moved)}" if option else _typed(moved)
            return f"{_OF_MM}. As {words} it lies inside: {typed}"
    whole = np.rint(mm)
    if (whole == mm).all() and _inside(whole, grid):
        typed = f"{option.removesuffix('-mm')} {_typed(whole)}" if option else _typed(whole)
        return f"{_OF_MM}. As a voxel index it lies inside: {typed}"
    return _OF_MM


def _as_mm(place: FloatArray) -> list[tuple[str, FloatArray]]:
    """What numbers `[3]` or `[N, 3]` may mean as millimetres, and the same places in RAS."""
    lps = place * (-1, -1, 1)
    return [
        ("RAS millimetres", place),
        ("LPS millimetres", lps),
        ("millimetres in the order z, y, x", place[..., ::-1]),
        ("LPS millimetres in the order z, y, x", place[..., ::-1] * (-1, -1, 1)),
    ]


def _voxel(mm: FloatArray, grid: Grid) -> FloatArray:
    return np.asarray(np.floor(grid.to_index(mm) + 0.5 + 1e-6))


def _inside(places: FloatArray | Places, grid: Grid) -> bool:
    return bool(((places >= 0) & (places < grid.shape)).all())


def _typed(values: Sequence[float] | FloatArray | Places) -> str:
    return ",".join(f"{value:g}" if abs(value) < 1e5 else str(value) for value in np.ravel(values).tolist())
