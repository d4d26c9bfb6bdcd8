"""A model as one file: safetensors, with its shape, preprocessing and provenance in the header.

Two kinds of file: a full model, and an adapter that holds what was trained and names its base by a
SHA-256 over the base's frozen tensors. What is frozen follows from the adapter's own tuning choice, so
its base may have adapters of another kind, or none. Nothing here unpickles.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import weights
from .checkpoints import import_checkpoint
from .errors import ModelError, SettingsError
from .files import replacing
from .frame import ClipZScore, Preprocessing
from .model import TUNINGS, Network, NetworkConfig, is_adapter, is_frozen, is_unused, tuning_of

FORMAT = 1
BUNDLED = ("palpate-tiny",)
# Clip (HU), mean and deviation of the paper's data sets (section 4.1); the release's files do not say which is theirs.
PAPER_INTENSITIES = {
    "kits21": ClipZScore(low=-54, high=247, mean=59.53867, std=55.457336),
    "msd-pancreas": ClipZScore(low=-39, high=204, mean=68.45214, std=63.422806),
    "lits17": ClipZScore(low=-48, high=163, mean=60.057533, std=40.198017),
    "msd-colon": ClipZScore(low=-57, high=175, mean=65.175035, std=32.651197),
}


class Provenance(BaseModel):
    """Where a model came from, for `palpate info` and for whoever has to answer for a result.

    Attributes are free text where people read them, and numbers where they compare them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(description="what the model calls itself")
    origin: str = Field(description="what it was made from: an imported file's kind, or the training command")
    licence: str = Field("", description="licence of the weights")
    data: tuple[str, ...] = Field((), description="data it was trained on, each with its licence and source")
    figures: dict[str, Any] = Field({}, description="held-out figures, with how they were measured")
    recipe: dict[str, Any] = Field({}, description="settings of the training that repeat it")
    notice: str = Field("", description="what a user must know before use")


class Calibration(BaseModel):
    """How the network's own words about its certainty are to be read, as held-out patients showed.

    Fitted on validation patients when a training ends; a model without is taken at its word. No mask depends on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    temperature: float = Field(1.0, gt=0, description="divides the logit of a voxel's probability (Guo et al. 2017)")
    quality_slope: float = Field(1.0, ge=0, description="multiplies the logit of the expected IoU (Platt 1999)")
    quality_offset: float = Field(0.0, description="is added to it")
    measured: dict[str, Any] = Field({}, description="on which scans, and how far off it was before and after")


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: int
    kind: Literal["full", "adapter"]
    network: NetworkConfig
    preprocessing: Preprocessing
    provenance: Provenance
    confidence: Calibration = Calibration()  # so called in files, which earlier versions wrote
    base: str | None = None
    base_name: str | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A network with all that is needed to use it rightly.

    Attributes:
        network: the network, in float32, on the CPU when loaded.
        preprocessing: how it wants to see a scan.
        provenance: where it came from.
        calibration: how its certainty is to be read.
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
        header = _Header(
            format=FORMAT,
            kind="adapter" if adapter_only else "full",
            network=config,
            preprocessing=self.preprocessing,
            provenance=self.provenance,
            confidence=self.calibration,
            base=frozen_sha256(state, config) if adapter_only else None,
            base_name=base_name if adapter_only else None,
        )
        kept = {k: v for k, v in state.items() if not (adapter_only and is_frozen(k, config))}
        tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in kept.items()}
        with replacing(path) as (staged,):
            try:
                save_file(tensors, staged, metadata={"palpate": header.model_dump_json()})
            except SafetensorError as error:
                raise OSError(str(error)) from error

    def sha256(self) -> str:
        """A hash of what its masks come from: tensors, the network's shape and preprocessing; not of its provenance."""
        # Without defaults: a setting that a later version adds does not make this another model.
        said = [part.model_dump_json(exclude_defaults=True) for part in (self.network.config, self.preprocessing)]
        return _sha256(self.network.state_dict(), "".join(said))

    def answers_sha256(self) -> str:
        """A hash of what all its answers come from: the masks', and how its words about certainty are read."""
        read = self.calibration.model_dump_json(exclude={"measured"}, exclude_defaults=True)
        return hashlib.sha256(f"{self.sha256()}{read}".encode()).hexdigest()


def frozen_sha256(state: dict[str, Tensor], config: NetworkConfig) -> str:
    """A hash of the tensors that `config` freezes: sorted names, shapes and float32 values, whatever file held them."""
    return _sha256({name: value for name, value in state.items() if is_frozen(name, config)})


