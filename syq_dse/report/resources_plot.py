"""What the named points of a run fill of the part as a figure, readable in grey."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syq_dse.errors import InputError
from syq_dse.report.figures import cut, save, title
from syq_dse.report.front_plot import AXES
from syq_dse.search import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {**AXES, "lutram": "LUTs as memory", "dram_bits": "DRAM [bits an image]"}

STYLES = (("0.2", ""), ("0.8", "////"), ("1.0", "...."), ("0.55", "xxxx"))
"""Grey and hatch of the bars of one point."""

ROW_INCHES = 0.17


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a point needs of a resource, in its unit."""

    resource: str
    used: float
    capacity: float


def draw_run(folder: Path, out: Path) -> list[Path]:
    """Draw resources.png and resources.svg of a run; nothing where no resource has a capacity.

    Raises:
        InputError: no finished run, a point's file is broken, `out` cannot be written.
    """
    names: dict[str, list[str]] = {}
    with run.unchanged(folder):
        front = run.read_front(folder)
        for name, point in front["named"].items():
            names.setdefault(point, []).append(name)
        uses = {f"{', '.join(of)} ({point})": uses_of(folder, point) for point, of in names.items()}
    if not any(uses.values()):
        return []
    return save(draw(title(front), uses, front["limit"]), out, "resources")


def uses_of(folder: Path, name: str) -> list[Use]:
    """The resources of a point of which the target has some.

    Raises:
        InputError: the point's file is missing or broken.
    """
    point = run.read_point(folder, name)
    try:
        cost = point["cost"]
        return [
            Use(resource=key, used=float(cost["total"][key]), capacity=float(cost["capacity"][key]))
            for key, share in cost["utilization"].items()
            if share is not None and cost["total"].get(key) is not None and cost["capacity"][key]
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        place = folder / run.POINTS / f"{name}.json"
        raise InputError(f"{place}: cost is not what explore writes") from None


def draw(heading: str, uses: Mapping[str, Sequence[Use]], limit: float) -> Figure:
    """Bars from 0 to the capacity: a group a resource, a bar a point; a line marks the limit.

    Args:
        uses: by the name of a point, at most as many as STYLES.
        limit: most of each resource to fill, 0 to 1.
    """
    from matplotlib.figure import Figure

    offered: dict[str, set[float]] = {}
    for use in itertools.chain.from_iterable(uses.values()):
        offered.setdefault(use.resource, set()).add(use.capacity)
    group = len(uses) + 1
    height = 1.9 + ROW_INCHES * (len(offered) * group + len(uses))
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.add_subplot()
    most = 100.0
    for row, (name, (grey, hatch)) in enumerate(zip(uses, STYLES, strict=False)):
        places = [list(offered).index(use.resource) * group + row for use in uses[name]]
        shares = [100 * use.used / use.capacity for use in uses[name]]
        most = max(most, *shares, 0)
        axes.barh(
            places,
            shares,
            height=0.85,
            color=grey,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.7,
            label=name,
        )
        for place, share, use in zip(places, shares, uses[name], strict=True):
            own = "" if len(offered[use.resource]) == 1 else f" of {use.capacity:,.0f}"
            axes.text(
                1.01,
                place,
                f"{use.used:,.0f}{own} = {share:.3g} %",
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=7,
            )
    axes.axvline(
        100 * limit,
        color="black",
        linestyle="--",
        linewidth=1.0,
        label=f"limit ({100 * limit:g} %)",
    )
    axes.set_xlim(0, most)
    axes.set_ylim(group * len(offered) - 1.25, -0.75)
    axes.set_yticks(
        [i * group + (len(uses) - 1) / 2 for i in range(len(offered))],
        [_label(*one) for one in offered.items()],
        fontsize=7.5,
        parse_math=False,
    )
    axes.set_xlabel("filled [% of the capacity]", fontsize=8)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(True, axis="x", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(heading, fontsize=9, parse_math=False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7.5)
    return figure


def _label(resource: str, capacities: set[float]) -> str:
    """A resource, and its capacity where that is the same for all points."""
    name = LABELS.get(resource, cut(resource))
    return f"{name}\nof {min(capacities):,.0f}" if len(capacities) == 1 else name
