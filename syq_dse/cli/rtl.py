"""`syq-dse rtl`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from syq_dse.cli.output import print_json, print_table
from syq_dse.cli.paths import PATH
from syq_dse.cli.selectors import design_options, settled
from syq_dse.cost.pricing import SHOWN


@click.command()
@design_options
@click.option("--integers", type=PATH, help="Trained integers, .safetensors.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of random integers.  [0]")
@click.option("-o", "--out", type=PATH, required=True, help="Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON document.")
def command(
    integers: Path | None,
    seed: int,
    out: Path,
    as_json: bool,
    **asked: Any,
) -> None:
    """Write a design as Verilog: a file a unit, a file an engine, a top, and manifest.json.

    Without --integers, weights, scales and thresholds are random; integers.safetensors has them.

    \b
    Example: syq-dse rtl --network lenet5 --target zcu102 --uniform int2,2,row -o rtl
    """
    from syq_dse.rtl import write

    net, prices, chosen = settled(**asked)
    listed = write.write(prices, net, chosen, integers, seed, out)
    if as_json:
        print_json(listed)
        return
    rows = [
        {
            "layer": entry["layer"] or "whole network",
            **{
                column: entry["estimate"][column] for column in SHOWN if column in entry["estimate"]
            },
        }
        for entry in listed
        if entry["unit"] in ("engine", "network")
    ]
    print_table(rows)
    click.echo(f"{len(listed)} modules, estimated: {out / 'manifest.json'}")
