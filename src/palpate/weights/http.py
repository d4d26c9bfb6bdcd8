"""A file over HTTP, resumed where it was cut off.

Bytes are appended to a `.part` file. Beside it lies the server's name of this version of the file (its ETag, or its
date). It is sent along with the range (`If-Range`), so that a server whose file has changed sends the whole new file
instead of the end of another.
"""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import ModelError, OutputError
from ..files import writing
from .assets import Official

DownloadProgress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes that there are (None while unknown)."""

RESUME_HINT = "the part that arrived stays. Free some space, or name another folder in PALPATE_HOME, and call again"
BLOCK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
MAX_ATTEMPTS = 5  # in a row that bring no new byte
PAUSE = 1.0  # seconds before the first of them; doubled each time
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)  # of a busy server; a later attempt may succeed


class UnreachableError(Exception):
    """A source that does not answer, or does not have the file: another one may."""


class _DroppedError(Exception):
    """An answer that broke off, or one to ask for again."""


class _NoAnswerError(Exception):
    """No answer at all."""


def download(origin: Official, part: Path, progress: DownloadProgress) -> None:
    """Bring `part` to its full length, from where an earlier call left it.

    Args:
        origin: the address, and the published size if there is one.
        part: the file that grows; the caller checks it and renames it.
        progress: called with the bytes that are here and the whole file's (None: unknown).

    Raises:
        UnreachableError: no answer, a refusal, or a connection that keeps dropping.
        ModelError: the server's file is not of the published size.
        OutputError: `part` cannot be written.
    """
    answered, attempts = False, 0
    while True:
        before = _length(part)
        try:
            return _continue(origin, part, progress)
        except _NoAnswerError as error:
            # Offline, an error at once; after a connection that broke off, another attempt at the rest.
            if not answered:
                raise UnreachableError(str(error)) from error
            reason = error.args[0]
        except _DroppedError as error:
            answered, reason = True, error.args[0]
        attempts = 0 if _length(part) > before else attempts + 1
        if attempts >= MAX_ATTEMPTS:
            here = (
                f"; {_length(part):,} bytes are here, and the next call continues from there" if _length(part) else ""
            )
            raise UnreachableError(f"{reason}, {MAX_ATTEMPTS} times in a row{here}")
        time.sleep(PAUSE * 2**attempts)


def discard(part: Path) -> None:
    """Forget an unfinished download."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _continue(origin: Official, part: Path, progress: DownloadProgress) -> None:
    """One request for what is missing."""
    version = _version(part)
    offset = _length(part) if version else 0
    headers = {"User-Agent": "palpate", "Accept-Encoding": "identity"}
    if offset and version:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version}
    try:
        response = urllib.request.urlopen(urllib.request.Request(origin.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, part, offset)
    except (OSError, http.client.HTTPException) as error:
        raise _NoAnswerError(f"no answer ({getattr(error, 'reason', None) or error})") from error
    with response:
        begins, total = _extent(response)
        if begins not in (0, offset):
            discard(part)
            raise _DroppedError(f"the server sent bytes from {begins:,} on instead of {offset:,}")
        _check_size(origin, part, total)
        _check_room(part, total, begins)
        if begins == 0:
            _start(part, response)
        _append(response, part, total, progress)
    return None


def _refused(error: urllib.error.HTTPError, part: Path, offset: int) -> None:
    """Raise what an error status means; return if the file is complete after all."""
    if error.code == 416:
        # Nothing lies beyond the offset: either all is here (a process killed before its last step), or something else.
        if error.headers.get("Content-Range") == f"bytes */{offset}":
            return
        discard(part)
        raise _DroppedError("the server has no such range")
    status = f"HTTP {error.code} {error.reason}".strip()
    if error.code in TRANSIENT_STATUSES:
        raise _DroppedError(status)
    raise UnreachableError(status)


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where a response's bytes begin, and the length of the whole file; None if the server does not send it."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None:
            raise UnreachableError("an answer of unknown extent (206 without a Content-Range)")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _check_size(origin: Official, part: Path, total: int | None) -> None:
    if None not in (origin.bytes, total) and origin.bytes != total:
        discard(part)
        raise ModelError(f"{origin.url}: {total:,} bytes where {origin.bytes:,} are published; nothing was saved")


def _check_room(part: Path, total: int | None, begins: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - begins > free:
        raise OutputError(
            f"cannot write {part.parent}: {total - begins:,} bytes are needed and {free:,} are free. "
            "Free some space, or name another folder in PALPATE_HOME"
        )


def _start(part: Path, response: http.client.HTTPResponse) -> None:
    """Empty the part file and note the version that it will hold."""
    etag = response.headers.get("ETag", "")
    # A weak ETag may name files that differ in bytes, so it cannot stand for one of them.
    version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    with writing(part, RESUME_HINT):
        part.write_bytes(b"")
        _version_file(part).write_text(version)


def _append(response: http.client.HTTPResponse, part: Path, total: int | None, progress: DownloadProgress) -> None:
    with writing(part, RESUME_HINT):
        file = part.open("ab")
    with file:
        progress(file.tell(), total)
        for block in _blocks(response):
            with writing(part, RESUME_HINT):
                file.write(block)
                file.flush()
            progress(file.tell(), total)
    if total is not None and _length(part) != total:
        raise _DroppedError(f"the connection broke off at {_length(part):,} of {total:,} bytes")


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read1(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(f"the connection broke off ({error or type(error).__name__})") from error


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _version(part: Path) -> str | None:
    file = _version_file(part)
    return (file.read_text() or None) if file.is_file() else None
