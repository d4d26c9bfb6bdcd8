"""The simulated user: prompts from a truth and a prediction. Shared by training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import PromptError, ScanError
from .masks import Mask
from .prompts import MAX_VOXELS, Box, Click, InitialMask, Lasso, Places, Prompt, Scribble
from .randomness import counted_rng
from .volume import Grid, Index3

Bools = npt.NDArray[np.bool_]
FIRST_PROMPT_KINDS = ("click", "box", "slice box", "scribble", "paint", "lasso", "initial mask")
# The draws of a kind are named by a word; an initial mask's is the one that seeded the figures measured so far.
SEED_WORDS = {"initial mask": "prior"}


def random_clicks(truth: Bools, count: int, rng: np.random.Generator) -> list[Click]:
    """`count` voxels of a truth `[X, Y, Z]`, drawn uniformly with replacement (paper, section 4.1).

    Raises:
        ScanError: an empty truth.
    """
    places = np.flatnonzero(truth)
    if not places.size:
        raise ScanError("the truth is empty: there is no target to click")
    drawn = np.unravel_index(places[rng.integers(places.size, size=count)], truth.shape)
    return [Click((int(x), int(y), int(z))) for x, y, z in zip(*drawn, strict=True)]


@dataclass(frozen=True)
class UserModel:
    """How a simulated user places prompts.

    Attributes:
        jitter_mm: standard deviation of a correcting click from the voxel aimed at, along each axis, mm.
        error_rate: probability that a correcting click stays where its jitter carried it out of the error.
        deepest_voxel_prob: probability that a correction aims at the error's deepest voxel; else at any of its voxels.
        box_margin: how much larger or smaller than the target a box is at most, over each of its edges.
        stroke_prob: probability that a correction is a scribble, paint or a lasso, where the error is large enough.
        mask_perturbation: how far an initial mask is off: 0 not at all, 1 as much as another program's may be.
    """

    jitter_mm: float = 1.5
    error_rate: float = 0.1
    deepest_voxel_prob: float = 0.5
    box_margin: float = 0.1
    stroke_prob: float = 0.0
    mask_perturbation: float = 1.0


class SimulatedUser:
    """A user who knows the truth: prompts the target, then corrects the model's largest error.

    Args:
        truth: the target, `[X, Y, Z]`, not empty.
        grid: its grid.
        seed: of all draws.
        what: a name of the target, part of the seed of all draws.
        user_model: how prompts are placed.

    Raises:
        ScanError: an empty truth.
    """

    def __init__(self, truth: Bools, grid: Grid, seed: int, what: str, user_model: UserModel | None = None):
        if not truth.any():
            raise ScanError("the truth is empty: there is no target to prompt")
        self.truth, self.grid, self.seed, self.what = truth, grid, seed, what
        self.user_model = user_model or UserModel()

    def first(self, kind: str = "click") -> Prompt:
        """The first prompt, of one of `FIRST_PROMPT_KINDS`; a click where the target is too small for that kind."""
        rng = counted_rng(self.seed, f"first {SEED_WORDS.get(kind, kind)} on {self.what}")
        makers = {
            "box": self._box,
            "slice box": self._slice_box,
            "scribble": lambda r: _scribble(self.truth, r),
            "paint": lambda r: _paint(self.truth, r),
            "lasso": lambda r: _lasso(self.truth, r),
            "initial mask": self._initial_mask,
        }
        made = makers[kind](rng) if kind in makers else None
        return made if made is not None else random_clicks(self.truth, 1, rng)[0]

    def correction(self, predicted: Bools, prompts: Sequence[Prompt]) -> Prompt | None:
        """A prompt on the largest connected error, positive where target was missed; None where no error is left."""
        rng = counted_rng(self.seed, f"correction on {self.what}", len(prompts))
        wrong = self.truth != predicted
        for prompt in prompts:  # a prompt's voxels are not prompted again: the opposite would undo it
            if not isinstance(prompt, (Box, InitialMask)):
                wrong[tuple(prompt.places.T)] = False
        piece, start = _largest(wrong, self.truth)
        if piece is None:
            return None
        stroke = self._stroke(piece, start, prompts) if self.user_model.stroke_prob else None
        if stroke is not None:
            return stroke
        aim = self._aim(piece, rng)
        place = tuple(int(a + b) for a, b in zip(aim, start, strict=True))
        positive = bool(self.truth[place])
        made = Click(self._jittered(place, wrong & (self.truth == positive), rng), positive)
        return Click((place[0], place[1], place[2]), positive) if _contradicts(made, prompts) else made

    def _stroke(self, piece: Bools, start: Index3, prompts: Sequence[Prompt]) -> Prompt | None:
        """A scribble, paint or a lasso in a piece of the error; None where it is too small, or a click was drawn."""
        rng = counted_rng(self.seed, f"correcting stroke on {self.what}", len(prompts))
        if rng.random() >= self.user_model.stroke_prob:
            return None
        made = (_scribble, _paint, _lasso)[int(rng.integers(3))](piece, rng)
        if made is None:
            return None
        places = made.places + start
        positive = bool(self.truth[tuple(places[0])])
        right = self.truth[tuple(places.T)] == positive
        if right.mean() < 0.8:  # a lasso around a hollow piece encloses what is no error
            return None
        if isinstance(made, Lasso):
            shift = np.delete(start, made.axis)
            moved: Prompt = Lasso(made.axis, made.slice_index + start[made.axis], made.outline + shift, positive)
        else:
            moved = Scribble(places, positive)
        return None if _contradicts(moved, prompts) else moved

    def _aim(self, piece: Bools, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        places = np.argwhere(piece)
        if rng.random() >= self.user_model.deepest_voxel_prob:
            place: npt.NDArray[np.int64] = places[int(rng.integers(len(places)))]
            return place
        from scipy import ndimage

        depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=self.grid.spacing)[1:-1, 1:-1, 1:-1]
        return np.array(np.unravel_index(int(depth.argmax()), piece.shape), dtype=np.int64)

    def _jittered(self, place: tuple[int, ...], wrong: Bools, rng: np.random.Generator) -> Index3:
        moved = np.rint(place + rng.normal(0, self.user_model.jitter_mm, 3) / self.grid.spacing).astype(int)
        x, y, z = np.clip(moved, 0, np.array(self.grid.shape) - 1).tolist()
        error = rng.random() < self.user_model.error_rate
        return (x, y, z) if wrong[x, y, z] or error else (place[0], place[1], place[2])

    def _box(self, rng: np.random.Generator) -> Box:
        return self._around(np.argwhere(self.truth), rng)

    def _around(self, places: npt.NDArray[np.int64], rng: np.random.Generator) -> Box:
        low, high = places.min(axis=0), places.max(axis=0)
        slack = self.user_model.box_margin * (high - low + 1)
        last = np.array(self.grid.shape) - 1
        first = np.clip(np.rint(low + rng.uniform(-1, 0.5, 3) * slack), 0, last).astype(int)
        end = np.clip(np.rint(high + rng.uniform(-0.5, 1, 3) * slack), 0, last).astype(int)
        return Box(tuple(first.tolist()), tuple(end.tolist()))

    def _slice_box(self, rng: np.random.Generator) -> Box:
        axis, number, area = _slice(self.truth, rng)
        box = self._around(
            np.insert(np.argwhere(area), axis, number, axis=1), rng
        )  # the target's bounds in that slice alone
        corners = [list(box.first), list(box.last)]
        for corner in corners:
            corner[axis] = number
        first, last = (tuple(corner) for corner in corners)
        return Box((first[0], first[1], first[2]), (last[0], last[1], last[2]))

    def _initial_mask(self, rng: np.random.Generator) -> InitialMask | None:
        """The truth dilated or eroded and moved: a mask as another program or an older model would give."""
        from scipy import ndimage

        depth = ndimage.distance_transform_edt(self.truth, sampling=self.grid.spacing)
        away = ndimage.distance_transform_edt(~self.truth, sampling=self.grid.spacing)
        size = float(depth.max())
        off = self.user_model.mask_perturbation * size
        changed = (away - depth) < rng.uniform(-0.4, 0.6) * off
        shift = np.rint(rng.normal(0, 0.3, 3) * off / self.grid.spacing).astype(int)
        moved = ndimage.shift(changed.astype(np.uint8), shift, order=0) > 0
        return InitialMask(Mask(moved, (0, 0, 0), self.grid)) if moved.any() else None


def _contradicts(prompt: Prompt, earlier: Sequence[Prompt]) -> bool:
    """Whether a prompt covers a voxel of an earlier prompt of the other sign."""
    named = {tuple(place) for place in prompt.places.tolist()}
    others = [p for p in earlier if not isinstance(p, (Box, InitialMask)) and p.positive is not prompt.positive]
    return any(tuple(place) in named for other in others for place in other.places.tolist())


def _slice(shape: Bools, rng: np.random.Generator) -> tuple[int, int, Bools]:
    """An axis, a slice across it that shows at least 0.7 of the largest area, and that area `[., .]`."""
    axis = int(rng.integers(3))
    areas = shape.sum(axis=tuple(a for a in range(3) if a != axis))
    candidates = np.flatnonzero(areas >= 0.7 * areas.max())
    number = int(candidates[int(rng.integers(len(candidates)))])
    area: Bools = np.take(shape, number, axis=axis)
    return axis, number, area


def _scribble(shape: Bools, rng: np.random.Generator) -> Scribble | None:
    """A straight stroke between two voxels of a slice, as far as it stays in the shape."""
    axis, number, area = _slice(shape, rng)
    places = np.argwhere(area)
    if len(places) < 4:
        return None
    two = places[rng.choice(len(places), 2, replace=False)]
    line = Scribble.along(np.insert(two, axis, number, axis=1).tolist()).places
    inside = line[shape[tuple(line.T)]]
    return Scribble(inside) if len(inside) > 1 else None


def _paint(shape: Bools, rng: np.random.Generator) -> Scribble | None:
    """A slice of the shape painted over, or all of it, up to the edge or to one voxel within."""
    axis, number, area = _slice(shape, rng)
    whole, short = rng.random(2) < 0.3
    if whole:
        painted: Places = np.argwhere(_eroded(shape) if short else shape)
    else:
        painted = np.insert(np.argwhere(_eroded(area) if short else area), axis, number, axis=1)
    return Scribble(painted) if 4 <= len(painted) <= MAX_VOXELS else None


def _eroded(shape: Bools) -> Bools:
    """Without its outermost voxels, where any others are left."""
    from scipy import ndimage

    inner: Bools = ndimage.binary_erosion(shape)
    return inner if inner.any() else shape


def _lasso(shape: Bools, rng: np.random.Generator) -> Lasso | None:
    """The outline of a slice: the farthest voxel along each of sixteen rays, a little off."""
    axis, number, area = _slice(shape, rng)
    places = np.argwhere(area)
    if len(places) < 9:
        return None
    middle = places.mean(axis=0)
    angles = np.arctan2(*(places - middle).T[::-1])
    corners = []
    for ray in np.linspace(-np.pi, np.pi, 16, endpoint=False):
        near = np.cos(angles - ray) > np.cos(np.pi / 10)
        if near.any():
            reach = np.linalg.norm(places[near] - middle, axis=1).max() * rng.uniform(0.9, 1.1)
            corner = middle + reach * np.array([np.cos(ray), np.sin(ray)])
            corners.append(np.clip(corner, -0.49, np.array(area.shape) - 0.51))  # a user cannot draw outside the slice
    if len(corners) < 3:
        return None
    try:
        return Lasso(axis, number, np.array(corners))
    except PromptError:  # too thin to enclose a voxel's centre
        return None


def _largest(wrong: Bools, truth: Bools) -> tuple[Bools | None, Index3]:
    """The largest connected false negative or false positive, cut out, and its first voxel."""
    from scipy import ndimage

    best: tuple[int, Bools | None, Index3] = (0, None, (0, 0, 0))
    for side in (wrong & truth, wrong & ~truth):
        pieces, count = ndimage.label(side)
        if not count:
            continue
        sizes = np.bincount(pieces.reshape(-1))[1:]
        number = int(sizes.argmax())
        if int(sizes[number]) > best[0]:
            box = ndimage.find_objects(pieces)[number]
            first = (box[0].start, box[1].start, box[2].start)
            best = (int(sizes[number]), pieces[box] == number + 1, first)
    return best[1], best[2]
