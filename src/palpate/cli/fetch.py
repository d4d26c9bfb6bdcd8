"""`palpate fetch`: weights and cohorts that others publish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ModelError, PalpateError
from .completion import complete_assets
from .console import Console, app
from .verbs import verb

if TYPE_CHECKING:
    from ..weights import Asset, Fetched
    from ..weights.http import DownloadProgress


@verb(
    app,
    examples=(
        "palpate fetch sam_vit_b",
        "palpate fetch sam_vit_b --source official",
        "palpate fetch dinov2_vits14",
        "palpate fetch medsam hippocampus --folder /data/palpate",
        "palpate fetch --list",
    ),
)
def fetch(
    console: Console,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="sam_vit_b, sam_vit_l, sam_vit_h, medsam, dinov2_vits14, dinov2_vitb14, dinov2_vitl14, hippocampus; "
            "see --list.",
            autocompletion=complete_assets,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="hub (Hugging Face) or official (the makers' address); default: hub, then official."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep it here, instead of in PALPATE_HOME or the user's cache folder.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show what there is, and what is here already.")] = False,
) -> None:
    """Download weights and cohorts, or check those put there by hand; resumes, verifies, keeps them."""
    from .. import weights

    if listing:
        rows = [_row(asset, folder) for asset in weights.ASSETS.values()]
        console.result({"home": str(folder or weights.home()), "assets": rows}, _table(rows))
        return
    if not names:
        raise ModelError(f"what should be fetched? There are {', '.join(weights.ASSETS)}")
    records = []
    for asset in [weights.find(name) for name in names]:  # an unknown name is an error before any download
        began = time.perf_counter()
        with _bar(console, asset.name) as progress:
            found = weights.fetch(asset, source=source, folder=folder, progress=progress, warn=console.warn)
        console.seconds[asset.name] = time.perf_counter() - began
        records.append(_record(asset, found))
    console.result({"fetched": records}, [line for record in records for line in _lines(record)])


def _record(asset: Asset, found: Fetched) -> dict[str, Any]:
    return {
        "name": asset.name,
        "path": str(found.path),
        "bytes": found.bytes,
        "sha256": found.sha256,
        "verified": found.verified,
        "source": found.source,
        "licence": asset.licence,
    }


def _lines(record: dict[str, Any]) -> list[str]:
    size = f" ({record['bytes']:,} bytes)" if record["bytes"] else ""
    state = "verified against the published hash" if record["verified"] else "unverified: no published hash"
    source = {"hub": "from the Hugging Face Hub", "official": "from its official address"}.get(record["source"])
    return [
        f"{record['name']}: {record['path']}{size}",
        f"  SHA-256 {record['sha256'] or 'unknown'}, {state}",
        f"  {source or 'put there by hand'}; licence {record['licence']}",
    ]


def _row(asset: Asset, folder: Path | None) -> dict[str, Any]:
    from ..weights import find_local

    try:
        found, wrong = find_local(asset, folder=folder), None
    except PalpateError as error:
        found, wrong = None, str(error)
    return {
        "name": asset.name,
        "about": asset.about,
        "licence": asset.licence,
        "path": str(found.path) if found else None,
        "verified": found.verified if found else None,
        "wrong": wrong,
        "sources": [{"kind": s.kind, "url": s.url, "bytes": s.bytes, "sha256": s.sha256} for s in asset.sources],
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        state = row["wrong"] or "not here"
        if row["path"]:
            state = f"{'verified' if row['verified'] else 'unverified'}, {row['path']}"
        lines.append(f"{row['name']}: {row['about']} ({row['licence']})")
        lines.append(f"  {state}")
        lines += [f"  {source['kind']}: {source['url']}" for source in row["sources"]]
    return lines


@contextmanager
def _bar(console: Console, name: str) -> Iterator[DownloadProgress | None]:
    """A bar with bytes, speed and time left, on a terminal."""
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    if not console.live:
        yield None
        return
    columns = (TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)
