"""A design in a folder that held another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syq_dse import network, target
from syq_dse.cost import design
from syq_dse.cost.fpga import pricing
from syq_dse.errors import InputError
from syq_dse.network import MaxPool
from syq_dse.rtl.write import write

FIRST = """
name = "first"
provenance = "made up"
classes = 3
input = [2, 6, 6]
recipe = { dataset = "mnist" }
layers = [
  { name = "conv", op = "conv", c_out = 4, k = 3, pad = 1 },
  { name = "pool", op = "max_pool", k = 3, stride = 1, pad = 1 },
  { name = "flat", op = "flatten" },
  { name = "dense", op = "dense", c_out = 3, batch_norm = false, relu = false },
]
"""
SECOND = FIRST.replace('"first"', '"second"').replace('"conv"', '"other"', 1)


def emit(folder: Path, text: str, out: Path) -> list[dict[str, object]]:
    path = folder / "net.toml"
    path.write_text(text)
    net = network.load(str(path))
    prices = pricing(target.load("zcu102"))
    asked = design.uniform(net, "ternary,2,layer")
    settled = design.settle(prices, net, asked, 400, None, None, 0.8)
    return write(prices, net, settled, None, 0, out)


def test_the_files_of_another_design_go(tmp_path: Path) -> None:
    out = tmp_path / "rtl"
    first = {str(entry["file"]) for entry in emit(tmp_path, FIRST, out)}
    (out / "notes.txt").write_text("mine")
    second = {str(entry["file"]) for entry in emit(tmp_path, SECOND, out)}
    assert first - second
    there = {path.name for path in out.iterdir()}
    assert there == second | {"manifest.json", "integers.safetensors", "notes.txt"}
    (out / "manifest.json").write_text("[1]")
    with pytest.raises(InputError, match=r"manifest\.json: is no manifest of a design"):
        emit(tmp_path, FIRST, out)


def test_the_manifest_says_how_words_are_made(tmp_path: Path) -> None:
    out = tmp_path / "rtl"
    emit(tmp_path, FIRST, out)
    ends = json.loads((out / "manifest.json").read_text())[-1]["parameters"]
    top = (out / "first_top.v").read_text()
    for stream in "sm":
        width = ends[f"{stream}_lanes"] * ends[f"{stream}_bits"]
        assert f"[{width - 1}:0] {stream}_data" in top
    assert ends["s_bits"] == 8
    assert MaxPool in {type(node.layer) for node in network.load(str(tmp_path / "net.toml")).nodes}
