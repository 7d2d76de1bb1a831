"""Arguments that are files or folders, and networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from syq_dse import catalogue


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


PATH = _Path(path_type=Path)


class _Network(click.ParamType[str]):
    """A shipped network, a TOML file, or what `import` takes, which becomes a file of the cache."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value)
        if not catalogue.is_source(name):
            return name
        from syq_dse.interop import files

        return str(files.cached(name))


NETWORK = _Network()
