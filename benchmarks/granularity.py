"""What row- and pixel-wise scales cost in hardware against layer-wise: LUT, DSP and cycles.

One ternary layer of 16 channels on an 8x8 map at several kernel sizes and foldings. LUTs, FF and
DSPs are synthesised (window, weights, mac, scale and requantisation as one flat design, xcup),
cycles an image are simulated. `python benchmarks/granularity.py FILE.csv` writes the table.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from syq_dse import network, target
from syq_dse.cost.estimate import geometries, requant_methods
from syq_dse.cost.folding import Folding, cycles
from syq_dse.cost.fpga import pricing
from syq_dse.cost.integers import ints
from syq_dse.quant import integer
from syq_dse.rtl import emit, engine, simulate, synthesis
from syq_dse.scheme import LayerScheme, Scheme

C, SIDE, BITS = 16, 8, 4


@dataclass(frozen=True)
class Case:
    k: int
    pe: int
    simd: int
    granularity: str
    scale: str
    res_type: str


def cases() -> list[Case]:
    found = []
    for k in (3, 5):
        foldings = [(2, 4), (4, 16), (4, 16 * k)]
        for pe, simd in foldings:
            found.append(Case(k, pe, simd, "layer", "-", "lut"))
            for granularity in ("row", "pixel"):
                for scale, res_type in (("shift", "lut"), ("fixed8", "lut"), ("fixed8", "dsp")):
                    found.append(Case(k, pe, simd, granularity, scale, res_type))
    return found


def text(k: int) -> str:
    return (
        f'name = "one"\nprovenance = "a benchmark"\nclasses = 2\ninput = [{C}, {SIDE}, {SIDE}]\n'
        'recipe = { dataset = "none", epochs = 1 }\nlayers = [\n'
        f'  {{ name = "conv", op = "conv", c_out = {C}, k = {k}, pad = {k // 2} }},\n'
        '  { name = "pool", op = "global_avg_pool" },\n'
        '  { name = "out", op = "dense", c_out = 2, batch_norm = false, relu = false },\n]\n'
    )


def measure(case: Case, folder: Path) -> dict[str, Any]:
    path = folder / f"one{case.k}.toml"
    path.write_text(text(case.k))
    net = network.load(str(path))
    prices = pricing(target.load("zcu102"))
    scale = "fixed8" if case.scale == "-" else case.scale
    layer = LayerScheme(weights="ternary", granularity=case.granularity, scale=scale)
    scheme = Scheme(
        layers={"conv": layer, "out": LayerScheme(weights="ternary")},
        bits={"input": BITS, "conv": BITS, "pool": BITS},
    )
    fold = Folding(pe=case.pe, simd=case.simd, res_type=case.res_type)
    chosen = {"conv": fold, "out": Folding(pe=1, simd=1)}
    geo = geometries(net)["conv"]
    interval = int(cycles(geo, ints(case.pe), ints(case.simd)))
    interval = max(interval, 2 * C)
    integers = integer.draw(net, scheme, 1, requant_methods(prices, net, scheme, chosen))
    built = engine.build(prices, net, scheme, interval, chosen, integers)
    conv = built[0]
    texts = emit.files(net, built)
    made = synthesis.synthesise({"conv": emit.flat(texts, "conv")}, "xcup")["conv"]
    sim = simulate.compile(emit.flat(texts, "conv"), "conv", folder / "sim")
    image = integer.random_images(net, scheme, 3, np.random.default_rng(1))
    words = [w for im in image for w in engine.input_words(net, interval, BITS, im)]
    per_image = C * SIDE * SIDE // (len(conv.chain[-1].hardware.m_data) // BITS)
    run = simulate.run(sim, {"s": words}, 3 * per_image)
    ends = [run.times[per_image * (i + 1) - 1] for i in range(3)]
    return {
        "k": case.k, "pe": case.pe, "simd": case.simd, "granularity": case.granularity,
        "scale": case.scale, "res_type": case.res_type, "lut": made.lut, "ff": made.ff,
        "dsp": made.dsp, "cycles": ends[2] - ends[1], "latency_cycles": ends[0] + 1,
        "estimated_lut": conv.estimate["lut"],
        "estimated_ff": conv.estimate["ff"],
        "estimated_cycles": interval,
    }  # fmt: skip


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base: dict[str, Any] = {}
        print("k  pe simd granularity scale   mult   LUT        FF   DSP  cycles  against layer")
        for case in cases():
            row = measure(case, Path(folder))
            if case.granularity == "layer":
                base = row
            rows.append({**row, "extra_lut": row["lut"] - base["lut"], "extra_dsp": row["dsp"]})
            print(
                f"{case.k}{case.pe:4}{case.simd:5} {case.granularity:11} {case.scale:7}"
                f" {case.res_type:4}{row['lut']:6} ({row['estimated_lut']}){row['ff']:6}"
                f"{row['dsp']:5}{row['cycles']:8}  {row['lut'] - base['lut']:+d} LUT "
                f"({100 * (row['lut'] / base['lut'] - 1):+.0f} %), {row['dsp']} DSP, "
                f"{row['cycles'] - base['cycles']:+d} cycles",
                flush=True,
            )
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
