"""What commands print: tables or JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from syq_dse.search.front import Progress

QUIET_SECONDS = 2.0
"""What takes less shows no progress."""

LINE_SECONDS = 10.0
"""Time between two lines of progress where standard error is no terminal."""

SEED = click.IntRange(0, (1 << 63) - 1)
"""Seeds that generators take."""

WIDEST = 100
"""Columns at which text wraps in a wider terminal; a narrower one wraps at its own width."""

LONGEST_NAME = 32
"""Characters of a text in a table."""


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def print_table(
    rows: Sequence[Mapping[str, Any]], decimals: Mapping[str, int] | None = None
) -> None:
    """Rows as aligned columns, numbers to the right, None as a dash.

    Args:
        rows: at least one, all with the same keys, which are the headers.
        decimals: of columns that need their own; others show four digits of their least number.
    """
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        own = (decimals or {}).get(name)
        cells = [name, *_cells(values, own)]
        width = max(map(len, cells))
        right = any(isinstance(value, (int, float)) for value in values)
        columns.append([c.rjust(width) if right else c.ljust(width) for c in cells])
    for line in zip(*columns, strict=True):
        click.echo("  ".join(line).rstrip())


def _cells(values: Sequence[Any], decimals: int | None) -> list[str]:
    floats = [value for value in values if isinstance(value, float)]
    digits = _decimals(floats) if decimals is None else decimals
    cells = []
    for value in values:
        if isinstance(value, float):
            cells.append(f"{value:.{digits}f}")
        else:
            text = "-" if value is None else str(value)
            cut = len(text) > LONGEST_NAME
            cells.append(f"{text[: LONGEST_NAME - 3]}..." if cut else text)
    return cells


def _decimals(values: Sequence[float]) -> int:
    """Decimals with which the least of some numbers shows four digits, at most four decimals.

    >>> _decimals([3652.4, 435.1]), _decimals([0.0, 0.25]), _decimals([])
    (1, 4, 0)
    """
    least = min((abs(value) for value in values if value), default=1e3)
    return min(4, max(0, 3 - math.floor(math.log10(least))))


def number(value: float) -> str:
    """A number in a sentence: four digits, and all of those before the point.

    >>> number(1157.41), number(0.018736), number(127551.02)
    ('1157', '0.01874', '127551')
    """
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def print_text(text: str) -> None:
    """A sentence, wrapped at the terminal's width; words and paths stay whole."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for line in lines:
        click.echo(line)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error that appears once the work has taken two seconds.

    Where standard error is no terminal, a line every ten seconds.
    """
    start = time.monotonic()
    if sys.stderr.isatty():
        yield from _live_bar(start)
        return
    last = start

    def line(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > LINE_SECONDS:
            last = now
            click.echo(f"{done}/{total} {what}, {now - start:.0f} s", err=True)

    yield line


def _live_bar(start: float) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def update(done: int, total: int, what: str) -> None:
            shown = time.monotonic() - start > QUIET_SECONDS
            bar.update(task, completed=done, total=total, description=what, visible=shown)

        yield update
