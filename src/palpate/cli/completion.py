"""What a shell completes after an option: the values that an option knows by name, and files of its kind.

Where nothing of it fits what was typed, the shell completes files by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

BUNDLED = ("palpate-tiny",)  # as `bundle` has them, which needs PyTorch; a test compares them
PRECISIONS = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
PRESETS = ("kits21", "msd-pancreas", "lits17", "msd-colon")
SAM = ("sam_vit_b", "sam_vit_l", "sam_vit_h", "medsam")
PRETRAINED = (*SAM, "dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14")


def complete_from(*names: str, endings: tuple[str, ...] = ()) -> Callable[[str], list[str]]:
    """A completion of some names, and of the files with some endings in the folder that was begun.

    Args:
        names: values that the option knows.
        endings: of files, as ".safetensors"; none: no files.
    """

    def complete(incomplete: str) -> list[str]:
        return [*_beginning(incomplete, names), *(_files(incomplete, endings) if endings else ())]

    return complete


def complete_assets(incomplete: str) -> list[str]:
    """The weights and cohorts that `palpate fetch` knows."""
    from ..weights import ASSETS

    return list(_beginning(incomplete, ASSETS))


def _beginning(text: str, names: Iterable[str]) -> Iterable[str]:
    return (name for name in names if name.startswith(text))


def _files(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    """The files that begin with what was typed, as they would be typed."""
    folder, slash, begun = incomplete.rpartition("/")
    try:
        names = sorted(path.name for path in Path(f"{folder}{slash}" or ".").iterdir() if path.name.endswith(endings))
    except OSError:
        return []
    return [f"{folder}{slash}{name}" for name in names if name.startswith(begun)]


complete_model = complete_from(*BUNDLED, endings=(".safetensors",))
