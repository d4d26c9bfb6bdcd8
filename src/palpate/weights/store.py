"""The folder of fetched files, and whether they are what was published."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ModelError, PalpateError, PalpateWarning
from ..files import file_sha256, replacing, writing
from . import http, hub
from .assets import Asset, AssetSource, Hub, find
from .http import DownloadProgress, UnreachableError
from .unpacking import unpack

SourceKind = Literal["hub", "official", "by hand"]


@dataclass(frozen=True)
class Fetched:
    """A file or a cohort's folder that is here.

    Attributes:
        path: where.
        verified: whether its SHA-256 is the published one; False too where none is published.
        source: where it came from.
        sha256: the file's hash (a cohort's: its archive's, if that was ever here).
        bytes: the file's (the archive's) size.
    """

    path: Path
    verified: bool
    source: SourceKind
    sha256: str | None
    bytes: int | None


def home() -> Path:
    """Palpate's folder for fetched files: `PALPATE_HOME`, or the user's cache folder."""
    named = os.environ.get("PALPATE_HOME")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("palpate"))


def _warn(text: str) -> None:
    warnings.warn(text, PalpateWarning, stacklevel=4)


def fetch(
    what: str | Asset,
    *,
    source: str | None = None,
    progress: DownloadProgress | None = None,
    folder: str | Path | None = None,
    warn: Callable[[str], None] = _warn,
) -> Fetched:
    """Have a file of the table here: found, or downloaded, and checked either way.

    Args:
        what: its name in the table, or an entry like the table's.
        source: "hub" or "official"; by default the preferred one, then the others.
        progress: called with the bytes that are here and those that there are (None: unknown).
        folder: where to put it, instead of `home()`.
        warn: called with a sentence when the next source is tried; by default a `PalpateWarning`.

    Raises:
        ModelError: an unknown name; weights that no source gives, with what to put where by hand;
            weights whose size or hash is not the published one.
        CohortError: the same for a cohort, or an archive that cannot be unpacked.
        SettingsError: it has no such source.
        OutputError: it cannot be written.
    """
    asset = find(what) if isinstance(what, str) else what
    root = home() if folder is None else Path(folder)
    sources = asset.at(source)
    # Who sets HF_HUB_OFFLINE wants no network at all, unless they name a source.
    failures: list[str] = []
    found = _present(asset, sources, root) or _unpacked(asset, sources, root)
    if found is None and source is None and hub.switched_off():
        failures.append("HF_HUB_OFFLINE is set")
    elif found is None:
        found = _downloaded(asset, sources, root, progress or (lambda here, total: None), warn, failures)
    if found is None:
        reasons = "; ".join(failures)
        raise asset.error_type(f"{asset.name} could not be downloaded ({reasons}). {needed(asset, sources, root)}")
    return found


def _downloaded(
    asset: Asset,
    sources: tuple[AssetSource, ...],
    root: Path,
    progress: DownloadProgress,
    warn: Callable[[str], None],
    failures: list[str],
) -> Fetched | None:
    """The first source that answers; why the others did not is added to `failures`."""
    for later, origin in enumerate(sources, start=1):
        try:
            _obtain(asset, origin, root, progress)
        except UnreachableError as error:
            failures.append(f"{origin.url}: {error}")
            if later < len(sources):
                warn(f"{failures[-1]}; taking {sources[later].url} instead")
        else:
            return _present(asset, (origin,), root) or _unpacked(asset, (origin,), root)
    return None


def cached(what: str | Asset, *, folder: str | Path | None = None) -> Path | None:
    """Where a file or cohort of the table is, if it is here already; see `find_local`."""
    found = find_local(what, folder=folder)
    return found.path if found else None


def find_local(what: str | Asset, *, folder: str | Path | None = None) -> Fetched | None:
    """A file or cohort of the table that is here already, checked; None if it is not here. Uses no network.

    Args:
        what: its name in the table, or an entry like the table's.
        folder: where it lies, instead of `home()`.

    Raises:
        ModelError: an unknown name, or weights whose size or hash is not the published one.
        CohortError: the same for a cohort's archive.
    """
    asset = find(what) if isinstance(what, str) else what
    return _present(asset, asset.sources, home() if folder is None else Path(folder))


def needed(asset: Asset, sources: tuple[AssetSource, ...] | None = None, root: Path | None = None) -> str:
    """What someone without a network has to put where."""
    ways = []
    for origin in sources or asset.sources:
        known = [f"{origin.bytes:,} bytes"] if origin.bytes else []
        known += [f"SHA-256 {origin.sha256}"] if origin.sha256 else []
        about = f" ({', '.join(known)})" if known else ""
        ways.append(f"{origin.url}{about} and put it here as {asset.place(origin, root or home())}")
    moved = "" if root in (None, home()) else f" --folder {root}"
    return (
        f"Without a network: on another machine download {', or '.join(ways)}; "
        f"then `palpate fetch {asset.name}{moved}` checks it"
    )


def _present(asset: Asset, sources: tuple[AssetSource, ...], root: Path) -> Fetched | None:
    """The first source's file that is in its place, checked; for a cohort, its folder."""
    for origin in sources:
        place = asset.place(origin, root)
        if asset.kind == "cohort":
            folder = _folder(place)
            if (folder / "dataset.json").is_file():
                archive = _checked(asset, origin, place) if place.is_file() else None
                return Fetched(folder, *_of_archive(archive))
        elif place.is_file():
            return _checked(asset, origin, place)
    return None


