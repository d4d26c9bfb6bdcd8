"""The synthetic body: an adult 340 mm wide, as tissues painted over each other.

Its origin is the middle of the trunk at the level of the liver; coordinates are RAS millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..randomness import counted_rng
from ..volume import FloatArray
from .shapes import (
    FAR,
    Distance,
    Point,
    Tissue,
    Values,
    boxed,
    ellipsoid,
    pillar,
    repeated,
    rounded,
    tree,
    tube,
    under_skin,
)

ADULT_WIDTH_MM = 340.0
_CAVITY = under_skin(34)


def body(seed: int) -> list[Tissue]:
    """The tissues of the synthetic adult, in the order in which they are painted over air."""
    return [*_wall(), *_chest(seed), *_belly(seed), *_spine()]


def _organ(
    rng: np.random.Generator, name: str, hu: float, centre: Point, radii: Point, *, cut: Distance = _CAVITY
) -> Tissue:
    """An ellipsoid inside the trunk's wall, a little different in every body."""
    moved, sized = np.add(centre, rng.uniform(-4, 4, 3)), np.multiply(radii, rng.uniform(0.95, 1.05, 3))
    return ellipsoid(name, hu, tuple(moved.tolist()), tuple(sized.tolist()), cut=cut)


def _wall() -> list[Tissue]:
    def table(x: Values, y: Values, z: Values) -> Values:
        plate = np.abs(y + np.float32(127) - x * x / np.float32(1100)) - 4
        return np.asarray(np.maximum(plate, np.abs(x) - 215), dtype=np.float32)

    def ribs(x: Values, y: Values, z: Values) -> Values:
        height = z + np.float32(0.45) * y
        height = height - 32 * np.rint(height / 32)
        ring = rounded((under_skin(28)(x, y, z), height), (4, 6.5))
        return np.asarray(np.maximum(ring, np.float32(0.4) * y - 70 - z), dtype=np.float32)

    return [
        Tissue("table", -250, table, (-215, -135, -FAR), (215, -70, FAR)),
        Tissue("skin", 20, under_skin(0)),
        Tissue("rim of fat", -105, under_skin(3)),
        Tissue("muscle", 55, under_skin(20)),
        Tissue("fat", -95, _CAVITY),
        Tissue("bone", 420, ribs, (-FAR, -FAR, -100), (FAR, FAR, FAR)),
        ellipsoid("bone", 250, (0, 88, 130), (17, 6, 85)),
    ]


def _chest(seed: int) -> list[Tissue]:
    tissues = []
    for side, what in ((1, "right lung"), (-1, "left lung")):
        tissues += [_organ(counted_rng(seed, what, 0), "lung", -850, (72.0 * side, -6, 100), (60, 92, 125))]
        vessels = counted_rng(seed, f"{what} vessels", 0)
        tissues += tree(
            "lung", 40, rng=vessels, root=(22.0 * side, -8, 100), centre=(72.0 * side, -6, 100), radii=(50, 62, 105)
        )
    return [
        *tissues,
        _organ(counted_rng(seed, "heart", 0), "heart", 140, (-24, 26, 78), (52, 44, 50)),
        tube("aorta", 165, (-10, -34, -FAR), (-14, -26, 135), 11),
        tube("aorta", 165, (-14, -26, 135), (-4, 24, 118), 12),
        tube("airway", -950, (12, -6, 400), (9, -12, 125), 8),
        tube("airway", -950, (9, -12, 125), (34, -10, 100), 5.5),
        tube("airway", -950, (9, -12, 125), (-32, -10, 98), 5),
    ]


def _belly(seed: int) -> list[Tissue]:
    stomach = _organ(counted_rng(seed, "stomach", 0), "stomach", 25, (-62, 34, -8), (44, 30, 46))
    gas = boxed(
        "stomach", -950, lambda x, y, z: np.maximum(stomach.distance(x, y, z) + 3, 46 - y), stomach.low, stomach.high
    )
    kidneys = [
        _organ(counted_rng(seed, what, 0), "kidney", 165, (62.0 * side, -44, -95), (27, 25, 50))
        for side, what in ((1, "right kidney"), (-1, "left kidney"))
    ]
    sinuses = [ellipsoid("kidney", -60, (46.0 * side, -42, -95), (10, 7, 18)) for side in (1, -1)]
    return [
        *_bowel(seed),
        tube("vena cava", 140, (19, -36, -FAR), (16, -12, 62), 11),
        *[ellipsoid("muscle", 58, (37.0 * side, -58, -160), (17, 19, 120)) for side in (1, -1)],
        _organ(counted_rng(seed, "spleen", 0), "spleen", 122, (-98, -32, 2), (32, 44, 52)),
        stomach,
        gas,
        *_liver(seed),
        *kidneys,
        *sinuses,
    ]


def _liver(seed: int) -> list[Tissue]:
    """A dome under the right lung, hollow below, and a left lobe before the stomach."""

    def underside(x: Values, y: Values, z: Values) -> Values:
        hollow = 220 - np.sqrt((x + 56) ** 2 + (y - 33) ** 2 + (z + 263) ** 2)
        return np.asarray(np.maximum(_CAVITY(x, y, z), hollow), dtype=np.float32)

    vessels = counted_rng(seed, "liver vessels", 0)
    return [
        _organ(counted_rng(seed, "left lobe", 0), "liver", 110, (-10, 44, 10), (68, 34, 34), cut=underside),
        _organ(counted_rng(seed, "liver", 0), "liver", 110, (54, -2, -26), (92, 84, 80), cut=underside),
        *tree("liver", 160, rng=vessels, root=(14, 5, -20), centre=(58, 0, -18), radii=(56, 52, 48)),
    ]


def _bowel(seed: int) -> list[Tissue]:
    places = counted_rng(seed, "bowel", 0).uniform(-1, 1, (70, 3)) * (72, 30, 85) + (0, 22, -170)
    # Neighbours are chained by height, so that the loops lie in layers.
    places = places[np.argsort(places[:, 2], kind="stable")]
    return [tube("bowel", 38, a, b, 12) for a, b in zip(places[:-1:2], places[1::2], strict=True)]


def _spine() -> list[Tissue]:
    vertebra, core = repeated(34, 14), repeated(34, 12)
    return [
        *[pillar("muscle", 55, (36.0 * side, -86), (27, 18), under_skin(16)) for side in (1, -1)],
        pillar("disc", 85, (0, -62), (21, 16), under_skin(0)),
        pillar("bone", 480, (0, -62), (22, 17), vertebra),
        pillar("bone", 210, (0, -62), (20, 15), core),
        *[pillar("bone", 400, (24.0 * side, -84), (20, 4.5), repeated(34, 6)) for side in (1, -1)],
        pillar("bone", 400, (0, -85), (16, 13), vertebra),
        pillar("bone", 400, (0, -103), (3.5, 10), repeated(34, 11)),
        pillar("canal", 25, (0, -84), (10.5, 8.5), under_skin(0)),
    ]


def name_at(body: Sequence[Tissue], points: FloatArray) -> npt.NDArray[np.str_]:
    """The tissue at each of some points `[N, 3]`."""
    x, y, z = points.T.astype(np.float32)
    names = np.full(len(points), "air", dtype="U12")
    for tissue in body:
        names[tissue.distance(x, y, z) < 0] = tissue.name
    return names
