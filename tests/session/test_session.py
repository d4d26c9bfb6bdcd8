"""Lesions, prompts, undo and redo; a mask depends on its ordered prompts alone; what is refused changes nothing."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palpate.errors import GeometryError, PalpateError, PromptError, SessionError
from palpate.lesions import Postprocessing
from palpate.masks import Mask, Probability
from palpate.prompt_file import record
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.session import Lesion, Session
from palpate.volume import Grid, Volume
from small import noise_scan, quick_predictor

SCAN = noise_scan()
INSIDE, OUTSIDE, NEAR = Click((8, 7, 5)), Click((9, 5, 4), positive=False), Click((6, 8, 6))


def block(first: tuple[int, int, int], edge: int = 3) -> Mask:
    return Mask(np.ones((edge, edge, edge), bool), first, SCAN.grid)


def begun(**settings: Any) -> Session:
    return Session(quick_predictor(**settings), SCAN)


def straight(prompts: list[Prompt], **settings: Any) -> np.ndarray[Any, Any]:
    """What a predictor makes of a list that it never saw before."""
    predictor = quick_predictor(**settings)
    predictor.set_volume(SCAN)
    return predictor.predict(prompts).mask.full()


def told(session: Session) -> list[Any]:
    """A session's state as plain data; initial masks by their voxels."""
    return [told_of(lesion) for lesion in session.lesions]


def told_of(lesion: Lesion) -> Any:
    prompts = [(each.number, plain(each.prompt)) for each in lesion.numbered]
    start = None if lesion.initial_mask is None else plain(lesion.initial_mask)
    return (lesion.number, lesion.name, lesion.status, prompts, start, lesion.score)


def plain(prompt: Prompt) -> Any:
    if isinstance(prompt, InitialMask):
        return np.argwhere(prompt.mask.full()).tolist()
    return record(prompt)


def test_a_lesion_from_first_to_last() -> None:
    session = begun()
    assert list(session.lesions) == []
    number = session.add("  liver ")
    assert (number, session.lesion(1).name, session.lesion(1).status) == (1, "liver", "open")
    assert session.mask(1).empty
    assert session.prediction(1) is None
    assert session.mask(1).full().shape == SCAN.shape
    first, second = session.add_prompt(1, INSIDE), session.add_prompt(1, OUTSIDE)
    assert (first, second) == (1, 2)
    assert session.lesion(1).prompts == (INSIDE, OUTSIDE)
    prediction = session.prediction(1)
    assert prediction is not None
    assert np.array_equal(prediction.mask.full(), session.mask(1).full())
    session.accept(1)
    assert session.lesion(1).status == "accepted"
    session.replace_prompt(1, first, NEAR)
    assert session.lesion(1).prompts == (NEAR, OUTSIDE)
    assert session.lesion(1).status == "open", "another mask was not accepted"
    session.accept(1)
    session.reopen(1)
    assert session.lesion(1).status == "open"
    session.rename(1, "spleen")
    session.remove_prompt(1, second)
    assert session.lesion(1).prompts == (NEAR,)
    session.clear(1)
    assert session.mask(1).empty
    assert session.add() == 2
    assert session.lesion(2).name == "lesion 2"
    session.remove(1)
    assert [lesion.number for lesion in session.lesions] == [2]
    assert session.add() == 3, "no number is given twice"
    assert session.add_prompt(3, INSIDE) == 3


@pytest.mark.parametrize("prompted", [True, False])
def test_the_same_ordered_prompts_give_the_same_mask_however_they_came(prompted: bool) -> None:
    prompts: list[Prompt] = [INSIDE, OUTSIDE if prompted else Click((9, 8, 5)), NEAR]
    expected = straight(prompts, prompted=prompted)
    assert 0 < expected.sum() < expected.size
    session = begun(prompted=prompted)
    for _ in range(5):
        session.add()
    session.add_prompts(1, prompts)
    for prompt in prompts:  # one at a time, and another lesion in between
        session.add_prompt(2, prompt)
        session.add_prompt(3, Click((4, 4, 4)))
    session.add_prompts(4, [*prompts, Click((7, 7, 7))])
    session.undo()
    assert session.lesion(4).prompts == (), "one call is one operation"
    for prompt in [*prompts, Click((7, 7, 7))]:
        session.add_prompt(4, prompt)
    for _ in range(3):
        session.undo()
    for _ in range(2):
        session.redo()
    wrong = session.add_prompts(5, [prompts[0], Click((3, 3, 3)), prompts[2], Click((2, 2, 2))])
    session.replace_prompt(5, wrong[1], prompts[1])
    session.remove_prompt(5, wrong[3])
    for number in (1, 2, 4, 5):
        assert np.array_equal(session.mask(number).full(), expected)
    assert not np.array_equal(session.mask(3).full(), expected)


