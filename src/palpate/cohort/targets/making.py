"""A made target of a kind: drawn until one is fit, and a synthetic one where none is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Canvas, MadeTarget
from .painting import synthetic_target
from .settings import TargetKind
from .supervoxels import supervoxel
from .thresholds import threshold_piece
from .transplants import Donor, transplant

TRIES = 5  # of the kind that was drawn, the first at the click, the others near it
SYNTHETIC_TRIES = 20
DonorDrawer = Callable[[np.random.Generator], Donor | None]


def made_target(kind: TargetKind, canvas: Canvas, donor: DonorDrawer, rng: np.random.Generator) -> MadeTarget | None:
    """A target of a kind with the click in it, or with one near it where there is none at the click.

    Where no draw gives one that is fit, a synthetic one is painted; None where that is not fit either, as where nearly
    nothing of the crop lies in the scan.

    Args:
        kind: supervoxels, thresholds, synthetic or transplants.
        canvas: the crop.
        donor: draws a crop around another scan's target; None where no scan has any.
        rng: of all draws.
    """

    def transplanted(canvas: Canvas, rng: np.random.Generator) -> MadeTarget | None:
        drawn = donor(rng)
        return None if drawn is None else transplant(canvas, drawn, rng)

    makers = {
        "supervoxels": supervoxel,
        "thresholds": threshold_piece,
        "synthetic": synthetic_target,
        "transplants": transplanted,
    }
    for make, tries in ((makers[kind], TRIES), (synthetic_target, SYNTHETIC_TRIES)):
        for attempt in range(tries):
            made = make(canvas if attempt == 0 else canvas.with_click_near(rng), rng)
            if made is not None:
                return made
    return None
