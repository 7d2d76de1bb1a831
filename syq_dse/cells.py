"""Names in CSV files: one that a spreadsheet would calculate stays text, and comes back as it was.

A name that begins with = + - @, or with what does not print, has an apostrophe before it in the
file, as spreadsheets write text; so has one that begins with an apostrophe. A dash alone has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

CALCULATED = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def to_cell(value: Any) -> Any:
    """A value as its cell has it.

    >>> to_cell("=cmd()"), to_cell("conv1"), to_cell(-1)
    ("'=cmd()", 'conv1', -1)
    """
    calculated = isinstance(value, str) and value.startswith(CALCULATED) and value != "-"
    return f"'{value}" if calculated else value


def of_cell(value: Any) -> Any:
    """The reverse of `to_cell`.

    >>> of_cell("'=cmd()"), of_cell("conv1")
    ('=cmd()', 'conv1')
    """
    escaped = isinstance(value, str) and value.startswith("'") and value[1:].startswith(CALCULATED)
    return value[1:] if escaped else value


def text(rows: pd.DataFrame) -> str:
    """A table as a CSV file has it."""
    return rows.map(to_cell).to_csv(index=False)


def read_back(rows: pd.DataFrame) -> pd.DataFrame:
    """A table that was read from a CSV file, with its names as they were."""
    found = rows.copy()
    for name in found.columns:
        if found[name].map(lambda value: isinstance(value, str)).any():
            found[name] = found[name].map(of_cell)
    return found
