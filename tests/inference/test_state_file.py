"""A lesion's state on disk: the same after reading, or not read at all."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fakes import FAKE_SHA256, FakeRuntime, ball, blank_scan, knowing
from palpate.bundle import Calibration
from palpate.inference import InferenceSettings
from palpate.predictor import Predictor
from palpate.prompts import Box, Click, Prompt
from palpate.volume import Volume

PROMPTS: list[Prompt] = [Click((60, 50, 30)), Click((80, 50, 30), positive=False), Click((58, 50, 30))]
FEW = InferenceSettings(budget=4)


@pytest.mark.parametrize("radius", [20, 70], ids=["in one crop", "in a wide view"])
def test_a_state_goes_on_from_its_file(radius: int, tmp_path: Path) -> None:
    """In another process, say: its next prompt is one step, with the very answer."""
    truth = ball((60, 50, 30), radius)
    predictor, _ = knowing(truth, settings=FEW)
    scan = predictor.encode_scan(blank_scan())
    before = predictor.predict_on(scan, PROMPTS[:2])
    predictor.save_state(scan, before, tmp_path / "state.safetensors")
    straight = predictor.predict_on(scan, PROMPTS)
    other, runtime = knowing(truth, settings=FEW)
    again = other.encode_scan(blank_scan())
    assert other.load_state(again, PROMPTS[:2], tmp_path / "state.safetensors")
    assert other.cached_state(again, PROMPTS[:2]) is not None
    loaded = other.predict_on(again, PROMPTS[:2])
    assert not runtime.decoded
    assert np.array_equal(loaded.prediction.mask.full(), before.prediction.mask.full())
    assert (loaded.prediction.crops, loaded.prediction.view.scale) == (
        before.prediction.crops,
        before.prediction.view.scale,
    )
    with pytest.raises(ValueError, match="read-only"):
        loaded.prediction.probability.array[...] = 0
    went_on = other.predict_on(again, PROMPTS)
    assert np.array_equal(went_on.prediction.probability.full(), straight.prediction.probability.full())
    assert went_on.prediction.crops == straight.prediction.crops


def test_alternatives_are_in_the_file(tmp_path: Path) -> None:
    """And one of before there were any has none."""
    long, path = ball((60, 50, 30), 30, (3, 0.6, 0.6)), tmp_path / "state.safetensors"
    first, runtime = knowing(long, settings=FEW, predicted_iou={1: 0.5, 2: 0.9})
    draw = runtime.draw
    runtime.draw = lambda prompts: draw(prompts) if prompts.view.scale <= 1 else torch.ones(prompts.view.frame.size)
    scan = first.encode_scan(blank_scan())
    before = first.predict_on(scan, PROMPTS[:1])
    (offered,) = before.prediction.alternatives
    first.save_state(scan, before, path)
    other, _ = knowing(long, settings=FEW)
    again = other.encode_scan(blank_scan())
    assert other.load_state(again, PROMPTS[:1], path)
    (loaded,) = other.predict_on(again, PROMPTS[:1]).prediction.alternatives
    assert np.array_equal(loaded.mask.full(), offered.mask.full())
    assert (loaded.view.scale, loaded.predicted_iou) == (offered.view.scale, offered.predicted_iou)
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["palpate"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    del record["alternatives"]
    save_file(tensors, path, metadata={"palpate": json.dumps(record)})
    older = other.encode_scan(blank_scan())
    assert other.load_state(older, PROMPTS[:1], path)
    assert other.predict_on(older, PROMPTS[:1]).prediction.alternatives == ()


def test_what_a_box_cut_off_is_in_the_file(tmp_path: Path) -> None:
    """And so are the warnings."""
    predictor, _ = knowing(ball((60, 50, 30), 20), settings=FEW)
    scan, path = predictor.encode_scan(blank_scan()), tmp_path / "state.safetensors"
    box: list[Prompt] = [Box((58, 48, 29), (62, 52, 31))]
    before = predictor.predict_on(scan, box)
    assert before.prediction.cut > 0.5
    predictor.save_state(scan, before, path)
    other, _ = knowing(ball((60, 50, 30), 20), settings=FEW)
    again = other.encode_scan(blank_scan())
    assert other.load_state(again, box, path)
    loaded = other.predict_on(again, box).prediction
    assert (loaded.cut, loaded.warnings) == (before.prediction.cut, before.prediction.warnings)
    assert [warning.kind for warning in loaded.warnings] == ["beyond_box"]


def test_which_prompts_were_ignored_is_in_the_file(tmp_path: Path) -> None:
    """So the network does not see them when a session goes on."""
    click, far, more = Click((60, 50, 30)), Click((100, 50, 30), positive=False), Click((62, 50, 30))
    predictor, _ = knowing(ball((60, 50, 30), 20), settings=FEW)
    scan, path = predictor.encode_scan(blank_scan()), tmp_path / "state.safetensors"
    before = predictor.predict_on(scan, [far, click])
    predictor.save_state(scan, before, path)
    other, runtime = knowing(ball((60, 50, 30), 20), settings=FEW)
    again = other.encode_scan(blank_scan())
    assert other.load_state(again, [far, click], path)
    loaded = other.predict_on(again, [far, click])
    assert (
        (loaded.applied, loaded.prediction.ignored) == ((click,), (0,)) == (before.applied, before.prediction.ignored)
    )
    assert loaded.prediction.warnings == before.prediction.warnings
    assert [warning.kind for warning in loaded.prediction.warnings] == ["ignored_background"]
    other.predict_on(again, [far, click, more])
    assert [prompts.prompts for prompts in runtime.decoded] == [(click, more)]


def test_what_is_no_such_state_is_not_read(tmp_path: Path) -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 20), settings=FEW)
    scan, path = predictor.encode_scan(blank_scan()), tmp_path / "state.safetensors"
    assert not predictor.load_state(scan, PROMPTS[:2], path), "there is none"
    predictor.save_state(scan, predictor.predict_on(scan, PROMPTS[:2]), path)
    assert not predictor.load_state(scan, PROMPTS, path), "of other prompts"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert not predictor.load_state(scan, PROMPTS[:2], path), "cut in half"
    path.write_bytes(whole.replace(FAKE_SHA256.encode(), b"1" * 64))
    assert not predictor.load_state(scan, PROMPTS[:2], path), "of another model"
    moved = predictor.encode_scan(Volume(scan.volume.array, scan.volume.affine + np.diag([0.1, 0, 0, 0])))
    path.write_bytes(whole)
    assert not predictor.load_state(moved, PROMPTS[:2], path), "of a scan on another grid"
    other = FakeRuntime(runtime.draw, runtime.preprocessing)
    other.calibration = Calibration(temperature=2)
    recalibrated = Predictor(other, FEW)
    assert not recalibrated.load_state(recalibrated.encode_scan(blank_scan()), PROMPTS[:2], path)
    path.write_bytes(b"no safetensors at all")
    assert not predictor.load_state(scan, PROMPTS[:2], path)
    path.write_bytes(whole)
    count = len(runtime.decoded)
    assert predictor.load_state(scan, PROMPTS[:2], path)
    assert len(runtime.decoded) == count
