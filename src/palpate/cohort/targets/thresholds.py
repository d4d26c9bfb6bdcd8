"""Connected pieces of thresholds around the click, at the level where a piece has the steepest border."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .canvas import FEWEST, Bools, Canvas, Floats, MadeTarget, boxed, piece_with, stands_out

LEVELS = 10
LARGEST = 0.35  # of the crop: larger pieces are what surrounds everything
LOOKED_AT = 4  # levels, those with the steepest borders first
LEAK = 0.12  # of a piece's voxels on the crop's faces: it has flowed out
STABLE = 2.0  # times as many voxels at the next level: a piece that leaks, not one with an edge


def threshold_piece(canvas: Canvas, rng: np.random.Generator) -> MadeTarget | None:
    """A connected piece of values like the click's, cleaned; None where there is none that a click can mean.

    Above a level, below one, or between two: the tolerance is moved, and of the pieces that a next level does not make
    much larger one is taken whose border is among the steepest.
    """
    if canvas.empty_at_click:
        return None
    fill = float(canvas.values[canvas.inside].mean())
    smooth = ndimage.gaussian_filter(np.where(canvas.inside, canvas.values, fill), rng.uniform(0.4, 1.4), truncate=2)
    own = float(smooth[canvas.click])
    distance = _distance(smooth, own, canvas, rng)
    finest = min(max(0.02, canvas.noise / canvas.range), 0.2)  # of the range: a finer level cuts a region by its noise
    tolerances = canvas.range * np.exp(np.linspace(np.log(finest), np.log(0.7), LEVELS) + rng.uniform(-0.1, 0.1))
    pieces = [piece_with((distance <= tolerance) & canvas.inside, canvas.click) for tolerance in tolerances]
    sizes = np.array([np.count_nonzero(piece) for piece in pieces], dtype=np.float64)
    growth = sizes[1:] / np.maximum(sizes[:-1], 1)
    fitting = [
        level
        for level in range(LEVELS - 1)
        if FEWEST <= sizes[level] <= LARGEST * canvas.inside.size
        and growth[level] <= STABLE
        and not _leaks(pieces[level])
    ]
    slope = np.sqrt(sum(np.square(step) for step in np.gradient(smooth)))
    steepest = sorted(fitting, key=lambda level: -_steepness(slope, pieces[level]))
    if len(steepest) > 1 and rng.random() < 0.5:
        steepest[:2] = reversed(steepest[:2])
    for level in steepest[:LOOKED_AT]:
        target = _cleaned(pieces[level], canvas)
        if _fit(canvas, target):
            return MadeTarget(canvas.values, target, canvas.click)
    return None


def _fit(canvas: Canvas, target: Bools) -> bool:
    return canvas.holds(target) and not canvas.cuts_contour(target) and stands_out(canvas.values, target, canvas.noise)


def _distance(smooth: Floats, own: float, canvas: Canvas, rng: np.random.Generator) -> Floats:
    """How far each value is from being like the click's: from both sides, or from below or above alone."""
    if rng.random() < 0.3:
        return np.asarray(np.abs(smooth - own))
    bright = own >= float(np.median(smooth[canvas.inside]))
    return np.asarray(own - smooth if bright else smooth - own)


def _steepness(slope: Floats, piece: Bools) -> float:
    """The mean slope in the voxels around a piece and in its outermost ones."""
    near = boxed(piece, 1)
    mask = piece[near]
    border = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask, border_value=1)
    return float(slope[near][border].mean())


def _leaks(piece: Bools) -> bool:
    faces = sum(
        int(np.count_nonzero(piece.take(end, axis=axis))) for axis in range(3) for end in (0, piece.shape[axis] - 1)
    )
    return bool(faces > LEAK * np.count_nonzero(piece))


def _cleaned(piece: Bools, canvas: Canvas) -> Bools:
    """A piece without bridges one voxel thick, where its click survives that, and without holes."""
    near = boxed(piece, 2)
    part = piece[near]
    d, h, w = (place - box.start for place, box in zip(canvas.click, near, strict=True))
    opened = piece_with(ndimage.binary_opening(part), (d, h, w))
    if np.count_nonzero(opened) >= FEWEST:
        part = opened
    cleaned = np.zeros_like(piece)
    cleaned[near] = ndimage.binary_fill_holes(part) & canvas.inside[near]
    return cleaned
