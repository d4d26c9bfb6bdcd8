"""How to infer, as one value; and what of it a mask depends on."""

from dataclasses import replace

import pytest
import torch

from palpate.errors import DeviceError, SettingsError
from palpate.inference import BUDGET, RULES, InferenceIdentity, InferenceSettings
from palpate.predictor import Predictor
from small import CPU, prompted_bundle, small_bundle

SHA256 = "a" * 64


def test_what_cannot_be() -> None:
    with pytest.raises(DeviceError, match="precision 'float8' is not one of float32, bfloat16, float16"):
        InferenceSettings(precision="float8")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="a budget of -1 crops; give 0 or more"):
        InferenceSettings(budget=-1)
    with pytest.raises(SettingsError, match="0 threads; give 1 or more"):
        InferenceSettings(threads=0)


def test_settings_name_a_model_or_go_with_one() -> None:
    named = Predictor(replace(CPU, model="palpate-tiny", zoom=False))
    assert named.runtime.name == "palpate-tiny"
    assert not named.settings.zoom
    given = Predictor(small_bundle(), replace(CPU, precision="bfloat16"))
    assert (given.runtime.name, given.runtime.precision) == ("small", "bfloat16")
    shared = Predictor(given.runtime, CPU)
    assert shared.runtime is given.runtime, "one model at work for several predictors"
    assert shared.identity.precision == "bfloat16", "the runtime's"
    assert Predictor("palpate-tiny", CPU).settings == replace(CPU, model="palpate-tiny")
    with pytest.raises(SettingsError, match="settings were given twice"):
        Predictor(CPU, CPU)


def test_threads_are_the_processs() -> None:
    before = torch.get_num_threads()
    try:
        Predictor(small_bundle(), replace(CPU, threads=before + 1))
        assert torch.get_num_threads() == before + 1
        Predictor(small_bundle(), CPU)
        assert torch.get_num_threads() == before + 1, "none asked for"
    finally:
        torch.set_num_threads(before)


def test_an_identity_is_what_masks_depend_on() -> None:
    plain = InferenceIdentity.of("a", SHA256, InferenceSettings())
    assert plain == InferenceIdentity(name="a", sha256=SHA256, budget=BUDGET, precision="float32", rules=RULES)
    assert plain.same_as(InferenceIdentity.of("b", SHA256, InferenceSettings(device="cuda", threads=3)))
    for other in ({"zoom": False}, {"budget": 3}, {"precision": "bfloat16"}, {"rules": 1}):
        assert not plain.same_as(InferenceIdentity.of("a", SHA256, InferenceSettings(**other)))
    without_zoom = InferenceIdentity.of("a", SHA256, InferenceSettings(budget=3), zooms=False)
    assert without_zoom.budget is None
    assert without_zoom.same_as(InferenceIdentity.of("a", SHA256, InferenceSettings(zoom=False)))
    assert plain.arithmetic == "float32 32 rules 2"
    assert without_zoom.arithmetic == "float32 no zoom rules 2"
    assert plain.description == f"a ({'a' * 12})"
    low = InferenceIdentity.of("a", SHA256, InferenceSettings(budget=3, precision="bfloat16"))
    assert low.description == f"a ({'a' * 12}, budget 3, bfloat16)"


def test_what_knows_no_versions_of_the_rules_has_the_first() -> None:
    """A journal of version 0.1.0 names none; its masks, states and keys are those of the first."""
    old = InferenceIdentity.model_validate_json(f'{{"name": "a", "sha256": "{SHA256}", "budget": 32}}')
    assert old.same_as(InferenceIdentity.of("a", SHA256, InferenceSettings(rules=1)))
    assert old.arithmetic == "float32 32"
    assert old.description == f"a ({'a' * 12}, rules 1)"
    for rules in (0, RULES + 1):
        with pytest.raises(SettingsError, match=f"rules of version {rules}; this program knows 1 to {RULES}"):
            InferenceSettings(rules=rules)


def test_a_models_identity_is_its_bundles() -> None:
    predictor = Predictor(prompted_bundle(), CPU)
    assert predictor.identity.sha256 == prompted_bundle().sha256()
    assert predictor.identity.budget is None, "it was trained for one field"
