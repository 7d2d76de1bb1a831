"""`syq-dse estimate`."""

from __future__ import annotations

from typing import Any

import click

from syq_dse.cli.output import (
    number,
    print_json,
    print_sources,
    print_table,
    print_text,
    print_warnings,
)
from syq_dse.cli.selectors import design_options, settled
from syq_dse.cost.document import document
from syq_dse.cost.estimate import estimate
from syq_dse.cost.parameters import reach, warnings
from syq_dse.cost.pricing import SHOWN


@click.command()
@design_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool, **asked: Any) -> None:
    """Price one design, layer by layer.

    Without --interval or --fps the shortest interval at which the design fits is taken.

    \b
    Example: syq-dse estimate --network cnv --target pynq-z1 --uniform int2,2,row
    """
    net, prices, chosen = settled(**asked)
    cost = estimate(prices, net, chosen.scheme, chosen.interval, chosen.folding)
    outside = warnings(prices, net, chosen.scheme, chosen.interval, chosen.folding)
    fastest = reach(prices, net, chosen.scheme, chosen.interval, chosen.folding)
    found = document(
        *(prices, net.name, cost, chosen.interval, chosen.clock_mhz, asked["limit"]),
        *(outside, fastest),
    )
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    columns = [
        name
        for name in found["total"]
        if name in SHOWN and (name != "uram" or found["capacity"][name])
    ]
    print_table([_layer_row(layer, columns) for layer in found["layers"]])
    click.echo()
    print_table(_resource_rows(found), {"filled %": 1})
    click.echo()
    print_text(
        f"{found['network']} on {found['target']} at {found['clock_mhz']:g} MHz: "
        f"{found['interval_cycles']} cycles an image, {number(found['fps'])} fps, "
        f"latency {number(found['latency_us'])} us, "
        f"{number(found['total']['energy_uj'])} uJ an image"
    )
    print_text(_verdict(found))
    if "reach" in found:
        of = found["reach"]
        print_text(
            f"longest path {number(of['path_ns'])} ns, {of['unit']} of {of['layer']}: up to "
            f"{number(of['clock_mhz'])} MHz"
        )
    print_sources(found["provenance"], ("lut", "area", "sram", "energy", "clock", "node"))
    print_warnings(found["warnings"])


TITLES = {
    "area_um2": "area um2",
    "gate_equivalents": "gates",
    "sram_bits": "sram bits",
    "sram_um2": "sram um2",
}
"""Resources in words, which can wrap."""


def _layer_row(layer: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    chosen = None
    if layer["weights"] is not None:
        chosen = f"{layer['weights']} {layer['granularity']}"
        if layer["granularity"] in ("row", "pixel") and layer["scale"] != "fixed8":
            chosen += f" {layer['scale']}"  # by layer and channel, thresholds take the scale
    return {
        "layer": layer["name"],
        "weights": chosen,
        "bits": f"{layer['input_bits']}>{layer['output_bits']}",
        "pe": layer["pe"],
        "simd": layer["simd"],
        "cycles": layer["cycles"],
        **{TITLES.get(name, name): layer["total"][name] for name in columns},
    }


def _resource_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What the part offers, and what is used though the part has none of it."""
    total, offered, share = found["total"], found["capacity"], found["utilization"]
    return [
        {
            "resource": "dram bits an image" if name == "dram_bits" else TITLES.get(name, name),
            "used": total[name],
            "of": offered[name],
            "filled %": None if share[name] is None else 100 * share[name],
        }
        for name in offered
        if total[name] or (offered[name] and name != "dram_bits")
    ]


def _verdict(found: dict[str, Any]) -> str:
    name = found["tightest"]
    used, within = found["total"][name], f"within {100 * found['limit']:g} % of {found['target']}"
    if found["fits"]:
        return f"fits {within}; fullest: {name}"
    most = int(found["capacity"][name] * found["limit"] + 1e-9)
    used = round(used)
    return f"does not fit {within}: needs {used} {name}, {used - most} more than {most}"
