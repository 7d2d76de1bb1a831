"""The trained network as QONNX, whose quantisers other tools read.

Tensors hold codes: the input pixels, an activation its code, so that sums are whole numbers, which
32 bit floats hold exactly below 2**24. Weights are codes times the scales that stand in the
hardware as integers (rows, pixels); what else scales, bias and batch-norm, is one factor and one
term a channel, A * sum + B. Two rounded numbers cannot cut the sums everywhere where exact
arithmetic cuts them; where some sum would get another code, a layer has a MultiThreshold of integer
thresholds instead of a Quant.

Operators: domain qonnx.custom_op.general of qonnx 1.0 (Quant, BipolarQuant, MultiThreshold).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
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
from syq_dse.quant.model import IMAGE_MAX, Model
from syq_dse.quant.streamline import affine
from syq_dse.scheme import LayerScheme, tensors, weight_bits

Floats = npt.NDArray[np.float64]

DOMAIN = "qonnx.custom_op.general"

MARGIN = 2.0**-23
"""Relative error of an operation in 32 bit floats, twice over."""

SLOPES = 61
"""Factors that are tried around the exact one."""


def write(trained: Trained, name: str, out: Path) -> list[Path]:
    """Write NAME.qonnx.onnx and what else tools may need that know less.

    All take one image of pixels 0 to 255 (1, c, h, w), 32 bit floats, and give logits. Where scales
    are finer than a channel, NAME.decomposed.onnx has one convolution a kernel row or pixel, its
    scale a Mul, and Adds. Where a layer has a MultiThreshold, NAME.rounded.onnx has a Quant, at the
    price of a code that is one off now and then.

    Raises:
        InputError: a file cannot be written.
    """
    models = {f"{name}.qonnx.onnx": _Writer(trained).model()}
    if any(_is_finer(trained, node) for node in trained.network.engines):
        models[f"{name}.decomposed.onnx"] = _Writer(trained, decomposed=True).model()
    if any(node.op_type == "MultiThreshold" for one in models.values() for node in one.graph.node):
        models[f"{name}.rounded.onnx"] = _Writer(trained, rounded=True).model()
    records.make_folder(out)
    for file, model in models.items():
        records.write_bytes(out / file, model.SerializeToString())
    return [out / file for file in models]


def notes(trained: Trained) -> list[str]:
    """What a reader of the files should know."""
    wide = []
    for node in trained.network.engines:
        own, read = _integers(trained, node), _codes_read(trained, node)
        bits = int(integer.reach(node, own, read).max()).bit_length()
        if bits > EXACT.bit_length() - 1:
            wide.append(f"{node.name} ({bits} bits)")
    if not wide:
        return []
    return [
        f"sums can be wider than the 24 bits that 32 bit floats hold exactly: {', '.join(wide)}; "
        "--format onnx is exact"
    ]


def _integers(trained: Trained, node: Node) -> LayerIntegers:
    own = trained.integers.layers[node.name]
    assert isinstance(own, LayerIntegers)
    return own


def _codes_read(trained: Trained, node: Node) -> tuple[int, int]:
    found = integer.code_range(trained.scheme, tensors(trained.network)[node.inputs[0]])
    assert found is not None
    return found


def _is_finer(trained: Trained, node: Node) -> bool:
    """Whether partial sums meet scales of their own."""
    return len(_integers(trained, node).mantissas) > 1


# What makes codes of sums


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """Where the codes of a layer change, as sums ascend; shapes (c_out, codes - 1).

    From `at` on a sum has at least the code; `inside` says which of them a sum can reach.
    """

    at: Ints
    codes: Ints  # (codes - 1,)
    reach: Ints  # (c_out,)


def ascending(own: LayerIntegers) -> LayerIntegers:
    """The same layer without negative gains: codes of such channels are negated."""
    if own.gains is None:
        return own
    falls = own.gains < 0
    codes = np.where(falls[:, None, None, None], -own.codes, own.codes)
    return replace(own, codes=codes, gains=np.abs(own.gains))


def steps(own: LayerIntegers, reach: Ints, ranges: tuple[int, int]) -> Steps:
    """Of a layer that ascends."""
    low, high = ranges
    wanted = np.arange(low + 1, high + 1)
    if own.thresholds is not None:
        return Steps(at=own.thresholds, codes=wanted, reach=reach)
    assert own.gains is not None and own.offsets is not None and own.shift is not None
    need = (wanted[None, :] << own.shift) - own.offsets[:, None]
    gains = np.maximum(own.gains, 1)[:, None]
    at = -(-need // gains)
    always = np.where(need <= 0, -reach[:, None], reach[:, None] + 1)
    at = np.where(own.gains[:, None] == 0, always, at)
    return Steps(at=np.clip(at, -reach[:, None], reach[:, None] + 1), codes=wanted, reach=reach)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """factor * sum + term, which rounds to the code; 32 bit floats, shape (c_out,)."""

    factor: npt.NDArray[np.float32]
    term: npt.NDArray[np.float32]


def line(found: Steps, slope: Floats, terms: bool, alike: bool, unit: int = 1) -> Line | None:
    """A line that gives every sum its code, however 32 bit floats round; None if none was found.

    Args:
        unit: what sums are divided by before they meet the line; the factor is of these.
        slope: about by how much a code rises a sum, shape (c_out,).
        terms: whether there is a term.
        alike: whether all channels have one factor.
    """
    reach = found.reach[:, None].astype(np.float64)
    at, one_less = (whole.astype(np.float64) / unit for whole in (found.at, found.at - 1))
    edge = found.codes[None, :] - 0.5
    reached, missed = found.at <= reach, found.at - 1 >= -reach
    spread = np.concatenate([[0.0], np.geomspace(1e-7, 0.03, SLOPES // 2)])
    tried = np.concatenate([1 + spread, 1 - spread[1:]])
    best = np.full(len(at), -np.inf)
    factor, term = np.zeros(len(at), np.float32), np.zeros(len(at), np.float32)
    for times in tried:
        one = (slope * times).astype(np.float32)
        if alike:
            one = np.full_like(one, one.max(initial=0))
        rise = one.astype(np.float64)[:, None]
        error = MARGIN * (np.abs(rise * at) + np.abs(edge) + np.abs(rise))
        least = np.where(reached, edge - rise * at + error, -np.inf).max(axis=1)
        most = np.where(missed, edge - rise * one_less - error, np.inf).min(axis=1)
        middle = np.where(np.isfinite(least), least, most - 1)
        middle = np.where(np.isfinite(least) & np.isfinite(most), (least + most) / 2, middle)
        middle = np.where(np.isfinite(least) & ~np.isfinite(most), least + 1, middle)
        middle = np.where(~np.isfinite(least) & ~np.isfinite(most), found.codes[0], middle)
        if not terms:
            middle = np.zeros_like(middle)
        held = middle.astype(np.float32).astype(np.float64)
        slack = np.minimum(held - least, most - held)
        slack = np.where(np.isnan(slack), np.inf, slack)
        if alike:
            slack = np.full_like(slack, slack.min())
        better = (slack > best) & (slack > 0)
        best = np.where(better, slack, best)
        factor, term = np.where(better, one, factor), np.where(better, middle, term)
        if (best > 0).all() and times == tried[0]:
            break
    if not (best > 0).all():
        return None
    return Line(factor=factor.astype(np.float32), term=term.astype(np.float32))


def mean_steps(node: Node, own: PoolIntegers, read: tuple[int, int], top: tuple[int, int]) -> Steps:
    """Of the sums of a mean pool, as of one channel."""
    low, high = top
    pixels, half = integer.mean_pixels(node), (1 << own.shift) >> 1
    wanted = np.arange(low + 1, high + 1)
    reach = max(-read[0], read[1]) * pixels
    at = -(-((wanted << own.shift) - half) // max(own.gain, 1))
    if own.gain == 0:
        at = np.where(wanted <= 0, -reach, reach + 1)
    return Steps(at=np.clip(at, -reach, reach + 1)[None, :], codes=wanted, reach=np.array([reach]))


# The graph


class _Writer:
    """The model, node by node.

    Args:
        decomposed: whether each subgroup of weights has a convolution of its own.
        rounded: whether codes come from a Quant also where floats round some of them otherwise.
    """

    def __init__(
        self, trained: Trained, *, decomposed: bool = False, rounded: bool = False
    ) -> None:
        self.trained, self.network = trained, trained.network
        self.decomposed, self.rounded = decomposed, rounded
        self.tensors = tensors(trained.network)
        self.graph = Graph(["images", "logits"])
        self.trained_model: Model = trained.model()
        self.written = {INPUT: self._input()}

    def model(self) -> onnx.ModelProto:
        net, graph = self.network, self.graph
        for node in net.nodes[:-1]:
            self.written[node.name] = self._layer(node)
        last = net.nodes[-1]
        value = self._layer(last)
        if self.tensors[last.name].kind != "result":  # codes
            scale = float(self.trained.readout.scale[0])
            value = self._scaled(value, "real", self._sizes(value), scale)
        shape = (1, last.out_shape.c)
        if last.out_shape.pixels == 1 and len(self._sizes(value)) == 2:
            graph.node("Identity", [value], "logits", shape, end=True)
        else:
            graph.node("Flatten", [value], "logits", shape, end=True, axis=1)
        image = net.input_shape
        inputs = {"images": ("float32", (1, image.c, image.h, image.w))}
        return graph.model(net, self.trained.scheme, inputs, ["logits"], {DOMAIN: 1})

    def _input(self) -> str:
        shape, bits = _shape(self.network.input_shape), self.trained.scheme.bits[INPUT]
        top = (1 << bits) - 1
        value = "images"
        if top != IMAGE_MAX:  # no pixel is in the middle of two codes: 2 * pixel * top is even
            value = self._scaled(value, "input/scaled", shape, top / IMAGE_MAX)
        return self._quant(value, "input", shape, bits, signed=False)

    def _layer(self, node: Node) -> str:
        own = self.trained.integers.layers.get(node.name)
        read = [self.written[name] for name in node.inputs]
        shape, name, graph = _shape(node.out_shape), node.name, self.graph
        match node.layer, own:
            case MaxPool(), _:
                return graph.node(
                    "MaxPool", [self._pixels(read[0], node.in_shape)], name, shape,
                    **windows(node),
                )  # fmt: skip
            case Flatten(), _:
                return graph.node("Flatten", read, name, shape[:2], axis=1)
            case ((Conv() | Dense()), LayerIntegers()):
                return self._weighted(node, own, read[0])
            case Add(), _:
                return self._add(node, own if isinstance(own, AddIntegers) else None, read)
            case ((AvgPool() | GlobalAvgPool()), _):
                return self._mean(node, own if isinstance(own, PoolIntegers) else None, read[0])
        raise AssertionError(node)

    # Layers with weights

    def _weighted(self, node: Node, own: LayerIntegers, read: str) -> str:
        assert isinstance(node.layer, (Conv, Dense))
        own = ascending(own)
        value = self._sums(node, own, read)
        name, sizes = node.name, self._sizes(value)
        if own.method is None:
            readout = self.trained.readout
            return self._affine(
                node, value, name, readout.scale.astype(np.float32),
                readout.offset.astype(np.float32),
            )  # fmt: skip
        ranges = integer.code_range(self.trained.scheme, self.tensors[name])
        assert ranges is not None
        reach = integer.reach(node, own, _codes_read(self.trained, node))
        found = steps(own, reach, ranges)
        if own.gains is not None and own.offsets is not None and own.shift is not None:
            slope, raised = (
                np.ldexp(of.astype(np.float64), -own.shift) for of in (own.gains, own.offsets)
            )
        else:
            step = self.trained_model.step(node.name)
            _, slope, raised = affine(self.trained_model, node, step)
            slope = np.abs(slope)
        bits, signed = self.trained.scheme.bits[name], self.tensors[name].signed
        alike = not node.layer.batch_norm and not self._by_channel(node)
        fits = line(found, slope, node.layer.batch_norm or node.has_bias, alike)
        if fits is None and self.rounded:  # the half of the floor is the Quant's own
            fits = Line(factor=slope.astype(np.float32), term=(raised - 0.5).astype(np.float32))
        if fits is not None:
            value = self._affine(node, value, f"{name}/raised", fits.factor, fits.term)
            if not signed:
                value = self.graph.node("Relu", [value], f"{name}/relu", sizes)
            return self._quant(value, name, sizes, bits, signed)
        ones = np.ones(len(reach), np.float32)
        value = self._affine(node, value, f"{name}/raised", ones, 0 * ones)
        return self._counted(value, name, found.at, ranges)

    def _by_channel(self, node: Node) -> bool:
        return self.trained.scheme.layers[node.name].granularity == "channel"

    def _affine(
        self,
        node: Node,
        value: str,
        output: str,
        factor: npt.NDArray[np.float32],
        term: npt.NDArray[np.float32],
    ) -> str:
        """factor * value + term a channel: batch-norm where the layer has one, or pixels a bias,
        since hls4ml knows no constant of channels beside those."""
        assert isinstance(node.layer, (Conv, Dense))
        name, sizes, graph = node.name, self._sizes(value), self.graph
        if node.layer.batch_norm or (node.has_bias and len(sizes) == 4):
            ones = np.ones(len(factor), np.float32)
            parts = {"gain": factor, "offset": term, "mean": 0 * ones, "variance": ones}
            held = [graph.constant(f"{name}.{part}", of) for part, of in parts.items()]
            return graph.node("BatchNormalization", [value, *held], output, sizes, epsilon=0.0)
        spread = (-1, 1, 1) if len(sizes) == 4 else (-1,)
        whole = factor[:1].reshape(()) if (factor == factor[0]).all() else factor.reshape(spread)
        made = output if not node.has_bias else f"{name}/scaled"
        value = graph.node("Mul", [value, graph.constant(f"{name}.factor", whole)], made, sizes)
        if node.has_bias:
            bias = graph.constant(f"{name}.term", term.reshape(spread))
            value = graph.node("Add", [value, bias], output, sizes)
        return value

    def _sums(self, node: Node, own: LayerIntegers, read: str) -> str:
        layer = self.trained.scheme.layers[node.name]
        if self.decomposed and _is_finer(self.trained, node):
            return self._decomposed(node, own, layer, read)
        weights = self._codes(f"{node.name}", own.codes, own.mantissas, layer, node)
        return self._product(node, read, weights, f"{node.name}/sums", whole=True)

    def _decomposed(self, node: Node, own: LayerIntegers, layer: LayerScheme, read: str) -> str:
        """One convolution a kernel row or pixel, its scale behind it, and their sum."""
        by_row = len(own.mantissas) == node.k
        if layer.weights == "binary":
            layer = replace(layer, weights="ternary")  # what is of another subgroup is 0
        total = ""
        for index, mantissa in enumerate(own.mantissas.tolist()):
            mask = np.zeros((node.k, node.k), np.int64)
            mask[index if by_row else divmod(index, node.k)] = 1
            key = f"{node.name}/{index}"
            plain = replace(layer, granularity="layer")
            codes = self._codes(key, own.codes * mask, np.ones(1, np.int64), plain, node)
            part = self._product(node, read, codes, f"{key}/sums", whole=not index)
            part = self._scaled(part, f"{key}/scaled", self._sizes(part), float(mantissa))
            total = part if not total else self.graph.node(
                "Add", [total, part], f"{key}/total", self._sizes(part)
            )  # fmt: skip
        return total

    def _codes(self, key: str, codes: Ints, mantissas: Ints, layer: LayerScheme, node: Node) -> str:
        """Weights behind their quantiser: codes times scales; of a dense layer (c_in, c_out)."""
        scales = _scales(codes, mantissas, layer, node)
        if isinstance(node.layer, Dense):
            codes = codes[:, :, 0, 0].T
        safe = np.where(scales == 0, 1, scales)
        weights = codes if layer.weights == "binary" else codes * safe * (scales != 0)
        held = self.graph.constant(f"{key}.weight", weights.astype(np.float32))
        if layer.weights == "binary":
            scale = self.graph.constant(f"{key}.scale", scales.astype(np.float32))
            return self.graph.node(
                "BipolarQuant", [held, scale], f"{key}/weight", codes.shape, domain=DOMAIN
            )
        scale = self.graph.constant(f"{key}.scale", safe.astype(np.float32))
        bits = self._number(weight_bits(layer.weights))
        return self.graph.node(
            "Quant", [held, scale, self._number(0), bits], f"{key}/weight", codes.shape,
            domain=DOMAIN, signed=1, narrow=1, rounding_mode="ROUND",
        )  # fmt: skip

    def _product(self, node: Node, read: str, weights: str, output: str, *, whole: bool) -> str:
        """A convolution or matrix product; a bias that batch-norm follows is in its term."""
        shape, graph, name = _shape(node.out_shape), self.graph, node.name
        bias = []
        assert isinstance(node.layer, (Conv, Dense))
        if whole and node.has_bias and node.layer.batch_norm:
            bias = [graph.constant(f"{name}.bias", np.zeros(node.out_shape.c, np.float32))]
        if isinstance(node.layer, Dense):  # MatMul, since tools that read QONNX know no Gemm
            flat, sizes = read, shape[:2]
            if len(self._sizes(read)) == 4:
                flat = graph.node("Flatten", [read], f"{name}/read", (1, node.in_shape.c), axis=1)
            made = f"{output}/plain" if bias else output
            value = graph.node("MatMul", [flat, weights], made, sizes)
            return graph.node("Add", [value, *bias], output, sizes) if bias else value
        return graph.node(
            "Conv", [self._pixels(read, node.in_shape), weights, *bias], output, shape,
            **windows(node),
            dilations=[1, 1], group=node.groups,
        )  # fmt: skip

    # Additions and means

    def _add(self, node: Node, own: AddIntegers | None, read: Sequence[str]) -> str:
        shape, name, graph = _shape(node.out_shape), node.name, self.graph
        values = [self._pixels(tensor, node.in_shape) for tensor in read]
        if own is None:
            total = graph.node("Add", values, f"{name}/sum", shape)
            return self._scaled(total, name, shape, float(self.trained.readout.scale[0]))
        for index, by in enumerate(own.shifts):
            if by:
                values[index] = self._scaled(
                    values[index], f"{name}/shifted{index}", shape, float(1 << by)
                )
        total = graph.node("Add", values, f"{name}/sum", shape)
        if own.shift:
            total = self._scaled(total, f"{name}/divided", shape, 2.0**-own.shift)
            # a quarter of what the sum is a multiple of: halves go up
            term = graph.constant(f"{name}.up", np.float32(2.0 ** -(own.shift + 2)))
            total = graph.node("Add", [total, term], f"{name}/raised", shape)
        return self._activation(node, total, shape)

    def _mean(self, node: Node, own: PoolIntegers | None, read: str) -> str:
        shape, name, graph = _shape(node.out_shape), node.name, self.graph
        value = self._pixels(read, node.in_shape)
        if isinstance(node.layer, GlobalAvgPool):
            mean = graph.node("GlobalAveragePool", [value], f"{name}/mean", shape)
        else:
            mean = graph.node(
                "AveragePool", [value], f"{name}/mean", shape,
                kernel_shape=[node.k] * 2, strides=[node.stride] * 2,
            )  # fmt: skip
        if own is None:
            times = float(self.trained.readout.scale[0]) * integer.mean_pixels(node)
            return self._scaled(mean, name, shape, times)
        pixels = integer.mean_pixels(node)
        ranges = integer.code_range(self.trained.scheme, self.tensors[name])
        assert ranges is not None
        found = mean_steps(node, own, _codes_read(self.trained, node), ranges)
        slope = np.array([own.gain * pixels / 2.0**own.shift])
        fits = line(found, slope, True, True, pixels)
        if fits is None and self.rounded:
            fits = Line(factor=slope.astype(np.float32), term=np.zeros(1, np.float32))
        if fits is None:
            return self._counted(mean, name, (found.at - 0.5) / pixels, ranges)
        scaled = self._scaled(mean, f"{name}/scaled", shape, float(fits.factor[0]))
        if fits.term[0]:
            term = graph.constant(f"{name}.term", fits.term[0])
            scaled = graph.node("Add", [scaled, term], f"{name}/raised", shape)
        return self._activation(node, scaled, shape)

    def _counted(self, value: str, name: str, at: Floats | Ints, ranges: tuple[int, int]) -> str:
        """Codes by thresholds: as many as a value reaches."""
        sizes, low = self._sizes(value), ranges[0]
        bits = max(at.shape[1].bit_length(), 1 + (low < 0))
        kind = f"INT{bits}" if low < 0 else f"UINT{bits}" if bits > 1 else "BINARY"
        held = self.graph.constant(f"{name}.thresholds", at.astype(np.float32))
        return self.graph.node(
            "MultiThreshold", [value, held], name, sizes, domain=DOMAIN,
            out_dtype=kind, out_bias=float(low), out_scale=1.0,
            data_layout="NCHW" if len(sizes) == 4 else "NC",
        )  # fmt: skip

    def _activation(self, node: Node, value: str, shape: Sequence[int]) -> str:
        bits, signed = self.trained.scheme.bits[node.name], self.tensors[node.name].signed
        if isinstance(node.layer, Add) and not signed:
            value = self.graph.node("Relu", [value], f"{node.name}/relu", shape)
        return self._quant(value, node.name, shape, bits, signed)

    # Pieces

    def _quant(self, value: str, name: str, shape: Sequence[int], bits: int, signed: bool) -> str:
        if signed and bits == 1:  # to a Quant these are -1 and 1, here -1 and 0
            return self._counted(value, name, np.array([[-0.5]]), (-1, 0))
        one, zero = self._number(1), self._number(0)
        return self.graph.node(
            "Quant", [value, one, zero, self._number(bits)], name, shape, domain=DOMAIN,
            signed=int(signed), narrow=0, rounding_mode="ROUND",
        )  # fmt: skip

    def _number(self, value: int) -> str:
        return self.graph.constant(f"number {value}", np.float32(value))

    def _scaled(self, value: str, output: str, shape: Sequence[int], factor: float) -> str:
        held = self.graph.constant(f"{output}.factor", np.float32(factor))
        return self.graph.node("Mul", [value, held], output, shape)

    def _pixels(self, value: str, shape: Shape) -> str:
        """A vector as a tensor of one pixel, where it is read as one."""
        if len(self._sizes(value)) == 4:
            return value
        axes = self.graph.constant("rows and columns", np.array([2, 3], np.int64))
        return self.graph.node("Unsqueeze", [value, axes], f"{value}/pixel", _shape(shape))

    def _sizes(self, value: str) -> list[int]:
        return [dim.dim_value for dim in self.graph.values[value].type.tensor_type.shape.dim]


def _scales(codes: Ints, mantissas: Ints, layer: LayerScheme, node: Node) -> Floats:
    """Scales in the shape in which they stand beside weights.

    Those of channels are in the factor behind the sum, and 1 here.
    """
    shape: tuple[int, ...]
    if isinstance(node.layer, Dense):
        shape = (1, len(codes)) if layer.granularity == "channel" else ()
    elif layer.granularity == "channel":
        shape = (len(codes), 1, 1, 1)
    elif len(mantissas) == 1:
        shape = (1, 1, 1, 1)
    else:
        k = node.k
        shape = (1, 1, k, 1) if len(mantissas) == k else (1, 1, k, k)
    if layer.granularity == "channel":
        return np.ones(shape)
    return mantissas.astype(np.float64).reshape(shape)


def _shape(shape: Shape) -> tuple[int, int, int, int]:
    return 1, shape.c, shape.h, shape.w
