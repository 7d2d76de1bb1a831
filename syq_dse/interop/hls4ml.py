"""A design as hls4ml's configuration: precision, reuse and strategy of each layer.

Facts about hls4ml are those of 1.3.0, each with the file that it is from. Layers have the names
that they get on its way from QONNX: `cleanup_model` and `ConvertToChannelsLastAndClean` (qonnx
1.0.0) call nodes by their operator and its number, Conv_0, MatMul_0.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from syq_dse import records
from syq_dse.cost.engine import result_bits
from syq_dse.cost.estimate import geometries
from syq_dse.cost.integers import divisors
from syq_dse.errors import InputError, one_line
from syq_dse.interop.point import Point
from syq_dse.network import INPUT, Conv, Node
from syq_dse.scheme import LayerScheme, normal, tensors, weight_bits
from syq_dse.target import Board

FRACTION = 16
"""Bits behind the point of what no quantiser gives."""

DEFAULT = f"ap_fixed<{16 + FRACTION},16>"
"""Of what no quantiser gives: gains and offsets of batch-norm and steps of codes, far below 1, of
which hls4ml's own ap_fixed<16,6> keeps one digit."""


def write(point: Point, out: Path) -> list[Path]:
    """Write NAME_hls4ml.yml, the hls_config of hls4ml.converters.convert_from_onnx_model.

    Raises:
        InputError: hls4ml has no layer for one of the network.
    """
    _check(point)
    path = out / f"{point.name}_hls4ml.yml"
    records.make_folder(out)
    records.write_text(path, _text(point))
    return [path]


def names(point: Point) -> dict[str, str]:
    """Names in hls4ml of the layers with weights.

    They are numbered in the order of SortGraph (qonnx 1.0.0): by how many nodes are before each,
    then as the network has them.
    """
    network = point.network
    before = {INPUT: 0}
    for node in network.nodes:
        norm = int(getattr(node.layer, "batch_norm", False))
        relu = int(getattr(node.layer, "relu", False))
        start = max(before[name] for name in node.inputs)
        before[node.name] = start + 2 + norm + relu  # with the quantiser
    counted = {"Conv": 0, "MatMul": 0}
    found = {}
    for node in sorted(network.engines, key=lambda one: before[one.inputs[0]]):
        op = "Conv" if isinstance(node.layer, Conv) else "MatMul"
        found[node.name] = f"{op}_{counted[op]}"
        counted[op] += 1
    return found


def reuse_factor(point: Point, node: Node) -> int:
    """Products that one multiplier computes for a pixel: the nearest to the design's that is legal.

    Legal are divisors of the inputs of an output, and all of them times a divisor of the outputs;
    of two that are as near the smaller one: get_valid_reuse_factors and get_closest_reuse_factor of
    backends/fpga/fpga_backend.py, which know depthwise convolutions as dense ones.
    """
    fold = point.design.folding[node.name]
    wanted = node.weights // (fold.pe * fold.simd)
    inputs, outputs = node.k * node.k * node.in_shape.c, node.out_shape.c
    legal = sorted({*divisors(inputs), *(inputs * n for n in divisors(outputs))})
    place = bisect_left(legal, wanted)
    near = legal[max(0, place - 1) : place + 1]
    return min(near, key=lambda one: (abs(one - wanted), one))


def _text(point: Point) -> str:
    """The document; its strings are ours, so that none has to be quoted but layers in comments."""
    board = point.pricing.target
    lines = [
        f"# {point.name} for hls4ml 1.3.0: hls_config of convert_from_onnx_model",
        "# io_type='io_stream'",
    ]
    if isinstance(board, Board):
        lines.append(f"# part='{one_line(board.part)}', clock_period={_period(point)}")
    lines += [
        "Model:",
        "  Precision:",
        f"    default: {DEFAULT}",
        "  ReuseFactor: 1",
        "  Strategy: Latency",
        "LayerName:",
    ]
    named = names(point)
    for node in point.network.engines:
        reuse = reuse_factor(point, node)
        lines += [f"  {named[node.name]}:  # {one_line(node.name)}", "    Precision:"]
        lines += [f"      {what}: {text}" for what, text in _precision(point, node).items()]
        lines += [
            f"    ReuseFactor: {reuse}",
            f"    Strategy: {'Latency' if reuse == 1 else 'Resource'}",
        ]
    return "\n".join(lines) + "\n"


def _precision(point: Point, node: Node) -> dict[str, str]:
    """Types of the weights, which quantisers confirm, and of what comes of them.

    `auto` is exact: hls4ml adds up bits, of codes or of real numbers, as far as scales can move
    (model/optimizer/passes/infer_precision.py). Where results of a depthwise convolution are
    `auto`, bn_fuse.py takes its weights for unquantised and fails: there they have all the bits
    that sums of codes need.
    """
    layer = _scheme(point, node)
    bits = max(2, weight_bits(layer.weights))  # binary codes are -1 and 1
    found = {"weight": f"ap_int<{bits}>", "bias": "auto", "accum": "auto", "result": "auto"}
    if node.groups > 1:
        read = point.scheme.bits[tensors(point.network)[node.inputs[0]].name]
        sums = int(result_bits(geometries(point.network)[node.name], layer, read))
        found |= dict.fromkeys(("accum", "result"), f"ap_fixed<{sums + FRACTION},{sums}>")
    return found


def _scheme(point: Point, node: Node) -> LayerScheme:
    return normal(node, point.scheme.layers[node.name])


def _period(point: Point) -> str:
    return f"{1000 / point.design.clock_mhz:g}"


def _check(point: Point) -> None:
    """Refuse what hls4ml has no layer for.

    Raises:
        InputError: names the layer, the rule and what to do.
    """
    for node in point.network.engines:
        scales = _scheme(point, node)
        at = f"{point.name}: {one_line(node.name)}"
        if scales.multiplies_partial_sums:
            raise InputError(
                f"{at}: hls4ml scales a layer or a channel as one, got granularity "
                f"'{scales.granularity}'; explore with --granularity layer,channel"
            )
        whole = node.groups == node.in_shape.c == node.out_shape.c
        if node.groups > 1 and not whole:  # model/optimizer/passes/conv_to_depthwiseconvxd.py
            channels = f"c_in={node.in_shape.c}, c_out={node.out_shape.c}"
            raise InputError(
                f"{at}: hls4ml convolves all channels or each by itself, got "
                f"groups={node.groups}, {channels}; change the network"
            )
