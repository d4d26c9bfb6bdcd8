"""Splits: by patient, stable, and never with a part that is empty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palpate.cohort import PaperSplit, Split, propose_split, subset_by_hash
from palpate.errors import CohortError


def test_a_scans_own_name_comes_before_its_patients() -> None:
    split = Split(train=("anna",), validation=("ben",), test=("anna_2",))
    assert split.subset_of("anna_1", "anna") == "train"
    assert split.subset_of("anna_2", "anna") == "test"
    assert split.subset_of("x", "x") is None


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="'a' stands under train and under test; leave one of them"):
        Split(train=("a", "b"), test=("a",))


def test_the_hash_is_of_the_lists() -> None:
    one = Split(train=("a", "b"), test=("c",))
    assert one.sha256 == Split(train=("b", "a"), test=("c",)).sha256
    assert one.sha256 != Split(train=("a",), validation=("b",), test=("c",)).sha256


@given(st.sets(st.text(min_size=1), min_size=3, max_size=60))
def test_every_patient_is_in_one_part_and_no_part_is_empty(patients: set[str]) -> None:
    split = propose_split(patients)
    listed = split.train + split.validation + split.test
    assert sorted(listed) == sorted(patients)
    assert all((split.train, split.validation, split.test))
    assert split == propose_split(sorted(patients))


def test_a_cohort_may_grow() -> None:
    """Whoever was in a part stays there."""
    names = [f"patient {n}" for n in range(300)]
    small, large = propose_split(names[:200]), propose_split(names)
    for part in ("train", "validation", "test"):
        assert set(getattr(small, part)) <= set(getattr(large, part))
    assert 10 <= len(small.test) <= 30
    assert {name for name in names if subset_by_hash(name) == "test"} == set(large.test)


def test_two_patients_are_too_few() -> None:
    with pytest.raises(CohortError, match=r"2 patients cannot be split .* at least 3"):
        propose_split(["a", "b", "a"])


def test_folds_of_the_paper() -> None:
    split = PaperSplit(paper="kits21", fold=0).resolve()
    assert split.subset_of("case_00013", "case_00013") == "train"
    assert len(set(split.train + split.validation + split.test)) == 300
    with pytest.raises(ValueError, match="less than or equal to 4"):
        PaperSplit(paper="kits21", fold=5)
