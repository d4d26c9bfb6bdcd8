"""A model by its name or its file."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from .. import weights
from ..errors import ModelError
from ..model import Network, is_frozen
from .imports import load_fetched
from .model_file import Bundle, ModelHeader, frozen_sha256, read_model

BUNDLED = ("palpate-tiny",)


def load(model: str | Path, *, base: str | Path | Bundle | None = None) -> Bundle:
    """A model by the name of a bundled one ("palpate-tiny") or of a fetched one ("sam_vit_b"), or by its file.

    Args:
        model: a name, a full model's file, or an adapter's.
        base: for an adapter, the model that holds its frozen tensors; without one, that of the name in its file.

    Raises:
        ModelError: no such model; not a Palpate file; damaged; a base that is missing or not the right one.
    """
    if str(model) in weights.ASSETS:
        if base is not None:
            raise ModelError(f"{model}: is a full model and takes no base; leave the base out")
        return load_fetched(str(model))
    path = _locate(model)
    header, tensors = read_model(path)
    if header.kind == "adapter":
        tensors = _frozen_part(path, header, base) | tensors
    elif base is not None:
        raise ModelError(f"{path}: is a full model and takes no base; leave the base out")
    with torch.device("meta"):
        network = Network(header.network)
    expected = network.state_dict()
    wrong = sorted(k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape)
    missing, left = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or left or wrong:
        raise ModelError(f"{path}: tensors missing {missing[:5]}, left over {left[:5]}, of another shape {wrong[:5]}")
    network = Network(header.network)
    network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True)
    return Bundle(network.eval(), header.preprocessing, header.provenance, header.confidence)


def _locate(model: str | Path) -> Path:
    if str(model) in BUNDLED:
        path = Path(str(resources.files("palpate") / "models" / f"{model}.safetensors"))
        if not path.is_file():
            raise ModelError(f"the bundled model {model} is missing from this installation ({path}); reinstall palpate")
        return path
    path = Path(model)
    if not os.path.exists(path):  # noqa: PTH110 - Path's own raises where the name is too long, or a folder closed
        fetched = ", ".join(name for name, asset in weights.ASSETS.items() if asset.kind == "weights")
        raise ModelError(
            f"no model {str(model)!r}: neither a file nor a bundled name ({', '.join(BUNDLED)}), "
            f"nor one for `palpate fetch` ({fetched})"
        )
    if path.is_dir():
        inside = sorted(path.glob("*.safetensors"))
        hint = f"; give {inside[0]}" if inside else "; give a .safetensors file"
        raise ModelError(f"{path}: is a folder, not a model's file{hint}")
    return path


def _frozen_part(path: Path, header: ModelHeader, base: str | Path | Bundle | None) -> dict[str, Tensor]:
    given = base if base is None or isinstance(base, Bundle) else load(base)
    bundle = given or _named_base(path, header)
    with torch.device("meta"):
        own = Network(header.network).state_dict()
    # Without the blocks that the adapter's network was cut by.
    state = {name: value for name, value in bundle.network.state_dict().items() if name in own}
    found = frozen_sha256(state, header.network)
    if found != header.base:
        called = f" ({header.base_name})" if header.base_name else ""
        raise ModelError(
            f"{path}: was trained on another base{called}: its frozen tensors hash to {header.base}, those of "
            f"{bundle.provenance.name} to {found}"
        )
    return {name: value for name, value in state.items() if is_frozen(name, header.network)}


def _named_base(path: Path, header: ModelHeader) -> Bundle:
    """The base that an adapter's file names, where that is a name: a file so called could be anything, even itself."""
    called = f"{header.base_name}, " if header.base_name else ""
    needed = (
        f"{path}: is an adapter and needs the model it was trained on ({called}frozen tensors {header.base}); "
        "give it as base (--base)"
    )
    if not header.base_name or Path(header.base_name).is_file():
        raise ModelError(needed)
    try:
        return load(header.base_name)
    except ModelError as error:
        raise ModelError(f"{needed}. Its name was tried: {error}") from error
