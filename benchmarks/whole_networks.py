"""Whole networks, estimate against synthesis: CNV-W1A1 in FINN's published folding, cybersec-mlp.

Every engine is synthesised as one flat design, weights random. Results stay in the cache of
`syq-dse calibrate`, so that a run that broke off goes on. `--folding` of CNV and the 100 cycles of
cybersec-mlp: FINN's examples (finn-examples, bnn-pynq) and its end-to-end tutorial.

python benchmarks/whole_networks.py [BOARD]
"""

from __future__ import annotations

import os
import sys

from syq_dse import network, target
from syq_dse.cost.estimate import choose, geometries, requant_methods
from syq_dse.cost.folding import Folding, cycles
from syq_dse.cost.fpga import pricing
from syq_dse.cost.integers import ints
from syq_dse.network import Network
from syq_dse.quant import integer
from syq_dse.rtl import calibrate, emit, engine, verify
from syq_dse.scheme import LayerScheme, Scheme, tensors

CNV = ((16, 3), (32, 32), (16, 32), (16, 32), (4, 32), (1, 32), (1, 4), (1, 8), (5, 1))


def scheme_of(net: Network, weights: str, bits: int, first: int) -> Scheme:
    """All layers alike, the last one too; the input at its own precision."""
    layer = LayerScheme(weights=weights)
    named = {tensor.name for tensor in tensors(net).values() if tensor.kind != "result"}
    return Scheme(
        layers={node.name: layer for node in net.engines},
        bits=dict.fromkeys(named, bits) | {"input": first},
    )


def compare(name: str, board: str, scheme: Scheme, fixed: dict[str, Folding], most: int) -> None:
    net = network.load(name)
    prices = pricing(target.load(board))
    geos = geometries(net)
    taken = [int(cycles(geos[n], ints(f.pe), ints(f.simd))) for n, f in fixed.items()]
    interval = max(taken, default=most)
    chosen = choose(prices, net, scheme, interval, fixed)
    integers = integer.draw(net, scheme, 1, requant_methods(prices, net, scheme, chosen))
    built = engine.build(prices, net, scheme, interval, chosen, integers)
    found = verify.verify(
        built,
        emit.files(net, built),
        verify.on_board(prices.family.name, calibrate.cache_folder(), 3600),
        jobs=os.cpu_count() or 1,
        progress=lambda done, total, what: print(f"{done}/{total} {what}", file=sys.stderr),
    )
    print(f"{name}, {interval} cycles an image, {board}; estimate and synthesis")
    print("| layer | pe, simd | LUT | off % | FF | off % | DSP | BRAM18 | LUTRAM |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    total = dict.fromkeys(verify.COMPARED, (0, 0))
    for one in found:
        pairs = {n: (one.estimate[n], one.synthesis[n]) for n in verify.COMPARED}
        total = {n: (total[n][0] + a, total[n][1] + b) for n, (a, b) in pairs.items()}
        fold = chosen.get(one.layer)
        row(one.layer, f"{fold.pe}, {fold.simd}" if fold else "", pairs)
    row("total", "", total)


def row(layer: str, fold: str, pairs: dict[str, tuple[int, int]]) -> None:
    cells = [layer, fold]
    for name in ("lut", "ff", "dsp", "bram18", "lutram"):
        estimate, made = pairs[name]
        cells.append(f"{estimate} {made}")
        if name in ("lut", "ff"):
            cells.append(f"{100 * (estimate / made - 1):+.1f}" if made else "")
    print("| " + " | ".join(cells) + " |")


def main() -> None:
    board = sys.argv[1] if len(sys.argv) > 1 else "zcu102"
    cnv = network.load("cnv")
    folds = {
        node.name: Folding(pe=pe, simd=simd, ram_style="block" if pe * simd > 4 else "distributed")
        for node, (pe, simd) in zip(cnv.engines, CNV, strict=True)
    }
    compare("cnv", board, scheme_of(cnv, "binary", 1, 8), folds, 0)
    mlp = network.load("cybersec-mlp")
    compare("cybersec-mlp", board, scheme_of(mlp, "ternary", 2, 1), {}, 100)


if __name__ == "__main__":
    main()
