"""A lesion's state as a file, for a cache on disk: safetensors, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import replacing
from ..frame import Frame
from ..masks import Probability
from ..prompts import Prompt
from ..volume import Grid
from .encoded_scan import EncodedScan
from .lesion_state import LesionState
from .plausibility import mask_warnings
from .prediction import Alternative, Prediction
from .reach import applied_prompts
from .runtime import Runtime
from .views import View

VERSION = 2


def save_state(state: LesionState, path: Path, content: bytes, runtime: Runtime) -> None:
    """Write a state.

    Args:
        state: with an answer.
        path: the file.
        content: what leads to the state: the key of `lesion_state.state_keys`.
        runtime: the model that it comes from.

    Raises:
        OutputError: the file cannot be written.
    """
    answer = state.prediction
    view, probability = answer.view, answer.probability
    tensors = {
        "probability": torch.from_numpy(probability.array.copy(order="C")),
        "to_scan": torch.from_numpy(view.frame.to_scan.copy(order="C")),
    }
    if state.reference is not None:
        tensors["reference"] = state.reference.cpu().contiguous()
    for number, other in enumerate(answer.alternatives):
        tensors[f"alternative_{number}"] = other.in_view.cpu().contiguous()
        tensors[f"alternative_{number}_to_scan"] = torch.from_numpy(other.view.frame.to_scan.copy(order="C"))
    record = _origin(content, runtime, probability.grid) | {
        "start": probability.start,
        "size": view.frame.size,
        "scale": view.scale,
        "predicted_iou": answer.predicted_iou,
        "crops": answer.crops,
        "cut": answer.cut,
        "ignored": answer.ignored,
        "corrected": answer.corrected,
        "alternatives": [(other.view.scale, other.predicted_iou) for other in answer.alternatives],
    }
    with replacing(path) as (staged,):
        try:
            save_file(tensors, staged, metadata={"palpate": json.dumps(record)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _origin(content: bytes, runtime: Runtime, grid: Grid) -> dict[str, Any]:
    """What must be the same for a state to be read again."""
    read = runtime.calibration
    return {
        "version": VERSION,
        "content": content.hex(),
        "model": runtime.sha256(),
        "precision": runtime.precision,
        "calibration": [read.temperature, read.quality_slope, read.quality_offset],
        "shape": list(grid.shape),
        "affine": grid.affine.tolist(),
    }


def load_state(path: Path, scan: EncodedScan, prompts: Sequence[Prompt], content: bytes) -> LesionState | None:
    """The state in a file; None: there is none, or it is damaged, or another one.

    Args:
        path: the file.
        scan: the scan that it was computed on.
        prompts: those that lead to it.
        content: their key.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["palpate"])
            origin = _origin(content, scan.runtime, scan.volume.grid)
            if {name: record[name] for name in origin} != origin:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        return _state(record, tensors, scan, tuple(prompts))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None  # it can be computed again


def _state(
    record: dict[str, Any], tensors: dict[str, torch.Tensor], scan: EncodedScan, prompts: tuple[Prompt, ...]
) -> LesionState:
    grid, source = scan.volume.grid, scan.volume.source
    x, y, z = record["start"]
    array = tensors["probability"].numpy()
    if array.dtype != np.float32 or array.ndim != 3:
        raise ValueError("no probability")
    probability = Probability(array, (x, y, z), grid, source)
    d, h, w = record["size"]
    view = View(Frame(grid, (d, h, w), tensors["to_scan"].numpy()), float(record["scale"]))
    reference = tensors.get("reference")
    if reference is not None:
        if tuple(reference.shape) != (d, h, w):
            raise ValueError("a reference of another crop")
        reference = reference.to(scan.runtime.device)
    mask = probability.threshold()
    for stored in (mask.array, probability.array):
        stored.setflags(write=False)
    iou, cut, ignored = record["predicted_iou"], float(record["cut"]), tuple(record["ignored"])
    temperature, warnings = scan.runtime.calibration.temperature, mask_warnings(prompts, mask, iou, cut, ignored)
    applied = applied_prompts(prompts, ignored)
    others, corrected = _alternatives(record, tensors, scan, applied), bool(record.get("corrected", False))
    crops = int(record["crops"])
    answer = Prediction(mask, probability, view, iou, crops, temperature, cut, ignored, warnings, others, corrected)
    return LesionState(prompts, applied, answer, reference)


def _alternatives(
    record: dict[str, Any], tensors: dict[str, torch.Tensor], scan: EncodedScan, prompts: tuple[Prompt, ...]
) -> tuple[Alternative, ...]:
    """The masks that were not taken; a file of before there were any has none."""
    found = []
    for number, (scale, iou) in enumerate(record.get("alternatives", [])):
        in_view = tensors[f"alternative_{number}"].to(scan.runtime.device)
        d, h, w = in_view.shape
        frame = Frame(scan.volume.grid, (d, h, w), tensors[f"alternative_{number}_to_scan"].numpy())
        found.append(Alternative(View(frame, float(scale)), in_view, iou, prompts, scan.volume.source))
    return tuple(found)