def test_a_start_mask_is_the_mask_until_there_are_prompts() -> None:
    session = begun()
    start = block((5, 5, 3))
    number = session.add("proposed", start, score=0.75)
    assert session.lesion(number).status == "proposed"
    assert session.lesion(number).score == 0.75
    assert np.array_equal(session.mask(number).full(), start.full())
    assert session.prediction(number) is None
    added = session.add_prompt(number, OUTSIDE)
    assert session.lesion(number).status == "open"
    assert np.array_equal(session.mask(number).full(), straight([InitialMask(start), OUTSIDE]))
    session.remove_prompt(number, added)
    assert np.array_equal(session.mask(number).full(), start.full())
    session.reject(session.add(initial_mask=start))
    assert len(session.lesions) == 1
    with pytest.raises(SessionError, match="lesion 1 is open, not a proposal to reject; remove it instead"):
        session.reject(number)


def test_a_model_without_dense_prompts_gets_the_clicks_alone() -> None:
    session = begun(prompted=False)
    number = session.add(initial_mask=block((5, 5, 3)))
    session.add_prompt(number, INSIDE)
    assert np.array_equal(session.mask(number).full(), straight([INSIDE], prompted=False))
    with pytest.raises(PromptError, match="the model 'small' takes foreground clicks only"):
        session.add_prompt(number, OUTSIDE)
    assert session.lesion(number).prompts == (INSIDE,)


def test_undo_and_redo_reach_every_operation() -> None:
    session = begun()
    steps: list[Callable[[], object]] = [
        lambda: session.add("one"),
        lambda: session.add_prompts(1, [INSIDE, OUTSIDE]),
        lambda: session.replace_prompt(1, 2, NEAR),
        lambda: session.accept(1),
        lambda: session.rename(1, "two"),
        lambda: session.reopen(1),
        lambda: session.remove_prompt(1, 2),
        lambda: session.clear(1),
        lambda: session.add("three", block((4, 4, 4)), 0.5),
        lambda: session.reject(2),
        lambda: session.remove(1),
    ]
    states = [told(session)]
    for step in steps:
        step()
        states.append(told(session))
    assert all(one != other for one, other in pairwise(states))
    touched = [session.undo() for _ in steps]
    assert touched == [1, 2, 2, *[1] * 8]
    assert not session.can_undo
    with pytest.raises(SessionError, match="nothing to undo"):
        session.undo()
    for state in states[1:]:
        assert session.can_redo
        session.redo()
        assert told(session) == state
    with pytest.raises(SessionError, match="nothing to redo"):
        session.redo()
    session.undo()
    session.rename(1, "other")
    assert not session.can_redo, "a new operation discards what was undone"
    with pytest.raises(SessionError, match="nothing to redo"):
        session.redo()


def test_undoing_has_no_limit() -> None:
    session = begun()
    session.add("0")
    for count in range(1, 200):
        session.rename(1, str(count))
    for count in reversed(range(199)):
        session.undo()
        assert session.lesion(1).name == str(count)
    for _ in range(150):
        session.redo()
    assert session.lesion(1).name == "150"


def test_no_two_lesions_have_one_name() -> None:
    session = begun()
    session.add("liver")
    session.add()
    for attempt in (
        lambda: session.add("liver"),
        lambda: session.add(" liver "),
        lambda: session.rename(2, "liver"),
        lambda: session.rename(2, "liver "),
    ):
        with pytest.raises(SessionError, match="lesion 1 is called 'liver' already; choose another name"):
            attempt()
    session.rename(1, "lesion 3")
    assert session.lesion(session.add()).name == "lesion 3 (2)", "a name that nobody gave is free"
    session.undo()
    session.undo()
    assert [lesion.name for lesion in session.lesions] == ["liver", "lesion 2"]
    session.remove(1)
    session.rename(2, "liver")
    session.undo()
    session.undo()
    assert [lesion.name for lesion in session.lesions] == ["liver", "lesion 2"]


