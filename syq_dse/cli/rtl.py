"""`syq-dse rtl`."""

from __future__ import annotations

from pathlib import Path

import click

from syq_dse import network, target
from syq_dse.cli.output import print_json, print_table
from syq_dse.cost import design
from syq_dse.cost.document import RESOURCES
from syq_dse.cost.estimate import LIMIT
from syq_dse.cost.fpga import pricing


@click.command()
@click.option("--network", "name", required=True, help="A shipped network or a TOML file.")
@click.option("--target", "board", required=True, help="A shipped board or a TOML file.")
@click.option("--scheme", type=click.Path(path_type=Path), help="Scheme or point, TOML or JSON.")
@click.option("--uniform", metavar="WEIGHTS,BITS,GRANULARITY[,SCALE]", help="One choice for all.")
@click.option("--interval", type=click.IntRange(min=1), help="Cycles between two images.")
@click.option("--fps", type=float, help="Images a second, in place of --interval.")
@click.option("--clock", "clock_mhz", type=float, help="Clock [MHz]; default: the board's.")
@click.option("--integers", type=click.Path(path_type=Path), help="Trained integers, .npz.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of random integers.  [0]")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON document.")
def command(
    name: str,
    board: str,
    scheme: Path | None,
    uniform: str | None,
    interval: int | None,
    fps: float | None,
    clock_mhz: float | None,
    integers: Path | None,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Write a design as Verilog: a file a unit, a file an engine, a top, and manifest.json.

    Without --integers, weights, scales and thresholds are random; integers.npz holds them.

    \b
    Example: syq-dse rtl --network lenet5 --target zcu102 --uniform ternary,2,pixel -o lenet5-rtl
    """
    if (scheme is None) == (uniform is None):
        raise click.UsageError("give either --scheme FILE or --uniform WEIGHTS,BITS,GRANULARITY")
    if interval is not None and fps is not None:
        raise click.UsageError("give either --interval or --fps")
    from syq_dse.rtl import write

    net, prices = network.load(name), pricing(target.load(board))
    asked = design.read(net, scheme) if scheme is not None else design.uniform(net, str(uniform))
    settled = design.settle(prices, net, asked, interval, fps, clock_mhz, LIMIT)
    listed = write.write(prices, net, settled, integers, seed, out)
    if as_json:
        print_json(listed)
        return
    rows = [
        {
            "layer": entry["layer"] or "whole network",
            **{column: entry["estimate"][column] for column in RESOURCES},
        }
        for entry in listed
        if entry["unit"] in ("engine", "network")
    ]
    print_table(rows)
    click.echo(f"{len(listed)} modules, estimated: {out / 'manifest.json'}")
