"""The units of every layer of a network, built and priced: what is emitted and synthesised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syq_dse.cost import engine, folding, parameters, timing
from syq_dse.cost.counts import Memory
from syq_dse.cost.estimate import as_mapping, check_foldings, check_interval, geometries
from syq_dse.cost.folding import Folding, Geometry
from syq_dse.cost.fpga import Resources
from syq_dse.cost.integers import ints
from syq_dse.cost.pricing import Pricing
from syq_dse.cost.units import fifo as fifos
from syq_dse.cost.units import pool as pools
from syq_dse.cost.units import requant as requants
from syq_dse.cost.units.mac import mac_shape, subgroups, sum_bits
from syq_dse.cost.units.pool import Gain
from syq_dse.cost.units.weights import weights
from syq_dse.cost.units.window import window
from syq_dse.errors import InputError
from syq_dse.network import INPUT, Add, AvgPool, Flatten, GlobalAvgPool, MaxPool, Network, Node
from syq_dse.quant.integer import AddIntegers, LayerIntegers, NetworkIntegers, PoolIntegers
from syq_dse.rtl.add import Adder
from syq_dse.rtl.fifo import Converter, Fifo
from syq_dse.rtl.mac import Mac
from syq_dse.rtl.pool import MaxPool as MaxPoolUnit
from syq_dse.rtl.pool import MeanPool as MeanPoolUnit
from syq_dse.rtl.requant import Multiply, Thresholds
from syq_dse.rtl.scale import Scale
from syq_dse.rtl.stream import Unit
from syq_dse.rtl.weights import Weights, packed, unpacked
from syq_dse.rtl.window import Window
from syq_dse.scheme import LayerScheme, Scheme, Tensor, normal, tensors, weight_bits

Parameters = Mapping[str, int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One unit of the accelerator."""

    name: str  # of its module
    layer: str
    unit: str  # one of prices.UNITS
    hardware: Unit
    parameters: Parameters
    resources: Resources  # as the cost model counts them, of these constants
    pricing: Pricing

    @property
    def estimate(self) -> Mapping[str, float]:
        """As documents show it."""
        return shown(self.pricing, self.resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One layer: a chain of units, in the order of the flow.

    `inputs` are the queues in front of the chain, by tensor, each with a conversion of its words
    where that is needed; the first unit of the chain reads them. `weights` feeds the mac unit; None
    where there are no weights, or where all are constants in that unit.
    """

    layer: str
    inputs: Mapping[str, tuple[Instance, ...]]
    chain: tuple[Instance, ...]
    weights: Instance | None = None
    words: tuple[int, ...] = ()

    @property
    def loaded_bits(self) -> int:
        """Bits of the words of weights that come from outside on a stream; 0: it has them.

        UltraRAM takes them once. From DRAM they come again for every image.
        """
        if self.weights is None or "s_data" not in self.weights.hardware.signature.members:
            return 0
        return len(self.weights.hardware.s_data)

    @property
    def instances(self) -> tuple[Instance, ...]:
        others = () if self.weights is None else (self.weights,)
        before = [instance for units in self.inputs.values() for instance in units]
        return (*before, *self.chain, *others)

    @property
    def estimate(self) -> Mapping[str, float]:
        """As documents show it; LUTs that its units share count once."""
        resources = np.sum([one.resources for one in self.instances], axis=0)
        return shown(self.instances[0].pricing, resources)


def shown(pricing: Pricing, resources: Resources) -> Mapping[str, float]:
    """Counts as documents show them, with the energy of an image or, in silicon, of a cycle."""
    found = as_mapping(pricing, resources)
    energy = "cycle_fj" if "cycle_fj" in found else "energy_pj"
    return {**pricing.totals(found), energy: found[energy]}


def identifier(name: str) -> str:
    """A layer's name as the beginning of a module's."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def build(
    pricing: Pricing,
    network: Network,
    scheme: Scheme,
    interval: int,
    chosen: Mapping[str, Folding],
    integers: NetworkIntegers,
) -> list[Engine]:
    """The engines of a design, one a layer but for flattening, which moves nothing.

    Args:
        interval: what streams and queues are sized for [cycles].
        chosen: the folding of every conv and dense layer.

    Raises:
        InputError: what is asked for has no hardware.
    """
    check_interval(network, interval)
    check_foldings(network, scheme, chosen)
    written = tensors(network)
    queues = timing.queues(network, interval)
    geos = geometries(network)
    engines = []
    for node in network.nodes:
        if isinstance(node.layer, Flatten):
            continue
        builder = _Builder(pricing, network, scheme, node, written, queues, interval)
        if node.has_weights:
            of = integers.layers[node.name]
            assert isinstance(of, LayerIntegers)
            engines.append(builder.engine(geos[node.name], chosen[node.name], of))
        else:
            engines.append(builder.plain(integers.layers.get(node.name)))
    return engines


