"""`palpate phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import Console, app
from .outputs import OverwriteOption, check_replaced
from .verbs import verb


@verb(app, examples=("palpate phantom demo/", "palpate phantom demo/ --site lung --diameter 20 --seed 3"))
def phantom(
    console: Console,
    folder: Annotated[Path, typer.Argument(help="Where to write synthetic_scan.nii.gz and synthetic_lesion.nii.gz.")],
    seed: Annotated[int, typer.Option(help="Another seed, another body and lesion.")] = 0,
    site: Annotated[str, typer.Option(help="Where the lesion grows: liver, lung or kidney.")] = "liver",
    diameter: Annotated[float, typer.Option(help="The lesion's diameter, mm.")] = 28.0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a synthetic CT-like scan with a lesion and its exact mask; say where to click."""
    from ..phantom import phantom_files

    check_replaced(overwrite, *phantom_files(folder))
    with console.step("phantom", "building a synthetic scan"):
        from ..phantom import make_phantom, write_phantom

        made = make_phantom(seed=seed, site=site, lesion_diameter_mm=diameter)  # type: ignore[arg-type]
        scan, lesion = write_phantom(made, folder)
    where = ",".join(map(str, made.click.index))
    record = {"scan": str(scan), "lesion": str(lesion), "click": list(made.click.index), "synthetic": True}
    console.result(
        record,
        [f"synthetic scan {scan}, its lesion {lesion} ({made.lesion.volume_ml:.2f} mL)", f"click it at {where}"],
    )
