"""Figures of palpate-tiny: from lines of the ledger to records, those that hold, and the page that shows them.

A figure belongs to the answers under which it was measured: a digest of the masks that `train_tiny.py answers` wrote
down. Lines of version 0.1.0 have a hash of source text (`code`) in its place, and tables in place of records.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from palpate.evaluation import Corrected, Figure
from palpate.figures import FigureRecord
from palpate.inference import RULES

EARLIER_KINDS = {"prior": "initial mask"}  # what version 0.1.0 called kinds of a first prompt
TITLE = re.compile(r"(?P<subset>.+) patients, native grid, seeds? (?P<seeds>[\d, ]*\d)(?P<more>.*?): (?P<how>.*)")
SIDES = {"positive": "foreground", "negative": "background"}
ONE_CLICK = "one random click a scan"


def digest(answers: Mapping[str, Sequence[str]]) -> str:
    """A hash of recorded answers: keys, and the hashes of the masks."""
    return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()


def answers_of(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """The answers of a record that `answers` wrote, with the keys that this version writes."""
    return {_current(key): hashes for key, hashes in record["answers"].items()}


def _current(key: str) -> str:
    kind, comma, rest = key.partition(", ")
    return f"{EARLIER_KINDS.get(kind, kind)}{comma}{rest}"


def origin_of(record: Mapping[str, Any]) -> str | None:
    """What a line of the ledger, or a record of answers, belongs to: the answers' digest, or earlier, the code's."""
    if "code" in record:
        return str(record["code"])
    answers = record.get("answers")
    return digest(answers_of(record)) if isinstance(answers, Mapping) else answers


def protocol(how: str, *, max_scans: int | None = None, min_ml: float = 0.0, zoom: bool = True) -> str:
    """A protocol in words: on which scans, and how."""
    where = "native grid"
    where += f", the first {max_scans} scans of a cohort" if max_scans else ""
    where += f", lesions of {min_ml:g} mL and more" if min_ml else ""
    where += "" if zoom else ", without zoom"
    return f"{where}: {how}"


def correcting(kind: str, strokes: float) -> str:
    """How a simulated user was followed: the kind of the first prompt, and what corrects."""
    first = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    words = "clicks" if not strokes else f"{'' if strokes == 1 else f'{strokes:.0%} '}strokes, paint and lassos"
    return f"a simulated user, first {first}, then correcting {words}"


def correction_figures(
    rows: Sequence[tuple[str, Corrected]], counts: Iterable[int], **known: Any
) -> Iterator[FigureRecord]:
    """Figures of (patient, corrections): Dice after so many prompts, what corrections did, and the predicted IoU.

    Args:
        rows: of one cohort.
        counts: numbers of prompts.
        known: fields of all records: subset, protocol, seeds, cohort.
    """
    patients = len({patient for patient, _ in rows})
    for count in counts:
        figure = Figure.of((result.name, patient, result.dice[count - 1]) for patient, result in rows)
        yield figure.record(**known, metric=_after(count))
    for side in SIDES:
        steps = [step for _, r in rows for step in r.effects if step.positive is (side == "positive")]
        if steps:
            followed = float(np.mean([step.followed for step in steps]))
            gain = float(np.mean([step.near_after - step.near_before for step in steps]))
            for metric, value in zip(_of_side(side), (followed, gain), strict=True):
                yield FigureRecord(**known, metric=metric, value=round(value, 4), n=len(steps), patients=patients)
    pairs = (
        [pair for _, r in rows for pair in zip(r.predicted_iou, r.iou, strict=True)] if rows[0][1].predicted_iou else []
    )
    if pairs:
        predicted, true = np.array(pairs).T
        values = float(np.abs(predicted - true).mean()), float(np.corrcoef(predicted, true)[0, 1])
        for metric, value in zip(PREDICTED_IOU, values, strict=True):
            yield FigureRecord(**known, metric=metric, value=round(value, 4), n=len(pairs), patients=patients)


PREDICTED_IOU = ("mean error of the predicted IoU", "correlation of the predicted IoU with the IoU")


def _after(count: int) -> str:
    return f"Dice after {count} prompt{'s' * (count > 1)}"


def _of_side(side: str) -> tuple[str, str]:
    return f"{SIDES[side]} corrections followed", f"Dice within 10 mm gained by a {SIDES[side]} correction"


def records_of(use: Mapping[str, Any]) -> Iterator[tuple[str, FigureRecord]]:
    """A line's figures, each with the kind of its first prompt."""
    for figure in use.get("figures", ()):
        yield use.get("first_prompt", "click"), FigureRecord.model_validate(figure)
    if "part" not in use:
        return
    where: dict[str, Any] = {
        "max_scans": use.get("most"),
        "min_ml": use.get("least mL", 0.0),
        "zoom": use.get("zoom", True),
    }
    known = {"subset": use["part"], "seeds": tuple(use.get("seeds", ()))}
    for cohort, row in use.get("table", {}).items():
        for record in _of_row(row, cohort=cohort, protocol=protocol(ONE_CLICK, **where), **known):
            yield "click", record
    for word, table in use.get("corrections", {}).items():
        kind = EARLIER_KINDS.get(word, word)
        how = protocol(correcting(kind, use.get("strokes", 0)), **where)
        for cohort, row in table.items():
            for record in _of_row(row, cohort=cohort, protocol=how, **known):
                yield kind, record


