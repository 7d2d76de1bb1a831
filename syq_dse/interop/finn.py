"""A design as FINN's builder reads it: foldings and implementation styles by its node names.

Facts about FINN are those of finn-plus 1.6.1, each with the file that it is from. The names are
those that the builder gives with its default `standalone_thresholds = false`, where the thresholds
of a layer are part of its MVAU, as they are of our engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, gcd, prod
from pathlib import Path
from typing import Literal

from syq_dse import records
from syq_dse.cost.folding import Folding
from syq_dse.cost.integers import divisors
from syq_dse.errors import InputError, one_line
from syq_dse.interop.point import Point
from syq_dse.network import INPUT, Add, AvgPool, Conv, GlobalAvgPool, MaxPool, Node, Shape
from syq_dse.scheme import Tensor, normal, tensors, weight_bits
from syq_dse.target import Board

WIDEST = 8191
"""Bits of a stream of an HLS layer: MAX_ALLOWED_AP_INT_W, util/basic.py."""

DEEPEST = 1024
"""Words of SIMD inputs that an HLS MVAU holds of one pixel: `defines` of
custom_op/fpgadataflow/hls/matrixvectoractivation_hls.py."""

STYLES: Mapping[str, Literal["hls", "rtl"]] = {
    "Thresholding": "rtl",
    "FMPadding": "rtl",
    "ConvolutionInputGenerator": "rtl",
    "VVAU": "hls",  # the RTL one needs DSP58 of Versal
    "Pool": "hls",
    "GlobalAccPool": "hls",
    "DuplicateStreams": "hls",
    "ElementwiseAdd": "hls",
}
"""What SpecializeLayers makes of each operator (transformation/fpgadataflow/specialize_layers.py);
of an MVAU it depends on the folding."""

RESIDUAL_STEPS = (
    "step_qonnx_to_finn",
    "step_tidy_up",
    "finn.builder.custom_step_library.resnet.step_resnet_tidy",
    "finn.builder.custom_step_library.resnet.step_resnet_streamline",
    "step_convert_to_hw",
    "finn.builder.custom_step_library.resnet.step_resnet_convert_to_hw",
)
"""What comes before step_minimize_bit_width_initial where branches meet or whole images are
averaged: the default streamlining leaves scales between the layers there. From
benchmarking/dut/resnet18.yml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One node of FINN's graph."""

    op: str  # before it is specialised
    style: Literal["hls", "rtl"]
    layer: str  # whose work it does
    attributes: Mapping[str, int | str]
    cycles: int  # an image, as its get_exp_cycles counts
    note: str = ""  # what differs from the design


def write(point: Point, out: Path) -> list[Path]:
    """Write NAME_folding.json, NAME_specialize_layers.json and NAME_finn.txt, which explains them.

    Raises:
        InputError: FINN has no hardware for a layer, or none for the target.
    """
    found = units(point)
    special, named = names(found, specialised=False), names(found, specialised=True)
    rescaling = _rescaling(point)
    defaults = {"PE": [rescaling[0], ["ElementwiseMul_hls"]]} if rescaling else {}
    folding: dict[str, object] = {"Defaults": defaults}
    folding |= {name: unit.attributes for name, unit in zip(named, found, strict=True)}
    styles: dict[str, object] = {"Defaults": {}}
    styles |= {
        name: {"preferred_impl_style": unit.style}
        for name, unit in zip(special, found, strict=True)
    }
    records.make_folder(out)
    paths = [
        out / f"{point.name}_{ending}"
        for ending in ("folding.json", "specialize_layers.json", "finn.txt")
    ]
    records.write_json(paths[0], folding)
    records.write_json(paths[1], styles)
    records.write_text(paths[2], _explained(point, dict(zip(named, found, strict=True))))
    return paths


def names(found: list[Unit], specialised: bool) -> list[str]:
    """Operator and its number in the order of the graph: GiveUniqueNodeNamesRecursive."""
    counted: dict[str, int] = {}
    result = []
    for unit in found:
        op = f"{unit.op}_{unit.style}" if specialised else unit.op
        result.append(f"{op}_{counted.get(op, 0)}")
        counted[op] = counted.get(op, 0) + 1
    return result


