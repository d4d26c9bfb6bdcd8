"""The same weights in a network of another shape: another tuning choice, patch size, more or fewer parts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingsError
from ..model import CUES, TUNINGS, Cue, Network, NetworkConfig, is_adapter
from .model_file import Bundle
from .provenance import Provenance


def with_tuning(bundle: Bundle, tuning: str, seed: int = 0) -> Bundle:
    """The same model with another tuning choice (docs/design/network.md, section 8); the bundle itself is left as is.

    Every tensor that both have is copied. Adapters of another kind are dropped, and new ones drawn from the seed;
    the provenance's changes say so. A network that was trained with its adapters, such as palpate-tiny, loses a
    part of its training with them. "full" therefore keeps adapters, save those of a SAM import, which are untrained,
    and which the choice is compared with. DINOv2's keep theirs: nothing else lets a token see its neighbours along D
    but attention without positions.

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
    if tuning == "full" and bundle.provenance.imported_from != "sam":
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
    changed = ", ".join(f"{count} tensors {what}" for what, count in changes.items() if count)
    provenance = _changed(bundle, f"Tuning {tuning}: {changed}.") if changed else bundle.provenance
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, provenance)


def without_prompt_encoder(bundle: Bundle) -> Bundle:
    """The same model without prompts, to be trained to find lesions by itself (the paper's Table 2).

    The parts that prompts need are dropped, the rest is copied; the provenance's changes say so. Its decoder was
    trained on maps that clicks had changed, so its masks mean nothing before a further training.
    """
    old, before = bundle.network.config, bundle.network.state_dict()
    if old.promptless:
        return bundle
    off = {"promptless": True, "dense_width": 0, "quality_width": 0, "spare_attention": False}
    network = _of_shape(old.model_copy(update=off), before)
    dropped = len(before) - len(network.state_dict())
    provenance = _changed(bundle, f"Made automatic: {dropped} tensors of its prompts were dropped.")
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, provenance)


def with_patch_size(bundle: Bundle, token_voxels: int, seed: int = 0) -> Bundle:
    """The same weights on tokens of another edge: 8 voxels for a crop of 256³, where SAM has 4 for one of 128³.

    The embedding's factors are stored as SAM has them, whatever the enlargement, so no tensor of the encoder changes;
    masks do. A detail path is made for tokens of one edge: where the decoder is untrained, it is drawn anew.

    Args:
        bundle: the model.
        token_voxels: edge of a token.
        seed: what an untrained decoder with a detail path is drawn from.

    Raises:
        SettingsError: a trained network whose detail path is made for its own tokens.
    """
    old = bundle.network.config
    if old.token_voxels == token_voxels:
        return bundle
    if old.detail_width and not bundle.provenance.is_bare_encoder:
        raise SettingsError(
            f"{bundle.provenance.name}: its detail path is made for tokens of {old.token_voxels} voxels; set "
            f"token_voxels to that, or leave it out, instead of {token_voxels}"
        )
    config, state = old.model_copy(update={"token_voxels": token_voxels}), bundle.network.state_dict()
    if old.detail_width:
        state = {name: value for name, value in state.items() if not name.startswith("decoder.")}
    network = _of_shape(config, state, seed)
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, bundle.provenance)


def with_depth(bundle: Bundle, depth: int) -> Bundle:
    """The first blocks of an imported transformer alone; the provenance's changes say so.

    Args:
        bundle: an import of which the image encoder alone is trained.
        depth: blocks, at least 4, since four necks read the tokens of as many blocks.

    Raises:
        SettingsError: a model that was trained since, whose necks would read other blocks than they learned from; or a
            depth that the network cannot have.
    """
    old = bundle.network.config
    if old.depth == depth:
        return bundle
    if not bundle.provenance.is_bare_encoder:
        raise SettingsError(
            f"{bundle.provenance.name}: was trained with {old.depth} blocks, and only an imported transformer can be "
            f"cut to {depth}; leave depth out"
        )
    try:
        config = old.first_blocks(depth)
    except ValueError as error:
        raise SettingsError(f"{bundle.provenance.name}: {error}") from error
    network = _of_shape(config, bundle.network.state_dict())
    provenance = _changed(bundle, f"Cut to the first {depth} of its {old.depth} blocks.")
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, provenance)


def _changed(bundle: Bundle, change: str) -> Provenance:
    return bundle.provenance.model_copy(update={"changes": (*bundle.provenance.changes, change)})


def _of_shape(config: NetworkConfig, state: dict[str, Tensor], seed: int | None = None) -> Network:
    """A network with those of the tensors that it has; all of its own must be among them, but where a seed is given.

    Args:
        config: its shape.
        state: the tensors.
        seed: what tensors that are not among them are drawn from; None: there are none.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        network = Network(config)
    own = network.state_dict()
    kept = {name: state[name] for name in own if seed is None or name in state}
    network.load_state_dict(own | kept, strict=True)
    return network


def with_extra_heads(
    bundle: Bundle,
    *,
    dense: int = 0,
    refiner: int = 0,
    cues: tuple[Cue, ...] = CUES,
    quality: int = 0,
    seed: int = 0,
) -> Bundle:
    """The same model with parts that the paper lacks; its masks stay the same until it is trained further.

    Args:
        bundle: the model; a part that it has already stays as it is.
        dense: channels of the encoder of prompts as maps (`model.dense`); 0: not added.
        refiner: channels of the refiner (`model.refiner`); 0: not added.
        cues: what a new refiner sees beside crop, prompts and mask (`model.cues`).
        quality: hidden width of the head that predicts a mask's quality (`model.quality`); 0: not added.
        seed: what their first layers are drawn from; their last ones are zero.
    """
    old = bundle.network.config
    wanted: dict[str, object] = {"dense_width": old.dense_width or dense, "quality_width": old.quality_width or quality}
    if refiner and not old.refiner_width:
        wanted |= {"refiner_width": refiner, "cues": cues}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(NetworkConfig.model_validate(old.model_dump() | wanted))
    network.load_state_dict(network.state_dict() | bundle.network.state_dict(), strict=True)
    return Bundle(network.train(bundle.network.training), bundle.preprocessing, bundle.provenance)
