"""`syq-dse report`."""

from __future__ import annotations

from pathlib import Path

import click

from syq_dse.cli.paths import PATH


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", type=PATH, help="The page.  [default: report.html in the run]")
def command(run: Path, out: Path | None) -> None:
    """Write a run as one page that opens from disk: front, layers, resources, sources, commands.

    \b
    Example: syq-dse report runs/fmnist-vgg-zcu102
    """
    from syq_dse.report import page

    click.echo(page.write(run, out))
