"""`syq-dse networks`."""

from __future__ import annotations

import click

from syq_dse import catalogue, network
from syq_dse.cli.output import print_json, print_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the shipped networks.

    \b
    Example: syq-dse networks --json
    """
    rows = []
    for name in catalogue.names("models"):
        found = network.load(name)
        rows.append(
            {
                "network": name,
                "input": str(found.input_shape),
                "layers": len(found.engines),
                "MMAC": found.macs / 1e6,
                "parameters": found.parameters,
                "dataset": found.file.recipe.dataset,
            }
        )
    if as_json:
        provenance = {n: network.load(n).file.provenance for n in catalogue.names("models")}
        print_json(
            [
                {
                    "network": row["network"],
                    "input": row["input"],
                    "layers": row["layers"],
                    "macs": network.load(str(row["network"])).macs,
                    "parameters": row["parameters"],
                    "dataset": row["dataset"],
                    "provenance": provenance[str(row["network"])],
                }
                for row in rows
            ]
        )
    else:
        print_table(rows, "Layers are those with weights; parameters include batch-norm and bias.")
