"""`syq-dse export`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from syq_dse.cli.output import print_aside
from syq_dse.cli.paths import PATH, POINT

DESIGNS = {"finn": "syq_dse.interop.finn", "hls4ml": "syq_dse.interop.hls4ml"}
"""Formats of a design, each a module with write(point, out)."""

NETWORKS = {
    "brevitas": "syq_dse.interop.brevitas",
    "qonnx": "syq_dse.interop.qonnx",
    "onnx": "syq_dse.interop.integer_onnx",
}
"""Formats of a trained network, each a module with write(trained, name, out)."""


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--point", type=POINT, default="knee", show_default=True, help="Id, number or name of a point."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["train", *NETWORKS, *DESIGNS]),
    default="train",
    show_default=True,
)
@click.option("--training", type=PATH, help="Folder of `train`.  [that of the point in the run]")
@click.option("-o", "--out", type=PATH, help="Folder.  [default: .]")
def command(run: Path, point: str, kind: str, training: Path | None, out: Path | None) -> None:
    """Write a point of a run for other tools.

    train is its scheme, folding, cost and accuracy as JSON, which `train` reads. brevitas, qonnx
    and onnx are the trained network, and need a training; finn and hls4ml are the configuration of
    these flows. Points with a name are knee (of the
    run's objectives), most-accurate, fastest and smallest (by the resource that is an objective,
    else by the fullest).

    \b
    Example: syq-dse export runs/fmnist-vgg-zcu102 --point knee -o exported
    """
    folder = out or Path()
    if kind == "train":
        from syq_dse.search.export import export_train

        click.echo(export_train(run, point, folder))
        return
    from syq_dse.interop import point as points

    asked = points.read_point(run, point)
    if kind in DESIGNS:
        written = import_module(DESIGNS[kind]).write(asked, folder)
    else:
        from syq_dse.interop import trained

        found = trained.trained(run, asked, training)
        module = import_module(NETWORKS[kind])
        written = module.write(found, asked.name, folder)
        for note in getattr(module, "notes", lambda of: [])(found):
            print_aside(note)
    for path in written:
        click.echo(path)
