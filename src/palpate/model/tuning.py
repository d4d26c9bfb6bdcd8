"""Which parameters a cohort changes: the tuning choices (docs/design/network.md, sections 4 and 8)."""

from __future__ import annotations

from .config import NetworkConfig

TUNINGS: dict[str, dict[str, str]] = {
    "spatial": {"adapter": "spatial", "tuned": "adapter"},
    "frozen": {"adapter": "none", "tuned": "adapter"},
    "full": {"adapter": "none", "tuned": "all"},
    "bottleneck": {"adapter": "bottleneck", "tuned": "adapter"},
    "st": {"adapter": "st", "tuned": "adapter"},
    "lora": {"adapter": "lora", "tuned": "adapter"},
}
"""The choices by name, each as the fields of a `NetworkConfig` that it sets."""

ADAPTERS = (".adapter.", ".attn_adapter.", ".mlp_adapter.", ".attn.lora.")
PRETRAINED_OUTSIDE_BLOCKS = ("encoder.pos_embed", "encoder.embedding.patch_")
PRETRAINED_IN_A_BLOCK = (".norm1.", ".attn.qkv.", ".attn.proj.", ".attn.rel_pos_", ".norm2.", ".mlp.")
# Of a pretrained block's layers, what learns beside each adapter. Houlsby et al. tune the norms too; ST-Adapter and
# LoRA leave them.
FREED = {
    "spatial": (".norm1.", ".norm2."),
    "bottleneck": (".norm1.", ".norm2."),
    "st": (),
    "lora": (),
    "none": (),
}
# Relative positions that the pretrained transformer lacks: they learn wherever a block learns at all.
FRESH_TABLES = {
    "sam": (".attn.rel_pos_d",),
    "dinov2": (".attn.rel_pos_h", ".attn.rel_pos_w", ".attn.rel_pos_d"),
}


def tuning_of(config: NetworkConfig) -> str:
    """The tuning choice by its name: "full" wherever every parameter is tuned, whatever adapters there are."""
    if not config.has_frozen:
        return "full"
    return next(name for name, choice in TUNINGS.items() if choice == {"adapter": config.adapter, "tuned": "adapter"})


def is_frozen(name: str, config: NetworkConfig) -> bool:
    """Whether a parameter stays as it is while a cohort is learned.

    An adapter is never frozen, not even one of a kind that `config` lacks: so the same names are frozen in any
    network that can serve as this one's base.
    """
    if not config.has_frozen:
        return False
    if name.startswith(PRETRAINED_OUTSIDE_BLOCKS):
        return True
    fresh = FRESH_TABLES[config.transformer] if config.adapter != "none" else ()
    pretrained = name.startswith("encoder.blocks.") and any(part in name for part in PRETRAINED_IN_A_BLOCK)
    return pretrained and not any(part in name for part in (*FREED[config.adapter], *fresh))


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter, of whatever kind."""
    return name.startswith("encoder.blocks.") and any(part in name for part in ADAPTERS)


def is_unused(name: str) -> bool:
    """Whether a parameter is stored for the release's sake and never computed with."""
    return ".cross_attn_token_to_image." in name
