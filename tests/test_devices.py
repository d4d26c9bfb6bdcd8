"""Devices and arithmetic by name; what the Predictor says of them is in its own tests."""

import pytest
import torch

from palpate.devices import Precision, arithmetic, check_precision, device_named
from palpate.errors import DeviceError


def test_devices_by_name() -> None:
    assert device_named("cpu") == torch.device("cpu")
    assert device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(
        DeviceError,
        match=r"device 'abacus' is not here \(.+\); try --device cpu, or see docs/how-to/gpus-and-threads\.md",
    ):
        device_named("abacus")


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_arithmetic(precision: Precision, expected: torch.dtype) -> None:
    check_precision(precision)
    with arithmetic(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_no_such_arithmetic() -> None:
    with pytest.raises(DeviceError, match="precision 'float8' is not one of float32, bfloat16, float16"):
        check_precision("float8")
