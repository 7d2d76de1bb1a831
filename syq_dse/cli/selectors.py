"""The options that choose one design, which several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from syq_dse import network
from syq_dse.cli.paths import NETWORK, PATH, TARGET
from syq_dse.cost import design
from syq_dse.cost.estimate import LIMIT
from syq_dse.cost.pricing import Pricing, load

OPTIONS = (
    click.option(
        "--network",
        "name",
        type=NETWORK,
        required=True,
        help="Shipped, a TOML file, or what `import` takes.",
    ),
    click.option(
        "--target",
        "board",
        type=TARGET,
        required=True,
        help="A shipped board or technology, or a TOML file.",
    ),
    click.option("--scheme", type=PATH, help="Scheme or point, TOML or JSON."),
    click.option(
        "--uniform", metavar="WEIGHTS,BITS,GRANULARITY[,SCALE]", help="One choice for all."
    ),
    click.option("--interval", type=click.IntRange(min=1), help="Cycles between two images."),
    click.option("--fps", type=float, help="Images a second, in place of --interval."),
    click.option("--clock", "clock_mhz", type=float, help="Clock [MHz]; default: the target's."),
    click.option("--area-mm2", type=float, help="Budget of a technology [mm2]; default: its own."),
    click.option("--node", "node_nm", type=float, help="Scale a technology to this node [nm]."),
    click.option(
        "--limit", type=float, default=LIMIT, show_default=True, help="Most to fill, 0 to 1."
    ),
)

Command = TypeVar("Command", bound=Callable[..., Any])


def design_options(command: Command) -> Command:
    """Give a command the options that `settled` takes, as keywords, in their order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def settled(
    name: str,
    board: str,
    scheme: Path | None,
    uniform: str | None,
    interval: int | None,
    fps: float | None,
    clock_mhz: float | None,
    area_mm2: float | None,
    node_nm: float | None,
    limit: float,
) -> tuple[network.Network, Pricing, design.Settled]:
    """The network, the prices of its target, and the design that the options ask for.

    Raises:
        click.UsageError: options that exclude each other, or none where one is needed.
    """
    if (scheme is None) == (uniform is None):
        raise click.UsageError("give either --scheme FILE or --uniform WEIGHTS,BITS,GRANULARITY")
    if interval is not None and fps is not None:
        raise click.UsageError("give either --interval or --fps")
    net, prices = network.load(name), load(board, area_mm2, node_nm)
    asked = design.read(net, scheme) if scheme is not None else design.uniform(net, str(uniform))
    return net, prices, design.settle(prices, net, asked, interval, fps, clock_mhz, limit)
