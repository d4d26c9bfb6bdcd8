"""Synthetic targets: a shape around the click, painted with a contrast, a texture and a rim that are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .canvas import Bools, Canvas, Floats, MadeTarget, piece_with
from .shapes import REACH, Places, Shape, random_shape

SMALLEST = 4.5  # voxels: diameter of the smallest shapes, which have about 20 voxels or more
LARGEST = 1.4  # edges of the crop: diameter of the largest
DECOY_PROB = 0.5  # that equal shapes lie elsewhere: what is painted is not the target for being painted
FAINT_PROB = 0.2  # that a contrast may be as low as half the noise; else it is one and a half times the noise or more
CUT_PROB = 0.25  # that a shape ends where the tissue of its click ends, as a lesion in an organ does


@dataclass(frozen=True)
class Look:
    """How a shape is painted; values in the scan's units.

    Attributes:
        contrast: of the shape to its surroundings; of its rim, if it has one.
        core: contrast of what lies deeper than the rim.
        rim: thickness of the rim, in radii; 0: none.
        texture: deviation of the shape's own texture.
        grain: how many voxels wide the texture's grains are.
        replaced: 0 to 1, how much of the tissue's own structure and noise the shape replaces by its own.
        blur: voxels by which the border is less sharp than the scan's voxels make it.
    """

    contrast: float
    core: float
    rim: float
    texture: float
    grain: float
    replaced: float
    blur: float


def synthetic_target(canvas: Canvas, rng: np.random.Generator) -> MadeTarget | None:
    """A shape painted over the click, and perhaps equal ones elsewhere; None where little of it is inside the scan."""
    edge = min(canvas.values.shape)
    radius = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST * edge)))) / 2
    look = drawn_look(canvas, rng)
    shape = random_shape(rng)
    distance = _laid(shape, _middle_for(shape, canvas.click, radius, rng), radius, canvas.values.shape)
    if rng.random() < CUT_PROB:
        distance = np.where(_tissue(canvas, rng), distance, REACH)
    share = _share(distance * radius, canvas, look)
    # A shape thinner than the scan's voxels nowhere fills one: what is half as full as its fullest voxel is it then.
    target = piece_with((share > 0.5 * min(1.0, float(share.max()))) & canvas.inside, canvas.click)
    if not canvas.holds(target):
        return None
    values = painted(canvas.values, canvas, distance, share, look, rng)
    if rng.random() < DECOY_PROB:
        values = _with_decoys(values, canvas, target, radius, look, rng)
    return MadeTarget(values, target, canvas.click)


def drawn_look(canvas: Canvas, rng: np.random.Generator) -> Look:
    """A look: contrast of either sign, from half the crop's noise, at times, to four fifths of its range."""
    low = canvas.noise * (0.5 if rng.random() < FAINT_PROB else 1.5)
    high = max(0.8 * canvas.range, 2 * low)
    contrast = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * (1 if rng.random() < 0.5 else -1)
    rimmed = rng.random() < 0.3
    return Look(
        contrast=contrast,
        core=contrast * float(rng.uniform(-1, 0.7)) if rimmed else contrast,
        rim=float(rng.uniform(0.1, 0.35)) if rimmed else 0.0,
        texture=abs(contrast) * float(rng.uniform(0, 0.5)) * float(rng.random() < 0.7),
        grain=float(np.exp(rng.uniform(np.log(0.7), np.log(5)))),
        replaced=float(rng.random()),
        blur=float(rng.uniform(0, 1.5)),
    )


