"""`palpate info`, `palpate import` and `palpate export`: models and their files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OutputError
from .completion import complete_model
from .console import Console, app
from .inference import BaseOption
from .model_summary import described, summary
from .outputs import OverwriteOption
from .verbs import verb


class StoredPrecision(StrEnum):
    """How a model's tensors are stored; they are always loaded as float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@verb(
    app, examples=("palpate info palpate-tiny", "palpate info adapter.safetensors --base sam_vit_b.safetensors --all")
)
def info(
    console: Console,
    model: Annotated[
        str, typer.Argument(help="A bundled model's name, or a model's file.", autocompletion=complete_model)
    ],
    base: BaseOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything in its file: shape, calibration, recipe, every figure.")
    ] = False,
) -> None:
    """Show a model: its size, the prompts it takes, where it came from and what it was measured to do."""
    with console.step("load", f"loading {model}"):
        from ..bundle import describe, load

        record = describe(load(model, base=base))
    if everything:
        console.result(record, described(record))
    else:
        console.result(record, [*summary(record), f"all of it: palpate info {model} --all"])


@verb(
    app,
    "import",
    examples=(
        "palpate import sam_vit_b_01ec64.pth -o sam_vit_b.safetensors",
        "palpate import best.pth.tar --intensities msd-pancreas -o pancreas.safetensors",
        "palpate import dinov2_vits14_pretrain.pth --origin 'Meta, 2026-11-27' -o dinov2_s.safetensors",
    ),
)
def import_(
    console: Console,
    file: Annotated[
        Path,
        typer.Argument(help="SAM's or DINOv2's .pth or the Hub's .safetensors; the 3DSAM-adapter release's .pth.tar."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model's file, ending in .safetensors.")],
    intensities: Annotated[
        str, typer.Option(help="How the model's scans were normalised: kits21, msd-pancreas, lits17, msd-colon.")
    ] = "kits21",
    origin: Annotated[str, typer.Option(help="Where the file came from, in words, for the model's provenance.")] = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Convert a checkpoint to one Palpate model file; every tensor in it is accounted for."""
    _check_place(output, overwrite)
    with console.step("import", f"importing {file}"):
        from ..bundle import describe, import_foreign, paper_preprocessing

        bundle = import_foreign(file, paper_preprocessing(intensities), origin)
        bundle.save(output)
    record = {"model": str(output), "bytes": output.stat().st_size, **describe(bundle)}
    console.result(record, _written(record))


@verb(
    app,
    examples=(
        "palpate export adapter.safetensors --base sam_vit_b.safetensors -o kidney.safetensors",
        "palpate export kidney.safetensors --dtype bfloat16 -o kidney-half.safetensors",
    ),
)
def export(
    console: Console,
    model: Annotated[
        str,
        typer.Argument(
            help="An adapter's file; or any model, to store it in another precision.", autocompletion=complete_model
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model's file, ending in .safetensors.")],
    base: BaseOption = None,
    dtype: Annotated[StoredPrecision, typer.Option(help="Precision of the stored tensors.")] = StoredPrecision.FLOAT32,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model as one file that needs no other: an adapter joined with its base, in the precision asked for."""
    _check_place(output, overwrite)
    for source in (Path(model), base):
        if source is not None and source.exists() and output.exists() and output.samefile(source):
            raise OutputError(f"{output}: is what the model is read from; give another --output")
    with console.step("export", f"exporting {model}"):
        import torch

        from ..bundle import describe, load

        bundle = load(model, base=base)
        bundle.save(output, dtype=getattr(torch, dtype.value))
    record = {"model": str(output), "bytes": output.stat().st_size, **describe(bundle)}
    console.result(record, _written(record))


def _written(record: dict[str, Any]) -> list[str]:
    """Where a model was written, what it is, and how to learn more."""
    return [
        f"{record['model']}: {record['bytes'] / 1e6:,.1f} MB",
        f"{record['name']}, {record['parameters']['all']:,} parameters, tuning {record['tuning']}",
        f"more: palpate info {record['model']}",
    ]


def _check_place(output: Path, overwrite: bool) -> None:
    """Refuse, before any work, a place or a name that no model's file can have, and one that holds another file."""
    from ..bundle import is_model
    from ..files import check_writable

    check_writable(output)
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: a model's file ends in .safetensors")
    if output.exists() and not overwrite and not is_model(output):
        raise OutputError(
            f"{output} exists, and is not a Palpate model; give --overwrite to replace it, or name another"
        )
