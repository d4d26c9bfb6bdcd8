"""Where a network computes, and in which arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from .errors import DeviceError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]


def device_named(name: str) -> torch.device:
    """A device by its name: "cpu", "cuda", "cuda:1", ... or "auto", a CUDA device where there is one.

    Raises:
        DeviceError: no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DeviceError(
            f"device {name!r} is not here ({reason}); try --device cpu, or see docs/how-to/gpus-and-threads.md"
        ) from error
    return device


def check_precision(precision: str) -> None:
    """Refuse an arithmetic that there is not.

    Raises:
        DeviceError: not one of `Precision`.
    """
    if precision not in get_args(Precision):
        raise DeviceError(f"precision {precision!r} is not one of {', '.join(get_args(Precision))}")


def arithmetic(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a network computes so; its weights stay in float32."""
    import torch

    reduced = precision != "float32"
    wanted = getattr(torch, precision)
    return torch.autocast(device.type, dtype=wanted if reduced else torch.bfloat16, enabled=reduced)