def test_an_initial_mask_is_replaced() -> None:
    session = begun()
    first, second = block((5, 5, 3)), block((7, 6, 4))
    session.add("proposed", first, score=0.75)
    session.add_prompt(1, OUTSIDE)
    before = session.mask(1).full()
    session.replace_initial_mask(1, second)
    lesion = session.lesion(1)
    assert (lesion.status, lesion.score, lesion.prompts) == ("open", None, (OUTSIDE,))
    after = session.mask(1).full()
    assert np.array_equal(after, straight([InitialMask(second), OUTSIDE]))
    assert not np.array_equal(after, before)
    session.undo()
    assert (session.lesion(1).score, session.lesion(1).status) == (0.75, "open")
    assert np.array_equal(session.mask(1).full(), before)
    session.redo()
    assert np.array_equal(session.mask(1).full(), after)
    session.clear(1)
    assert np.array_equal(session.mask(1).full(), second.full())
    session.add("without")
    session.replace_initial_mask(2, first)
    assert np.array_equal(session.mask(2).full(), first.full())
    with pytest.raises(PromptError, match="initial mask is empty"):
        session.replace_initial_mask(2, Mask(np.zeros((2, 2, 2), bool), (1, 1, 1), SCAN.grid))
    with pytest.raises(GeometryError, match="lies on another grid"):
        session.replace_initial_mask(2, Mask(np.ones((2, 2, 2), bool), (1, 1, 1), OTHER_GRID))
    with pytest.raises(SessionError, match="no lesion 9 in this session"):
        session.replace_initial_mask(9, first)
    assert np.array_equal(session.mask(2).full(), first.full())


def test_prompts_may_be_recorded_first_and_predicted_later() -> None:
    session = begun()
    session.add("liver", block((5, 5, 3)))
    session.add()
    number = session.add_prompt(2, INSIDE, predict=False)
    session.add_prompts(1, [OUTSIDE], predict=False)
    assert not session.is_cached(1)
    session.replace_prompt(2, number, NEAR, predict=False)
    session.add_prompt(2, OUTSIDE, predict=False)
    assert np.array_equal(session.mask(2).full(), straight([NEAR, OUTSIDE]))
    assert np.array_equal(session.mask(1).full(), straight([InitialMask(block((5, 5, 3))), OUTSIDE]))
    assert session.is_cached(1)
    for bad, message in (
        (Click((16, 0, 0)), "lies outside the scan"),
        (Click(NEAR.index, False), "foreground and a b"),
    ):
        with pytest.raises(PromptError, match=message):
            session.add_prompt(2, bad, predict=False)
    with pytest.raises(PromptError, match="nothing says where the lesion is"):
        session.remove_prompt(2, number, predict=False)
    assert session.lesion(2).prompts == (NEAR, OUTSIDE)


def test_what_changes_nothing_is_no_operation() -> None:
    session = begun()
    session.add("one")
    session.rename(1, "one")
    session.reopen(1)
    session.clear(1)
    session.undo()
    assert session.lesions == ()


OTHER_GRID = Grid(SCAN.shape, np.diag([1.0, 1.0, 1.0, 1.0]))
BAD: list[tuple[Any, type[PalpateError], str]] = [
    (Click((16, 0, 0)), PromptError, r"click \(16, 0, 0\) lies outside the scan"),
    (Click((10**9, 0, 0)), PromptError, "lies outside the scan"),
    (Box((0, 0, 0), (3, 3, 10)), PromptError, "lies outside the scan"),
    (Lasso(0, 99, np.array([[1, 1], [5, 1], [3, 5]])), PromptError, "lies outside the scan"),
    (Scribble(np.array([[1, 1, 1], [-1, 0, 0]])), PromptError, "lies outside the scan"),
    (Click(INSIDE.index, positive=False), PromptError, r"voxel \(8, 7, 5\) has a foreground and a background prompt"),
    (Scribble(np.array([[7, 7, 5], [8, 7, 5]]), False), PromptError, "has a foreground and a background prompt"),
    (InitialMask(Mask(np.ones((2, 2, 2), bool), (1, 1, 1), OTHER_GRID)), PromptError, "lies on another grid"),
    ((1, 2, 3), PromptError, "a prompt is a Click, Box, Scribble, Lasso or InitialMask, not tuple"),
    (None, PromptError, "not NoneType"),
    ({"kind": "click", "index": [1, 2, 3]}, PromptError, "not dict"),
]


