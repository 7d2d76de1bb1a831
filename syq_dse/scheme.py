"""A scheme: codebook, granularity and scale format of each layer, and each tensor's precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from syq_dse import records
from syq_dse.errors import InputError, unknown
from syq_dse.network import INPUT, Add, Conv, Dense, Flatten, MaxPool, Network, Node

Weights = Literal["binary", "ternary", "int2", "int3", "int4", "int5", "int6", "int7", "int8"]
Granularity = Literal["layer", "row", "pixel", "channel"]
Scale = Literal["fixed8", "shift"]

WEIGHTS: tuple[Weights, ...] = get_args(Weights)
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
SCALES: tuple[Scale, ...] = get_args(Scale)

INPUT_BITS = 8
"""Precision of the network's input, and of what the last layer reads by default."""

RESIDUAL_BITS = 8
"""Default signed precision of a residual branch before its addition."""


def weight_bits(weights: str) -> int:
    """Bits that store one code: 1 for binary, 2 for ternary, n for intn."""
    return {"binary": 1, "ternary": 2}.get(weights) or int(weights.removeprefix("int"))


def weight_max(weights: str) -> int:
    """Largest magnitude of a code. The integers are symmetric: int4 is -7 to 7."""
    if weights in ("binary", "ternary"):
        return 1
    return int(2 ** (weight_bits(weights) - 1)) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScheme:
    """How the weights of one layer are stored and scaled."""

    weights: Weights = "int8"
    granularity: Granularity = "layer"
    scale: Scale = "fixed8"

    @property
    def multiplies_partial_sums(self) -> bool:
        """Whether partial sums meet a scale before they meet each other."""
        return self.granularity in ("row", "pixel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An activation tensor whose precision is one variable, whoever reads it.

    Max pooling and flattening hand the codes on, so what they write is the tensor that they read.
    """

    name: str  # the layer that writes the codes
    kind: Literal["input", "activation", "residual", "result"]

    @property
    def signed(self) -> bool:
        return self.kind in ("residual", "result")


def tensors(network: Network) -> dict[str, Tensor]:
    """The tensor that each layer writes, by the layer's name; "input" is there too.

    `residual` is a conv, dense or add without ReLU; `result` is what the last layer writes.
    """
    found = {INPUT: Tensor(name=INPUT, kind="input")}
    for node in network.nodes:
        layer = node.layer
        if isinstance(layer, (MaxPool, Flatten)):
            found[node.name] = found[node.inputs[0]]
        elif not network.readers[node.name]:
            found[node.name] = Tensor(name=node.name, kind="result")
        elif isinstance(layer, (Conv, Dense, Add)) and not layer.relu:
            found[node.name] = Tensor(name=node.name, kind="residual")
        else:
            pools = not isinstance(layer, (Conv, Dense, Add))
            signed = pools and found[node.inputs[0]].signed
            found[node.name] = Tensor(name=node.name, kind="residual" if signed else "activation")
    return found


def has_granularity(node: Node) -> bool:
    """Whether layer, row and pixel differ: on a 1x1 kernel they are the same thing."""
    return node.k > 1


def normal(node: Node, layer: LayerScheme) -> LayerScheme:
    """The same scheme in the one form in which the space holds it.

    On a 1x1 kernel and on dense layers row and pixel become `layer`; a scale that vanishes into
    the thresholds has no format in hardware, and takes the default.
    """
    granularity = layer.granularity
    if not has_granularity(node) and granularity in ("row", "pixel"):
        granularity = "layer"
    scale = layer.scale if granularity in ("row", "pixel") else "fixed8"
    return LayerScheme(weights=layer.weights, granularity=granularity, scale=scale)


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What is chosen for a network.

    Built by `uniform` or `load`, which check it against the network.
    """

    layers: Mapping[str, LayerScheme]  # every conv and dense layer
    bits: Mapping[str, int]  # every tensor but the result, by Tensor.name; signed for residuals


def uniform(network: Network, layer: LayerScheme, bits: int) -> Scheme:
    """One choice for every layer but the first and the last, which are int8 and read 8 bits.

    Raises:
        InputError: bits outside 1 to 8.
    """
    _check_bits("bits", bits)
    engines = network.engines
    edge = {engines[0].name, engines[-1].name}
    return Scheme(
        layers={node.name: LayerScheme() if node.name in edge else layer for node in engines},
        bits={name: _default_bits(network, name, kind, bits) for name, kind in _variables(network)},
    )


def parse_uniform(network: Network, text: str) -> Scheme:
    """The scheme of `--uniform WEIGHTS,BITS,GRANULARITY`, with an optional fourth part, the scale.

    Raises:
        InputError: a part is missing or unknown.
    """
    parts = text.split(",")
    form = "WEIGHTS,BITS,GRANULARITY[,SCALE]"
    shown = text if text.isprintable() and len(text) <= 60 else repr(text[:60])
    if len(parts) not in (3, 4):
        raise InputError(f"--uniform must be {form}, got '{shown}'; for example ternary,4,pixel")
    if not parts[1].isdecimal() or len(parts[1]) > 3:
        raise InputError(f"--uniform {form}: BITS must be 1 to 8, got '{parts[1][:60]}'")
    fields = {"weights": parts[0], "granularity": parts[2], "scale": (*parts, "fixed8")[3]}
    return uniform(
        network, records.structure(fields, LayerScheme, f"--uniform {shown}"), int(parts[1])
    )


def fixed_bits(network: Network) -> dict[str, int]:
    """The tensors that the default space holds at one precision.

    The input and what the last layer reads have 8 bits, residual branches their default.
    """
    last = tensors(network)[network.engines[-1].inputs[0]].name
    fixed = {INPUT: INPUT_BITS, last: INPUT_BITS}
    return fixed | {n: RESIDUAL_BITS for n, kind in _variables(network) if kind == "residual"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeEntry:
    """One layer in a scheme file; `bits` is the precision of the tensor that it writes."""

    weights: Weights | None = None
    granularity: Granularity | None = None
    scale: Scale | None = None
    bits: int | None = None
    residual_bits: int | None = None  # in place of bits where the tensor is a residual branch


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeFile:
    """A scheme file. A layer that is not listed keeps int8 weights and 8 bits."""

    layers: dict[str, SchemeEntry]
    network: str | None = None
    input_bits: int = INPUT_BITS


def read(network: Network, data: Mapping[str, Any], place: str) -> Scheme:
    """The scheme in a parsed TOML or JSON table, checked against the network.

    Raises:
        InputError: an unknown layer, a weight choice for a layer without weights, bits for a
            layer that hands on another's codes, bits outside 1 to 8, another network's scheme.
    """
    file = records.structure(data, SchemeFile, place)
    if file.network is not None and file.network != network.name:
        raise InputError(f"{place}: is a scheme of '{file.network}', got network '{network.name}'")
    written = tensors(network)
    layers = {node.name: LayerScheme() for node in network.engines}
    bits = {name: _default_bits(network, name, kind, 8) for name, kind in _variables(network)}
    _check_bits(f"{place}: input_bits", file.input_bits)
    bits[INPUT] = file.input_bits
    for name, entry in file.layers.items():
        at = f"{place}: layers.{name}"
        if name not in network.by_name:
            raise InputError(f"{at}: {unknown('layer', name, network.by_name)}")
        chosen = {k: getattr(entry, k) for k in ("weights", "granularity", "scale")}
        chosen = {k: v for k, v in chosen.items() if v is not None}
        if name in layers:
            layers[name] = LayerScheme(**chosen)
        elif chosen:
            raise InputError(f"{at}: {next(iter(chosen))} is for layers with weights only")
        key, value = _entry_bits(entry, written[name], name, at)
        if value is not None:
            _check_bits(f"{at}.{key}", value)
            bits[name] = value
    return Scheme(layers=layers, bits=bits)


def file_of(network: Network, scheme: Scheme) -> SchemeFile:
    """The file of a scheme: the reverse of `read`."""
    written = tensors(network)
    entries = {}
    for node in network.nodes:
        tensor = written[node.name]
        own = tensor.name == node.name and tensor.kind != "result"
        if not (own or node.has_weights):
            continue
        layer = scheme.layers.get(node.name)
        value = scheme.bits[node.name] if own else None
        residual = tensor.kind == "residual"
        entries[node.name] = SchemeEntry(
            weights=layer.weights if layer else None,
            granularity=layer.granularity if layer else None,
            scale=layer.scale if layer else None,
            bits=None if residual else value,
            residual_bits=value if residual else None,
        )
    return SchemeFile(layers=entries, network=network.name, input_bits=scheme.bits[INPUT])


def _entry_bits(entry: SchemeEntry, tensor: Tensor, name: str, at: str) -> tuple[str, int | None]:
    given = [key for key in ("bits", "residual_bits") if getattr(entry, key) is not None]
    if not given:
        return "bits", None
    key = "residual_bits" if tensor.kind == "residual" else "bits"
    if tensor.kind == "result":
        raise InputError(f"{at}: the last layer writes accumulators; {given[0]} does not apply")
    if tensor.name != name:
        raise InputError(f"{at}: hands on the codes of '{tensor.name}'; give {given[0]} there")
    if given != [key]:
        wrong = next(name for name in given if name != key)
        raise InputError(f"{at}: this tensor's precision is '{key}', got '{wrong}'")
    return key, getattr(entry, key)


def _variables(network: Network) -> list[tuple[str, str]]:
    seen = {t.name: t.kind for t in tensors(network).values()}
    return [(name, kind) for name, kind in seen.items() if kind != "result"]


def _default_bits(network: Network, name: str, kind: str, bits: int) -> int:
    return fixed_bits(network).get(name, bits) if kind != "residual" else RESIDUAL_BITS


def _check_bits(at: str, bits: int) -> None:
    if not 1 <= bits <= 8:
        raise InputError(f"{at} must be 1 to 8, got {bits}")
