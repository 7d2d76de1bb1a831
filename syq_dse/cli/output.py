"""What commands print: tables or JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import re
import shutil
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from syq_dse.cli import terminal

if TYPE_CHECKING:
    from rich.table import Table

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
"""Characters of a text in a table that is read through a pipe."""


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def print_table(
    rows: Sequence[Mapping[str, Any]], decimals: Mapping[str, int] | None = None
) -> None:
    """Rows as aligned columns, numbers to the right, None as a dash.

    In a terminal the table fits its width: headers wrap, then texts. In a pipe a row is a
    line, in which long texts are cut but for the last.

    Args:
        rows: at least one, all with the same keys, which are the headers.
        decimals: of columns that need their own; others show four digits of their least number.
    """
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        right = any(isinstance(value, (int, float)) for value in values)
        columns.append(_Column(name, _cells(values, (decimals or {}).get(name)), right))
    if terminal.is_terminal():
        console = terminal.console()
        fitted = _fitted(columns, console.width)
        if fitted is not None:
            console.print(fitted)
            return
    padded = [column.padded(cut=column is not columns[-1]) for column in columns]
    for line in zip(*padded, strict=True):
        click.echo("  ".join(line).rstrip())


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: list[str]
    right: bool  # numbers

    def padded(self, cut: bool) -> list[str]:
        """Header and cells, all of one width; long texts may be cut."""
        cells = [self.name, *(_cut(cell) if cut else cell for cell in self.cells)]
        width = max(map(len, cells))
        return [c.rjust(width) if self.right else c.ljust(width) for c in cells]


LEAST_TEXT = 7
"""Columns of a terminal that a text keeps before a table is printed as it is."""


def _fitted(columns: Sequence[_Column], width: int) -> Table | None:
    """The table for a terminal of some columns; None: its numbers alone are too wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    whole = [max(map(len, (column.name, *column.cells))) for column in columns]
    wraps = sum(whole) + 2 * (len(columns) - 1) > width
    gap = 1 if wraps else 2
    least = [
        max(len(word) for word in (*column.cells, *column.name.split()))
        if column.right
        else min(wide, max(LEAST_TEXT, *map(len, column.name.split())))
        for column, wide in zip(columns, whole, strict=True)
    ]
    if sum(least) + gap * (len(columns) - 1) > width:
        return None
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for column, narrow in zip(columns, least, strict=True):
        header = column.name.replace(" ", "\n") if wraps and column.right else column.name
        table.add_column(
            Text(header, style="bold"),
            justify="right" if column.right else "left",
            no_wrap=column.right,
            overflow="fold",
            min_width=narrow,
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _cells(values: Sequence[Any], decimals: int | None) -> list[str]:
    floats = [value for value in values if isinstance(value, float)]
    digits = _decimals(floats) if decimals is None else decimals
    cells = []
    for value in values:
        if isinstance(value, float):
            cells.append(f"{value:.{digits}f}")
        else:
            cells.append("-" if value is None else terminal.printable(str(value)))
    return cells


def _cut(text: str) -> str:
    return f"{text[: LONGEST_NAME - 3]}..." if len(text) > LONGEST_NAME else text


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


def print_text(text: str, style: str = "") -> None:
    """A sentence, wrapped at the terminal's width; words and paths stay whole.

    Args:
        style: as rich names them; terminals only.
    """
    width = min(WIDEST, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for line in map(terminal.printable, lines):
        terminal.echo(line, style)


def print_note(text: str) -> None:
    """A sentence that explains a result; --quiet leaves it out."""
    if terminal.level() != "quiet":
        print_text(text)


def print_aside(text: str) -> None:
    """A note beside a result, on standard error; --quiet leaves it out."""
    if terminal.level() != "quiet":
        click.echo(f"note: {terminal.printable(text)}", err=True)


def print_sources(provenance: Mapping[str, str], names: Sequence[str]) -> None:
    """Where figures come from, of those names that are there.

    The commands that made them stand there with --verbose only.
    """
    for name in names:
        if name in provenance:
            source = provenance[name]
            print_note(f"{name}: {source if terminal.level() == 'verbose' else brief(source)}")


def brief(source: str) -> str:
    """A source without the commands by which it was made.

    >>> brief("calibrated: fitted, by `syq-dse a --b 1`, `syq-dse c`, yosys; worst 18 %")
    'calibrated: fitted, yosys; worst 18 %'
    """
    return re.sub(r", by `[^`]*`(, `[^`]*`)*", "", source)


FEW = 3
"""Warnings that are shown without --verbose."""


def print_warnings(lines: Sequence[str]) -> None:
    """Warnings about a result, all of them with --verbose."""
    shown = lines if terminal.level() == "verbose" else lines[:FEW]
    for line in shown:
        print_text(f"warning: {line}", "yellow")
    if len(shown) < len(lines):
        print_text(f"{len(lines) - len(shown)} more warnings; --verbose shows them", "yellow")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error once the work has taken two seconds; with --verbose from the first.

    Where standard error is no terminal, a line every ten seconds; with --quiet nothing.
    """
    start = time.monotonic()
    if terminal.level() == "quiet":
        yield lambda done, total, what: None
        return
    if terminal.is_terminal("err"):
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
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = terminal.console("err")
    with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def update(done: int, total: int, what: str) -> None:
            shown = terminal.level() == "verbose" or time.monotonic() - start > QUIET_SECONDS
            bar.update(task, completed=done, total=total, description=what, visible=shown)

        yield update
