"""Whole engines, estimate against synthesis as one flat design: random schemes and intervals.

No price was fitted to them. Engines of more than 4,000 LUTs are left out, for the time that they
take. `python benchmarks/engine_accuracy.py [DESIGNS] [BOARD] [SEED] [constant]`; with `constant`
the interval is the fastest, and only engines whose weights are constants are built. `unknown` is
the error of what `syq-dse estimate` says, which does not know the constants.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from syq_dse import network, target
from syq_dse.cost import timing
from syq_dse.cost.estimate import choose, estimate, geometries, requant_methods
from syq_dse.cost.fpga import pricing
from syq_dse.network import Network
from syq_dse.quant import integer
from syq_dse.rtl import calibrate, emit, engine, verify
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, Scheme, uniform

NETWORKS = ("lenet5", "resnet8", "fmnist-vgg", "cnv")
LARGEST = 4000
SMALL = 50


def random_scheme(net: Network, rng: np.random.Generator) -> Scheme:
    """Few bits more often than many, and the first and last layer as by default."""
    base = uniform(net, LayerScheme(weights="ternary"), int(rng.integers(1, 9)))
    edge = {net.engines[0].name, net.engines[-1].name}
    layers = {}
    for node in net.engines:
        weights = str(rng.choice(["binary", "ternary", str(rng.choice(WEIGHTS))]))
        layers[node.name] = (
            base.layers[node.name]
            if node.name in edge
            else LayerScheme(
                weights=weights,
                granularity=str(rng.choice(GRANULARITIES)),
                scale=str(rng.choice(SCALES)),
            )
        )
    bits = {name: int(rng.integers(1, 9)) if kept < 8 else kept for name, kept in base.bits.items()}
    return Scheme(layers=layers, bits=bits)


def main() -> None:
    designs = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    board = sys.argv[2] if len(sys.argv) > 2 else "zcu102"
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    constant = sys.argv[4:] == ["constant"]
    prices = pricing(target.load(board))
    errors, unknown, totals, flip_flops, wrong = [], [], [], [], 0
    print("| design | engine | LUT estimated | synthesised | off % | unknown off % | FF off % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number in range(designs):
        rng = np.random.default_rng([seed, number])
        name = NETWORKS[number % len(NETWORKS)]
        net = network.load(name)
        scheme = random_scheme(net, rng)
        geos = geometries(net)
        least, most = timing.fastest_interval(geos), timing.slowest_interval(geos)
        interval = least if constant else round(least * (most / least) ** rng.uniform(0.1, 1))
        chosen = choose(prices, net, scheme, interval)
        integers = integer.draw(net, scheme, number, requant_methods(prices, net, scheme, chosen))
        built = engine.build(prices, net, scheme, interval, chosen, integers)
        texts = emit.files(net, built)
        priced = {
            one.name: one.total for one in estimate(prices, net, scheme, interval, chosen).layers
        }
        small = [one for one in built if one.estimate["lut"] <= LARGEST]
        if constant:
            small = [one for one in small if one.words and one.weights is None]
        if not small:
            continue
        found = verify.verify(
            small,
            texts,
            verify.on_board(prices.family.name, calibrate.cache_folder(), 3600),
            jobs=os.cpu_count() or 1,
        )
        for one in found:
            known, made = one.estimate, one.synthesis
            off = known["lut"] / max(1, made["lut"]) - 1
            blind = priced[one.layer]["lut"] / max(1, made["lut"]) - 1
            ff = known["ff"] / max(1, made["ff"]) - 1
            wrong += any(known[n] != made[n] for n in ("dsp", "bram18", "uram", "lutram"))
            if made["lut"] >= SMALL:
                errors.append(abs(off))
                unknown.append(abs(blind))
                flip_flops.append(abs(ff))
            print(
                f"| {name} {number} | {one.layer} | {known['lut']} | {made['lut']} | "
                f"{100 * off:+.1f} | {100 * blind:+.1f} | {100 * ff:+.1f} |",
                flush=True,
            )
        whole = (
            sum(one.estimate["lut"] for one in found),
            sum(one.synthesis["lut"] for one in found),
        )
        totals.append(abs(whole[0] / whole[1] - 1))
        print(
            f"| {name} {number} | all | {whole[0]} | {whole[1]} | "
            f"{100 * (whole[0] / whole[1] - 1):+.1f} | | |",
            flush=True,
        )
    print(
        f"{len(errors)} engines of {SMALL} LUTs and more: LUT mean {100 * np.mean(errors):.1f} %, "
        f"worst {100 * np.max(errors):.1f} %, unknown mean {100 * np.mean(unknown):.1f} %, worst "
        f"{100 * np.max(unknown):.1f} %; FF mean {100 * np.mean(flip_flops):.1f} %, worst "
        f"{100 * np.max(flip_flops):.1f} %; designs: LUT mean {100 * np.mean(totals):.1f} %, worst "
        f"{100 * np.max(totals):.1f} %; other counts off in {wrong} engines"
    )


if __name__ == "__main__":
    main()
