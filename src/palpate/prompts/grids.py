"""Whether a mask lies on the scan's grid, and if not, in what the two grids differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..volume import Grid

MAX_CORNER_GAP = 1e-2  # of a voxel's edge: how far apart the corners of one grid may lie in two files


def check_grid(what: str, given: Grid, scan: Grid) -> None:
    """Refuse a mask that does not lie on the scan's grid, to a hundredth of a voxel.

    Args:
        what: the mask, as the error calls it.
        given: its grid.
        scan: the scan's.

    Raises:
        PromptError: another grid; the message says in what they differ.
    """
    if not given.same_as(scan, MAX_CORNER_GAP):
        raise PromptError(
            f"{what} lies on another grid than the scan: {'; '.join(_differences(given, scan))}; resample it to the "
            "scan's grid: palpate resample MASK --like SCAN -o OUT"
        )


def _differences(given: Grid, scan: Grid) -> list[str]:
    """In what two grids differ that are not the same, with the values of both."""
    found = [] if given.shape == scan.shape else [f"shape {given.shape}, the scan's {scan.shape}"]
    # Each part's share of how far apart the corners lie: if no share were above a third, the grids would be the same.
    tolerance = MAX_CORNER_GAP * min(given.spacing.min(), scan.spacing.min()) / 3
    steps = np.array(scan.shape) - 1
    if steps @ np.abs(given.spacing - scan.spacing) > tolerance:
        found.append(f"spacing {_in_words(given.spacing)} mm, the scan's {_in_words(scan.spacing)}")
    origins = given.affine[:3, 3], scan.affine[:3, 3]
    if np.linalg.norm(origins[0] - origins[1]) > tolerance:
        found.append(f"origin {_in_words(origins[0])} mm (RAS), the scan's {_in_words(origins[1])}")
    one, other = (grid.affine[:3, :3] / grid.spacing for grid in (given, scan))
    apart = np.linalg.norm(one - other, axis=0)
    if (steps * scan.spacing) @ apart > tolerance:
        if given.orientation != scan.orientation:
            found.append(f"directions {given.orientation}, the scan's {scan.orientation}")
        else:
            turned = np.degrees(2 * np.arcsin(np.minimum(apart.max() / 2, 1)))
            found.append(f"directions {turned:.2g} degrees off the scan's")
    return found


def _in_words(values: npt.NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.7g}' for value in values)})"