def _unpacked(asset: Asset, sources: tuple[AssetSource, ...], root: Path) -> Fetched | None:
    """A cohort whose archive is here, after unpacking it."""
    for origin in sources if asset.kind == "cohort" else ():
        place = asset.place(origin, root)
        if place.is_file():
            _checked(asset, origin, place)
            unpack(place, _folder(place))
    return _present(asset, sources, root) if asset.kind == "cohort" else None


def _folder(archive: Path) -> Path:
    """Where a cohort's archive is unpacked: beside it."""
    return archive.with_name(archive.name.split(".")[0])


def _of_archive(archive: Fetched | None) -> tuple[bool, SourceKind, str | None, int | None]:
    """What is known of a cohort's folder; nothing, if its archive is gone."""
    return (
        (archive.verified, archive.source, archive.sha256, archive.bytes) if archive else (False, "by hand", None, None)
    )


def _obtain(asset: Asset, origin: AssetSource, root: Path, progress: DownloadProgress) -> None:
    """Download a file, check it, and only then put it in its place."""
    place = asset.place(origin, root)
    with _alone(place):
        if place.is_file():  # another process was quicker
            return
        if isinstance(origin, Hub):
            stage = place.parent / ".hub"
            staged, announced = hub.download(origin, stage, progress)
        else:
            staged, announced = place.with_name(f"{place.name}.part"), None
            http.download(origin, staged, progress)
        try:
            digest = _verified(origin, staged, announced)
        except ModelError as error:
            http.discard(staged)
            raise asset.error_type(str(error)) from error
        with writing(place, "name another folder in PALPATE_HOME"):
            staged.replace(place)
            http.discard(staged)
            if isinstance(origin, Hub):
                shutil.rmtree(stage, ignore_errors=True)
        _note(place, digest, origin.kind)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Lock the folder against other processes, which would append to the same file; a killed process frees it."""
    from filelock import FileLock

    with contextlib.ExitStack() as held:
        with writing(place, "name another folder in PALPATE_HOME"):
            place.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(place.parent / ".lock", preserve_lock_file=True))
        yield


def _verified(origin: AssetSource, path: Path, announced: str | None = None) -> str:
    """The SHA-256 of a file whose size and hash are as published, and which is whole as far as its format shows."""
    size = path.stat().st_size
    if origin.bytes is not None and size != origin.bytes:
        raise ModelError(f"{origin.url}: {size:,} bytes came where {origin.bytes:,} are published; they were deleted")
    digest = file_sha256(path)
    for known, who in ((origin.sha256, "published"), (announced, "announced by the Hub")):
        if known is not None and digest != known:
            raise ModelError(f"{origin.url}: SHA-256 {digest} came where {known} is {who}; the file was deleted")
    _check_whole(path)
    return digest


def _checked(asset: Asset, origin: AssetSource, place: Path) -> Fetched:
    """A file in its place, its size and hash checked; the hash is computed once, and again when it changes."""
    stat = place.stat()
    mend = f"delete it and run `palpate fetch {asset.name}`, or put the right one there"
    if origin.bytes is not None and stat.st_size != origin.bytes:
        raise asset.error_type(f"{place}: {stat.st_size:,} bytes where {origin.bytes:,} are published; {mend}")
    digest, source = _noted(place)
    if digest is None:
        _check_whole(place)
        digest = file_sha256(place)
    if origin.sha256 is not None and digest != origin.sha256:
        raise asset.error_type(f"{place}: SHA-256 {digest} where {origin.sha256} is published; {mend}")
    if source is None:
        source = "by hand"
        with contextlib.suppress(PalpateError):  # a shared folder may be read-only; it is then hashed each time
            _note(place, digest, source)
    return Fetched(place, origin.sha256 is not None, source, digest, stat.st_size)


def _check_whole(path: Path) -> None:
    """Refuse a safetensors file that is cut short: where no hash is published, its header is all that shows it."""
    if path.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a whole safetensors file ({error}); delete it and fetch it again") from error


def _note_file(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _note(place: Path, digest: str, source: SourceKind) -> None:
    """Write down a file's hash, with the size and time by which a later change of the file is found."""
    stat = place.stat()
    record = {"sha256": digest, "source": source, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    with replacing(_note_file(place)) as (staged,):
        staged.write_text(json.dumps(record))


def _noted(place: Path) -> tuple[str | None, SourceKind | None]:
    """The hash and source that were written down, if the file has not changed since."""
    stat = place.stat()
    try:
        record = json.loads(_note_file(place).read_text())
        if (record["bytes"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
            return str(record["sha256"]), record["source"]
    except (OSError, ValueError, KeyError, TypeError):  # no note, or not one of ours: the file is hashed anew
        pass
    return None, None
