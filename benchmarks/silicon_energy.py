"""Area and energy of a trained network in silicon, by synthesis and by simulated toggles.

    python benchmarks/silicon_energy.py ihp-sg13g2 FILE... [--network lenet5] [--weights ternary,4]

FILE are the Liberty files of the technology's calibration. The network is trained with one scale a
layer, a kernel row and a kernel pixel (`syq-dse train`, some minutes; trainings/silicon keeps
them), each is built, and every engine is simulated gate by gate on 64 test images at once, after a
pass that fills it. Beside it stand the same engines on codes that are all as likely, and what the
cost model says. No wires, no glitches; SRAM, DRAM and leakage are left out on both sides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from syq_dse import network
from syq_dse.cost import asic, design, pricing
from syq_dse.cost.estimate import LIMIT, estimate
from syq_dse.network import INPUT, Network
from syq_dse.quant import integer
from syq_dse.rtl import emit, toggles, write
from syq_dse.rtl.engine import Engine, identifier
from syq_dse.rtl.liberty import Library, read
from syq_dse.scheme import tensors
from syq_dse.train import dataset

LARGEST_CYCLES = 4000
"""Cycles that are simulated at most, behind as many that fill the hardware."""

DATASET = "fashion-mnist"


def trained(asked: argparse.Namespace, text: str | None) -> Path:
    """A training's folder, by the command line, which goes on where one broke off."""
    folder = asked.out / f"{asked.network}-{text or 'float'}".replace(",", "-")
    if not (folder / "result.json").is_file():
        start = [] if text is None else ["--pretrained", str(trained(asked, None) / MODEL)]
        how = ["--float"] if text is None else ["--uniform", text, "--target", asked.technology]
        epochs = ["--epochs", str(asked.epochs), "--dataset", DATASET, "-o", str(folder)]
        command = [sys.executable, "-m", "syq_dse", "train", "--network", asked.network]
        subprocess.run([*command, *how, *start, *epochs], check=True, stdout=subprocess.DEVNULL)
    return folder


MODEL = "model.safetensors"


def streams(
    engine: Engine, activations: Mapping[str, Any], bits: Mapping[str, int], cycles: int
) -> toggles.Streams:
    """The words of an engine's inputs, of as many images as a simulation has lanes."""
    words = {}
    for prefix, (name, units) in zip("st", engine.inputs.items(), strict=False):
        values = activations[name].transpose(0, 2, 3, 1).astype(object)
        lanes = len(units[0].hardware.s_data) // bits[name]
        places = np.array([bits[name] * lane for lane in range(lanes)], dtype=object)
        values = values.reshape(len(values), -1, lanes) & (1 << bits[name]) - 1
        words[prefix] = (values << places).sum(axis=-1).tolist()
    return toggles.Streams(words, cycles, cycles)


def without_sram(prices: asic.Pricing) -> asic.Pricing:
    """The same prices, but that no access of an SRAM takes energy."""
    none = {
        figure: dict.fromkeys(terms, 0.0) if figure.endswith("_pj") else terms
        for figure, terms in prices.sram.coefficients.items()
    }
    return replace(prices, sram=replace(prices.sram, coefficients=none))


def run(
    prices: asic.Pricing, library: Library, net: Network, images: Any, asked: Any, text: str
) -> str:
    """Train, build and measure one design, and print its table; returns a line of all."""
    folder = trained(asked, text)
    settled = design.settle(
        prices, net, design.uniform(net, text), asked.interval, None, None, LIMIT
    )
    built, found = write.engines(
        without_sram(prices), net, settled, folder / "integers.safetensors", 0
    )
    texts = emit.files(net, built)
    cost = estimate(prices, net, settled.scheme, settled.interval, settled.folding)
    active = {layer.name: layer.cycles for layer in cost.layers}
    bits = {name: settled.scheme.bits.get(of.name, 8) for name, of in tensors(net).items()}
    top = (1 << bits[INPUT]) - 1
    codes = np.floor(images * (top / 255) + 0.5).astype(np.int64)
    real = integer.infer(net, settled.scheme, found, codes, activations=True)
    rng = np.random.default_rng(0)
    uniform = {name: rng.integers(0, 1 << bits[name], of.shape) for name, of in real.items()}
    print(f"\n{net.name}, {text}, {asked.technology}\n")
    print("| engine | gate equivalents | estimated | pJ a cycle | uniform codes | estimated |")
    print("| --- | --- | --- | --- | --- | --- |")
    totals = np.zeros(6)
    volts, leave = prices.energy.volts, prices.target.dont_use
    for engine in built:
        name = identifier(engine.layer)
        module = {name: emit.flat(texts, name)}
        cycles = min(active[engine.layer], LARGEST_CYCLES)
        found_pj = []
        for data in (real, uniform):
            stimuli = {name: streams(engine, data, bits, cycles)}
            mapped, of = toggles.measure(module, library, volts, leave, stimuli=stimuli)
            found_pj.append(of[name].logic_pj + of[name].clock_pj)
            if data is real:
                clocks = of[name].clock_pj
        gates, guess = mapped[name].gate_equivalents(library), engine.estimate
        known, by_price = guess["gate_equivalents"], guess["cycle_fj"] / 1000
        shown = " | ".join(f"{pj:.3g}" for pj in (*found_pj, by_price))
        print(f"| {engine.layer} | {gates:.0f} | {known} | {shown} |", flush=True)
        image = active[engine.layer] / 1000
        totals += [gates, known, *(pj * image for pj in (*found_pj, by_price, clocks))]
    um2 = prices.gates.nand2_um2
    return (
        f"| {text} | {totals[0] * um2:.0f} | {totals[1] * um2:.0f} | {totals[2]:.0f} | "
        f"{totals[5]:.0f} | {totals[3]:.0f} | {totals[4]:.0f} | "
        f"{1000 * totals[2] / net.macs:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("technology")
    parser.add_argument("liberty", nargs="+", type=Path)
    parser.add_argument("--network", default="lenet5")
    parser.add_argument("--weights", default="ternary,4")
    parser.add_argument("--interval", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("trainings/silicon"))
    asked = parser.parse_args()
    prices = pricing.load(asked.technology)
    assert isinstance(prices, asic.Pricing)
    library = read(asked.liberty)
    net = network.load(asked.network)
    images = dataset.load(net, DATASET).test.batch(torch.arange(toggles.LANES), None).numpy()
    lines = [
        run(prices, library, net, images, asked, f"{asked.weights},{granularity}")
        for granularity in ("layer", "row", "pixel")
    ]
    print(f"\nAll engines, {asked.interval} cycles an image, {net.macs} MACs:\n")
    print("| scheme | um2 | estimated | nJ an image | clocks | uniform | estimated | pJ a MAC |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
