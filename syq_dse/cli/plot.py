"""`syq-dse plot`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

from syq_dse.cli.paths import PATH, words
from syq_dse.errors import InputError

NEEDS = {
    "front": "it has no point",
    "layers": "no layer has weights",
    "resources": "the target has no capacity",
    "measured": "no point was measured since; `syq-dse validate` trains points",
    "history": "it has no samplers.csv; `syq-dse explore --sampler all` leaves one",
}
"""The figures, and what a run lacks of which one cannot be drawn."""


def _axes() -> Iterable[str]:
    from syq_dse.report import front_plot

    return front_plot.AXES


COLUMNS = words(_axes)


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", type=PATH, help="Folder.  [default: the run]")
@click.option(
    "--figure",
    "figures",
    type=click.Choice([*NEEDS, "all"]),
    multiple=True,
    help="Repeat; all: those that the run has the data of.  [front]",
)
@click.option(
    "--x",
    "x_axis",
    shell_complete=COLUMNS,
    help="Column of front.csv on the front's x axis.  [2nd objective]",
)
@click.option(
    "--y",
    "y_axis",
    shell_complete=COLUMNS,
    help="Column of front.csv on the front's y axis.  [1st objective]",
)
def command(
    run: Path,
    out: Path | None,
    figures: tuple[str, ...],
    x_axis: str | None,
    y_axis: str | None,
) -> None:
    """Draw figures of a run as PNG and SVG.

    \b
    front      the points by two columns of front.csv
    layers     weights, granularity and activations of each layer along the front
    resources  what the named points fill of the part
    measured   expected and measured accuracy of the points that were trained
    history    hypervolume of each sampler over designs and over time

    \b
    Example: syq-dse plot runs/fmnist-vgg-zcu102 --x lut
    """
    from syq_dse.report import front_plot, layers_plot, measured_plot, resources_plot

    draw: dict[str, Callable[[Path, Path], list[Path]]] = {
        "front": lambda folder, to: front_plot.draw_run(folder, to, x_axis, y_axis),
        "layers": layers_plot.draw_run,
        "resources": resources_plot.draw_run,
        "measured": measured_plot.draw_run,
        "history": _history,
    }
    chosen = dict.fromkeys(figures or ["front"])
    every = "all" in chosen
    if (x_axis or y_axis) and not every and "front" not in chosen:
        raise click.UsageError("--x and --y are axes of the front: add --figure front")
    for name in draw if every else chosen:
        paths = draw[name](run, out or run)
        if not paths and name not in chosen:
            continue
        if not paths:
            raise InputError(f"{run}: no figure '{name}': {NEEDS[name]}")
        for path in paths:
            click.echo(path)


def _history(folder: Path, out: Path) -> list[Path]:
    """Draw history.png and history.svg of a run; nothing where samplers were not compared."""
    from syq_dse.report import sampler_plot
    from syq_dse.search import run

    run.read_front(folder)
    if not (folder / run.SAMPLERS_CSV).is_file():
        return []
    return sampler_plot.draw(folder, out, "history")