@pytest.mark.parametrize(("bad", "kind", "message"), BAD)
def test_what_is_refused_changes_nothing(bad: Any, kind: type[PalpateError], message: str, tmp_path: Path) -> None:
    with Session(quick_predictor(), SCAN, tmp_path / "s") as session:
        session.add()
        number = session.add_prompt(1, INSIDE)
        session.accept(1)
        before, journal = told(session), (tmp_path / "s" / "journal.jsonl").read_bytes()
        for attempt in (
            lambda: session.add_prompt(1, bad),
            lambda: session.add_prompts(1, [NEAR, bad]),
            lambda: (
                session.replace_prompt(1, number, bad) if "background" not in message else session.add_prompt(1, bad)
            ),
        ):
            with pytest.raises(kind, match=message):
                attempt()
            assert told(session) == before
        assert (tmp_path / "s" / "journal.jsonl").read_bytes() == journal
        assert session.add_prompt(1, NEAR) == 2
        assert np.array_equal(session.mask(1).full(), straight([INSIDE, NEAR]))


def test_prompts_that_cannot_be_made() -> None:
    """They are refused where they are made, before any session sees them."""
    nan = float("nan")
    makers: list[tuple[Callable[[], object], str]] = [
        (lambda: Click((nan, 0, 0)), "three voxel indices"),  # type: ignore[arg-type]
        (lambda: Box((0, 0, 0), (nan, 1, 1)), "three voxel indices"),  # type: ignore[arg-type]
        (lambda: Click.at_mm(SCAN.grid, (nan, 0, 0)), "three RAS millimetres"),
        (lambda: Scribble.of(np.ones((3, 3, 3)), SCAN.grid), "does not fit a scan"),
        (lambda: Scribble(np.zeros((0, 3), np.int64)), "at least one"),
        (lambda: Lasso(2, 4, np.array([[nan, 1], [5, 1], [3, 5]])), "finite"),
        (lambda: Lasso(2, 4.5, np.array([[1, 1], [5, 1], [3, 5]])), "slice is a whole number, not 4.5"),  # type: ignore[arg-type]
        (lambda: Lasso(2, nan, np.array([[1, 1], [5, 1], [3, 5]])), "slice is a whole number, not nan"),  # type: ignore[arg-type]
        (lambda: InitialMask(Mask(np.zeros((2, 2, 2), bool), (0, 0, 0), SCAN.grid)), "initial mask is empty"),
    ]
    for maker, message in makers:
        with pytest.raises(PromptError, match=message):
            maker()


def test_a_label_from_numpy_is_a_label() -> None:
    """`positive=array[x, y, z]` is numpy's True, which is not Python's; the mask must not know the difference."""
    yes: Any = np.True_
    no: Any = np.False_
    two: Any = np.int64(2)
    assert Click((1, 1, 1), yes).positive is True
    assert Scribble(np.array([[1, 1, 1]]), no).positive is False
    lasso = Lasso(two, two, np.array([[1, 1], [5, 1], [3, 5]]), no)
    assert lasso.positive is False
    assert record(lasso) == record(Lasso(2, 2, np.array([[1, 1], [5, 1], [3, 5]]), False))


def test_negatives_alone_are_refused_and_no_prompt_is_an_empty_mask() -> None:
    session = begun()
    session.add()
    with pytest.raises(PromptError, match="nothing says where the lesion is"):
        session.add_prompt(1, OUTSIDE)
    with pytest.raises(PromptError, match="no prompt was given"):
        session.add_prompts(1, [])
    positive = session.add_prompt(1, INSIDE)
    negative = session.add_prompt(1, OUTSIDE)
    with pytest.raises(PromptError, match="nothing says where the lesion is"):
        session.remove_prompt(1, positive)
    with pytest.raises(PromptError, match="nothing says where the lesion is"):
        session.replace_prompt(1, positive, Click((3, 3, 3), positive=False))
    assert session.lesion(1).prompts == (INSIDE, OUTSIDE)
    session.remove_prompt(1, negative)
    session.remove_prompt(1, positive)
    assert session.mask(1).empty


