"""Checks of what a user gives a prompt: numbers, indices, sides; and how an error quotes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..volume import Index3

Places = npt.NDArray[np.int64]  # [N, 3], zero-based voxel indices (x, y, z)
MAX_VOXELS = 1_000_000  # of one prompt: more is a mask, not a stroke
MAX_INDEX = 2**31  # no scan has a voxel of so large an index
MAX_QUOTED = 80  # characters of a value that an error quotes


def shown(value: object) -> str:
    """A value as an error quotes it: on one line, and not longer than a line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no number of more than 4300 digits
        return f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def numbers(values: Any) -> npt.NDArray[Any] | None:  # noqa: ANN401 - whatever a user gave
    """A user's value as an array of numbers; None for ragged lists, words, other objects, True and False."""
    try:
        array = np.asarray(values)
        # In a list, NumPy silently makes 1 of a True beside numbers.
        members = np.array(values, dtype=object).ravel().tolist() if isinstance(values, (list, tuple)) else []
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None
    if array.dtype == object and members and all(type(member) is int for member in members):
        # Integers beyond NumPy's own: they lie outside of any scan, and clipped they still do.
        array = array.clip(-2 * MAX_INDEX, 2 * MAX_INDEX).astype(np.int64)
    if array.dtype.kind not in "iuf" or any(isinstance(member, (bool, np.bool_)) for member in members):
        return None
    return array


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are not."""
    if isinstance(value, (float, np.floating)):
        return float(value).is_integer()
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def checked_side(positive: object) -> bool:
    """The side of a prompt.

    Raises:
        PromptError: neither True nor False.
    """
    if not isinstance(positive, (bool, np.bool_)):
        raise PromptError(f"positive is True (inside the lesion) or False (outside it), not {shown(positive)}")
    return bool(positive)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, made read-only, so that a prompt never changes."""
    array.setflags(write=False)
    return array


def checked_index(index: object, what: str) -> Index3:
    """A voxel's index.

    Args:
        index: the user's value.
        what: the prompt, as the error calls it.

    Raises:
        PromptError: not three whole numbers, or larger than any scan's.
    """
    values = numbers(index)
    if values is None or values.shape != (3,) or not np.isfinite(values).all():
        raise PromptError(f"{what} is three voxel indices x, y, z, not {shown(index)}")
    if (values != np.rint(values)).any():
        raise PromptError(f"{what} names a voxel by whole numbers, not {shown(index)}; use Click.at_mm for places")
    if (values < -MAX_INDEX).any() or (values > MAX_INDEX).any():
        raise PromptError(f"{what} at {shown(index)} lies outside any scan; give a voxel's index in its array")
    x, y, z = (int(value) for value in values)
    return x, y, z


def checked_places(values: Any, what: str) -> Places:  # noqa: ANN401 - whatever a user gave
    """Voxel indices, `[N, 3]`.

    Args:
        values: the user's value.
        what: the prompt, as the error calls it.

    Raises:
        PromptError: not rows of three whole numbers, none or more than `MAX_VOXELS`, or larger than any scan's.
    """
    array = numbers(values)
    if array is None or array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise PromptError(f"{what} is a list of voxel indices x, y, z, at least one, not {shown(values)}")
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise PromptError(f"{what} names voxels by whole numbers")
    if (array < -MAX_INDEX).any() or (array > MAX_INDEX).any():
        raise PromptError(f"{what} lies outside any scan; give voxels' indices in its array")
    if len(array) > MAX_VOXELS:
        raise PromptError(f"{what} of {len(array)} voxels is more than {MAX_VOXELS}; give it as an initial mask")
    return array.astype(np.int64)


def unrepeated(places: Places) -> Places:
    """Each voxel once, in the order of the stroke."""
    _, first = np.unique(places, axis=0, return_index=True)
    return places[np.sort(first)]
