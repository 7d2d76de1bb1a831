"""`syq-dse report`."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from syq_dse.cli.output import print_aside
from syq_dse.cli.paths import PATH


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", type=PATH, help="The page.  [default: report.html in the run]")
@click.option("--open", "shown", is_flag=True, help="Open it in a browser.")
def command(run: Path, out: Path | None, shown: bool) -> None:
    """Write a run as one page that opens from disk: front, layers, resources, sources, commands.

    \b
    Example: syq-dse report runs/fmnist-vgg-zcu102
    """
    from syq_dse.report import page

    path = page.write(run, out)
    click.echo(path)
    if shown and not webbrowser.open(path.absolute().as_uri()):
        print_aside("no browser is found here; the page is one file, which opens from disk")