def units(point: Point) -> list[Unit]:
    """The nodes of a design in the order in which FINN has them.

    That is SortGraph's (qonnx 1.0.0): by how many nodes are before each, then as the network has
    them. What rescales to the result behind the last layer, and one branch to the other, is not
    listed, nor what transposes where branches begin at a maximum pool.

    Raises:
        InputError: FINN has no hardware for a layer, or none for the target.
    """
    _check(point)
    network = point.network
    written = tensors(network)
    placed: list[tuple[int, Unit]] = []
    before: dict[str, int] = {}  # nodes before those that read a tensor

    def place(name: str, start: int, chain: list[Unit]) -> None:
        if len(network.readers[name]) > 1:
            chain = [*chain, _fork(point, name)]
        placed.extend((start + i, unit) for i, unit in enumerate(chain))
        before[name] = start + len(chain)

    place(INPUT, 0, [_channelwise(point, "Thresholding", INPUT, network.input_shape)])
    for node in network.nodes:
        start = max(before[name] for name in node.inputs)
        place(node.name, start, _chain(point, node, written))
    return [unit for _, unit in sorted(placed, key=lambda one: one[0])]


def _fork(point: Point, name: str) -> Unit:
    """What copies a tensor for its readers."""
    shape = point.network.shape_of(name)
    if not _forks_at_pool(point, name):
        return _channelwise(point, "DuplicateStreams", name, shape)
    # there FINN has rows of pixels innermost
    pe = _fewest(gcd(shape.c, shape.w), point, lambda pe: shape.size // pe)
    note = f"nodes Shuffle around it, {shape.size} cycles by SIMD 1: give them more by hand"
    unit = _unit("DuplicateStreams", name, {"PE": pe}, shape.size // pe)
    return replace(unit, note=note if shape.size > point.design.interval else "")


def _forks_at_pool(point: Point, name: str) -> bool:
    node = point.network.by_name.get(name)
    return node is not None and isinstance(node.layer, MaxPool)


def _chain(point: Point, node: Node, written: Mapping[str, Tensor]) -> list[Unit]:
    """The nodes of one layer."""
    match node.layer:
        case MaxPool():
            pool, window = _pool(point, node)
            return [*_padding(point, node), window, pool]
        case GlobalAvgPool():
            shape = node.in_shape
            pe = _fewest(shape.c, point, lambda pe: (shape.pixels + 1) * (shape.c // pe))
            taken = (shape.pixels + 1) * (shape.c // pe)  # custom_op/fpgadataflow/globalaccpool.py
            pool = _unit("GlobalAccPool", node.name, {"PE": pe}, taken)
            return [pool, *_codes(point, node, written)]
        case Add():
            add = _channelwise(point, "ElementwiseAdd", node.name, node.out_shape)
            return [add, *_codes(point, node, written)]
    if not node.has_weights:
        return []
    engine = _engine(point, node, written)
    window_needed = node.k != 1 or node.stride != 1 or sum(node.pad) > 0
    if not window_needed:  # qonnx/transformation/lower_convs_to_matmul.py
        return [engine]
    return [*_padding(point, node), _window(point, node, engine), engine]


def _codes(point: Point, node: Node, written: Mapping[str, Tensor]) -> list[Unit]:
    """Thresholds that no MVAU takes in."""
    if written[node.name].kind == "result":
        return []
    return [_channelwise(point, "Thresholding", node.name, node.out_shape)]


def _unit(op: str, layer: str, attributes: Mapping[str, int | str], taken: int) -> Unit:
    return Unit(op=op, style=STYLES[op], layer=layer, attributes=attributes, cycles=taken)


def _channelwise(point: Point, op: str, layer: str, shape: Shape) -> Unit:
    """A node that takes PE channels a cycle."""
    pe = _fewest(shape.c, point, lambda pe: shape.size // pe)
    return _unit(op, layer, {"PE": pe}, shape.size // pe)


def _fewest(channels: int, point: Point, taken: Callable[[int], int]) -> int:
    """The fewest channels at once that keep up with the interval; all where none do."""
    return next((n for n in divisors(channels) if taken(n) <= point.design.interval), channels)


# Engines


def _engine(point: Point, node: Node, written: Mapping[str, Tensor]) -> Unit:
    """MVAU, or VVAU of a depthwise convolution."""
    fold = point.design.folding[node.name]
    bits = point.scheme.bits[written[node.inputs[0]].name]
    # binary weights become INT2: minimize_weight_bit_width takes -1 and 1 for -2 to 1
    weight = max(2, weight_bits(point.scheme.layers[node.name].weights))
    op = "VVAU" if _is_depthwise(node) else "MVAU"
    # no thresholds, two bits and more; whether weights are narrow, as DSP48E1 needs them, nobody
    # knows before training (_mvu_rtl_possible)
    sums = op == "MVAU" and written[node.name].kind == "result" and bits >= 2
    in_rtl = sums and fold.res_type == "dsp" and not _part(point).startswith("xc7")
    style: Literal["hls", "rtl"] = "rtl" if in_rtl else "hls"
    pe, simd = fold.pe, fold.simd
    notes = []
    if op == "MVAU" and style == "hls":
        pe, simd = _synthesisable(node, fold)
        if (pe, simd) != (fold.pe, fold.simd):
            notes.append(
                f"PE {pe}, SIMD {simd} in place of {fold.pe}, {fold.simd}: "
                f"FINN needs a SIMD of at least {ceil(node.fan_in / DEEPEST)}"
            )
    if bits == 1:
        notes.append("FINN builds no MVAU or VVAU that reads 0 and 1: give its input 2 bits")
    lanes = pe * simd if op == "VVAU" else simd
    widest = lanes * max(bits, weight)
    if style == "hls" and widest > WIDEST:
        notes.append(f"a stream of {widest} bits, and HLS has at most {WIDEST}: fold it more")
    attributes: dict[str, int | str] = {"PE": pe, "SIMD": simd, "resType": fold.res_type}
    attributes |= _memory(fold, style == "hls" and pe * simd * weight > WIDEST)
    return Unit(
        op=op,
        style=style,
        layer=node.name,
        attributes=attributes,
        cycles=node.macs // (pe * simd),
        note="; ".join(notes),
    )


def _is_depthwise(node: Node) -> bool:
    """As qonnx/transformation/lower_convs_to_matmul.py asks."""
    convolves = isinstance(node.layer, Conv)
    return convolves and node.groups == node.in_shape.c == node.out_shape.c


def _synthesisable(node: Node, fold: Folding) -> tuple[int, int]:
    """PE and SIMD of an HLS MVAU, no slower than the design's."""
    if fold.simd * DEEPEST >= node.fan_in:
        return fold.pe, fold.simd
    legal = [
        (pe, simd)
        for pe in divisors(node.out_shape.c)
        for simd in divisors(node.fan_in)
        if simd * DEEPEST >= node.fan_in and pe * simd >= fold.pe * fold.simd
    ]
    return min(legal, key=lambda pair: (prod(pair), pair[1]))


def _memory(fold: Folding, wide: bool) -> dict[str, int | str]:
    """Where the weights are: custom_op/fpgadataflow/matrixvectoractivation.py."""
    if fold.ram_style == "dram":
        return {"mem_mode": "external"}
    if wide:  # there is no stream of that width, so the weights become part of the HLS code
        return {"mem_mode": "internal_embedded"}
    style: dict[str, int | str] = {"mem_mode": "internal_decoupled", "ram_style": fold.ram_style}
    if fold.ram_style == "ultra":  # no bitstream initialises URAM
        style["runtime_writeable_weights"] = 1
    return style


# Windows and pools


def _padding(point: Point, node: Node) -> list[Unit]:
    if not sum(node.pad):
        return []
    shape = _padded(node)
    simd = _fewest(shape.c, point, lambda simd: shape.size // simd)
    # SIMD channels of an output pixel a cycle: custom_op/fpgadataflow/fmpadding.py
    return [_unit("FMPadding", node.name, {"SIMD": simd}, shape.size // simd)]


def _padded(node: Node) -> Shape:
    around = sum(node.pad)
    return Shape(node.in_shape.c, node.in_shape.h + around, node.in_shape.w + around)


def _window(point: Point, node: Node, engine: Unit) -> Unit:
    """The sliding window before an engine, no slower than that reads."""
    pe, simd = int(engine.attributes["PE"]), int(engine.attributes["SIMD"])
    channels = node.in_shape.c
    if engine.op == "VVAU":  # both must take the same channels: set_folding.py
        shapes = [(pe, parallel) for parallel in (0, 1) if parallel or simd == 1]
    else:
        shapes = [(n, 0) for n in divisors(channels) if n >= min(simd, channels)]
        # whole windows at once only of all channels: select_impl_style
        shapes += [(channels, 1)] if node.k > 1 else []
    taken = {one: _window_cycles(node, *one, depthwise=engine.op == "VVAU") for one in shapes}
    chosen = next(
        (one for one in shapes if taken[one] <= point.design.interval),
        min(shapes, key=lambda one: taken[one]),
    )
    return _unit(
        "ConvolutionInputGenerator",
        node.name,
        {"SIMD": chosen[0], "parallel_window": chosen[1], "ram_style": "auto"},
        taken[chosen],
    )


def _pool(point: Point, node: Node) -> tuple[Unit, Unit]:
    """A pool and its window, which take the same channels: set_folding.py."""

    def pool_cycles(pe: int) -> int:
        return node.in_shape.c * node.k**2 // pe * node.out_shape.pixels  # pool.py

    def window_cycles(pe: int) -> int:
        return _window_cycles(node, pe, 0, depthwise=True)

    pe = _fewest(node.in_shape.c, point, lambda pe: max(pool_cycles(pe), window_cycles(pe)))
    pool = _unit("Pool", node.name, {"PE": pe}, pool_cycles(pe))
    window = _unit(
        "ConvolutionInputGenerator",
        node.name,
        {"SIMD": pe, "parallel_window": 0, "ram_style": "auto"},
        window_cycles(pe),
    )
    return pool, window


def _window_cycles(node: Node, simd: int, parallel: int, *, depthwise: bool) -> int:
    """As get_exp_cycles of custom_op/fpgadataflow/rtl/convolutioninputgenerator_rtl.py counts."""
    shape, k, stride = _padded(node), node.k, node.stride
    words = shape.c // simd
    if parallel or k == 1:
        return shape.pixels * words + 2
    out = node.out_shape
    row = max(out.w * k * k, stride * shape.w) * words
    first = ((k - 1) * shape.w + k) * words
    if not depthwise:
        return first + out.h * row
    row += out.w * (stride - 1) * (words - 1)
    return first + out.h * row + (stride - 1) * shape.w * words


# Rules


def _part(point: Point) -> str:
    """The part that the design is for.

    Raises:
        InputError: it is none of AMD.
    """
    board = point.pricing.target
    if not isinstance(board, Board) or not board.part.startswith("xc"):
        raise InputError(
            f"{point.name}: FINN builds for parts of AMD, got target '{board.name}'; "
            "explore with another --target"
        )
    return board.part


def _check(point: Point) -> None:
    """Refuse what FINN has no hardware for.

    Raises:
        InputError: names the layer, the rule and what to do.
    """
    _part(point)
    written = tensors(point.network)
    for node in point.network.nodes:
        rule = _broken(point, node, written)
        if rule:
            raise InputError(f"{point.name}: {one_line(node.name)}: {rule}")


def _broken(point: Point, node: Node, written: Mapping[str, Tensor]) -> str | None:
    if node.has_weights:
        scales = normal(node, point.scheme.layers[node.name])
        if scales.multiplies_partial_sums:
            return (
                f"FINN scales a layer or a channel as one, got granularity '{scales.granularity}'; "
                "explore with --granularity layer,channel"
            )
        if node.groups > 1 and not _is_depthwise(node):
            return (
                "FINN convolves all channels or each by itself, got "
                f"groups={node.groups}, c_in={node.in_shape.c}, c_out={node.out_shape.c}; "
                "change the network"
            )
    if isinstance(node.layer, AvgPool):  # transformation/fpgadataflow/convert_to_hw/pool.py
        return "FINN averages whole images only, got avg_pool; use global_avg_pool or max_pool"
    if isinstance(node.layer, MaxPool):
        if node.k < node.stride:
            return f"FINN's pools skip no pixel, got k={node.k}, stride={node.stride}"
        if sum(node.pad) and written[node.name].signed:
            return "FINN pads pools with zeros only, which win over negative numbers; drop the pad"
    return None


def _rescaling(point: Point) -> tuple[int, int] | None:
    """Channels at once, and cycles, of the nodes that rescale one branch to another, or a mean.

    Nobody knows their number before FINN has moved the scales, so that they have no names here but
    take what all of their channels allow, the results' too.
    """
    met = [n.out_shape for n in point.network.nodes if isinstance(n.layer, (Add, GlobalAvgPool))]
    if not met:
        return None
    common = gcd(point.network.file.classes, *(shape.c for shape in met))
    most = max(shape.size for shape in met)
    pe = _fewest(common, point, lambda pe: most // pe)
    return pe, most // pe


def _explained(point: Point, named: Mapping[str, Unit]) -> str:
    """What the other two files are for, which layer each node is of, and what differs."""
    interval = point.design.interval
    lines = [
        f"{point.name} for FINN's builder (finn-plus 1.6.1). In its build configuration:",
        "",
        f"  folding_config_file: {point.name}_folding.json",
        f"  specialize_layers_config_file: {point.name}_specialize_layers.json",
        f"  fpga_part: {_part(point)}",
        f"  synth_clk_period_ns: {1000 / point.design.clock_mhz:g}",
        "  standalone_thresholds: false",
    ]
    rescaling = _rescaling(point)
    if rescaling:
        lines.append("  steps:")
        lines += [f"    - {step}" for step in RESIDUAL_STEPS]
        lines.append("    - step_minimize_bit_width_initial, and on as by default")
    lines += [
        "",
        f"The design takes {interval} cycles an image. Node, layer, cycles that FINN counts:",
    ]
    for name, unit in named.items():
        notes = [f"  {name}, {one_line(unit.layer)}, {unit.cycles}", unit.note]
        if unit.cycles > interval:
            notes.append(f"{unit.cycles - interval} cycles too many")
        lines.append("; ".join(filter(None, notes)))
    if rescaling and rescaling[1] > interval:
        lines.append(
            f"  ElementwiseMul_hls before an addition, up to {rescaling[1]} by PE {rescaling[0]}; "
            "give them more by hand"
        )
    return "\n".join(lines) + "\n"