@dataclass(frozen=True)
class _Builder:
    """The units of one layer."""

    pricing: Pricing
    network: Network
    scheme: Scheme
    node: Node
    written: Mapping[str, Tensor]
    queues: Mapping[tuple[str, str], timing.Queue]
    interval: int

    def engine(self, geo: Geometry, fold: Folding, of: LayerIntegers) -> Engine:
        node, family = self.node, self.pricing.family
        source = node.inputs[0]
        layer = normal(node, self.scheme.layers[node.name])
        bits = self.scheme.bits[self.written[source].name]
        out = self.written[node.name]
        acc = engine.result_bits(geo, layer, bits)
        pe, simd = ints([fold.pe]), ints([fold.simd])
        queue = self.queues[node.name, source]
        chain = self._convert(
            "convert_in", bits, queue.lanes, int(folding.word_channels(geo, pe, simd)[0])
        )
        chain.append(
            self._instance(
                "window",
                Window(
                    geo,
                    bits,
                    pe=fold.pe,
                    simd=fold.simd,
                    style=self._style(window(geo, bits, pe, simd).memories),
                    family=family,
                ),
                parameters.window(geo, bits, fold),
                engine.window_unit(self.pricing, geo, bits, pe, simd),
            )
        )  # fmt: skip
        shape = mac_shape(geo, layer, bits, fold, family.multiplier)
        words = weight_words(self.network, node, geo, layer, fold, of.codes)
        codes = None
        if shape.constant:
            codes = unpacked(words[0], layer.weights, fold.pe * fold.simd).reshape(fold.pe, -1)
        chain.append(
            self._instance(
                "mac",
                Mac(shape, family, words[0] if shape.constant else None),
                parameters.mac(shape, fold),
                engine.mac_unit(self.pricing, geo, layer, bits, pe, simd, fold.res_type, codes),
            )
        )  # fmt: skip
        if layer.multiplies_partial_sums:
            chain.append(self._scale(geo, layer, bits, fold, of))
        out_bits = acc
        if out.kind != "result":
            out_bits = self.scheme.bits[out.name]
            chain.append(self._requant(geo, acc, out, out_bits, fold, of))
        link = timing.stream_lanes(self.network, node.name, self.interval)
        chain += self._convert("convert_out", out_bits, fold.pe, link)
        return Engine(
            layer=node.name,
            inputs={source: (self._queue(queue, bits),)},
            chain=tuple(chain),
            weights=None if shape.constant else self._weights(geo, layer, fold, words),
            words=tuple(words),
        )

    def _weights(
        self, geo: Geometry, layer: LayerScheme, fold: Folding, words: Sequence[int]
    ) -> Instance:
        pricing, code = self.pricing, weight_bits(layer.weights)
        pe, simd = ints([fold.pe]), ints([fold.simd])
        width = fold.pe * fold.simd * code
        hardware: Unit
        if fold.ram_style == "dram":
            counts = weights(geo, code, pe, simd, "dram")
            depth = int(np.max(counts.memories[0].depth))
            style = self._style(counts.memories)
            hardware = Fifo(width, depth + 1, style=style, family=pricing.family)
        else:
            hardware = Weights(words, width, style=fold.ram_style, family=pricing.family)
        return self._instance(
            "weights",
            hardware,
            parameters.weights(geo, layer, fold),
            engine.weights_unit(pricing, geo, layer.weights, pe, simd, fold.ram_style),
        )

    def _scale(
        self, geo: Geometry, layer: LayerScheme, bits: int, fold: Folding, of: LayerIntegers
    ) -> Instance:
        pe, simd = ints([fold.pe]), ints([fold.simd])
        sums, steps, terms = subgroups(geo, layer, simd)
        mantissas = [int(m) for m in of.mantissas]
        if layer.scale == "shift":
            mantissas = [m.bit_length() - 1 for m in mantissas]
        partial = sum_bits(terms, layer.weights, bits, geo.signed)
        dsp = fold.res_type == "dsp"
        return self._instance(
            "scale",
            Scale(
                partial=partial,
                total=engine.result_bits(geo, layer, bits),
                entries=len(mantissas),
                at_once=int(sums[0]),
                pe=fold.pe,
                mantissas=mantissas,
                scale=layer.scale,
                dsp=dsp,
                period=int(steps[0]),
                style="distributed",
                family=self.pricing.family,
            ),
            parameters.scale(geo, layer, bits, fold),
            engine.scale_unit(self.pricing, geo, layer, bits, pe, simd, fold.res_type, mantissas),
        )

    def _requant(
        self, geo: Geometry, acc: int, out: Tensor, out_bits: int, fold: Folding, of: LayerIntegers
    ) -> Instance:
        pricing, period = self.pricing, geo.fan_in // fold.simd
        dsp, sizes = fold.res_type == "dsp", (ints([fold.pe]), ints([period]))
        method, counts = engine.requant_method(pricing, geo, acc, out, out_bits, fold)
        if of.method != method:
            raise InputError(
                f"{self.node.name}: is priced with requantisation by {method}, and its integers "
                f"are for {of.method}"
            )
        styles = [pricing.chosen_style(memory) for memory in counts.memories]
        hardware: Unit
        if method == "thresholds":
            assert of.thresholds is not None
            known = np.array(of.thresholds, dtype=np.int64)
            counts = requants.thresholds(acc, out_bits, geo.c_out, *sizes, known=known)
            hardware = Thresholds(
                acc, out_bits, geo.c_out, pe=fold.pe, period=period,
                thresholds=[[int(t) for t in row] for row in of.thresholds],
                style=styles, family=pricing.family,
            )  # fmt: skip
        else:
            assert of.gains is not None and of.offsets is not None and of.shift is not None
            gains = np.array(of.gains, dtype=np.int64), np.array(of.offsets, dtype=np.int64)
            port = pricing.family.multiplier[0]
            counts = requants.multiply(
                acc, out_bits, geo.c_out, *sizes, dsp=dsp, port=port, known=gains
            )
            hardware = Multiply(
                acc, out_bits, geo.c_out, pe=fold.pe, period=period,
                gains=[int(g) for g in of.gains], offsets=[int(o) for o in of.offsets],
                shift=of.shift, signed=out.signed, dsp=dsp,
                style=styles, family=pricing.family,
            )  # fmt: skip
        return self._instance(
            "requant",
            hardware,
            parameters.requant(geo, method, acc, out_bits, fold),
            pricing.resources("requant", counts),
        )

    def plain(self, of: object) -> Engine:
        """The engine of an addition or a pool."""
        node, pricing, family = self.node, self.pricing, self.pricing.family
        out = self.written[node.name]
        if out.kind == "result":
            raise InputError(
                f"{node.name}: hardware ends with a conv or dense layer, "
                f"got {type(node.layer).__name__}"
            )
        tensors_in = [self.written[name] for name in node.inputs]
        bits = [self.scheme.bits[t.name] for t in tensors_in]
        out_bits = self.scheme.bits[out.name]
        queues = [self.queues[node.name, name] for name in node.inputs]
        link = timing.stream_lanes(self.network, node.name, self.interval)
        lanes = link if isinstance(node.layer, Add) else queues[0].lanes
        estimate = engine.plain_units(pricing, node, tuple(bits), out_bits, tuple(queues), link)
        hardware: Unit
        if isinstance(node.layer, Add):
            assert isinstance(of, AddIntegers)
            unit, of_unit = "add", parameters.add((bits[0], bits[1]), out_bits, lanes)
            hardware = Adder(
                bits=(bits[0], bits[1]), signed=(tensors_in[0].signed, tensors_in[1].signed),
                shifts=of.shifts, out_bits=out_bits, out_signed=out.signed, shift=of.shift,
                lanes=lanes,
            )  # fmt: skip
        else:
            unit, of_unit = "pool", parameters.pool(node, bits[0], out_bits, lanes)
            signed = tensors_in[0].signed
            if isinstance(node.layer, MaxPool):
                counts = pools.max_pool(node, bits[0], lanes)
                styles = [pricing.chosen_style(memory) for memory in counts.memories]
                hardware = MaxPoolUnit(
                    node, bits=bits[0], signed=signed, lanes=lanes, style=styles, family=family
                )
            else:
                assert isinstance(node.layer, (AvgPool, GlobalAvgPool))
                assert isinstance(of, PoolIntegers)
                counts = pools.mean_pool(node, bits[0], out_bits, lanes)
                styles = [pricing.chosen_style(memory) for memory in counts.memories]
                hardware = MeanPoolUnit(
                    node, bits=bits[0], signed=signed, out_bits=out_bits, lanes=lanes,
                    style=styles, family=family, gain=Gain(of.gain, of.shift),
                )  # fmt: skip
        instance = self._instance(unit, hardware, of_unit, estimate[unit])
        inputs = {}
        for prefix, name, queue, b in zip("st", node.inputs, queues, bits, strict=False):
            end = "" if prefix == "s" else f"_{prefix}"
            before = [self._queue(queue, b, f"queue{end}")]
            if isinstance(node.layer, Add):
                before += self._convert(f"convert_in{end}", b, queue.lanes, lanes)
            inputs[name] = tuple(before)
        return Engine(layer=node.name, inputs=inputs, chain=(instance,))

    def _queue(self, queue: timing.Queue, bits: int, name: str = "queue") -> Instance:
        width = queue.lanes * bits
        counts = fifos.fifo(queue.words, width)
        return self._instance(
            "fifo",
            Fifo(
                width, queue.words, style=self._style(counts.memories), family=self.pricing.family
            ),
            parameters.queue(width, queue.words),
            engine.queue_unit(self.pricing, queue, bits),
            name,
        )

    def _convert(self, name: str, bits: int, source: int, sink: int) -> list[Instance]:
        if source == sink:
            return []
        return [
            self._instance(
                "fifo",
                Converter(bits, source, sink),
                parameters.converter(bits, source, sink),
                engine.convert_unit(self.pricing, bits, source, sink),
                name,
            )
        ]

    def _style(self, memories: tuple[Memory, ...]) -> str:
        return self.pricing.chosen_style(memories[0]) if memories else "distributed"

    def _instance(
        self,
        unit: str,
        hardware: Unit,
        built_with: Parameters,
        estimate: Resources,
        name: str | None = None,
    ) -> Instance:
        return Instance(
            name=f"{identifier(self.node.name)}_{name or unit}",
            layer=self.node.name,
            unit=unit,
            hardware=hardware,
            parameters=built_with,
            resources=np.asarray(estimate).reshape(-1),
            pricing=self.pricing,
        )


