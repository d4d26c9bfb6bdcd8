"""A file from the Hugging Face Hub, by its own client: resumed, through its proxies, mirrors and offline switch."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from ..files import writing
from .assets import Hub
from .http import DownloadProgress, UnreachableError

MAX_ATTEMPTS = 3  # at a download that breaks off in a way that the client does not retry itself
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM)


def switched_off() -> bool:
    """Whether `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def download(origin: Hub, folder: Path, progress: DownloadProgress) -> tuple[Path, str | None]:
    """The file within `folder`, and the SHA-256 that the Hub gives for it (large files have one).

    Raises:
        UnreachableError: no answer, no such file, no permission, or `HF_HUB_OFFLINE`.
        OutputError: the folder cannot be written.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    endpoint = origin.endpoint
    try:
        # Asked first: it fails at once where the client's own download tries for a while, and it pins the commit.
        url = hf_hub_url(origin.repo, origin.file, revision=origin.revision, endpoint=endpoint)
        metadata = get_hf_file_metadata(url, endpoint=endpoint)
        for left in reversed(range(MAX_ATTEMPTS)):
            try:
                path = hf_hub_download(
                    origin.repo,
                    origin.file,
                    revision=metadata.commit_hash or origin.revision,
                    local_dir=folder,
                    endpoint=endpoint,
                    tqdm_class=_counting(progress),
                )
                break
            except Exception as error:
                # Refusals and full disks are OSErrors; a reset connection is not, and the client gives up on it.
                if isinstance(error, OSError) or not left:
                    raise
    except Exception as error:  # the transport's own errors have no common root, and change with the client's version
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            with writing(folder, "free some space and call again"):
                raise
        raise UnreachableError(" ".join(str(error).split())[:300] or type(error).__name__) from error
    announced = metadata.etag if metadata.etag and re.fullmatch("[0-9a-f]{64}", metadata.etag) else None
    return Path(path), announced


def _counting(progress: DownloadProgress) -> type[Any]:
    """A progress bar for the client that shows nothing and calls `progress`."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined] # re-exported, not in __all__

    class Counting(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.here = kwargs.get("initial", 0)
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.here += n or 0
            progress(int(self.here), None if self.total is None else int(self.total))

    return Counting
