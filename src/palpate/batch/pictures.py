"""Pictures of a batch's masks: where each goes, which are missing, and how one is drawn."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BatchError, OutputError
from ..files import writing
from ..formats import WRITABLE, read
from ..masks import Mask
from ..pictures import check_picture, is_own_picture, lesion_picture, picture_mark, save_picture
from ..prompts import Prompt, check_grid
from ..volume import Volume
from .jobs import Job, listed_problems


@dataclass(frozen=True)
class JobPictures:
    """A picture of each job's mask, a .png in one folder, called after the job's output.

    Attributes:
        folder: where they go; made if need be, in a folder that exists.
        unit: of the scans' values, where their files do not say; see `pictures.lesion_picture`.
        window: the values shown as black and as white; likewise.
        keys: each job's key by its output; they are in the pictures, so that one of an earlier key is drawn again.
    """

    folder: Path
    unit: str | None = None
    window: tuple[float, float] | None = None
    keys: Mapping[Path, str] = field(default_factory=dict)

    def place(self, job: Job) -> Path:
        """Where a job's picture goes: `masks/a.nii.gz` of the list has `masks-a.png`."""
        listed = Path(job.listed(job.output))
        parts = [part for part in listed.parts if part not in (listed.anchor, "..")]
        ending = next(end for end in sorted(WRITABLE, key=len, reverse=True) if listed.name.endswith(end))
        return self.folder / f"{'-'.join(parts).removesuffix(ending)}.png"

    def missing(self, job: Job) -> bool:
        """Whether a job has no picture yet, or one of other prompts, another scan, model, unit or window."""
        place = self.place(job)
        return not is_own_picture(place) or picture_mark(place) != self.mark(job)

    def mark(self, job: Job) -> str:
        """What a job's picture holds: a hash of the output's place, seen from the folder, and one of what is drawn."""
        drawn = json.dumps([self.keys.get(job.output), self.unit, self.window])
        return f"{self._owner(job)} {_hash(drawn)}"

    def _owner(self, job: Job) -> str:
        """Whose picture it is; a hash, since a path may name a patient."""
        output = job.output.parent.resolve() / job.output.name
        try:
            return _hash(os.path.relpath(output, self.folder.resolve()))
        except ValueError:  # on another drive of Windows
            return _hash(str(output))

    def check(self, jobs: Sequence[Job], *, overwrite: bool) -> None:
        """Refuse pictures that cannot be written, and make their folder.

        Args:
            jobs: all jobs of the list.
            overwrite: whether a picture may replace a file that Palpate did not write, or that of another list's mask.

        Raises:
            BatchError: two jobs have one picture, or a file of others or the picture of another mask is in its place;
                the message has their rows.
            OutputError: the folder cannot be made, or not be written.
            SettingsError: matplotlib is not installed.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is a file, and pictures go into a folder; name a folder")
        problems = [*self._clashes(jobs), *(() if overwrite else self._in_the_way(jobs))]
        if problems:
            raise BatchError(f"nothing was done: {listed_problems(sorted(problems))}")
        with writing(self.folder, "name a folder in one that exists", action="make the folder"):
            self.folder.mkdir(exist_ok=True)
        for job in jobs[:1]:
            check_picture(self.place(job))

    def draw(self, job: Job, volume: Volume, mask: Mask, prompts: Sequence[Prompt]) -> str:
        """Draw a job's picture; returns why there is none, empty if there is. It never raises: the mask is what counts.

        A picture of an earlier mask does not stay beside the new one.
        """
        place = self.place(job)
        try:
            title = job.listed(job.output)
            figure = lesion_picture(volume, mask, prompts, unit=self.unit, window=self.window, title=title)
            save_picture(figure, place, mark=self.mark(job))
        except Exception as error:  # one strange scan must not end a night's work
            with suppress(OSError):
                if is_own_picture(place):
                    place.unlink()
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    def draw_missing(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, str]]:
        """Draw the pictures that jobs lack whose masks are there; yields each such job, and why it has none after all.

        The mask is the file's, as it is by now: one that was mended by hand is shown as mended.
        """
        for job in jobs:
            if self.missing(job):
                yield job, self._draw_again(job)

    def _draw_again(self, job: Job) -> str:
        try:
            volume = read(job.source.scan, series=job.source.series, warn=False)
            stored = read(job.output, warn=False)
            check_grid("the mask", stored.grid, volume.grid)
            prompts = job.read_prompts(volume.grid)
        except Exception as error:  # as above
            return " ".join(str(error).split()) or type(error).__name__
        return self.draw(job, volume, Mask(stored.array > 0, (0, 0, 0), volume.grid), prompts)

    def _clashes(self, jobs: Sequence[Job]) -> Iterator[tuple[int, str]]:
        first: dict[str, int] = {}
        for job in jobs:
            name = self.place(job).name
            if name in first:
                yield job.row, f"its picture would be {name}, as that of row {first[name]}; name the outputs apart"
            first.setdefault(name, job.row)

    def _in_the_way(self, jobs: Sequence[Job]) -> Iterator[tuple[int, str]]:
        for job in jobs:
            place = self.place(job)
            if not place.exists():
                continue
            advice = "give --overwrite to replace it, or another folder"
            mark = picture_mark(place)
            if not is_own_picture(place):
                yield job.row, f"{place} exists, and Palpate did not draw it; {advice}"
            elif mark is not None and mark.split(" ")[0] != self._owner(job):
                yield (
                    job.row,
                    f"{place} is the picture of another mask than {job.output}, as of another list's; {advice}",
                )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