def weight_words(
    network: Network,
    node: Node,
    geo: Geometry,
    layer: LayerScheme,
    fold: Folding,
    codes: npt.NDArray[np.int64],
) -> list[int]:
    """The words of an engine's weight memory, in the order in which the mac unit reads them.

    Codes of shape (c_out, c_in / groups, k, k); those of a dense layer behind a flattening come in
    the order (channel, row, column), and are read pixel by pixel.
    """
    by_input = codes.transpose(0, 2, 3, 1).reshape(geo.c_out, geo.fan_in)
    shape = timing.stream_shape(network, node.inputs[0])
    if geo.k == 1 and shape.pixels > 1 and geo.fan_in == shape.size and geo.positions == 1:
        order = np.arange(shape.size).reshape(shape.c, shape.h, shape.w).transpose(1, 2, 0)
        by_input = by_input[:, order.ravel()]
    code = weight_bits(layer.weights)
    stored = (by_input + 1) // 2 if layer.weights == "binary" else by_input % (1 << code)
    folds = stored.reshape(geo.c_out // fold.pe, fold.pe, geo.fan_in // fold.simd, fold.simd)
    lanes = folds.transpose(0, 2, 1, 3).reshape(-1, fold.pe * fold.simd)
    return packed(lanes, code)


def input_words(
    network: Network, interval: int, bits: int, image: npt.NDArray[np.int64]
) -> list[int]:
    """An image of codes, shape (c, h, w), as the words of the network's input stream."""
    lanes = timing.stream_lanes(network, INPUT, interval)
    values = image.transpose(1, 2, 0).reshape(-1, lanes)
    return [sum(int(v) << (bits * i) for i, v in enumerate(row)) for row in values]


def result_values(words: list[int], lanes: int, bits: int) -> list[int]:
    """The signed values in words of the result, in the order of the stream."""
    fields = [word >> (bits * i) & ((1 << bits) - 1) for word in words for i in range(lanes)]
    return [field - (1 << bits) if field >> (bits - 1) else field for field in fields]


__all__ = ["Engine", "Instance", "build", "identifier", "input_words", "result_values"]