def test_prompts_too_far_apart_are_refused() -> None:
    wide = Volume(np.zeros((64, 8, 8), np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    session = Session(quick_predictor(), wide)
    session.add()
    session.add_prompt(1, Click((2, 2, 2)))
    with pytest.raises(PromptError, match="more than this model's crop holds"):
        session.add_prompt(1, Click((60, 2, 2)))
    assert session.lesion(1).prompts == (Click((2, 2, 2)),)
    session.add_prompt(1, Click((3, 2, 2)))


def test_thousands_of_prompts() -> None:
    session = begun(prompted=False)
    session.add()
    places = np.argwhere(np.ones(SCAN.shape, bool))[:1999]
    many: list[Prompt] = [Click(tuple(place)) for place in places.tolist()]
    session.add_prompts(1, many)
    assert len(session.lesion(1).prompts) == 1999
    expected = session.mask(1).full()
    session.add_prompt(1, INSIDE)
    session.undo()
    assert np.array_equal(session.mask(1).full(), expected)
    with pytest.raises(PromptError, match="3998 prompts are more than the 2000 that one lesion may have"):
        session.add_prompts(1, many)
    assert len(session.lesion(1).prompts) == 1999
    assert np.array_equal(session.mask(1).full(), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.mask(7), "no lesion 7 in this session; there are: 1"),
        (lambda s: s.prediction(0), "no lesion 0 in this session; there are: 1"),
        (lambda s: s.add_prompt(2, INSIDE), "no lesion 2 in this session"),
        (lambda s: s.accept("liver"), "no lesion 'liver' in this session"),
        (lambda s: s.remove_prompt(1, 9), "lesion 1 has no prompt 9; its prompts: 1"),
        (lambda s: s.replace_prompt(1, 9, NEAR), "lesion 1 has no prompt 9"),
        (lambda s: s.rename(1, "  "), "a lesion's name is a line of 1 to 100 characters, not '  '; choose another"),
        (lambda s: s.rename(1, "a\nb"), r"a lesion's name is a line of 1 to 100 characters, not 'a\\nb'"),
        (lambda s: s.add("x" * 101), "a lesion's name is a line of 1 to 100 characters, not 'xxxxx"),
        (lambda s: s.add(7), "a lesion's name is a line of 1 to 100 characters, not 7"),
        (lambda s: s.add(score=0.5), "a score belongs to an initial mask, and there is none"),
        (
            lambda s: s.add(initial_mask=block((1, 1, 1)), score=1.5),
            "score: Input should be less than or equal to 1, not 1.5",
        ),
        (lambda s: s.add(initial_mask=block((1, 1, 1)), score=float("nan")), "score"),
        (lambda s: s.label_map("best"), "no overlap rule 'best'"),
    ],
)
def test_what_is_wrong_is_named(call: Callable[[Session], object], message: str) -> None:
    session = begun()
    session.add("one")
    session.add_prompt(1, INSIDE)
    before = told(session)
    with pytest.raises(SessionError, match=message):
        call(session)
    assert told(session) == before


def test_a_start_mask_must_fit() -> None:
    session = begun()
    with pytest.raises(GeometryError, match=r"initial mask lies on another grid than the scan: spacing \(1, 1, 1\) mm"):
        session.add(initial_mask=Mask(np.ones((2, 2, 2), bool), (1, 1, 1), OTHER_GRID))
    with pytest.raises(PromptError, match="initial mask is empty"):
        session.add(initial_mask=Mask(np.zeros((2, 2, 2), bool), (1, 1, 1), SCAN.grid))
    assert session.lesions == ()


def test_what_is_no_mask_and_no_list_is_an_error() -> None:
    session = begun()
    wrong: list[Any] = [
        np.ones(SCAN.shape, bool),
        InitialMask(Mask(np.ones((2, 2, 2), bool), (1, 1, 1), SCAN.grid)),
        Probability(np.ones((2, 2, 2), np.float32), (1, 1, 1), SCAN.grid),
    ]
    for start in wrong:
        with pytest.raises(TypeError, match=f"an initial mask is a Mask, .* not {type(start).__name__}"):
            session.add(initial_mask=start)
    number = session.add()
    with pytest.raises(PromptError, match="prompts come as a list, not Click; give a list, if only of one prompt"):
        session.add_prompts(number, Click((8, 8, 5)))  # type: ignore[arg-type]


def test_masks_that_are_given_out_are_not_written_to() -> None:
    """What a caller does with one must not change what is exported."""
    session = begun()
    number = session.add()
    session.add_prompt(number, Click((8, 8, 5)))
    for array in (session.mask(number).array, session.mask(number).array):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = False


