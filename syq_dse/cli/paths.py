"""Arguments that are files or folders."""

from __future__ import annotations

import os
from pathlib import Path

import click


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