def _sha256(state: dict[str, Tensor], before: str = "") -> str:
    digest = hashlib.sha256(before.encode())
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}:{tuple(value.shape)}:".encode())
        digest.update(value.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


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
        return _fetched(str(model))
    path = _locate(model)
    header, tensors = _read(path)
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


def with_tuning(bundle: Bundle, tuning: str, seed: int = 0) -> Bundle:
    """The same model with another tuning choice (docs/network.md, section 8); the bundle itself is left as it was.

    Every tensor that both have is copied. Adapters of another kind are dropped, and new ones drawn from the seed;
    the provenance's notice says so. A network that was trained with its adapters, such as palpate-tiny, loses with
    them what they had learned. "full" therefore keeps adapters, save those of a SAM import, which are untrained.

    Args:
        bundle: the model to start from.
        tuning: one of `model.TUNINGS`.
        seed: what fresh adapters are drawn from.

    Raises:
        SettingsError: no such tuning choice.
    """
    if tuning not in TUNINGS:
        raise SettingsError(f"no tuning choice {tuning!r}; there are {', '.join(TUNINGS)}")
    old, before = bundle.network.config, bundle.network.state_dict()
    config = old.model_copy(update=TUNINGS[tuning])
    if tuning == "full" and not bundle.provenance.origin.startswith("imported from a sam"):
        config = config.model_copy(update={"adapter": old.adapter})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(config)
    fresh = network.state_dict()
    same_kind = config.adapter == old.adapter
    kept = {name: value for name, value in before.items() if same_kind or not is_adapter(name)}
    network.load_state_dict(fresh | kept, strict=True)
    changes = {f"of its {old.adapter} adapters were dropped": len(before) - len(kept)}
    changes[f"of {config.adapter} adapters start fresh"] = len(fresh) - len(kept)
    told = ", ".join(f"{count} tensors {what}" for what, count in changes.items() if count)
    notice = f"{bundle.provenance.notice} Retuned as {tuning}: {told}.".strip() if told else bundle.provenance.notice
    provenance = bundle.provenance.model_copy(update={"notice": notice})
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, provenance)


def without_prompt_encoder(bundle: Bundle) -> Bundle:
    """The same model without prompts, to be trained to find lesions by itself (the paper's Table 2).

    The parts that prompts need are dropped, the rest is copied; the provenance's notice says so. Its decoder has
    learned to read a map that clicks have changed: before training, what it draws means nothing.
    """
    old, before = bundle.network.config, bundle.network.state_dict()
    if old.promptless:
        return bundle
    off = {"promptless": True, "dense_width": 0, "quality_width": 0, "spare_attention": False}
    network = _of_shape(old.model_copy(update=off), before)
    dropped = len(before) - len(network.state_dict())
    notice = f"{bundle.provenance.notice} Made automatic: {dropped} tensors of its prompts were dropped.".strip()
    provenance = bundle.provenance.model_copy(update={"notice": notice})
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, provenance)


def with_patch_size(bundle: Bundle, token_voxels: int) -> Bundle:
    """The same weights on tokens of another edge: 8 voxels for a crop of 256³, where SAM has 4 for one of 128³.

    The embedding's factors are stored as SAM has them, whatever the enlargement, so no tensor changes; masks do.

    Raises:
        SettingsError: a network whose detail path is made for its own tokens.
    """
    old = bundle.network.config
    if old.token_voxels == token_voxels:
        return bundle
    if old.detail_width:
        raise SettingsError(
            f"{bundle.provenance.name}: its detail path is made for tokens of {old.token_voxels} voxels; set "
            f"token_voxels to that, or leave it out, instead of {token_voxels}"
        )
    network = _of_shape(old.model_copy(update={"token_voxels": token_voxels}), bundle.network.state_dict())
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, bundle.provenance)


def _of_shape(config: NetworkConfig, state: dict[str, Tensor]) -> Network:
    """A network with those of the tensors that it has; all of its own must be among them."""
    with torch.random.fork_rng(devices=[]):
        network = Network(config)
    network.load_state_dict({name: state[name] for name in network.state_dict()}, strict=True)
    return network


def with_extra_heads(bundle: Bundle, dense: int = 0, quality: int = 0, seed: int = 0) -> Bundle:
    """The same model with parts that the paper lacks: its masks stay what they were, and can be trained to be more.

    Args:
        bundle: the model; a part that it has already stays as it is.
        dense: channels of the encoder of prompts as maps (`model.dense`); 0: not added.
        quality: hidden width of the head that predicts a mask's quality (`model.quality`); 0: not added.
        seed: what their first layers are drawn from; their last ones are zero.
    """
    old = bundle.network.config
    wanted = {"dense_width": old.dense_width or dense, "quality_width": old.quality_width or quality}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(old.model_copy(update=wanted))
    network.load_state_dict(network.state_dict() | bundle.network.state_dict(), strict=True)
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, bundle.provenance)


