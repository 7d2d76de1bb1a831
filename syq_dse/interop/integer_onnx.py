"""The integer model as plain ONNX, which onnxruntime runs: equal to the hardware, bit for bit.

Codes travel as 32 bit floats, in which convolutions of integers are exact below 2**24; a layer
whose sums can be larger is several convolutions. Accumulators are 64 bit integers, and so is what
makes codes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from syq_dse import records
from syq_dse.interop.onnx_graph import EXACT, Graph, windows
from syq_dse.interop.trained import Trained
from syq_dse.network import (
    INPUT,
    Add,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Node,
    Shape,
)
from syq_dse.quant import integer
from syq_dse.quant.integer import AddIntegers, Ints, LayerIntegers, PoolIntegers
from syq_dse.quant.model import IMAGE_MAX
from syq_dse.scheme import tensors

THRESHOLDS = 16
"""Thresholds that are compared at once: they multiply the size of a tensor."""

BATCH = "n"


def write(trained: Trained, name: str, out: Path) -> list[Path]:
    """Write NAME.onnx: images of pixels 0 to 255 (n, c, h, w), uint8, to logits (n, classes).

    A second output, `results`, are the integers that the hardware writes.

    Raises:
        InputError: the file cannot be written.
    """
    model = _Writer(trained).model()
    path = out / f"{name}.onnx"
    records.make_folder(out)
    records.write_bytes(path, model.SerializeToString())
    return [path]


class _Writer:
    def __init__(self, trained: Trained) -> None:
        self.trained, self.network = trained, trained.network
        self.graph, self.tensors = Graph(["images", "logits", "results"]), tensors(self.network)
        self.written = {INPUT: self._input()}

    def model(self) -> onnx.ModelProto:
        net = self.network
        for node in net.nodes:
            self.written[node.name] = self._layer(node)
        last = net.nodes[-1]
        shape = (BATCH, last.out_shape.c)
        graph = self.graph
        whole = self._shape(last.out_shape)
        wide = graph.node("Cast", [self.written[last.name]], "wide", whole, "int64", to=7)
        results = graph.node("Flatten", [wide], "results", shape, "int64", end=True, axis=1)
        readout = self.trained.readout
        real = graph.node("Cast", [results], "real", shape, "float32", to=1)
        scale = graph.constant("readout.scale", readout.scale.astype(np.float32))
        offset = graph.constant("readout.offset", readout.offset.astype(np.float32))
        scaled = graph.node("Mul", [real, scale], "scaled", shape)
        graph.node("Add", [scaled, offset], "logits", shape, end=True)
        image = net.input_shape
        inputs = {"images": ("uint8", (BATCH, image.c, image.h, image.w))}
        return graph.model(net, self.trained.scheme, inputs, ["logits", "results"])

    def _input(self) -> str:
        """The codes of the image: floor(pixel * top / 255 + 1/2)."""
        shape = self._shape(self.network.input_shape)
        top = (1 << self.trained.scheme.bits[INPUT]) - 1
        if top == IMAGE_MAX:
            return self.graph.node("Cast", ["images"], "input", shape, to=1)
        wide = self.graph.node("Cast", ["images"], "pixels", shape, "int64", to=7)
        raised = self._integer("Mul", wide, "input.scaled", shape, 2 * top)
        raised = self._integer("Add", raised, "input.raised", shape, IMAGE_MAX)
        codes = self._integer("Div", raised, "input.codes", shape, 2 * IMAGE_MAX)
        return self.graph.node("Cast", [codes], "input", shape, to=1)

    def _layer(self, node: Node) -> str:
        """The tensor that a layer writes: codes as floats, the network's result as integers."""
        own = self.trained.integers.layers.get(node.name)
        read = [self.written[name] for name in node.inputs]
        shape, name = self._shape(node.out_shape), node.name
        match node.layer, own:
            case MaxPool(), _:
                return self.graph.node(
                    "MaxPool", read, name, shape,
                    **windows(node),
                )  # fmt: skip
            case Flatten(), _:
                flat = self.graph.node("Flatten", read, f"{name}/flat", shape[:2], axis=1)
                return self._pixels(flat, name, shape)
            case ((Conv() | Dense()), LayerIntegers()):
                sums = self._sums(node, own, read[0])
                if own.method is None:
                    return sums
                make = self._thresholds if own.method == "thresholds" else self._multiply
                return self._codes(node, make(node, own, sums))
            case Add(), _:
                a, b = (self._wide(name, i, tensor, node) for i, tensor in enumerate(read))
                if isinstance(own, AddIntegers):
                    a, b = (
                        self._integer("Mul", of, f"{name}/shifted{i}", shape, 1 << by)
                        for i, (of, by) in enumerate(zip((a, b), own.shifts, strict=True))
                    )
                total = self.graph.node("Add", [a, b], f"{name}/sum", shape, "int64")
                if own is None:
                    return total
                assert isinstance(own, AddIntegers)
                return self._codes(node, self._rounded(node, total, own.shift))
            case ((AvgPool() | GlobalAvgPool()), _):
                total = self._pool_sums(node, read[0])
                if own is None:
                    return total
                assert isinstance(own, PoolIntegers)
                raised = self._integer("Mul", total, f"{name}/scaled", shape, own.gain)
                return self._codes(node, self._rounded(node, raised, own.shift))
        raise AssertionError(node)

    # Sums

    def _sums(self, node: Node, own: LayerIntegers, read: str) -> str:
        """The accumulators, in parts that floats hold exactly."""
        name, shape, graph = node.name, self._shape(node.out_shape), self.graph
        part, total = "", ""
        groups = node.groups if isinstance(node.layer, Conv) else 1
        for index, weights in enumerate(self._blocks(node, own)):
            key = name if not index else f"{name}/{index}"
            held = graph.constant(f"{key}.weight", weights.astype(np.float32))
            sums = graph.node(
                "Conv", [read, held], f"{key}/floats", shape,
                **windows(node),
                group=groups,
            )  # fmt: skip
            part = graph.node("Cast", [sums], f"{key}/sums", shape, "int64", to=7)
            total = (
                part
                if not total
                else graph.node("Add", [total, part], f"{key}/total", shape, "int64")
            )
        return total

    def _blocks(self, node: Node, own: LayerIntegers) -> Iterator[Ints]:
        """Weights (c_out, c_in / groups, k, k), others 0, whose sums stay below EXACT each."""
        weights = integer.weights(node, own)
        low, high = self._range(node.inputs[0])
        flat = weights.reshape(len(weights), -1)
        reach = np.abs(flat) * max(-low, high)
        start = 0
        while start < flat.shape[1]:
            sums = np.cumsum(reach[:, start:], axis=1).max(axis=0)
            count = max(1, int(np.searchsorted(sums, EXACT)))
            block = np.zeros_like(flat)
            block[:, start : start + count] = flat[:, start : start + count]
            yield block.reshape(weights.shape)
            start += count

    def _pool_sums(self, node: Node, read: str) -> str:
        name, shape, graph = node.name, self._shape(node.out_shape), self.graph
        if isinstance(node.layer, GlobalAvgPool):
            wide = graph.node(
                "Cast", [read], f"{name}/wide", self._shape(node.in_shape), "int64", to=7
            )
            axes = graph.constant("rows and columns", np.array([2, 3], np.int64))
            return graph.node("ReduceSum", [wide, axes], f"{name}/sum", shape, "int64", keepdims=1)
        ones = np.ones((node.in_shape.c, 1, node.k, node.k), np.float32)
        sums = graph.node(
            "Conv", [read, graph.constant(f"{name}.ones", ones)], f"{name}/floats", shape,
            kernel_shape=[node.k] * 2, strides=[node.stride] * 2, group=node.in_shape.c,
        )  # fmt: skip
        return graph.node("Cast", [sums], f"{name}/sum", shape, "int64", to=7)

    # Codes

    def _thresholds(self, node: Node, own: LayerIntegers, sums: str) -> str:
        """The number of thresholds that a sum reaches."""
        assert own.thresholds is not None
        name, shape, graph = node.name, self._shape(node.out_shape), self.graph
        last = graph.constant("last axis", np.array([-1], np.int64))
        deep = graph.node("Unsqueeze", [sums, last], f"{name}/deep", (*shape, 1), "int64")
        total = ""
        for first in range(0, own.thresholds.shape[1], THRESHOLDS):
            some = own.thresholds[:, first : first + THRESHOLDS]
            key = name if not first else f"{name}/{first}"
            held = graph.constant(f"{key}.thresholds", some[None, :, None, None, :])
            sizes = (*shape, some.shape[1])
            reached = graph.node("GreaterOrEqual", [deep, held], f"{key}/reached", sizes, "bool")
            ones = graph.node("Cast", [reached], f"{key}/ones", sizes, "int64", to=7)
            count = graph.node(
                "ReduceSum", [ones, last], f"{key}/count", shape, "int64", keepdims=0
            )
            total = (
                count
                if not total
                else graph.node("Add", [total, count], f"{key}/counted", shape, "int64")
            )
        return total

    def _multiply(self, node: Node, own: LayerIntegers, sums: str) -> str:
        """(sum * gain + offset) >> shift."""
        assert own.gains is not None and own.offsets is not None and own.shift is not None
        name, shape, graph = node.name, self._shape(node.out_shape), self.graph
        gains = graph.constant(f"{name}.gains", own.gains[:, None, None])
        offsets = graph.constant(f"{name}.offsets", own.offsets[:, None, None])
        scaled = graph.node("Mul", [sums, gains], f"{name}/scaled", shape, "int64")
        raised = graph.node("Add", [scaled, offsets], f"{name}/raised", shape, "int64")
        return self._shifted(node, raised, own.shift)

    def _rounded(self, node: Node, value: str, shift: int) -> str:
        """value / 2**shift to the nearest, halves up."""
        if not shift:
            return value
        shape = self._shape(node.out_shape)
        raised = self._integer("Add", value, f"{node.name}/raised", shape, 1 << shift - 1)
        return self._shifted(node, raised, shift)

    def _shifted(self, node: Node, value: str, shift: int) -> str:
        """value >> shift: ONNX divides towards 0, so what is cut off is taken away before."""
        if not shift:
            return value
        name, shape = node.name, self._shape(node.out_shape)
        rest = self._integer("Mod", value, f"{name}/rest", shape, 1 << shift)
        even = self.graph.node("Sub", [value, rest], f"{name}/even", shape, "int64")
        return self._integer("Div", even, f"{name}/floored", shape, 1 << shift)

    def _codes(self, node: Node, value: str) -> str:
        """Clipped to the tensor's codes, as floats."""
        shape, (low, high) = self._shape(node.out_shape), self._range(node.name)
        ends = [self.graph.constant(f"int {end}", np.int64(end)) for end in (low, high)]
        name = f"{node.name}/clipped"
        clipped = self.graph.node("Clip", [value, *ends], name, shape, "int64")
        return self.graph.node("Cast", [clipped], node.name, shape, to=1)

    # Pieces

    def _range(self, name: str) -> tuple[int, int]:
        found = integer.code_range(self.trained.scheme, self.tensors[name])
        assert found is not None
        return found

    def _integer(
        self, operator: str, value: str, output: str, shape: tuple[int | str, ...], number: int
    ) -> str:
        held = self.graph.constant(f"int {number}", np.int64(number))
        return self.graph.node(operator, [value, held], output, shape, "int64")

    def _wide(self, name: str, index: int, tensor: str, node: Node) -> str:
        shape = self._shape(node.in_shape)
        return self.graph.node("Cast", [tensor], f"{name}/wide{index}", shape, "int64", to=7)

    def _pixels(self, flat: str, name: str, shape: tuple[int | str, ...]) -> str:
        """A vector as a tensor of one pixel."""
        axes = self.graph.constant("rows and columns", np.array([2, 3], np.int64))
        return self.graph.node("Unsqueeze", [flat, axes], name, shape)

    def _shape(self, shape: Shape) -> tuple[int | str, ...]:
        return BATCH, shape.c, shape.h, shape.w