def test_a_label_map_has_the_lesions_numbers() -> None:
    session = begun()
    session.add(initial_mask=block((2, 2, 2)), score=0.4)
    session.add(initial_mask=block((3, 3, 3)), score=0.9)
    session.add(initial_mask=block((9, 9, 5)), score=0.1)
    session.accept(3)
    assert session.label_map("later").full()[4, 4, 4] == 2
    assert session.label_map("earlier").full()[4, 4, 4] == 1
    assert session.label_map("highest").full()[4, 4, 4] == 2
    assert set(np.unique(session.label_map(accepted_only=True).full())) == {0, 3}
    session.remove(2)
    assert set(np.unique(session.label_map().full())) == {0, 1, 3}, "the others keep theirs"
    session.add_prompt(1, INSIDE)
    probability = session.prediction(1).probability.full()  # type: ignore[union-attr]
    labels = session.label_map("highest").full()
    contested = session.mask(1).full() & session.mask(3).full()
    assert contested.any()
    assert np.array_equal(labels[contested] == 1, probability[contested] >= np.float32(0.1))


def test_measures() -> None:
    session = begun()
    session.add(initial_mask=block((4, 4, 4)))
    size = session.measure(1)
    assert size.volume_ml == pytest.approx(27 * 36 / 1000)
    assert size.longest is not None
    assert size.longest.mm == pytest.approx(9 * np.sqrt(2))


# A plain model of a session, and both under the same random operations.


@dataclass
class Plain:
    """Every state that ever was, as plain data."""

    states: list[list["PlainLesion"]] = field(default_factory=lambda: [[]])
    at: int = 0
    lesions: int = 0
    prompts: int = 0

    @property
    def now(self) -> "list[PlainLesion]":
        return self.states[self.at]

    def to(self, state: "list[PlainLesion]") -> None:
        if state != self.now:
            self.states[self.at + 1 :] = [state]
            self.at += 1

    def change(self, number: int, **fields: Any) -> None:
        self.to([replace(each, **fields) if each.number == number else each for each in self.now])


@dataclass(frozen=True)
class PlainLesion:
    number: int
    name: str
    status: str
    prompts: tuple[Any, ...]
    start: Any
    score: float | None

    def told(self) -> Any:
        return (self.number, self.name, self.status, list(self.prompts), self.start, self.score)


def drawn(rng: random.Random) -> Prompt:
    """A prompt of any kind; some contradict, some lie outside."""

    def place(low: int = 0) -> tuple[int, int, int]:
        x, y, z = (rng.randrange(low, n) for n in SCAN.shape)
        return x, y, z

    positive = rng.random() < 0.7
    array = np.zeros(SCAN.shape, bool)
    array[: rng.randrange(9, 14)] = True
    outline = np.array([[1, 1], [rng.random() * 9 + 4, 2], [3, 11 * rng.random() + 2]])
    rare: list[Callable[[], Prompt]] = [
        lambda: Box(place(), place()),
        lambda: Scribble.along([place() for _ in range(3)], positive),
        lambda: Lasso(2, rng.randrange(10), outline),
        lambda: InitialMask(Mask(np.ones((3, 2, 2), bool), (rng.randrange(13), 3, 3), SCAN.grid)),
        lambda: Scribble.of(array, SCAN.grid),
        lambda: Click((99, 0, 0)),
    ]
    return rng.choice(rare)() if rng.random() < 0.5 else Click(place(), positive)


def operate(session: Session, model: Plain, rng: random.Random) -> None:
    """One random operation on both."""
    lesions = session.lesions
    kind = rng.choices(
        ["add", "remove", "drop", "rename", "judge", "prompt", "replace", "take", "clear", "undo", "redo"],
        [4, 1, 1, 2, 4, 30, 6, 10, 1, 10, 6],
    )[0]
    if kind == "add" or not lesions:
        start = block((rng.randrange(12), 5, 5)) if rng.random() < 0.5 else None
        score = rng.random() if start is not None else None
        number = session.add(initial_mask=start, score=score)
        model.lesions += 1
        assert number == model.lesions
        of = None if start is None else np.argwhere(start.full()).tolist()
        status = "open" if start is None else "proposed"
        model.to([*model.now, PlainLesion(number, f"lesion {number}", status, (), of, score)])
        return
    if kind in ("undo", "redo"):
        there = model.at > 0 if kind == "undo" else model.at + 1 < len(model.states)
        assert (session.can_undo if kind == "undo" else session.can_redo) is there
        if there:
            session.undo() if kind == "undo" else session.redo()
            model.at += 1 if kind == "redo" else -1
        return
    lesion = rng.choice(lesions)
    number, prompts = lesion.number, next(each for each in model.now if each.number == lesion.number).prompts
    others = [each for each in model.now if each.number != number]
    if kind == "remove":
        session.remove(number)
        model.to(others)
    elif kind == "drop" and lesion.status == "proposed":
        session.reject(number)
        model.to(others)
    elif kind == "rename":
        name = rng.choice(["liver", "Léber 肝", 'quo"te', "\\back"])
        if any(each.name == name for each in others):
            with pytest.raises(SessionError, match="already; choose another name"):
                session.rename(number, name)
            return
        session.rename(number, name)
        model.change(number, name=name)
    elif kind == "judge":
        accept = rng.random() < 0.7
        (session.accept if accept else session.reopen)(number)
        model.change(number, status="accepted" if accept else "open")
    elif kind == "clear":
        session.clear(number)
        if prompts:
            model.change(number, prompts=(), status="open")
    else:
        edit(session, model, rng, number, prompts)


