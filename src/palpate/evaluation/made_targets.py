"""Made targets: painted into scans of any modality, so that a model is measured on what no training's generator makes.

Nothing that trains imports this module, and it imports nothing that trains: a test holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from ..cohort.scans import LabelledVolume
from ..errors import ScanError
from ..randomness import counted_rng
from ..volume import FloatArray, Grid, Index3, Volume
from .made_shapes import SHAPES, Bools, Fractions, Shape, Solid, smooth_noise

Texture = Literal["plain", "fractal", "gradient", "mottled"]
Difficulty = Literal["clear", "faint", "touching"]
TEXTURES: tuple[Texture, ...] = get_args(Texture)
DIFFICULTIES: tuple[Difficulty, ...] = ("clear", "faint", "clear", "touching")  # by index: half are hard
MIN_MM, MAX_MM = 5.3, 60.0  # diameters of spheres of equal volume
LARGE_MM, THIN_MM = 12.0, 2.0  # the limits of the classes of size, and of thin slices
SIZES = ("12 mm and more", "5 to 12 mm, slices up to 2 mm", "5 to 12 mm, thicker slices")
RIM_MM = 5.0  # how far around it contrast and noise are read
ATTEMPTS, CANDIDATES = 40, 12


class Host(NamedTuple):
    """A scan to paint into.

    Attributes:
        name: the scan's.
        patient: whose scan it is.
        load: reads it.
    """

    name: str
    patient: str
    load: Callable[[], Volume]


@dataclass(frozen=True, eq=False)
class MadeTarget:
    """A target painted into a scan, and what is known about it.

    Attributes:
        scan: the painted scan and its target.
        host: the name of the scan that it was painted into.
        shape: the family of its shape.
        texture: of its inside.
        difficulty: clear; faint: contrast below the noise; touching: a neighbour of equal intensity touches it.
        contrast: mean of the target less that of its surroundings within `RIM_MM`, in the scan's values.
        noise: standard deviation of these surroundings.
        neighbour: the voxels of the neighbour of equal intensity, bool `[X, Y, Z]`; None: it has none.
    """

    scan: LabelledVolume
    host: str
    shape: Shape
    texture: Texture
    difficulty: Difficulty
    contrast: float
    noise: float
    neighbour: Bools | None

    @cached_property
    def diameter_mm(self) -> float:
        """Of the sphere that has its volume."""
        volume_mm3 = 1000 * self.scan.volume.grid.voxel_ml * int(np.count_nonzero(self.scan.target))
        return float((6 / np.pi * volume_mm3) ** (1 / 3))

    @property
    def size(self) -> str:
        """Its class of size, one of `SIZES`."""
        if self.diameter_mm >= LARGE_MM:
            return SIZES[0]
        return SIZES[1] if self.scan.volume.spacing.max() <= THIN_MM else SIZES[2]


class _Region(NamedTuple):
    """The part of a scan that is painted: all voxels within reach of a target.

    Attributes:
        box: its place in the scan.
        target: the target's voxels.
        neighbour: the neighbour's voxels.
        covered: how much of each voxel the two cover, 0 to 1.
        rim: the surroundings, in which contrast and noise are read.
    """

    box: tuple[slice, slice, slice]
    target: Bools
    neighbour: Bools
    covered: Fractions
    rim: Bools


def diameters(grid: Grid) -> tuple[float, float]:
    """The smallest and the largest diameter of a target that a grid shows, mm; empty, low above high, for tiny ones."""
    low = max(MIN_MM, 2.5 * float(grid.spacing.max()))
    return low, min(MAX_MM, 0.7 * float((grid.spacing * grid.shape).min()))


def numbered_target(kinds: Sequence[Sequence[Host]], index: int, seed: int = 0) -> MadeTarget:
    """Target number `index` of a series: kinds of scans in turn, the scans of each in turn, half of them hard.

    Args:
        kinds: scans to paint into, by kind; a number of kinds that is odd meets every difficulty.
        index: from 0.
        seed: of all draws; another one gives another series.

    Raises:
        ScanError: no scan of that kind holds a target.
    """
    hosts = kinds[index % len(kinds)]
    difficulty = DIFFICULTIES[index % len(DIFFICULTIES)]
    reasons = []
    for turn in range(len(hosts)):
        host = hosts[(index // len(kinds) + turn) % len(hosts)]
        try:
            return make_target(host, f"made {seed}.{index}", difficulty, seed)
        except ScanError as error:
            reasons.append(str(error))
    raise ScanError(f"target {index} of seed {seed} finds no scan: {'; '.join(reasons)}")


def make_target(host: Host, name: str, difficulty: Difficulty, seed: int = 0) -> MadeTarget:
    """Paint a target into a scan; the same arguments give the same voxels.

    Args:
        host: the scan; not changed.
        name: the target's; with the seed it names all draws.
        difficulty: clear, faint or touching.
        seed: of all draws.

    Raises:
        ScanError: the scan is too small for a target, or no place for one was found.
    """
    rng = counted_rng(seed, f"target {name}")
    volume = host.load()
    low, high = diameters(volume.grid)
    if high < low:
        raise ScanError(f"{host.name}: {volume.grid.description}: a target of {low:.3g} mm does not fit")
    values = np.asarray(volume.full(), np.float64)
    body = _body(values)
    if not body.any():
        raise ScanError(f"{host.name}: one value almost everywhere, so there is nothing to paint a target into")
    for _ in range(ATTEMPTS):
        shape, texture = SHAPES[int(rng.integers(len(SHAPES)))], TEXTURES[int(rng.integers(len(TEXTURES)))]
        diameter = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        region = _placed(values, body, volume.grid, Solid.drawn(shape, rng), diameter, difficulty, rng)
        painted = None if region is None else _painted(values, region, texture, difficulty, rng)
        if region is None or painted is None:
            continue
        array = _as_stored(volume.array, values, region.box, painted)
        stored = array[region.box].astype(np.float64)
        contrast, noise = _contrast(stored, region)
        if _as_promised(stored, region, difficulty):
            target, neighbour = (np.zeros(volume.shape, bool) for _ in range(2))
            target[region.box], neighbour[region.box] = region.target, region.neighbour
            scan = LabelledVolume(name, host.patient, Volume(array, volume.affine, unit=volume.unit), target)
            touching = neighbour if difficulty == "touching" else None
            return MadeTarget(scan, host.name, shape, texture, difficulty, contrast, noise, touching)
    raise ScanError(f"{host.name}: no place for a {difficulty} target in {ATTEMPTS} attempts")


def _body(values: FloatArray) -> Bools:
    """Where a scan shows more than the air, or the nothing, around a body."""
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    inside: Bools = values > low + 0.05 * (high - low)
    return inside


def _as_promised(values: FloatArray, region: _Region, difficulty: Difficulty) -> bool:
    """Whether painted values have the contrast of their difficulty, and a neighbour the target's intensity."""
    contrast, noise = _contrast(values, region)
    if difficulty == "faint":
        return abs(contrast) < noise
    apart = values[region.neighbour].mean() - values[region.target].mean() if difficulty == "touching" else 0.0
    return abs(contrast) > 1.5 * noise and abs(apart) < 0.25 * abs(contrast)


