"""`syq-dse export`."""

from __future__ import annotations

from pathlib import Path

import click

from syq_dse.cli.paths import PATH


@click.command()
@click.argument("run", type=PATH)
@click.option("--point", default="knee", show_default=True, help="Id, number or name of a point.")
@click.option("--format", "kind", type=click.Choice(["train"]), default="train", show_default=True)
@click.option("-o", "--out", type=PATH, help="Folder.  [default: .]")
def command(run: Path, point: str, kind: str, out: Path | None) -> None:
    """Write a point of a run: its scheme, folding, cost and accuracy as JSON, which training reads.

    Points with a name are knee, most-accurate, fastest and smallest.

    \b
    Example: syq-dse export runs/fmnist-vgg-zcu102 --point knee -o exported
    """
    from syq_dse.search.export import export_train

    click.echo(export_train(run, point, out or Path()))
