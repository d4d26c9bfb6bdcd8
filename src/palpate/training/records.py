"""The metrics of a training: metrics.jsonl, TensorBoard's files, curves.png."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..extras import needed
from ..files import replacing, writing

MetricsRow = dict[str, Any]


class Records:
    """The rows of a run's metrics, on disk as they come.

    Args:
        run: the run's folder.
        step: rows of later steps are taken away: they belong to a future that a kill has undone.
    """

    def __init__(self, run: Path, step: int):
        self.path = run / "metrics.jsonl"
        past = [row for row in read_rows(self.path) if row["step"] <= step]
        with replacing(self.path) as (staged,):
            staged.write_text("".join(json.dumps(row) + "\n" for row in past))
        self.rows = past
        with needed("tensorboard", "training needs"):
            from torch.utils.tensorboard import SummaryWriter
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def add(self, row: MetricsRow) -> None:
        """Append a row: `step`, and either a training's `loss`, ... or a `validation`."""
        self.rows.append(row)
        with writing(self.path, "free some space"), self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        figure = row.get("validation", {})
        values = row | figure | {f"dice of {name}": one["dice"] for name, one in figure.get("cohorts", {}).items()}
        for name, value in values.items():
            if isinstance(value, (int, float)) and name != "step":
                self._board.add_scalar(f"{'validation' if figure else 'training'}/{name}", value, row["step"])
        self._board.flush()

    def draw(self, path: Path, protocol: str = "one click") -> None:
        """The curves so far, as a picture; `protocol` names the validation's."""
        draw_curves(self.rows, path, protocol)

    def close(self) -> None:
        """End TensorBoard's writer."""
        self._board.close()


def read_rows(path: Path) -> list[MetricsRow]:
    """The rows of a `metrics.jsonl`; a last line that a kill tore is left out."""
    return list(_rows(path)) if path.is_file() else []


def _rows(path: Path) -> Iterator[MetricsRow]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def draw_curves(rows: list[MetricsRow], path: Path, protocol: str = "one click") -> None:
    """Write `curves` as a picture.

    Raises:
        OutputError: it cannot be written.
    """
    figure = curves(rows, protocol)
    with replacing(path) as (staged,):
        figure.savefig(staged, dpi=130)


def curves(rows: list[MetricsRow], protocol: str = "one click") -> Any:  # noqa: ANN401 - matplotlib has no types
    """Loss, and validation Dice with its interval, over the steps; a matplotlib Figure.

    Args:
        rows: of a `metrics.jsonl`.
        protocol: of the validation, for the title.
    """
    with needed("matplotlib", "training curves need"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    validations = [(row["step"], *_dice(row["validation"])) for row in rows if "validation" in row]
    if losses:
        left.plot(*zip(*losses, strict=True), color="#3465a4", linewidth=1.2)
    left.set(xlabel="step", ylabel="training loss", title="0.5 Dice loss + 0.5 cross-entropy")
    if validations:
        steps, dice, low, high = zip(*validations, strict=True)
        right.fill_between(steps, low, high, color="#4e9a06", alpha=0.18, linewidth=0, label="95 % by patient")
        right.plot(steps, dice, color="#4e9a06", marker="o", markersize=3, linewidth=1.2, label="mean")
        best = max(range(len(dice)), key=dice.__getitem__)
        right.annotate(
            f"best {dice[best]:.3f}", (steps[best], dice[best]), (0, 8), textcoords="offset points", ha="center"
        )
        right.legend(loc="lower right", frameon=False)
    right.set(xlabel="step", ylabel="Dice", title=f"{protocol}, validation", ylim=(0, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def _dice(validation: MetricsRow) -> tuple[float, float, float]:
    """Mean, low and high end; the mean alone for a single patient."""
    low, high = validation["interval"] or (validation["dice"],) * 2
    return validation["dice"], low, high