def edit(session: Session, model: Plain, rng: random.Random, number: int, prompts: tuple[Any, ...]) -> None:
    """Prompts added, replaced or taken away; what the session refuses leaves the model as it was."""
    choice = rng.randrange(len(prompts)) if prompts else None
    try:
        if choice is None or (rng.random() < 0.5 and len(prompts) < 6):
            more = [drawn(rng) for _ in range(rng.choice([1, 1, 1, 2]))]
            numbers = session.add_prompts(number, more)
            assert numbers == tuple(range(model.prompts + 1, model.prompts + 1 + len(more)))
            model.prompts += len(more)
            added = tuple((n, plain(prompt)) for n, prompt in zip(numbers, more, strict=True))
            model.change(number, prompts=prompts + added, status="open")
        elif rng.random() < 0.4:
            which, prompt = prompts[choice][0], drawn(rng)
            session.replace_prompt(number, which, prompt)
            changed = (*prompts[:choice], (which, plain(prompt)), *prompts[choice + 1 :])
            model.to([replace(e, prompts=changed, status="open") if e.number == number else e for e in model.now])
        else:
            session.remove_prompt(number, prompts[choice][0])
            model.change(number, prompts=prompts[:choice] + prompts[choice + 1 :], status="open")
    except PromptError:
        pass


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 2**32))
@example(seed=7904858)  # a stroke in the place of an equal one is no change
def test_random_operations_replayed_are_the_same_to_the_voxel(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("random") / "session"
    rng, model = random.Random(seed), Plain()
    with Session(quick_predictor(), SCAN, folder) as live:
        for _ in range(200):
            operate(live, model, rng)
            assert told(live) == [lesion.told() for lesion in model.now]
        masks = {lesion.number: live.mask(lesion.number).full() for lesion in live.lesions}
    with Session.open(folder, quick_predictor(), SCAN) as again:
        assert told(again) == [lesion.told() for lesion in model.now]
        for lesion in again.lesions:
            assert np.array_equal(again.mask(lesion.number).full(), masks[lesion.number])
        while model.at:
            again.undo()
            model.at -= 1
            assert told(again) == [lesion.told() for lesion in model.now]


def test_how_many_can_be_undone_and_redone() -> None:
    session = begun()
    assert (session.undoable, session.redoable) == (0, 0)
    session.add("a")
    session.rename(1, "b")
    assert (session.undoable, session.redoable) == (2, 0)
    session.undo()
    assert (session.undoable, session.redoable) == (1, 1)
    session.rename(1, "c")
    assert (session.undoable, session.redoable) == (2, 0)


def test_two_sessions_may_share_a_predictor() -> None:
    """Each has a scan of its own; so its masks are those of a replay."""
    predictor, other = quick_predictor(), noise_scan(1)
    first, second = Session(predictor, SCAN), Session(predictor, other)
    first.add("a")
    second.add("b")
    first.add_prompt(1, INSIDE)
    second.add_prompt(1, INSIDE)
    first.add_prompt(1, OUTSIDE)
    mine = first.mask(1).full()
    assert np.array_equal(mine, straight([INSIDE, OUTSIDE]))
    alone = Session(quick_predictor(), other)
    alone.add("b")
    alone.add_prompt(1, INSIDE)
    assert np.array_equal(second.mask(1).full(), alone.mask(1).full())
    assert not np.array_equal(mine, alone.mask(1).full())


def test_four_sessions_in_four_threads_answer_as_alone(tmp_path: Path) -> None:
    """On one predictor, each with its own scan, folder and progress."""
    predictor = quick_predictor()
    prompts: list[Prompt] = [INSIDE, OUTSIDE, NEAR, Box((3, 3, 3), (9, 9, 7))]

    def work(number: int) -> tuple[list[np.ndarray[Any, Any]], list[float]]:
        shares: list[float] = []
        with Session(predictor, noise_scan(number), tmp_path / str(number)) as session:
            for lesion in (1, 2):
                session.add()
                session.add_prompts(lesion, prompts[lesion - 1 :][:3:2], progress=shares.append)
            session.add_prompt(1, prompts[3])
            session.undo()
            session.redo()
            return [session.mask(lesion.number).full() for lesion in session.lesions], shares

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for number, (masks, shares) in enumerate(found):
        alone = quick_predictor()
        alone.set_volume(noise_scan(number))
        for mask, their in zip(masks, ([INSIDE, NEAR, prompts[3]], [OUTSIDE, prompts[3]]), strict=True):
            assert np.array_equal(mask, alone.predict(their).mask.full())
        halves = shares[: shares.index(1.0) + 1], shares[shares.index(1.0) + 1 :]
        assert all(half == sorted(half) and half[-1] == 1.0 for half in halves)


def test_a_session_begun_by_mistake_is_discarded(tmp_path: Path) -> None:
    session = Session(quick_predictor(), SCAN, tmp_path / "new")
    session.add(initial_mask=block((2, 2, 2)))
    assert (tmp_path / "new" / "files").is_dir()
    session.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SessionError, match="is closed"):
        session.add("more")
    with pytest.raises(SessionError, match="new: was not begun here; remove its folder yourself"):
        session.discard()


