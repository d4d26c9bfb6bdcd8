"""`palpate session picture`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SessionError
from .outputs import OverwriteOption, PictureDisplay, PictureDisplayOptions, check_outputs, check_replaced
from .session_command import SessionCommand, SessionOptions, lesion_called, session_verb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..lesions import LesionRecord
    from ..masks import Mask
    from ..session import Lesion, SessionStore
    from ..volume import Volume


@session_verb("picture", "-o lesions.png", "liver1 -o liver1.png", "liver1 -o liver1.png --unit SUV", scan=False)
def picture(
    command: SessionOptions,
    lesion: Annotated[
        str | None, typer.Argument(help="A lesion's name, or its number; without it, all are drawn in colours.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png, .jpg, .pdf or .svg.")],
    display: PictureDisplayOptions,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw one lesion with its prompts, or all lesions; the session is only read.

    The scan is read from where it was, or from --scan. The model is loaded only where a mask is not in the session's
    cache.
    """
    from ..export import identify_scan
    from ..pictures import save_picture
    from ..session import SessionStore
    from ..session.session import check_scan

    check_outputs((), output, None)
    store = SessionStore.open(command.folder, read_only=True)
    chosen = store.lesions if lesion is None else (store.lesion(lesion_called(store, lesion)),)
    if not chosen:
        raise SessionError(f"{command.folder}: has no lesion to draw; add one first")
    command = replace(command, scan=_scan(command, store))
    assert command.scan is not None
    volume = command.console.read(command.scan, command.series)
    check_scan(command.folder, store.header.scan, identify_scan(volume))
    check_outputs((), output, None, volume)
    check_replaced(overwrite, picture=output)
    records = _records(command, store, chosen)
    with command.console.step("draw", f"drawing {output}"):
        save_picture(_figure(volume, records, display, store), output)
    drawn = [f"{record.number} {record.name}" for record in records]
    facts = {"session": str(command.folder), "scan": str(command.scan), "picture": str(output), "lesions": drawn}
    command.console.result(facts, [f"{output}: {', '.join(drawn)}"])


def _scan(command: SessionCommand, store: SessionStore) -> Path:
    """The scan's path: the option's, else where the session's scan was read from.

    A relative path counts from the current folder, else from the folder that the session's lies in.

    Raises:
        SessionError: there is nothing any more; the message names the places.
    """
    if command.scan is not None:
        return command.scan
    known = store.header.scan.path
    if known is None:
        raise SessionError(f"{command.folder}: its scan was in memory; give it with --scan")
    places = list(dict.fromkeys((Path(known).absolute(), command.folder.resolve().parent / known)))
    there = next((place for place in places if place.exists()), None)
    if there is None:
        looked = " or ".join(map(str, places))
        raise SessionError(f"{command.folder}: its scan is no longer at {looked}; give it with --scan")
    return there


def _records(command: SessionCommand, store: SessionStore, chosen: Sequence[Lesion]) -> list[LesionRecord]:
    """The lesions with their masks; those that are not cached are computed."""
    known = [store.record(each.number) for each in chosen]
    found = [record for record in known if record is not None]
    if len(found) == len(known):
        return found
    with command.opened(read_only=True) as session, command.segmenting() as progress:
        return [session.record(each.number, progress=progress) for each in chosen]


def _figure(volume: Volume, records: Sequence[LesionRecord], display: PictureDisplay, store: SessionStore) -> Figure:
    from ..masks import Mask
    from ..pictures import lesion_picture, lesions_picture

    def on_scan(mask: Mask) -> Mask:  # another program's header may differ from the scan's by rounding
        return Mask(mask.array, mask.start, volume.grid, volume.source)

    if len(records) > 1:
        lesions = [(record.number, record.name, on_scan(record.mask)) for record in records]
        return lesions_picture(volume, lesions, title=str(store.folder), **asdict(display))
    (record,) = records
    begun = () if record.initial_mask is None else (record.initial_mask,)
    title = f"lesion {record.number} {record.name} ({record.status})"
    prompts = (*begun, *record.prompts)
    numbers = (*(None for _ in begun), *(each.number for each in record.numbered))  # as `session show` has them
    return lesion_picture(volume, on_scan(record.mask), prompts, numbers=numbers, title=title, **asdict(display))
