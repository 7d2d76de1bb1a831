"""Whole engines in silicon, estimate against synthesis as one flat design: random schemes.

    python benchmarks/silicon_accuracy.py  # engines of osu018, as Debian installs it
    python benchmarks/silicon_accuracy.py engines ihp-sg13g2 FILE... [--designs 12] [--seed 0]
    python benchmarks/silicon_accuracy.py ranking ihp-sg13g2 FILE... [--designs 50] [--seed 0]
    python benchmarks/silicon_accuracy.py clock ihp-sg13g2 FILE... [--designs 8] [--seed 0]

FILE are the Liberty files of the technology's calibration. No price was fitted to these engines;
SRAM is left out on both sides. `engines` leaves out those of more than LARGEST gate equivalents,
for the time that they take. `ranking` has random schemes of lenet5 at one interval, and prints the
rank correlation of estimated and synthesised gate equivalents. `clock` has the longest path of each
engine, by its units and as ABC times it, SRAM apart.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from engine_accuracy import random_scheme
from scipy import stats

from syq_dse import network
from syq_dse.cost import asic, clock, pricing, timing
from syq_dse.cost.estimate import choose, geometries, requant_methods
from syq_dse.quant import integer
from syq_dse.rtl import calibrate, delays, emit, engine, verify
from syq_dse.rtl.liberty import Library, read

NETWORKS = ("lenet5", "resnet8", "fmnist-vgg", "cnv")
LARGEST = 20_000
SMALL = 200
DEBIAN = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""Where qflow-tech-osu018 installs its library."""

SLOW = 0.8
"""Place of the interval of `ranking` between the fastest and the slowest, in the logarithm."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "what", nargs="?", choices=("engines", "ranking", "clock"), default="engines"
    )
    parser.add_argument("technology", nargs="?", default="osu018")
    parser.add_argument("liberty", nargs="*", type=Path, default=[DEBIAN])
    parser.add_argument("--designs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    prices = pricing.load(asked.technology)
    assert isinstance(prices, asic.Pricing)
    library = read(asked.liberty)
    made = verify.on_cells(prices.target, library, calibrate.cache_folder(), 3600)
    if asked.what == "clock":
        paths(prices, library, asked.designs or 8, asked.seed)
    elif asked.what == "engines":
        engines(prices, made, asked.designs or 12, asked.seed)
    else:
        ranking(prices, made, asked.designs or 50, asked.seed)


def built_of(
    prices: asic.Pricing, name: str, number: int, seed: int, part: float | None
) -> tuple[list[engine.Engine], dict[str, str]]:
    rng = np.random.default_rng([seed, number])
    net = network.load(name)
    scheme = random_scheme(net, rng)
    geos = geometries(net)
    least, most = timing.fastest_interval(geos), timing.slowest_interval(geos)
    part = rng.uniform(0.1, 1) if part is None else part
    interval = round(least * (most / least) ** part)
    chosen = choose(prices, net, scheme, interval)
    integers = integer.draw(net, scheme, number, requant_methods(prices, net, scheme, chosen))
    built = engine.build(prices, net, scheme, interval, chosen, integers)
    return built, emit.files(net, built)


def engines(prices: asic.Pricing, made: verify.Synthesise, designs: int, seed: int) -> None:
    errors, totals = [], []
    print("| design | engine | gate equivalents estimated | synthesised | off % |")
    print("| --- | --- | --- | --- | --- |")
    for number in range(designs):
        name = NETWORKS[number % len(NETWORKS)]
        built, texts = built_of(prices, name, number, seed, None)
        small = [one for one in built if one.estimate["gate_equivalents"] <= LARGEST]
        if not small:
            continue
        sums = np.zeros(2)
        for one in verify.verify(small, texts, made, jobs=os.cpu_count() or 1):
            known, real = (of["gate_equivalents"] for of in (one.estimate, one.synthesis))
            sums += known, real
            off = known / max(1, real) - 1
            if real >= SMALL:
                errors.append(abs(off))
            print(
                f"| {name} {number} | {one.layer} | {known} | {real} | {100 * off:+.1f} |",
                flush=True,
            )
        totals.append(abs(sums[0] / sums[1] - 1))
    print(
        f"{len(errors)} engines of {SMALL} gate equivalents and more: mean "
        f"{100 * np.mean(errors):.1f} %, worst {100 * np.max(errors):.1f} %; designs: mean "
        f"{100 * np.mean(totals):.1f} %, worst {100 * np.max(totals):.1f} %"
    )


def paths(prices: asic.Pricing, library: Library, designs: int, seed: int) -> None:
    ratios = []
    register = delays.register_ns(library)
    print("| design | engine | unit | ns estimated | by ABC | off % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number in range(designs):
        name = NETWORKS[number % len(NETWORKS)]
        built, texts = built_of(prices, name, number, seed, None)
        limits = []
        for one in built:
            if one.estimate["gate_equivalents"] > LARGEST:
                continue
            module = engine.identifier(one.layer)
            found = delays.measure(
                {module: emit.flat(texts, module)}, library, prices.target.dont_use
            )
            known = clock.reach(
                prices.delays, [(one.layer, of.unit, of.parameters) for of in one.instances], {}
            )
            limits.append((register + found[module], known.path_ns))
            off = known.path_ns / limits[-1][0] - 1
            print(
                f"| {name} {number} | {one.layer} | {known.unit} | {known.path_ns:.2f} | "
                f"{limits[-1][0]:.2f} | {100 * off:+.0f} |",
                flush=True,
            )
        if limits:
            real, known_ns = (max(of) for of in zip(*limits, strict=True))
            ratios.append(known_ns / real - 1)
    print(
        f"clock of {len(ratios)} designs: off by {100 * np.mean(np.abs(ratios)):.0f} % in the "
        f"mean, {100 * min(ratios):+.0f} to {100 * max(ratios):+.0f} %"
    )


def ranking(prices: asic.Pricing, made: verify.Synthesise, designs: int, seed: int) -> None:
    pairs = []
    for number in range(designs):
        built, texts = built_of(prices, "lenet5", number, seed, SLOW)
        found = verify.verify(built, texts, made, jobs=os.cpu_count() or 1)
        pairs.append(
            [
                sum(getattr(one, of)["gate_equivalents"] for one in found)
                for of in ("estimate", "synthesis")
            ]
        )
        print(f"lenet5 {number}: {pairs[-1][0]} estimated, {pairs[-1][1]} synthesised", flush=True)
    known, real = np.array(pairs).T
    print(
        f"{designs} schemes: Spearman {stats.spearmanr(known, real).statistic:.4f}, mean error "
        f"{100 * np.mean(abs(known / real - 1)):.1f} %"
    )


if __name__ == "__main__":
    main()
