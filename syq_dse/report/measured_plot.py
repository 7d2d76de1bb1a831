"""Accuracies that were expected against those measured since, as a figure, readable in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syq_dse.report.figures import measured_pairs, save, title
from syq_dse.search import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "predicted": ("s", "0.65", "expected from the sensitivity profile"),
    "prior": ("^", "white", "expected from published figures only"),
}
"""Marker, grey and label by what the expectation came from."""

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


def draw_run(folder: Path, out: Path) -> list[Path]:
    """Draw measured.png and measured.svg of a run; nothing where no point has been measured.

    Raises:
        InputError: no finished run, or `out` cannot be written.
    """
    with run.unchanged(folder):
        front = run.read_front(folder)
    pairs = measured_pairs(front)
    return save(draw(title(front), pairs), out, "measured") if pairs else []


def draw(heading: str, pairs: Sequence[Pair]) -> Figure:
    """Measured over expected accuracy with the intervals of both; on the line both agree.

    Args:
        pairs: of each point what was expected and what was measured: accuracy, _low and _high.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    for source in dict.fromkeys(before["accuracy_source"] for before, _ in pairs):
        own = [pair for pair in pairs if pair[0]["accuracy_source"] == source]
        marker, grey, label = STYLES.get(source, ("D", "0.3", "expected"))
        x, y = ([100 * pair[side]["accuracy"] for pair in own] for side in (0, 1))
        axes.errorbar(
            x,
            y,
            xerr=_reach(own, 0),
            yerr=_reach(own, 1),
            fmt=marker,
            markersize=6,
            markerfacecolor=grey,
            markeredgecolor="black",
            ecolor="0.6",
            elinewidth=0.8,
            label=label,
        )
    ends = [100 * one[key] for pair in pairs for one in pair for key in BOUNDS]
    margin = max(0.04 * (max(ends) - min(ends)), 0.1)
    low, high = min(ends) - margin, max(ends) + margin
    axes.plot(
        [low, high],
        [low, high],
        color="black",
        linestyle="--",
        linewidth=0.9,
        zorder=1,
        label="both agree",
    )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.locator_params(nbins=7)
    axes.set_xlabel("expected top-1 accuracy [%]", fontsize=8)
    axes.set_ylabel("measured top-1 accuracy [%]", fontsize=8)
    axes.tick_params(labelsize=7.5)
    axes.grid(True, color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(heading, fontsize=9, parse_math=False)
    figure.legend(loc="outside lower center", fontsize=7.5)
    return figure


BOUNDS = ("accuracy", "accuracy_low", "accuracy_high")


def _reach(pairs: Sequence[Pair], side: int) -> list[list[float]]:
    """How far intervals reach below and above the accuracies [%]."""
    ones = [pair[side] for pair in pairs]
    below = [100 * max(0.0, one["accuracy"] - one["accuracy_low"]) for one in ones]
    above = [100 * max(0.0, one["accuracy_high"] - one["accuracy"]) for one in ones]
    return [below, above]
