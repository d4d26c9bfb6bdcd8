"""Whether a mask lies on the scan's grid, and if not, in what the two grids differ."""

from __future__ import annotations

from ..errors import PromptError
from ..volume import Grid


def check_grid(what: str, given: Grid, scan: Grid) -> None:
    """Refuse a mask that does not lie on the scan's grid, to a hundredth of a voxel.

    Args:
        what: the mask, as the error calls it.
        given: its grid.
        scan: the scan's.

    Raises:
        PromptError: another grid; the message says in what they differ.
    """
    differences = given.differences(scan)
    if differences:
        raise PromptError(
            f"{what} lies on another grid than the scan: {'; '.join(differences)}; resample it to the "
            "scan's grid: palpate resample MASK --like SCAN -o OUT"
        )
