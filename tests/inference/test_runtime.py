"""A model at work: what it can do, as data."""

from dataclasses import replace

import pytest

from palpate.bundle import with_extra_heads, without_prompt_encoder
from palpate.errors import DeviceError
from palpate.inference import Capabilities, TorchRuntime
from palpate.inference.runtime import KINDS
from small import judging_bundle, prompted_bundle, small_bundle


def test_capabilities_are_the_networks() -> None:
    plain = TorchRuntime(small_bundle(), "cpu").capabilities
    assert plain == Capabilities(frozenset({"click"}), background=False, predicts_iou=False)
    assert not plain.takes_initial_mask
    assert not plain.promptless
    dense = TorchRuntime(prompted_bundle(), "cpu").capabilities
    assert (dense.prompt_kinds, dense.background, dense.takes_initial_mask) == (KINDS, True, True)
    assert not dense.predicts_iou
    assert TorchRuntime(judging_bundle(), "cpu").capabilities == replace(dense, predicts_iou=True)
    automatic = TorchRuntime(without_prompt_encoder(with_extra_heads(small_bundle(), dense=4)), "cpu").capabilities
    assert automatic.promptless
    assert not automatic.background


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(DeviceError, match=f"device '{device}' is not here"):
        TorchRuntime(small_bundle(), device)
