"""What figures share: names that fit, items evenly along a front, files."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from syq_dse.errors import one_line
from syq_dse.records import make_folder, write_bytes

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

LONGEST = 24
"""Characters of a name; of a longer one the middle is left out."""

GRANULARITIES = {"layer": 1, "channel": 2, "row": 3, "pixel": 4}
"""From the coarsest to the finest."""

T = TypeVar("T")


def evenly(items: Sequence[T], most: int) -> list[T]:
    """All items, or so many evenly along them, the first and the last too.

    >>> evenly("abcde", 3)
    ['a', 'c', 'e']
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, most)]


def evenly_with(items: Sequence[T], most: int, wanted: Collection[T]) -> list[T]:
    """All items, or at most so many of them: the wanted, and others evenly along them.

    >>> evenly_with("abcdefg", 4, {"b"})
    ['a', 'b', 'd', 'g']
    """
    if len(items) <= most:
        return list(items)
    places = {round(i) for i in np.linspace(0, len(items) - 1, most - len(wanted))}
    return [item for i, item in enumerate(items) if i in places or item in wanted]


def measured_pairs(
    front: Mapping[str, Any],
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Of each point that was measured what had been expected, and its row."""
    expected = front.get("expected") or {}
    return [
        (expected[row["point"]], row)
        for row in front["points"]
        if row["accuracy_source"] == "measured" and row["point"] in expected
    ]


def cut(name: str, longest: int = LONGEST) -> str:
    """A name that fits beside an axis.

    >>> cut("layer4.1.conv2"), cut("features.denseblock4.layer16.conv2")
    ('layer4.1.conv2', 'features.den…yer16.conv2')
    """
    text = one_line(name)
    tail = longest // 2 - 1
    return text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"


def title(front: Mapping[str, Any]) -> str:
    """The network, the target and the clock of a run; on two lines where the names are long."""
    names = cut(front["network"]), cut(front["target"])
    between = " " if sum(map(len, names)) <= LONGEST else "\n"
    return f"{names[0]}{between}on {names[1]}, {front['clock_mhz']:g} MHz"


WIDE, NARROW = 2.5, 0.7
"""Decades from which powers of ten suffice, and below which a scale has round numbers only."""


def logarithmic(axis: Axis, low: float, high: float) -> None:
    """Ticks of an axis in the logarithm that do not run into each other, as plain numbers.

    Args:
        low, high: of what is drawn, above 0.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    decades = math.log10(high / low)
    if decades < NARROW:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0,) if decades > WIDE else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(plain())
    axis.set_minor_formatter(NullFormatter())


def plain() -> Formatter:
    """Numbers as people write them: no powers of ten beside the axis."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.10g}")


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write NAME.png and NAME.svg in a folder.

    Raises:
        InputError: the folder cannot be written.
    """
    make_folder(out)
    paths: list[Path] = []
    options: Sequence[tuple[str, dict[str, Any]]] = (
        ("png", {"dpi": 150}),
        ("svg", {"metadata": {"Date": None}}),
    )
    for kind, further in options:
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, **further)
        paths.append(out / f"{name}.{kind}")
        write_bytes(paths[-1], stream.getvalue())
    return paths
