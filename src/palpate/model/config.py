"""Sizes of the network, in one place."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Cue = Literal["geodesic", "intensity"]
CUES: tuple[Cue, ...] = ("geodesic", "intensity")
MIN_DEPTH = 4  # blocks: each of four necks reads another one's tokens


class NetworkConfig(BaseModel):
    """Everything that decides the network's shape; a model's file holds one of these.

    The defaults are the release's vit_b (arXiv 2306.13465, section 3; SAM's ViT-B).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transformer: Literal["sam", "dinov2"] = Field(
        "sam", description="whose image transformer the encoder lifts to volumes (docs/design/network.md, section 10)"
    )
    width: int = Field(768, description="channels of a token, C")
    depth: int = Field(12, description="transformer blocks; a neck reads the tokens after each quarter of them")
    heads: int = Field(12, description="attention heads of a block")
    mlp_ratio: int = Field(4, description="hidden width of a block's MLP, over C")
    adapter: Literal["spatial", "bottleneck", "st", "lora", "none"] = Field(
        "spatial", description="what a block has beside SAM's own layers (docs/design/network.md, section 8)"
    )
    tuned: Literal["adapter", "all"] = Field(
        "adapter", description="what a cohort changes: the adapters and the parts that SAM lacks, or every parameter"
    )
    adapter_ratio: float = Field(
        0.5, description="inner width of a spatial or an ST adapter, over C (both papers': 384 of 768)"
    )
    bottleneck_width: int = Field(
        64, gt=0, description="inner width of a bottleneck adapter (Houlsby et al. 2019: 64 where one fits all)"
    )
    lora_rank: int = Field(4, gt=0, description="rank r of LoRA's updates (Hu et al. 2021: 4 for GPT-2's q and v)")
    token_voxels: int = Field(
        4, description="edge of a token, voxels; the crop is enlarged so that they fill the transformer's patch"
    )
    window: int = Field(8, description="edge of an attention window, tokens; every other block shifts it by half")
    position_grid: int = Field(64, description="edge of the stored in-plane position table, tokens (SAM: 64)")
    depth_grid: int = Field(32, description="length of the stored position table along D, tokens")
    window_rows: int = Field(27, description="rows of a windowed block's stored relative position tables (SAM: 27)")
    global_rows: int = Field(127, description="rows of the tables of SAM's global blocks")
    global_blocks: tuple[int, ...] = Field((2, 5, 8, 11), description="SAM's global blocks; they attend in windows too")
    neck_width: int = Field(256, description="channels of the four feature maps")
    promptless: bool = Field(
        False,
        description="no prompt encoder: the deepest map goes to the decoder as it is (the paper's automatic variant, "
        "Table 2)",
    )
    queries: int = Field(10, description="learned global queries of a prompt layer")
    prompt_layers: int = Field(2, description="layers of the prompt encoder")
    prompt_heads: int = Field(8, description="attention heads of the prompt encoder")
    prompt_mlp: int = Field(2048, description="hidden width of the prompt encoder's MLP")
    decoder_width: int = Field(128, description="channels of the mask decoder")
    detail_width: int = Field(
        0,
        description="channels of a slim convolutional pyramid from the crop's own resolution to the decoder's grid and "
        "back; 0: none, as in the paper",
    )
    dense_width: int = Field(
        0,
        ge=0,
        description="channels of the dense prompt encoder, with which come labels of prompts (negative clicks, boxes) "
        "and the initial mask; 0: none, positive clicks only, as in the paper",
    )
    refiner_width: int = Field(
        0,
        ge=0,
        description="channels, at the crop's resolution, of the refiner, which sees crop, prompts and the decoder's "
        "mask together; 0: none, as in the paper",
    )
    cues: tuple[Cue, ...] = Field(
        CUES,
        description="what the refiner sees beside crop, prompts and mask: geodesic distance from the prompts, and "
        "intensity relative to the prompts' own",
    )
    quality_width: int = Field(
        0,
        ge=0,
        description="hidden width of the head that predicts a mask's intersection over union; 0: none, as in the paper",
    )
    spare_attention: bool = Field(
        True, description="hold the release's stored but unused token-to-image attention, so that its files load"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.depth < MIN_DEPTH:
            raise ValueError(f"depth {self.depth} must be at least {MIN_DEPTH}: four necks read as many blocks' tokens")
        if 16 % self.token_voxels:
            raise ValueError(f"token_voxels must divide 16, not {self.token_voxels}")
        if self.window % 2:
            raise ValueError(f"window must be even, since every other block shifts by half of it, not {self.window}")
        if self.position_grid % self.depth_grid:
            raise ValueError(f"position_grid {self.position_grid} must be a multiple of depth_grid {self.depth_grid}")
        if self.neck_width % (2 * self.prompt_heads):
            raise ValueError(f"neck_width {self.neck_width} must be a multiple of 2 x prompt_heads {self.prompt_heads}")
        if any(not 0 <= block < self.depth for block in self.global_blocks):
            raise ValueError(f"global_blocks {self.global_blocks} must name blocks 0 to {self.depth - 1}")
        if self.refiner_width and not self.dense_width:
            raise ValueError("a refiner sees prompts as maps: refiner_width needs a dense_width above 0")
        parts = ("dense_width", "refiner_width", "quality_width", "spare_attention")
        of_prompts = {name: getattr(self, name) for name in parts}
        wrong = [f"{name} {value}" for name, value in of_prompts.items() if value]
        if self.promptless and wrong:
            raise ValueError(f"a promptless network has none of a prompt's parts: {', '.join(wrong)} must be off")
        return self

    @property
    def has_frozen(self) -> bool:
        """Whether anything stays as it is while a cohort is learned, so that an adapter-only file makes sense."""
        return self.tuned != "all"

    @property
    def neck_blocks(self) -> tuple[int, ...]:
        """The blocks, counted from 0, whose tokens the four necks read: those in which a quarter of the depth ends."""
        return tuple(-(-quarter * self.depth // 4) - 1 for quarter in (1, 2, 3, 4))

    @property
    def patch(self) -> int:
        """Edge of the transformer's patch, in voxels of the enlarged crop."""
        return 14 if self.transformer == "dinov2" else 16

    @property
    def patch_channels(self) -> int:
        """Channels of the stored patch embedding, which are summed: SAM's three colours, or one for all of them."""
        return 1 if self.transformer == "dinov2" else 3

    def first_blocks(self, depth: int) -> Self:
        """The shape with its first `depth` blocks alone.

        Raises:
            ValueError: more blocks than there are, or fewer than four.
        """
        if not MIN_DEPTH <= depth <= self.depth:
            raise ValueError(f"depth {depth}: choose {MIN_DEPTH} to {self.depth}; the network has {self.depth} blocks")
        kept = tuple(block for block in self.global_blocks if block < depth)
        return self.model_validate(self.model_dump() | {"depth": depth, "global_blocks": kept})


SIZES: dict[str, NetworkConfig] = {
    "vit_b": NetworkConfig(),
    "vit_l": NetworkConfig(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "vit_h": NetworkConfig(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    "tiny": NetworkConfig(
        width=192,
        depth=8,
        heads=6,
        token_voxels=8,
        position_grid=8,
        depth_grid=8,
        window_rows=15,
        global_blocks=(),
        neck_width=64,
        prompt_mlp=256,
        decoder_width=32,
        detail_width=8,
        spare_attention=False,
    ),
    "dinov2_s": NetworkConfig(
        transformer="dinov2",
        width=384,
        depth=12,
        heads=6,
        token_voxels=8,
        position_grid=37,
        depth_grid=37,
        window_rows=15,
        global_blocks=(),
        neck_width=64,
        prompt_mlp=256,
        decoder_width=32,
        detail_width=8,
        spare_attention=False,
    ),
    "dinov2_b": NetworkConfig(
        transformer="dinov2",
        position_grid=37,
        depth_grid=37,
        window_rows=15,
        global_blocks=(),
        spare_attention=False,
    ),
    "dinov2_l": NetworkConfig(
        transformer="dinov2",
        width=1024,
        depth=24,
        heads=16,
        position_grid=37,
        depth_grid=37,
        window_rows=15,
        global_blocks=(),
        spare_attention=False,
    ),
}
"""The sizes by name: SAM's three, one meant for CPUs, and DINOv2's three, whose small one is meant for CPUs too."""
