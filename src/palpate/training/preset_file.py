"""Presets as YAML: read with the keys of earlier versions, written with a comment beside each setting."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..errors import SettingsError
from ..extras import needed
from .recipe import LENGTHS

HEAD = "A preset of Palpate: train with `palpate train PREPARED --preset THIS_FILE`."
BESIDE = 100  # longest comment that stands beside its setting; longer ones stand above
FLOW = 6  # longest sequence on one line; lists of scans are longer
# Keys of version 0.1.0, by the section that holds them, and what they are called now.
RENAMED: dict[str, dict[str, str]] = {
    "": {"lesion": "target_labels", "prompts": "prompt_sampling"},
    "augmentation": {
        "lesion_share": "target_prob",
        "zoom_share": "zoom_prob",
        "zoom_in_plane_share": "zoom_in_plane_prob",
        "turn_degrees": "rotation_degrees",
        "turn_share": "rotation_prob",
        "quarter_turns": "rotate90_prob",
        "flips": "flip_prob",
        "shift": "translation",
        "intensity_shift_share": "intensity_shift_prob",
        "gain": "contrast",
        "offset": "brightness",
        "resize_share": "resize_prob",
        "hide": "mask_out_prob",
        "fill": "background_paste_prob",
    },
    "prompt_sampling": {
        "lesion": "target_clicks",
        "anywhere": "random_clicks",
        "kinds": "first_prompt_prob",
        "strokes": "stroke_prob",
        "heed": "consistency_weight",
    },
    "recipe": {
        "final_share": "final_lr_fraction",
        "averaging": "ema_decay",
        "stored": "weights_dtype",
        "validations": "num_validations",
    },
}
OLD_SIGNATURE = "# As Palpate wrote it; hash of the lines above: "  # in the last line of earlier versions' presets
RENAMED_PROMPTS = {"prior": "initial mask"}  # kinds of a first prompt


def with_current_keys(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """A preset's mapping with every key that an earlier version wrote replaced by the current one.

    Args:
        content: a preset as plain data, of this version or an earlier one.
        origin: where it was read, for messages.

    Raises:
        SettingsError: a setting that stands there under both its keys.
    """
    preset = _renamed(content, "", origin)
    for section in RENAMED.keys() - {""}:
        if isinstance(preset.get(section), Mapping):
            preset[section] = _renamed(preset[section], section, origin)
    prompts = preset.get("prompt_sampling")
    if isinstance(prompts, dict) and isinstance(prompts.get("first_prompt_prob"), Mapping):
        kinds = prompts["first_prompt_prob"]
        prompts["first_prompt_prob"] = {RENAMED_PROMPTS.get(kind, kind): value for kind, value in kinds.items()}
    return preset


def with_one_length(preset: dict[str, Any]) -> dict[str, Any]:
    """An earlier version's preset, with current keys, without the epochs that it wrote beside steps, which counted."""
    recipe = preset.get("recipe")
    if isinstance(recipe, dict) and recipe.get("steps") is not None:
        return {**preset, "recipe": {key: value for key, value in recipe.items() if key != "epochs"}}
    return preset


def _is_of_0_1_0(content: Mapping[str, Any]) -> bool:
    """Whether any key is one of version 0.1.0."""
    sections = ((RENAMED[""], content), *((names, content.get(new)) for new, names in RENAMED.items() if new))
    return any(isinstance(keys, Mapping) and not names.keys().isdisjoint(keys) for names, keys in sections)


def _renamed(content: Mapping[str, Any], section: str, origin: str) -> dict[str, Any]:
    names = RENAMED[section]
    for old, new in names.items():
        if old in content and new in content:
            raise SettingsError(f"{origin}: {old} is the earlier name of {new}; leave one of them")
    return {names.get(key, key): value for key, value in content.items()}


def parse(text: str, origin: str) -> dict[str, Any]:
    """A preset's text as plain data with the current keys.

    Raises:
        SettingsError: no YAML, no mapping, or a setting under two keys.
    """
    yaml = _ruamel()
    try:
        content = yaml.YAML(typ="safe", pure=True).load(text)
    except yaml.error.YAMLError as error:
        raise SettingsError(f"{origin}: not YAML ({' '.join(str(error).split())[:300]})") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{origin}: a preset is a mapping of settings, not {type(content).__name__}")
    preset = with_current_keys(content, origin)
    return with_one_length(preset) if OLD_SIGNATURE in text or _is_of_0_1_0(content) else preset


def to_yaml(model: BaseModel) -> str:
    """A preset as YAML, each setting with its description as a comment."""
    yaml = _ruamel()
    writer = yaml.YAML(pure=True)
    writer.width = 1 << 16  # a comment's own line is no place for the rest of its value
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    content = _commented(model)
    content.yaml_set_start_comment(HEAD)
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue()


NULL = "tag:yaml.org,2002:null"


def _commented(model: BaseModel, depth: int = 0) -> Any:  # noqa: ANN401 - ruamel's mapping
    """A model's fields as a mapping with their descriptions as comments; `depth` levels below the top."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    mapping = CommentedMap()
    fields = type(model).model_fields
    for name in sorted(fields, key=lambda name: name != "kind"):  # what the others mean depends on the kind
        field, value = fields[name], getattr(model, name)
        if value is None and name in LENGTHS:
            continue  # the other of the two says how long
        if isinstance(value, BaseModel):
            value = _commented(value, depth + 1)
        elif isinstance(value, tuple):
            value = CommentedSeq(value)
            if len(value) <= FLOW:
                value.fa.set_flow_style()
        elif isinstance(value, dict):
            value = CommentedMap(value)
            value.fa.set_flow_style()
        mapping[name] = value
        if field.description and len(field.description) > BESIDE:
            mapping.yaml_set_comment_before_after_key(name, before=field.description, indent=2 * depth)
        elif field.description:
            mapping.yaml_add_eol_comment(field.description, name, column=0)
    return mapping


def _ruamel() -> Any:  # noqa: ANN401 - a module
    with needed("ruamel.yaml", "presets need"):
        import ruamel.yaml
    return ruamel.yaml