def _as_stored(
    stored: npt.NDArray[Any], values: FloatArray, box: tuple[slice, slice, slice], painted: FloatArray
) -> npt.NDArray[Any]:
    """The scan with the painted part, in the type of its voxels."""
    array = values.copy()
    array[box] = painted
    if np.issubdtype(stored.dtype, np.integer):
        limits = np.iinfo(stored.dtype)
        array = np.rint(array).clip(limits.min, limits.max)
    return array.astype(stored.dtype)


def _contrast(values: FloatArray, region: _Region) -> tuple[float, float]:
    """Mean of the target less that of its surroundings, and their standard deviation."""
    around = values[region.rim]
    return float(values[region.target].mean() - around.mean()), float(around.std())


def _placed(
    values: FloatArray,
    body: Bools,
    grid: Grid,
    solid: Solid,
    diameter: float,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> _Region | None:
    """A solid somewhere in the body; None where too much of it, or of its surroundings, would lie outside."""
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    centre = _centre(values, body, grid, diameter, difficulty, rng)
    turn = Rotation.random(random_state=rng).as_matrix()
    fractions = _whole(grid, *solid.fractions(grid, centre, turn, diameter))
    target = fractions >= 0.5
    wanted = np.pi / 6 * diameter**3 / (1000 * grid.voxel_ml)
    if not 0.9 < target.sum() / wanted < 1.1 or body[target].mean() < 0.9:
        return None
    covered, neighbour = fractions, np.zeros_like(target)
    if difficulty == "touching":
        beside = _beside(grid, target, centre, diameter, rng)
        if beside is None:
            return None
        neighbour, covered = (beside >= 0.5) & ~target, np.maximum(fractions, beside)
    painted = covered > 0
    reach = np.ceil(max(RIM_MM, 2 * float(grid.spacing.max())) / grid.spacing).astype(int) + 1
    places = np.argwhere(painted)
    low, high = np.maximum(places.min(axis=0) - reach, 0), places.max(axis=0) + reach + 1
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    away = ndimage.distance_transform_edt(~(target | neighbour)[box], sampling=grid.spacing)
    rim = (away <= max(RIM_MM, 2 * float(grid.spacing.max()))) & ~painted[box] & body[box]
    return _Region(box, target[box], neighbour[box], covered[box], rim) if rim.sum() >= 30 else None


def _centre(
    values: FloatArray, body: Bools, grid: Grid, diameter: float, difficulty: Difficulty, rng: np.random.Generator
) -> FloatArray:
    """A place in the body, RAS mm; for a faint target the most even of some, so that noise, not anatomy, hides it."""
    margin = np.minimum(np.floor(0.4 * diameter / grid.spacing), (np.array(grid.shape) - 1) // 2).astype(int)
    inner = tuple(slice(m, n - m) for m, n in zip(margin, grid.shape, strict=True))
    places = np.flatnonzero(body[inner])
    if not places.size:  # a thin body along the scan's edge: the middle will be refused
        return grid.to_mm((np.array(grid.shape) - 1) / 2)
    drawn = places[rng.integers(places.size, size=CANDIDATES if difficulty == "faint" else 1)]
    centres = np.stack(np.unravel_index(drawn, body[inner].shape), axis=-1) + margin
    return grid.to_mm(min(centres, key=lambda place: _unevenness(values, grid, place, diameter)))


def _unevenness(values: FloatArray, grid: Grid, place: npt.NDArray[np.int64], diameter: float) -> float:
    """Standard deviation of the values in a box one and a half diameters wide."""
    reach = np.maximum(np.rint(0.75 * diameter / grid.spacing), 1).astype(int)
    low, high = np.maximum(place - reach, 0), place + reach + 1
    return float(values[low[0] : high[0], low[1] : high[1], low[2] : high[2]].std())


def _whole(grid: Grid, start: Index3, fractions: Fractions) -> Fractions:
    """Fractions in a box as an array of the whole grid."""
    whole = np.zeros(grid.shape, np.float32)
    whole[tuple(slice(s, s + n) for s, n in zip(start, fractions.shape, strict=True))] = fractions
    return whole


def _beside(
    grid: Grid, target: Bools, centre: FloatArray, diameter: float, rng: np.random.Generator
) -> Fractions | None:
    """Another solid moved up until it touches the target; None where that does not come about.

    What both would cover, at most a twelfth of the smaller, remains the target's.
    """
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    solid = Solid.drawn(SHAPES[int(rng.integers(len(SHAPES)))], rng)
    size, turn = diameter * float(rng.uniform(0.6, 1.1)), Rotation.random(random_state=rng).as_matrix()
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    near, far = 0.0, 2.0 * (diameter + size)
    border = ndimage.binary_dilation(target)
    for _ in range(14):
        distance = (near + far) / 2
        fractions = _whole(grid, *solid.fractions(grid, centre + distance * direction, turn, size))
        other = fractions >= 0.5
        shared = int((other & target).sum())
        if shared > min(int(target.sum()), int(other.sum())) / 12:
            near = distance
        elif not (other & border & ~target).any():
            far = distance
        else:
            return fractions
    return None


def _painted(
    values: FloatArray, region: _Region, texture: Texture, difficulty: Difficulty, rng: np.random.Generator
) -> FloatArray | None:
    """The region with its target; None where no value that the scan knows has the contrast."""
    from scipy import ndimage

    before = values[region.box]
    low, high = float(values.min()), float(np.percentile(values, 99.9))
    mean, noise = float(before[region.rim].mean()), float(before[region.rim].std())
    if not 0 < noise < 0.2 * (high - low):
        return None
    size = (
        noise * rng.uniform(0.45, 0.9)
        if difficulty == "faint"
        else max(noise * rng.uniform(2.2, 4.0), 0.06 * (high - low))
    )
    sign = 1 if rng.random() < 0.5 else -1
    level = next((mean + s * size for s in (sign, -sign) if low < mean + s * size < high + 0.2 * (high - low)), None)
    if level is None:
        return None
    fine = before - ndimage.gaussian_filter(before, 1.5)
    spread = 2.5 * 1.4826 * float(np.median(np.abs(fine[region.rim])))
    amplitude = (0.3 * noise) if difficulty == "faint" else size * rng.uniform(0.1, 0.3)
    both = region.target | region.neighbour
    inside = fine.clip(-spread, spread) + amplitude * _texture(texture, both, rng)
    inside += level - inside[both].mean()
    return np.asarray(before + region.covered * (inside - before))


def _texture(texture: Texture, painted: Bools, rng: np.random.Generator) -> FloatArray:
    """A pattern over the region, of mean 0 and standard deviation 1 where it is painted; zero where it is plain."""
    if texture == "plain":
        return np.zeros(painted.shape)
    width = max(2.0, float(painted.sum()) ** (1 / 3))  # voxels
    if texture == "fractal":
        octaves = [smooth_noise(painted.shape, width / 2**k, rng) / 2 ** (k / 2) for k in range(1, 5)]
        field = np.sum(octaves, axis=0)
    elif texture == "gradient":
        direction = rng.normal(size=3)
        field = np.moveaxis(np.indices(painted.shape), 0, -1) @ (direction / np.linalg.norm(direction))
    else:
        field = (smooth_noise(painted.shape, width / 6, rng) > 0.3).astype(np.float64)
    field = field - field[painted].mean()
    spread = float(field[painted].std())
    return np.asarray(field / spread).clip(-2, 2) if spread > 0 else np.zeros(painted.shape)
