"""`syq-dse plot`."""

from __future__ import annotations

from pathlib import Path

import click

from syq_dse.cli.paths import PATH


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", type=PATH, help="Folder.  [default: the run]")
@click.option("--x", "x_axis", help="Column of front.csv on the x axis.  [second objective]")
@click.option("--y", "y_axis", help="Column of front.csv on the y axis.  [first objective]")
def command(run: Path, out: Path | None, x_axis: str | None, y_axis: str | None) -> None:
    """Draw the front of a run as PNG and SVG.

    \b
    Example: syq-dse plot runs/fmnist-vgg-zcu102 --x lut
    """
    from syq_dse.report import front_plot

    for path in front_plot.draw_run(run, out or run, x_axis, y_axis):
        click.echo(path)