def test_discarding_leaves_what_others_wrote(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "files").mkdir(parents=True)
    for path in (there / "notes.txt", there / "files" / "mine.txt"):
        path.write_text("mine")
    session = Session(quick_predictor(), SCAN, there)
    session.add(initial_mask=block((2, 2, 2)))
    session.discard()
    left = {path.relative_to(there).as_posix() for path in there.rglob("*")}
    assert left == {"notes.txt", "files", "files/mine.txt"}
    Session(quick_predictor(), SCAN, there).close()
    with Session.open(there, quick_predictor(), SCAN) as again:
        with pytest.raises(SessionError, match="there: was not begun here"):
            again.discard()
        again.add("a")
    assert (there / "journal.jsonl").exists()


def test_masks_are_computed_ahead_with_progress_that_never_falls() -> None:
    predictor = quick_predictor()
    session = Session(predictor, SCAN)
    for place in (INSIDE, NEAR):
        session.add_prompt(session.add(), place, predict=False)
    heard: list[float] = []
    assert not session.is_cached(1)
    session.compute_masks(progress=heard.append)
    assert session.is_cached(1)
    assert session.is_cached(2)
    assert heard == sorted(heard)
    assert (min(heard) < 0.5, max(heard)) == (True, 1.0)
    heard.clear()
    session.compute_masks(progress=heard.append)
    assert heard == []


def test_a_mask_that_is_exported_is_postprocessed_and_the_sessions_is_not(tmp_path: Path) -> None:
    session = begun()
    session.add_prompt(session.add("a"), INSIDE)
    session.add("start", initial_mask=block((2, 2, 2)))
    prediction = session.prediction(1)
    assert prediction is not None
    probability = prediction.probability.full()
    for threshold in (0.3, float(np.quantile(probability[probability > 0.5], 0.5))):
        process = Postprocessing(threshold)
        before = session.mask(1).full()
        assert np.array_equal(session.record(1, postprocessing=process).mask.full(), probability > threshold)
        assert np.array_equal(session.mask(1).full(), before)
        assert session.record(2, postprocessing=process).mask.voxels == 27, "it has no probability"
        labels = session.label_map("highest", postprocessing=process).full()
        assert np.array_equal(labels == 0, ~((probability > threshold) | block((2, 2, 2)).full()))
        session.export(tmp_path / f"{threshold}.nii.gz", postprocessing=process)
        assert [each.kind for each in session.warnings(1, postprocessing=Postprocessing(1 - 1e-9))] == ["empty"]
        assert session.warnings(2, postprocessing=process) == ()
        listing = json.loads((tmp_path / f"{threshold}.lesions.json").read_text())
        assert (listing["threshold"], listing["keep"]) == (threshold, "all")
        assert listing["lesions"][0]["voxels"] == int((probability > threshold).sum())
