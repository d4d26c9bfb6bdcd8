"""A model and its file: safetensors, with the network's shape, preprocessing and provenance in the header."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ModelError
from ..files import replacing
from ..frame import Preprocessing
from ..model import Network, NetworkConfig, is_frozen
from .provenance import Calibration, Provenance

FORMAT = 1


class ModelHeader(BaseModel):
    """The header of a model's file."""

    model_config = ConfigDict(extra="forbid")
    format: int
    kind: Literal["full", "adapter"]
    network: NetworkConfig
    preprocessing: Preprocessing
    provenance: Provenance
    confidence: Calibration = Calibration()  # the key of files that earlier versions wrote
    base: str | None = None
    base_name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_origin_as_data(cls, header: dict[str, Any]) -> dict[str, Any]:
        """Files of earlier versions have what they were imported from in the origin's text alone."""
        provenance = header.get("provenance")
        if not isinstance(provenance, dict) or "imported_from" in provenance:
            return header
        found = re.match(r"imported from a (sam|release)", str(provenance.get("origin")))
        return header | {"provenance": provenance | {"imported_from": found[1] if found else None}}


@dataclass(frozen=True, eq=False)
class Bundle:
    """A network with its preprocessing, its provenance and its calibration.

    Attributes:
        network: the network, in float32, on the CPU when loaded.
        preprocessing: how crops of a scan are made for it.
        provenance: where it came from.
        calibration: how its probabilities and predicted IoU are corrected.
    """

    network: Network
    preprocessing: Preprocessing
    provenance: Provenance
    calibration: Calibration = field(default_factory=Calibration)

    def save(
        self,
        path: str | Path,
        *,
        adapter_only: bool = False,
        base_name: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Write the model to one safetensors file.

        Args:
            path: the file, usually ending in `.safetensors`.
            adapter_only: leave out what stayed frozen, and name the base by its hash instead.
            base_name: for an adapter, what its base is called ("sam_vit_b"), so that `load` can look for it.
            dtype: precision of the stored tensors.

        Raises:
            ModelError: an adapter of a network whose every parameter is tuned.
            OutputError: the file cannot be written; an old one is left intact.
        """
        config, state = self.network.config, self.network.state_dict()
        if adapter_only and not config.has_frozen:
            raise ModelError(
                f"{self.provenance.name}: every parameter is tuned, so an adapter would be all of it; save it whole"
            )
        header = ModelHeader(
            format=FORMAT,
            kind="adapter" if adapter_only else "full",
            network=config,
            preprocessing=self.preprocessing,
            provenance=self.provenance,
            confidence=self.calibration,
            base=frozen_sha256(state, config) if adapter_only else None,
            base_name=base_name if adapter_only else None,
        )
        stored = {k: v for k, v in state.items() if not (adapter_only and is_frozen(k, config))}
        tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in stored.items()}
        with replacing(path) as (staged,):
            try:
                save_file(tensors, staged, metadata={"palpate": header.model_dump_json()})
            except SafetensorError as error:
                raise OSError(str(error)) from error

    def sha256(self) -> str:
        """A hash of all that its masks depend on: tensors, the network's shape, preprocessing; not its provenance."""
        # Without defaults: a setting that a later version adds does not make this another model.
        settings = [part.model_dump_json(exclude_defaults=True) for part in (self.network.config, self.preprocessing)]
        return state_sha256(self.network.state_dict(), "".join(settings))

    def answers_sha256(self) -> str:
        """A hash of all that its results depend on: what its masks depend on, and the calibration."""
        calibration = self.calibration.model_dump_json(exclude={"measured"}, exclude_defaults=True)
        return hashlib.sha256(f"{self.sha256()}{calibration}".encode()).hexdigest()


def frozen_sha256(state: dict[str, Tensor], config: NetworkConfig) -> str:
    """A hash of the tensors that `config` freezes: sorted names, shapes and float32 values, whatever file held them."""
    return state_sha256({name: value for name, value in state.items() if is_frozen(name, config)})


def state_sha256(state: dict[str, Tensor], before: str = "") -> str:
    """A hash of tensors by sorted names, shapes and float32 values, after a text."""
    digest = hashlib.sha256(before.encode())
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}:{tuple(value.shape)}:".encode())
        digest.update(value.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def is_model(path: Path) -> bool:
    """Whether a file is a Palpate model, by its header."""
    try:
        with safe_open(path, framework="pt") as file:
            return "palpate" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_model(path: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """A model file's header and its tensors as stored.

    Raises:
        ModelError: not a Palpate model, damaged, or of another version of the format.
    """
    foreign = (
        f"{path}: not a Palpate model. SAM's, DINOv2's and the release's checkpoints: "
        f"`palpate import {path.name} -o MODEL`"
    )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("palpate")
            if text is None:
                raise ModelError(foreign)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{foreign} ({error})") from error
    try:
        version = json.loads(text).get("format")
        if version != FORMAT:
            raise ModelError(f"{path}: model format {version}, this program reads {FORMAT}; update palpate")
        return ModelHeader.model_validate_json(text), tensors
    except (ValidationError, ValueError, AttributeError) as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines())[:400]
        raise ModelError(f"{path}: its header does not describe a model: {reason}") from error
