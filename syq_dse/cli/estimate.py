"""`syq-dse estimate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from syq_dse import network, target
from syq_dse.cli.output import print_json, print_table
from syq_dse.cost import design
from syq_dse.cost.document import RESOURCES, document
from syq_dse.cost.estimate import LIMIT, estimate
from syq_dse.cost.fpga import pricing


@click.command()
@click.option("--network", "name", required=True, help="A shipped network or a TOML file.")
@click.option("--target", "board", required=True, help="A shipped board or a TOML file.")
@click.option("--scheme", type=click.Path(path_type=Path), help="Scheme or point file (TOML, JSON).")
@click.option("--uniform", metavar="WEIGHTS,BITS,GRANULARITY[,SCALE]", help="One choice for all.")
@click.option("--interval", type=click.IntRange(min=1), help="Cycles between two images.")
@click.option("--fps", type=float, help="Images a second, in place of --interval.")
@click.option("--clock", "clock_mhz", type=float, help="Clock [MHz]; default: the board's.")
@click.option("--limit", type=float, default=LIMIT, show_default=True, help="Share to fill at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    name: str,
    board: str,
    scheme: Path | None,
    uniform: str | None,
    interval: int | None,
    fps: float | None,
    clock_mhz: float | None,
    limit: float,
    as_json: bool,
) -> None:
    """Price one design, layer by layer.

    Without --interval or --fps the shortest interval at which the design fits is taken.

    \b
    Example: syq-dse estimate --network cnv --target pynq-z1 --uniform binary,2,layer --fps 1000
    """
    if (scheme is None) == (uniform is None):
        raise click.UsageError("give either --scheme FILE or --uniform WEIGHTS,BITS,GRANULARITY")
    if interval is not None and fps is not None:
        raise click.UsageError("give either --interval or --fps")
    net, prices = network.load(name), pricing(target.load(board))
    asked = (
        design.read(net, scheme) if scheme is not None else design.uniform(net, str(uniform))
    )
    settled = design.settle(prices, net, asked, interval, fps, clock_mhz, limit)
    cost = estimate(prices, net, settled.scheme, settled.interval, settled.folding)
    found = document(prices, net.name, cost, settled.interval, settled.clock_mhz, limit)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    rows = []
    for layer in found["layers"]:
        units = layer["units"].values()
        rows.append(
            {
                "layer": layer["name"],
                "weights": layer["weights"],
                "granularity": layer["granularity"],
                "bits": f"{layer['input_bits']}>{layer['output_bits']}",
                "pe": layer["pe"],
                "simd": layer["simd"],
                "cycles": layer["cycles"],
                **{column: sum(unit[column] for unit in units) for column in RESOURCES},
            }
        )
    print_table(rows)
    total, used = found["total"], found["utilization"]
    click.echo()
    for column in RESOURCES:
        share = "-" if used[column] is None else f"{100 * used[column]:.1f} %"
        offered = found["capacity"][column]
        click.echo(f"{column:8} {total[column]:>10} of {offered:>8}  {share:>7}")
    click.echo(f"energy   {total['energy_uj']:.4g} uJ an image")
    click.echo(
        f"{found['interval_cycles']} cycles an image at {found['clock_mhz']:g} MHz: "
        f"{found['fps']:.1f} fps, latency {found['latency_us']:.1f} us"
    )
    verdict = "fits" if found["fits"] else "does not fit"
    click.echo(
        f"{verdict} {found['target']} filled to at most {found['limit']:g}; "
        f"fullest: {found['tightest']}"
    )
    click.echo(f"lut: {found['provenance']['lut']}")
    click.echo(f"energy: {found['provenance']['energy']}")
