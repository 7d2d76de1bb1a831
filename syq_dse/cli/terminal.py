"""How much a command says, and whether its reader is a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["quiet", "normal", "verbose"]

LEVEL = "syq_dse.level"
"""Where a click context keeps the level: its `meta` is one with that of its parents."""

Stream = Literal["out", "err"]


def level() -> Level:
    """How much the command that runs shall say."""
    context = click.get_current_context(silent=True)
    found: Level = context.meta.get(LEVEL, "normal") if context else "normal"
    return found


def options(command: click.Command) -> None:
    """Give a command `--quiet` and `--verbose`; they stand before a command or after it."""
    texts = {
        "quiet": "No progress and no notes: results, warnings and errors.",
        "verbose": "Whole sources of figures, and every warning.",
    }
    known = {option for parameter in command.params for option in parameter.opts}
    for name, text in texts.items():
        if f"--{name}" in known:
            continue
        command.params.append(
            click.Option(
                [f"--{name}", f"-{name[0]}"],
                is_flag=True,
                expose_value=False,
                callback=_chosen,
                help=text,
            )
        )


def _chosen(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    given = context.meta.setdefault(LEVEL, parameter.name)
    if given != parameter.name:
        raise click.UsageError("give either --quiet or --verbose")


def is_terminal(stream: Stream = "out") -> bool:
    """Whether somebody looks at it: a terminal that can do more than print."""
    return (sys.stdout if stream == "out" else sys.stderr).isatty() and (
        os.environ.get("TERM") != "dumb"
    )


def console(stream: Stream = "out") -> Console:
    """A console of rich; without any escape sequence where NO_COLOR is set.

    Source of the latter: https://no-color.org.
    """
    from rich.console import Console

    settings: dict[str, Any] = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    return Console(stderr=stream == "err", highlight=False, soft_wrap=False, **settings)


def echo(line: str, style: str = "", styled: int | None = None, stream: Stream = "out") -> None:
    """Print a line; in a terminal with a style.

    Args:
        style: as rich names them.
        styled: so many characters of it; None: all.
    """
    if style and is_terminal(stream):
        from rich.text import Text

        text = Text(line)
        text.stylize(style, 0, styled)
        console(stream).print(text, soft_wrap=True)
    else:
        click.echo(line, err=stream == "err")


def printable(text: str) -> str:
    r"""A text that cannot move the cursor: what does not print is shown as \n, \x1b."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
