"""A cohort's archive, unpacked whole or not at all, and into its own folder alone."""

from __future__ import annotations

import tarfile
from pathlib import Path

from ..errors import CohortError
from ..files import hidden_folder, writing


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file that holds one folder, laid out as the Decathlon's.

    Args:
        archive: the tar file, compressed or not.
        folder: where its folder, of the same name, is put; it appears when all of it is there.

    Raises:
        CohortError: not a tar file, one cut short, one that would write elsewhere, or another cohort.
        OutputError: the folder cannot be written.
    """
    if not hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3
        raise CohortError(f"{archive}: this Python cannot unpack safely; use 3.11.4 or newer, or unpack it by hand")
    try:
        with (
            writing(folder, f"free some space; {archive} stays", action="unpack to"),
            hidden_folder(folder.parent) as staged,
        ):
            with tarfile.open(archive) as tar:
                tar.extractall(staged, filter=_wanted)
            unpacked = Path(staged) / folder.name
            if not (unpacked / "dataset.json").is_file():
                raise CohortError(f"{archive}: holds no {folder.name}/dataset.json, so it is not the Decathlon's")
            unpacked.replace(folder)
    except tarfile.FilterError as error:
        raise CohortError(
            f"{archive}: refused, because it would write outside its folder ({error}); delete it"
        ) from error
    except (tarfile.TarError, EOFError) as error:
        raise CohortError(
            f"{archive}: not a readable tar file ({error}); it may be cut short: delete it and fetch again"
        ) from error


def _wanted(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Python's own filter for data, without the `._` files that macOS adds beside every real one."""
    return None if Path(member.name).name.startswith("._") else tarfile.data_filter(member, folder)
