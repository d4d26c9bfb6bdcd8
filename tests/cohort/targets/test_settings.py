"""How often each kind of target is drawn."""

from collections import Counter

import pytest

from palpate.cohort.targets import TargetSampling


def test_contours_alone_by_default() -> None:
    plain = TargetSampling()
    assert plain.contours_alone
    assert plain.possible(True, True) == ["contours"]
    assert plain.possible(False, True) == []
    assert {plain.kind(0, number, True, True) for number in range(50)} == {"contours"}


def test_kinds_come_as_their_weights_say() -> None:
    mixed = TargetSampling(contours=2, supervoxels=1, synthetic=1)
    drawn = [mixed.kind(3, number, True, True) for number in range(2000)]
    counts = Counter(drawn)
    assert counts.keys() == {"contours", "supervoxels", "synthetic"}
    assert counts["contours"] / 2000 == pytest.approx(0.5, abs=0.04)
    assert counts["synthetic"] / 2000 == pytest.approx(0.25, abs=0.04)
    assert drawn == [mixed.kind(3, number, True, True) for number in range(2000)]
    assert drawn != [mixed.kind(4, number, True, True) for number in range(2000)]


def test_a_scan_without_contours_has_made_targets() -> None:
    mixed = TargetSampling(contours=2, labels=2, supervoxels=1, synthetic=1)
    without = {mixed.kind(0, number, False, False) for number in range(100)}
    assert without == {"supervoxels", "synthetic"}
    other_label = {mixed.kind(0, number, False, True) for number in range(100)}
    assert other_label == {"labels", "supervoxels", "synthetic"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contours": 0}, "one kind of target, at least, needs a weight above 0: contours, labels, supervoxels"),
        ({"synthetic": -1}, "greater than or equal to 0"),
        ({"organs": 1}, "Extra inputs"),
    ],
)
def test_weights_that_make_no_sense(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetSampling.model_validate(settings)
