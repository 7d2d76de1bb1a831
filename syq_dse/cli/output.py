"""What commands print: tables or JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from syq_dse.search.front import Progress

QUIET_SECONDS = 2.0
"""What takes less shows no progress."""


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def print_table(rows: Sequence[Mapping[str, Any]], note: str = "") -> None:
    """Rows as aligned columns, numbers to the right."""
    if rows:
        names = list(rows[0])
        cells = [[_cell(row[name]) for name in names] for row in rows]
        widths = [max(len(n), *(len(c[i]) for c in cells)) for i, n in enumerate(names)]
        right = [isinstance(rows[0][name], (int, float)) for name in names]
        for line in [names, *cells]:
            padded = (
                text.rjust(width) if to_right else text.ljust(width)
                for text, width, to_right in zip(line, widths, right, strict=True)
            )
            click.echo("  ".join(padded).rstrip())
    if note:
        click.echo(note)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error that appears once the work has taken two seconds.

    Where standard error is no terminal, a line every ten seconds.
    """
    if sys.stderr.isatty():
        yield from _live_bar()
    else:
        start = last = time.monotonic()

        def line(done: int, total: int, what: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - start > QUIET_SECONDS and now - last > 10:
                last = now
                click.echo(f"{done}/{total} {what}, {now - start:.0f} s", err=True)

        yield line


def _live_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )
    start = time.monotonic()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def update(done: int, total: int, what: str) -> None:
            shown = time.monotonic() - start > QUIET_SECONDS
            bar.update(task, completed=done, total=total, description=what, visible=shown)

        yield update
