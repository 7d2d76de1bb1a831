"""`syq-dse targets`."""

from __future__ import annotations

import click

from syq_dse import catalogue, records, target
from syq_dse.cli.output import print_json, print_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the shipped boards.

    \b
    Example: syq-dse targets --json
    """
    boards = [target.load(name) for name in catalogue.names("hwmodels", "fpga")]
    if as_json:
        print_json([records.plain(board) for board in boards])
        return
    rows = [
        {
            "target": board.name,
            "family": board.family,
            "lut": board.capacity.lut,
            "ff": board.capacity.ff,
            "dsp": board.capacity.dsp,
            "bram18": board.capacity.bram18,
            "uram": board.capacity.uram,
            "dram GB/s": board.dram.bandwidth_gb_s,
            "MHz": board.clock_mhz,
        }
        for board in boards
    ]
    print_table(rows, {"dram GB/s": 2, "MHz": 0})
