"""Arguments that are files, folders or names, and how the shell completes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from syq_dse import catalogue
from syq_dse.errors import InputError


class _Path(click.Path):
    """An empty one, as of a shell's unset variable, is refused: it would be the folder of now."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        if value == "":
            self.fail("must not be empty; '.' is the folder of now", param, ctx)
        return super().convert(value, param, ctx)


Completed = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

PATH = _Path(path_type=Path)


class _Named(click.ParamType[str]):
    """A shipped name, which the shell completes, or a user's own file."""

    def __init__(self, name: str, *folders: tuple[str, str]) -> None:
        self.name = name
        self.folders = folders  # packages and folders in them

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that fit, and files; the latter first, else bash would show no name."""
        names = [name for place in self.folders for name in catalogue.names(*place)]
        fit = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *fit]


class _Network(_Named):
    """A shipped network, a TOML file, or what `import` takes, which becomes a file of the cache."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value)
        if not catalogue.is_source(name) or (ctx is not None and ctx.resilient_parsing):
            return name
        from syq_dse.interop import files

        return str(files.cached(name))


NETWORK = _Network("network", ("models", ""))
TARGET = _Named("target", ("hwmodels", "fpga"), ("hwmodels", "asic"))
TECHNOLOGY = _Named("technology", ("hwmodels", "asic"))
STUDY = _Named("study", ("studies", ""))
RECIPE = _Named("recipe", ("models", "recipes"))
DATASET = _Named("dataset", ("models", "datasets"))


def words(names: Callable[[], Iterable[str]]) -> Completed:
    """How the shell completes an option whose values are few.

    Args:
        names: gives them; what it needs is loaded when somebody presses Tab.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete)]

    return complete


class _Point(click.ParamType[str]):
    """The name of a point of the run that stands before it."""

    name = "point"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that every run has, then the ids of this one."""
        from syq_dse.search import points, run

        names = list(points.NAMED)
        folder = ctx.params.get("run") or next(iter(ctx.args), None)  # what click leaves of it
        if folder is not None:
            with suppress(InputError):
                names += [row["point"] for row in run.read_front(Path(folder))["points"]]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


POINT = _Point()
