"""`syq-dse networks`."""

from __future__ import annotations

from typing import Any

import click

from syq_dse import catalogue, network
from syq_dse.cli.output import print_json, print_note, print_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the shipped networks.

    \b
    Example: syq-dse networks --json
    """
    rows: list[dict[str, Any]] = [
        {
            "network": net.name,
            "input": str(net.input_shape),
            "layers": len(net.engines),
            "macs": net.macs,
            "parameters": net.parameters,
            "dataset": net.file.recipe.dataset,
            "provenance": net.file.provenance,
        }
        for net in map(network.load, catalogue.names("models"))
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("network", "input", "layers", "MMAC", "parameters", "dataset")
    shown = [{**row, "MMAC": row["macs"] / 1e6} for row in rows]
    print_table([{name: row[name] for name in columns} for row in shown], {"MMAC": 2})
    print_note("Layers are those with weights; parameters include batch-norm and bias.")
