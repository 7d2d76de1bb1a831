"""`estimate --json` against DESIGN.md section 8, over the whole space; then what a person reads."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from syq_dse import catalogue, network, scheme, target
from syq_dse.cost import timing
from syq_dse.cost.design import grid
from syq_dse.cost.estimate import geometries
from syq_dse.network import Network

NETWORKS = catalogue.names("models")

TARGETS = ["pynq-z1", "ulx3s-85f", "zcu102", "zcu104"]
"""A board of every family, one with UltraRAM."""

RESOURCES = ("lut", "ff", "dsp", "bram18", "uram")

KEYS = {
    "network": str,
    "target": str,
    "clock_mhz": float,
    "interval_cycles": int,
    "fps": float,
    "latency_us": float,
    "total": dict,
    "capacity": dict,
    "utilization": dict,
    "fits": bool,
    "layers": list,
}

LAYER_KEYS = {
    "name",
    "weights",
    "granularity",
    "scale",
    "input_bits",
    "output_bits",
    "pe",
    "simd",
    "cycles",
    "units",
}

UNITS = {"window", "weights", "mac", "scale", "requant", "pool", "add", "fifo"}


def random_scheme(net: Network, draw: random.Random) -> dict[str, Any]:
    """Any choice of DESIGN.md for every layer and every tensor, as a scheme file says it."""
    layers: dict[str, dict[str, Any]] = {node.name: {} for node in net.nodes}
    for node in net.engines:
        layers[node.name] |= {
            "weights": draw.choice(scheme.WEIGHTS),
            "granularity": draw.choice(scheme.GRANULARITIES),
            "scale": draw.choice(scheme.SCALES),
        }
    for name, tensor in scheme.tensors(net).items():
        if tensor.name == name != network.INPUT and tensor.kind != "result":
            key = "residual_bits" if tensor.kind == "residual" else "bits"
            layers[name][key] = draw.randint(1, 8)
    return {"network": net.name, "input_bits": draw.randint(1, 8), "layers": layers}


def check_consistent(found: dict[str, Any], net: Network, board: str, limit: float = 0.8) -> None:
    """Everything in the document that follows from something else in it."""
    for key, kind in KEYS.items():
        assert isinstance(found[key], kind), key
    assert (found["network"], found["target"]) == (net.name, board)
    layers, total, offered = found["layers"], found["total"], found["capacity"]
    units = [unit for layer in layers for unit in layer["units"].values()]
    for name in (*RESOURCES, "lutram", "dram_bits"):
        assert total[name] == sum(layer["total"][name] for layer in layers)
        assert all(unit[name] >= 0 for unit in units)
        for layer in layers:
            own = [unit[name] for unit in layer["units"].values()]
            if name == "lut":  # LUTs that units share count once
                assert max(own) <= layer["total"][name] <= sum(own)
            else:
                assert layer["total"][name] == sum(own)
    # Energy is added up in pJ, and divided once.
    assert total["energy_uj"] == sum(unit["energy_pj"] for unit in units) / 1e6

    streams = timing.stream_cycles(net, found["sized_for_cycles"])
    assert found["interval_cycles"] == max(streams, *(layer["cycles"] for layer in layers))
    assert found["fps"] == found["clock_mhz"] * 1e6 / found["interval_cycles"]
    assert found["latency_us"] > 0

    capacity = target.load(board).capacity
    for name in (*RESOURCES, "lutram"):
        assert offered[name] == getattr(capacity, name)
    for name, size in offered.items():
        share = total[name] / size if size else (None if total[name] else 0.0)
        assert found["utilization"][name] == share
    kept = [share is not None and share <= limit for share in found["utilization"].values()]
    assert found["fits"] == all(kept)

    order = [node.name for node in net.nodes]
    assert [n for n in order if n in {layer["name"] for layer in layers}] == [
        layer["name"] for layer in layers
    ]
    assert {node.name for node in net.engines} <= {layer["name"] for layer in layers}
    for layer in layers:
        assert set(layer) >= LAYER_KEYS
        assert set(layer["units"]) <= UNITS
        node = net.by_name[layer["name"]]
        if node.has_weights:
            assert {"window", "weights", "mac", "scale", "requant"} <= set(layer["units"])
            folds = (node.out_shape.c // layer["pe"]) * (node.fan_in // layer["simd"])
            assert layer["cycles"] == node.out_shape.pixels * folds
        else:
            assert layer["pe"] is layer["simd"] is layer["weights"] is None


@pytest.mark.parametrize("board", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_scheme_makes_a_document_that_is_consistent(
    cli, workplace: Path, name: str, board: str
) -> None:
    draw = random.Random(f"{name} {board}")
    net = network.load(name)
    asked = random_scheme(net, draw)
    (workplace / "scheme.json").write_text(json.dumps(asked))
    interval = draw.choice(grid(net, 24))
    done = cli(
        *("estimate", "--network", name, "--target", board, "--scheme", "scheme.json"),
        *("--interval", str(interval), "--json"),
    )
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    check_consistent(found, net, board)
    assert found["sized_for_cycles"] == interval
    assert found["interval_cycles"] <= interval
    written = scheme.tensors(net)
    bits = {network.INPUT: asked["input_bits"]} | {
        layer: entry.get("bits", entry.get("residual_bits"))
        for layer, entry in asked["layers"].items()
    }
    for layer in found["layers"]:
        node = net.by_name[layer["name"]]
        for key in ("weights", "granularity", "scale"):
            assert layer[key] == asked["layers"][node.name].get(key)
        assert layer["input_bits"] == max(bits[written[n].name] for n in node.inputs)
        if written[node.name].kind != "result":
            assert layer["output_bits"] == bits[written[node.name].name]


@pytest.mark.parametrize("name", ["cnv", "cybersec-mlp", "fmnist-vgg", "lenet5", "resnet8"])
def test_without_an_interval_the_shortest_of_the_grid_that_fits_is_taken(cli, name: str) -> None:
    selectors = ("estimate", "--network", name, "--target", "pynq-z1", "--json")
    selectors += ("--uniform", "ternary,2,layer")
    found = json.loads(cli(*selectors).out)
    check_consistent(found, network.load(name), "pynq-z1")
    assert found["fits"]
    intervals = grid(network.load(name), 24)
    place = intervals.index(found["sized_for_cycles"])
    shorter = [str(interval) for interval in intervals[:place]][-3:]
    for interval in shorter:
        assert not json.loads(cli(*selectors, "--interval", interval).out)["fits"]


@pytest.mark.parametrize("name", NETWORKS)
def test_uniform_leaves_first_and_last_their_defaults(cli, name: str) -> None:
    net = network.load(name)
    longest = str(timing.slowest_interval(geometries(net)))
    done = cli(
        *("estimate", "--network", name, "--target", "zcu102", "--json"),
        *("--uniform", "ternary,3,row,shift", "--interval", longest),
    )
    layers = {layer["name"]: layer for layer in json.loads(done.out)["layers"]}
    first, *inner, last = (layers[node.name] for node in net.engines)
    for layer in (first, last):
        assert (layer["weights"], layer["granularity"]) == ("int8", "layer")
        assert layer["input_bits"] == 8
    for layer in inner:
        choice = (layer["weights"], layer["granularity"], layer["scale"])
        assert choice == ("ternary", "row", "shift")
    residual = {n for n, t in scheme.tensors(net).items() if t.kind == "residual"}
    # Residual branches, and what the last layer reads, keep 8 bits.
    free = [layer for layer in inner if layer["name"] not in residual][:-1]
    assert all(layer["output_bits"] == 3 for layer in free)


@pytest.mark.parametrize("fps", ["0.5", "30", "1234.5"])
def test_a_frame_rate_is_met_by_the_interval_that_it_stands_for(cli, fps: str) -> None:
    selectors = ("estimate", "--network", "cnv", "--target", "zcu102", "--json")
    selectors += ("--uniform", "int4,4,pixel", "--clock", "150")
    found = json.loads(cli(*selectors, "--fps", fps).out)
    assert found["fps"] >= float(fps)
    assert found["sized_for_cycles"] == int(150e6 / float(fps))
    interval = ("--interval", str(found["sized_for_cycles"]))
    assert json.loads(cli(*selectors, *interval).out) == found


def test_a_limit_changes_only_the_verdict(cli) -> None:
    selectors = ("estimate", "--network", "cnv", "--target", "pynq-z1", "--json")
    selectors += ("--uniform", "binary,2,layer", "--interval", "20736")
    loose, tight = (json.loads(cli(*selectors, "--limit", limit).out) for limit in ("1.0", "0.05"))
    assert (loose.pop("fits"), tight.pop("fits")) == (True, False)
    assert (loose.pop("limit"), tight.pop("limit")) == (1.0, 0.05)
    assert loose == tight


def test_given_foldings_are_kept_and_open_ones_are_chosen(cli, workplace: Path) -> None:
    (workplace / "part.toml").write_text(
        'network = "tiny"\n[layers.conv2]\nweights = "binary"\nbits = 3\n'
        "[folding.conv2]\npe = 2\nsimd = 12\n"
    )
    selectors = ("estimate", "--network", "./tiny.toml", "--target", "./bench.toml")
    found = json.loads(cli(*selectors, "--scheme", "part.toml", "--json").out)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert (layers["conv2"]["pe"], layers["conv2"]["simd"]) == (2, 12)
    assert (layers["conv2"]["weights"], layers["conv2"]["output_bits"]) == ("binary", 3)
    assert layers["conv3"]["pe"] >= 1


@pytest.mark.parametrize(
    ("line", "resource"),
    [
        ("dsp = 90", "dsp"),
        ("bram18 = 100", "bram18"),
        ("lutram = 9600", "lutram"),
        ("bandwidth_gb_s = 1.3", "dram_bits"),
    ],
)
def test_a_board_without_a_resource_uses_none(
    cli, workplace: Path, line: str, resource: str
) -> None:
    board = workplace / "bench.toml"
    board.write_text(board.read_text().replace(line, f"{line.split(' = ')[0]} = 0"))
    selectors = ("estimate", "--network", "lenet5", "--target", "./bench.toml", "--json")
    found = json.loads(cli(*selectors, "--uniform", "int8,4,pixel", "--fps", "100").out)
    assert found["fits"]
    assert found["capacity"][resource] == found["total"][resource] == 0


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("board", ["pynq-z1", "u250"])
@pytest.mark.parametrize("name", ["cnv", "resnet50"])
def test_what_a_person_reads_stays_within_a_hundred_columns(
    cli, monkeypatch: pytest.MonkeyPatch, name: str, board: str, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    choice = ("--uniform", "int4,4,pixel,shift", "--fps", "20")
    done = cli("estimate", "--network", name, "--target", board, *choice)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 100
    table = lines[: lines.index("")]
    assert len(table) == 1 + len([n for n in network.load(name).nodes if n.layer.op != "flatten"])
    assert ("uram" in table[0]) == (board == "u250")
    sentences = lines[lines.index("", len(table) + 1) + 1 :]
    assert max(map(len, sentences)) <= min(100, int(columns))


def test_what_a_person_reads_of_a_design_that_fits(cli) -> None:
    choice = ("--uniform", "binary,2,layer", "--interval", "20736")
    text = cli("estimate", "--network", "cnv", "--target", "pynq-z1", *choice).out
    assert "20736 cycles an image, 4823 fps, latency " in text
    assert "fits within 80 % of pynq-z1; fullest: lut\n" in text
    assert "\nlut: calibrated: " in text
    assert "\nenergy: uncalibrated: " in text


def test_what_a_person_reads_of_a_design_that_does_not_fit(cli) -> None:
    selectors = ("estimate", "--network", "resnet50", "--target", "pynq-z1", "--fps", "1")
    selectors += ("--uniform", "int8,8,layer")
    found = json.loads(cli(*selectors, "--json").out)
    assert (found["fits"], found["tightest"]) == (False, "bram18")
    need, most = found["total"]["bram18"], 224  # 0.8 of 280
    text = " ".join(cli(*selectors).out.split())
    verdict = f"needs {need} bram18, {need - most} more than {most}"
    assert f"does not fit within 80 % of pynq-z1: {verdict} lut:" in text
