"""`syq-dse targets`."""

from __future__ import annotations

import click

from syq_dse import catalogue, records, target, technology
from syq_dse.cli.output import print_json, print_table
from syq_dse.cost import pricing


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the shipped boards and technologies.

    \b
    Example: syq-dse targets --json
    """
    boards = [target.load(name) for name in catalogue.names("hwmodels", pricing.BOARDS)]
    found = [technology.load(name) for name in catalogue.names("hwmodels", pricing.TECHNOLOGIES)]
    if as_json:
        print_json([records.plain(one) for one in (*boards, *found)])
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
    click.echo()
    of_silicon = [
        {
            "target": one.name,
            "nm": one.node_nm,
            "V": one.supply_v,
            "area mm2": one.area_mm2,
            "MHz": one.clock_mhz,
        }
        for one in found
    ]
    print_table(of_silicon, {"nm": 0, "V": 2, "area mm2": 1, "MHz": 0})
