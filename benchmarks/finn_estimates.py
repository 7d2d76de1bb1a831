"""FINN's own LUT estimates beside ours and beside synthesis of our hardware, layer by layer.

CNV-W1A1 in FINN's published folding and cybersec-mlp at W2A2 for 100 cycles an input, as in
whole_networks.py, whose syntheses are in the cache. FINN+ counts with its custom operators
(`lut_estimation`, finn-plus 1.6.1); the formula of FINN for the matrix-vector unit alone is that of
FINN+, which the estimates that were published with vivado_mvu_ooc.csv confirm to a LUT.

Needs what tests/requirements.txt lists.

python benchmarks/finn_estimates.py [BOARD]
"""

from __future__ import annotations

import csv
import os
import sys

from finn.util.settings import initialize_dummy_settings
from onnx import helper
from qonnx.custom_op.registry import getCustomOp
from whole_networks import CNV, scheme_of

from syq_dse import catalogue, network
from syq_dse.cost import design, pricing
from syq_dse.cost.engine import result_bits
from syq_dse.cost.estimate import LayerCost, estimate, geometries, requant_methods
from syq_dse.cost.folding import Folding
from syq_dse.interop import finn
from syq_dse.interop.point import Point
from syq_dse.network import INPUT, Node
from syq_dse.quant import integer
from syq_dse.rtl import calibrate, emit, engine, verify
from syq_dse.scheme import Scheme, tensors


def luts(op: str, part: str, **attributes: object) -> int:
    """By FINN+, of one node."""
    style = op.rpartition("_")[2]
    domain = f"finn.custom_op.fpgadataflow.{style}"
    node = helper.make_node(op, ["in"], ["out"], domain=domain, name=op, **attributes)
    return int(getCustomOp(node).lut_estimation(part))


def kind(point: Point, tensor: str) -> str:
    """FINN's type of a tensor; codes of one bit are -1 and 1 in its CNV."""
    bits = point.scheme.bits[tensors(point.network)[tensor].name]
    return "BIPOLAR" if bits == 1 and tensor != INPUT else f"UINT{bits}"


def of_unit(point: Point, unit: finn.Unit, part: str) -> int:
    """LUTs of a node by FINN+; 0 for operators without an estimate."""
    node = point.network.by_name.get(unit.layer)
    name = f"{unit.op}_{unit.style}"
    if unit.op == "MVAU":
        assert node is not None
        return luts(name, part, **_mvau(point, node, dict(unit.attributes)))
    if unit.op == "ConvolutionInputGenerator":
        assert node is not None
        shape, out = node.in_shape, node.out_shape
        return luts(
            *(name, part),
            **unit.attributes,
            ConvKernelDim=[node.k] * 2,
            IFMChannels=shape.c,
            IFMDim=[shape.h + sum(node.pad), shape.w + sum(node.pad)],
            OFMDim=[out.h, out.w],
            Stride=[node.stride] * 2,
            Dilation=[1, 1],
            inputDataType=kind(point, node.inputs[0]),
            outputDataType=kind(point, node.inputs[0]),
            depthwise=int(not node.has_weights),
        )
    return 0


def _mvau(point: Point, node: Node, folding: dict[str, object]) -> dict[str, object]:
    layer = point.scheme.layers[node.name]
    written = tensors(point.network)[node.name]
    bits = point.scheme.bits[tensors(point.network)[node.inputs[0]].name]
    sums = int(result_bits(geometries(point.network)[node.name], layer, bits))
    last = written.kind == "result"
    return folding | {
        "MW": node.fan_in,
        "MH": node.out_shape.c,
        "inputDataType": kind(point, node.inputs[0]),
        "weightDataType": "BIPOLAR" if layer.weights == "binary" else "INT2",
        "outputDataType": f"INT{sums}" if last else kind(point, node.name),
        "accDataType": f"INT{sums}",
        "noActivation": int(last),
        "numInputVectors": [1, node.out_shape.h, node.out_shape.w],
    }


def check_formula(part: str) -> None:
    """FINN's formula, as it was published, against that of FINN+."""
    off = []
    published = catalogue.folder("hwmodels") / "calibration/vivado_mvu_ooc.csv"
    with published.open() as stream:
        for row in csv.DictReader(stream):
            size = {key: int(value) for key, value in row.items()}
            wide = "BIPOLAR" if size["weight_bits"] == 1 else f"INT{size['weight_bits']}"
            read = "BIPOLAR" if size["input_bits"] == 1 else f"INT{size['input_bits']}"
            found = luts(
                *("MVAU_hls", part),
                PE=size["pe"],
                SIMD=size["simd"],
                MW=size["k"] ** 2 * size["c_in"],
                MH=size["c_out"],
                inputDataType=read,
                weightDataType=wide,
                outputDataType="INT32",
                noActivation=1,
            )
            off.append(abs(found - size["finn_estimate_lut"]))
    print(f"FINN's published estimates, {len(off)} units: FINN+ is up to {max(off)} LUTs off\n")


def compare(name: str, board: str, chosen: Scheme, fixed: dict[str, Folding], most: int) -> None:
    net, prices = network.load(name), pricing.load(board)
    asked = design.Asked(scheme=chosen, folding=fixed)
    settled = design.settle(prices, net, asked, most or None, None, None, 0.8)
    point = Point(name=name, network=net, pricing=prices, design=settled)
    part = prices.target.part  # type: ignore[union-attr]  # a board
    by_layer: dict[str, list[tuple[str, int]]] = {}
    for unit in finn.units(point):
        by_layer.setdefault(unit.layer, []).append((unit.op, of_unit(point, unit, part)))
    priced = {one.name: one.total["lut"] for one in priced_layers(point)}
    integers = integer.draw(net, chosen, 1, requant_methods(prices, net, chosen, settled.folding))
    built = engine.build(prices, net, chosen, settled.interval, settled.folding, integers)
    found = verify.verify(
        built,
        emit.files(net, built),
        verify.on_board(prices.family.name, calibrate.cache_folder(), 3600),  # type: ignore[union-attr]  # a board
        jobs=os.cpu_count() or 1,
    )
    print(f"{name}, {settled.interval} cycles an image, {board}: LUTs\n")
    print("| layer | pe, simd | FINN, MVAU alone | FINN+ | ours | ours, constants known | Yosys |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    total = [0, 0, 0, 0, 0]
    for one in found:
        parts = by_layer.get(one.layer, [])
        fold = settled.folding.get(one.layer)
        row = [
            sum(count for op, count in parts if op == "MVAU"),
            sum(count for _, count in parts),
            int(priced[one.layer]),
            int(one.estimate["lut"]),
            int(one.synthesis["lut"]),
        ]
        total = [a + b for a, b in zip(total, row, strict=True)]
        show(one.layer, f"{fold.pe}, {fold.simd}" if fold else "", row)
    show("total", "", total)
    off = [f"{100 * (value / total[-1] - 1):+.0f} %" for value in total[:-1]]
    print(f"| off the synthesis | | {' | '.join(off)} | |\n")


def priced_layers(point: Point) -> tuple[LayerCost, ...]:
    settled = point.design
    return estimate(
        point.pricing, point.network, settled.scheme, settled.interval, settled.folding
    ).layers


def show(layer: str, fold: str, row: list[int]) -> None:
    print(f"| {layer} | {fold} | {' | '.join(map(str, row))} |")


def main() -> None:
    initialize_dummy_settings()  # which modules of FINN ask for when they are imported
    board = sys.argv[1] if len(sys.argv) > 1 else "zcu102"
    check_formula(pricing.load(board).target.part)  # type: ignore[union-attr]  # a board
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