def paper_preprocessing(data_set: str = "kits21") -> Preprocessing:
    """The paper's 128³ crop at 1 mm, with the intensities of one of its data sets.

    Raises:
        ModelError: no such data set.
    """
    if data_set not in PAPER_INTENSITIES:
        raise ModelError(f"no intensities called {data_set!r}; there are {', '.join(PAPER_INTENSITIES)}")
    return Preprocessing(crop=(128, 128, 128), spacing=(1.0, 1.0, 1.0), normalisation=PAPER_INTENSITIES[data_set])


def describe(bundle: Bundle) -> dict[str, Any]:
    """What `palpate info` shows: sizes, parameters, preprocessing, provenance; plain data."""
    config, parameters = bundle.network.config, dict(bundle.network.named_parameters())
    tuned = {name: p.numel() for name, p in bundle.network.named_tuned()}
    return {
        "name": bundle.provenance.name,
        "tuning": tuning_of(config),
        "parameters": {
            "all": sum(p.numel() for p in parameters.values()),
            "tuned by a cohort": sum(tuned.values()),
            "of these stored but unused": sum(n for name, n in tuned.items() if is_unused(name)),
        },
        "network": config.model_dump(mode="json"),
        "preprocessing": bundle.preprocessing.model_dump(mode="json"),
        "calibration": bundle.calibration.model_dump(mode="json"),
        "provenance": bundle.provenance.model_dump(mode="json", exclude={"name"}),
        "frozen tensors (SHA-256)": frozen_sha256(bundle.network.state_dict(), config) if config.has_frozen else None,
    }


def import_foreign(path: str | Path, preprocessing: Preprocessing | None = None) -> Bundle:
    """SAM's, MedSAM's or the release's checkpoint as a Palpate model.

    Args:
        path: the `.pth`, `.safetensors` (the Hub's `SamModel` layout) or `.pth.tar` file.
        preprocessing: what the model expects, since such files do not say; the paper's for kidney tumours by default.

    Raises:
        ModelError: see `checkpoints.import_checkpoint`.
    """
    config, state, kind = import_checkpoint(path)
    network = Network(config)
    network.load_state_dict(state, strict=True)
    fresh = (
        ""
        if kind == "release"
        else (
            "Only SAM's image encoder was imported: adapters, prompt encoder and decoder are untrained, "
            "so its masks mean nothing until it is trained on a cohort. "
        )
    )
    provenance = Provenance(
        name=Path(path).name,
        origin=f"imported from a {kind} checkpoint",
        licence="Apache-2.0 (SAM's weights)" if kind != "release" else "none given by the release",
        notice=fresh + "Not a medical device.",
    )
    return Bundle(network.eval(), preprocessing or paper_preprocessing(), provenance)


def _fetched(name: str) -> Bundle:
    """A model of the table of weights, from the user's cache; its adapters are untrained, as `import_foreign` says."""
    asset = weights.find(name)
    if asset.kind != "weights":
        raise ModelError(f"{name}: is a cohort, not a model")
    path = weights.cached(name)
    if path is None:
        raise ModelError(f"{name} is not here yet: run `palpate fetch {name}` first. {weights.needed(asset)}")
    bundle = import_foreign(path)
    made = bundle.provenance.origin if asset.title == "SAM" else f"{bundle.provenance.origin} ({asset.title})"
    said = {"name": name, "origin": made, "licence": f"{asset.licence} ({asset.title}'s weights)"}
    return replace(bundle, provenance=bundle.provenance.model_copy(update=said))


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
        raise ModelError(f"{path}: is a folder, not a model's file")
    return path


def is_model(path: Path) -> bool:
    """Whether a file is a Palpate model, by its header."""
    try:
        with safe_open(path, framework="pt") as file:
            return "palpate" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    foreign = f"{path}: not a Palpate model. SAM's and the release's checkpoints: `palpate import {path.name} -o MODEL`"
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
        return _Header.model_validate_json(text), tensors
    except (ValidationError, ValueError, AttributeError) as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines())[:400]
        raise ModelError(f"{path}: its header does not describe a model: {reason}") from error


def _frozen_part(path: Path, header: _Header, base: str | Path | Bundle | None) -> dict[str, Tensor]:
    given = base if base is None or isinstance(base, Bundle) else load(base)
    bundle = given or _named_base(path, header)
    state = bundle.network.state_dict()
    found = frozen_sha256(state, header.network)
    if found != header.base:
        called = f" ({header.base_name})" if header.base_name else ""
        raise ModelError(
            f"{path}: was trained on another base{called}: its frozen tensors hash to {header.base}, those of "
            f"{bundle.provenance.name} to {found}"
        )
    return {name: value for name, value in state.items() if is_frozen(name, header.network)}


def _named_base(path: Path, header: _Header) -> Bundle:
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
        raise ModelError(f"{needed}. Looked for by its name: {error}") from error
