"""`palpate info`, `palpate import` and `palpate export`: models and their files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OutputError
from .console import BaseOption, Console, JsonOption, app, described


class Precision(StrEnum):
    """How a model's tensors are stored; they are always loaded as float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@app.command(
    epilog="Examples:\n\n`palpate info palpate-tiny`\n\n`palpate info adapter.safetensors --base sam_vit_b.safetensors`"
)
def info(
    model: Annotated[str, typer.Argument(help="A bundled model's name, or a model's file.")],
    base: BaseOption = None,
    machine: JsonOption = False,
) -> None:
    """Show a model: sizes, parameters, preprocessing, where it came from and what it was measured to do."""
    console = Console(machine)
    with console.reporting():
        with console.step("load", f"loading {model}"):
            from ..bundle import describe, load

            record = describe(load(model, base=base))
        console.result(record, described(record))


@app.command(
    "import",
    epilog="Examples:\n\n`palpate import sam_vit_b_01ec64.pth -o sam_vit_b.safetensors`\n\n"
    "`palpate import best.pth.tar --intensities msd-pancreas -o pancreas.safetensors`",
)
def import_(
    file: Annotated[
        Path, typer.Argument(help="SAM's .pth or the Hub's .safetensors; the 3DSAM-adapter release's .pth.tar.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model's file, ending in .safetensors.")],
    intensities: Annotated[
        str, typer.Option(help="How the model's scans were normalised: kits21, msd-pancreas, lits17, msd-colon.")
    ] = "kits21",
    machine: JsonOption = False,
) -> None:
    """Convert a checkpoint to one Palpate model file; every tensor in it is accounted for."""
    console = Console(machine)
    with console.reporting():
        _check_place(output)
        with console.step("import", f"importing {file}"):
            from ..bundle import describe, import_foreign, paper_preprocessing

            bundle = import_foreign(file, paper_preprocessing(intensities))
            bundle.save(output)
        record = {"model": str(output), **describe(bundle)}
        console.result(record, described(record))


@app.command(
    epilog="Examples:\n\n`palpate export adapter.safetensors --base sam_vit_b.safetensors -o kidney.safetensors`\n\n"
    "`palpate export kidney.safetensors --dtype bfloat16 -o kidney-half.safetensors`"
)
def export(
    model: Annotated[str, typer.Argument(help="An adapter's file; or any model, to store it in another precision.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model's file, ending in .safetensors.")],
    base: BaseOption = None,
    dtype: Annotated[Precision, typer.Option(help="Precision of the stored tensors.")] = Precision.FLOAT32,
    machine: JsonOption = False,
) -> None:
    """Write a model as one file that needs no other: an adapter joined with its base, in the precision asked for."""
    console = Console(machine)
    with console.reporting():
        _check_place(output)
        for source in (Path(model), base):
            if source is not None and source.exists() and output.exists() and output.samefile(source):
                raise OutputError(f"{output}: is what the model is read from; give another --output")
        with console.step("export", f"exporting {model}"):
            import torch

            from ..bundle import describe, load

            bundle = load(model, base=base)
            bundle.save(output, dtype=getattr(torch, dtype.value))
        record = {"model": str(output), "bytes": output.stat().st_size, **describe(bundle)}
        console.result(record, described(record))


def _check_place(output: Path) -> None:
    """Refuse, before any work, a place or a name that no model's file can have."""
    from ..files import check_writable

    check_writable(output)
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: a model's file ends in .safetensors")
