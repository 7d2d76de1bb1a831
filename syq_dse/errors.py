"""The errors that a user can cause, each with the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SyqDseError(Exception):
    """Base of every error that the command line turns into one line.

    The message tells the place, the rule, the value and, where one is known, the remedy.
    """

    exit_code = 1


class InputError(SyqDseError):
    """A file, a name or a value breaks a rule."""


class InfeasibleError(SyqDseError):
    """No design meets the limits; the message names the tightest one and the missing amount."""

    exit_code = 3


def unknown(kind: str, value: object, known: Iterable[str]) -> str:
    """The text for a name that is not in a list, with the nearest known name.

    >>> unknown("granularity", "pixels", ["layer", "row", "pixel"])
    "unknown granularity 'pixels'; known: layer, row, pixel (did you mean 'pixel'?)"
    """
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.7)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {value!r}; known: {', '.join(map(one_line, names))}{hint}"


def one_line(name: str) -> str:
    r"""A name as it stands, or quoted where it would break the line of a message.

    >>> print(one_line("conv1"), one_line("two\nlines"))
    conv1 'two\nlines'
    """
    return name if name.isprintable() else repr(name)