def painted(
    values: Floats, canvas: Canvas, distance: Floats, share: Floats, look: Look, rng: np.random.Generator
) -> Floats:
    """A crop's values with a shape painted over them.

    Args:
        values: what is painted over.
        canvas: the crop's.
        distance: from the shape's border, in radii, below zero inside.
        share: 0 to 1, how much of each voxel the shape fills.
        look: how it is painted.
        rng: of the texture.
    """
    level = float(values[share > 0.5 * float(share.max())].mean())
    depth = np.clip(-distance, 0, None)
    contrast: Floats | float = look.contrast
    if look.rim:
        core = np.clip((depth - look.rim) / 0.1 + 0.5, 0, 1)
        contrast = look.contrast + core * (look.core - look.contrast)
    # Noise of its own, as wide as the scan's voxels; what is left of the tissue keeps its edges and its noise.
    noise = _texture(canvas, 0.0, rng) * canvas.noise
    tissue = (1 - look.replaced) * values + look.replaced * (level + noise)
    grains = _texture(canvas, look.grain, rng) * look.texture if look.texture else 0.0
    shape = tissue + contrast + grains
    return np.asarray(values + share * (shape - values), dtype=np.float32)


def _with_decoys(
    values: Floats, canvas: Canvas, target: Bools, radius: float, look: Look, rng: np.random.Generator
) -> Floats:
    """One to three other shapes of the target's look, each apart from the target or touching it."""
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(0, np.array(values.shape), 3).astype(np.float32)
        size = radius * float(rng.uniform(0.5, 1.5))
        distance = _laid(random_shape(rng), centre, size, values.shape)
        share = np.where(target, 0, _share(distance * size, canvas, look)).astype(np.float32)
        if share.max() > 0.5:
            values = painted(values, canvas, distance, share, look, rng)
    return values


def _middle_for(shape: Shape, click: tuple[int, int, int], radius: float, rng: np.random.Generator) -> Places:
    """Where a shape's middle must lie so that the click is a random place well inside of it."""
    drawn = rng.uniform(-1, 1, (400, 3)).astype(np.float32)
    depth = -shape(drawn)
    inside = drawn[depth > min(1.0 / radius, 0.7 * float(depth.max()))]
    return np.asarray(np.array(click, np.float32) - radius * inside[0], dtype=np.float32)


def _laid(shape: Shape, middle: Places, radius: float, size: tuple[int, ...]) -> Floats:
    """A shape's distances over a crop, in radii; `REACH` away from it."""
    low = np.clip(np.floor(middle - REACH * radius - 1), 0, size).astype(int)
    high = np.clip(np.ceil(middle + REACH * radius + 2), low, size).astype(int)
    distance = np.full(size, REACH, dtype=np.float32)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    steps = [(np.arange(a, b, dtype=np.float32) - m) / radius for a, b, m in zip(low, high, middle, strict=True)]
    if (high > low).all():
        distance[box] = shape(np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).astype(np.float32))
    return distance


def _share(voxels: Floats, canvas: Canvas, look: Look) -> Floats:
    """How much of each voxel a shape fills, by its distance in voxels, as the scan's own voxels would show it."""
    share = np.clip(0.5 - voxels, 0, 1).astype(np.float32)
    # A box as wide as a voxel deviates by its width over the square root of 12.
    deviation = [float(np.hypot(width / np.sqrt(12), 0.3 * look.blur)) for width in canvas.scan_voxel]
    return np.asarray(ndimage.gaussian_filter(share, deviation, truncate=2.5), dtype=np.float32)


def _texture(canvas: Canvas, grain: float, rng: np.random.Generator) -> Floats:
    """Random grains of deviation 1, as wide as the scan's voxels or wider."""
    rough = rng.standard_normal(canvas.values.shape, dtype=np.float32)
    widths = [float(np.hypot(grain, width / 3)) for width in canvas.scan_voxel]
    rough = ndimage.gaussian_filter(rough, widths, truncate=2, mode="wrap")
    return np.asarray(rough / max(float(rough.std()), 1e-6))


def _tissue(canvas: Canvas, rng: np.random.Generator) -> Bools:
    """Where the crop is like it is at the click: the tissue that a lesion does not leave."""
    smooth = ndimage.gaussian_filter(canvas.values, 1.5, truncate=2)
    return np.asarray(np.abs(smooth - smooth[canvas.click]) < rng.uniform(0.08, 0.25) * canvas.range)