def records_of_mapping(figures: Mapping[str, Mapping[str, Any]]) -> list[FigureRecord]:
    """The figures of a model's file of version 0.1.0: titles, then cohorts, then rows.

    Raises:
        ValueError: a title of another form.
    """
    found: list[FigureRecord] = []
    for title, table in figures.items():
        match = TITLE.fullmatch(title)
        if match is None:
            raise ValueError(f"no title of a figure: {title!r}")
        how = re.sub(r"first a (\w[\w ]*),", lambda m: _first(m[1]), match["how"])
        seeds = tuple(int(seed) for seed in match["seeds"].split(", "))
        for cohort, row in table.items():
            known = {"subset": match["subset"], "protocol": f"native grid{match['more']}: {how}", "seeds": seeds}
            found += _of_row(row, cohort=cohort, **known)
    return found


def _first(kind: str) -> str:
    kind = EARLIER_KINDS.get(kind, kind)
    return f"first {'an' if kind[0] in 'aeiou' else 'a'} {kind},"


def _of_row(row: Mapping[str, Any], **known: Any) -> Iterator[FigureRecord]:
    """A table's row of version 0.1.0 as records: of one click each, or of corrections."""
    if "dice" in row:
        values = {"value": row["dice"], "interval": row["interval"], "n": row["scans"], "patients": row["patients"]}
        yield FigureRecord.model_validate({**known, **values})
    for name, value in row.items():
        if name.startswith("after "):
            mean, low, high = value
            yield FigureRecord(**known, metric=_after(int(name.split()[1])), value=mean, interval=(low, high))
    for side in SIDES:
        if side in row:
            values_of_side = row[side]["followed"], row[side]["Dice within 10 mm gains"]
            for metric, value in zip(_of_side(side), values_of_side, strict=True):
                yield FigureRecord(**known, metric=metric, value=value, n=row[side]["said"])
    if "expected IoU" in row:
        for metric, value in zip(PREDICTED_IOU, row["expected IoU"].values(), strict=True):
            yield FigureRecord(**known, metric=metric, value=value)


def holding(uses: Sequence[Mapping[str, Any]]) -> list[FigureRecord]:
    """The figures that hold for the last answers.

    They are those measured under them, and under earlier ones that were shown to be equal (`same`); none of fewer seeds
    where all of these, and more, were measured too.
    """
    equal = [use for use in uses if "same as" in use]
    current = origin_of(uses[-1]) if uses else None
    while newer := [origin_of(use) for use in equal if use["same as"] == current]:
        current = newer[-1]
    but: dict[str | None, set[str]] = {current: set()}  # kinds of a first prompt whose figures do not hold, by origin
    for use in reversed(equal):
        if origin_of(use) in but:
            but[use["same as"]] = but[origin_of(use)] | {EARLIER_KINDS.get(kind, kind) for kind in use["but"]}
    found: dict[tuple[str, str, str], dict[tuple[int, ...], dict[str, FigureRecord]]] = defaultdict(dict)
    for use in uses:
        if "same as" not in use and origin_of(use) in but:
            for kind, record in records_of(use):
                if kind not in but[origin_of(use)]:
                    by_seeds = found[record.subset, record.protocol, record.cohort]
                    by_seeds.setdefault(record.seeds, {})[record.metric] = record
    return [
        record
        for by_seeds in found.values()
        for seeds, metrics in by_seeds.items()
        if not any(set(seeds) < set(more) for more in by_seeds)
        for record in metrics.values()
    ]


def page_of(name: str, model: str, uses: Sequence[Mapping[str, Any]], figures: Sequence[FigureRecord]) -> list[str]:
    """Lines of Markdown: a table of each measurement; values with 95 % intervals by patient."""
    lines = [f"# {name}, measured", "", "Written by `python benchmarks/train_tiny.py figures`."]
    lines += ["Means with 95 % intervals by patient in brackets.", f"Weights (SHA-256): {model}."]
    earlier = sorted({rules for use in uses if "same as" not in use and (rules := use.get("rules", 1)) < RULES})
    if earlier:  # lines that do not say it are of version 1, the only one there was
        names = " and ".join(f"`--rules {rules}`" for rules in earlier)
        lines += ["", f"Measured by {names}; masks of today are made by version {RULES} of the rules"]
        lines[-1] += " ([what differs](../docs/design/inference.md#versions-of-the-rules))."
    for use in uses:
        if "same as" in use:
            equal = f"{use['masks alike']} masks of a simulated user on validation scans are equal under both"
            lines += ["", f"Figures of {use['same as'][:8]} hold for {str(origin_of(use))[:8]}: {equal}."]
            lines += [f"What changed: {use['why']}."]
            kinds = [EARLIER_KINDS.get(kind, kind) for kind in use["but"]]
            lines += [f"Measured again: what begins with {', '.join(kinds)}."] if kinds else []
    tables: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for figure in figures:
        tables[figure.title][figure.cohort][figure.metric] = figure.text
    for title, table in tables.items():
        metrics = list(dict.fromkeys(metric for row in table.values() for metric in row))
        lines += ["", f"## {title[0].upper()}{title[1:]}", "", f"| cohort | {' | '.join(metrics)} |"]
        lines += ["|---" * (len(metrics) + 1) + "|"]
        lines += [f"| {cohort} | {' | '.join(row.get(m, '') for m in metrics)} |" for cohort, row in table.items()]
    return lines
