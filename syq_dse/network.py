"""A network: a directed acyclic graph of named layers with their shapes, MACs and parameters."""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from syq_dse import catalogue, records
from syq_dse.errors import InputError, unknown

INPUT = "input"
"""The name under which layers read the network's input."""

LARGEST_SIZE = 1 << 20
"""Upper bound of any one size; larger ones are typing errors and would overflow counts."""

LARGEST_FAN_IN = 1 << 30
"""Upper bound of the weights of one output channel: accumulators stay exact in 64 bits."""

LARGEST_COUNT = 1 << 44
"""Upper bound of the MACs of a layer and of the elements of a tensor, for the same reason."""


def _check_sizes(layer: object, *fields: str, least: int = 1) -> None:
    for field in fields:
        value = getattr(layer, field)
        if value is not None and not least <= value <= LARGEST_SIZE:
            raise InputError(f"{field} must be {least} to {LARGEST_SIZE}, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution, square kernel, batch-norm and ReLU included.

    Shapes: input (c_in, h_in, w_in), weight (c_out, c_in / groups, k, k).
    """

    op: ClassVar[str] = "conv"
    name: str
    input: str | None = None  # the layer read; None: the one before it in the file
    c_out: int
    k: int  # kernel side [pixels]
    stride: int = 1
    pad: int = 0  # zeros on the top and left, and on the bottom and right unless pad_after is given
    pad_after: int | None = None
    groups: int = 1
    batch_norm: bool = True
    relu: bool = True
    bias: bool | None = None  # None: where there is no batch-norm

    def __post_init__(self) -> None:
        _check_sizes(self, "c_out", "k", "stride", "groups")
        _check_sizes(self, "pad", "pad_after", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A fully connected layer. Shapes: input (c_in,), weight (c_out, c_in)."""

    op: ClassVar[str] = "dense"
    name: str
    input: str | None = None
    c_out: int
    batch_norm: bool = True
    relu: bool = True
    bias: bool | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, "c_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool:
    """Maximum over k x k pixels; padding never wins."""

    op: ClassVar[str] = "max_pool"
    name: str
    input: str | None = None
    k: int
    stride: int | None = None  # None: k
    pad: int = 0
    pad_after: int | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, "k", "stride")
        _check_sizes(self, "pad", "pad_after", least=0)
        for field, value in (("pad", self.pad), ("pad_after", self.pad_after or 0)):
            if value >= self.k:
                raise InputError(f"{field} must be smaller than k={self.k}, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool:
    """Mean over k x k pixels, no padding; the output is quantised anew."""

    op: ClassVar[str] = "avg_pool"
    name: str
    input: str | None = None
    k: int
    stride: int | None = None  # None: k

    def __post_init__(self) -> None:
        _check_sizes(self, "k", "stride")


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAvgPool:
    """Mean over all pixels: (c, h, w) to (c, 1, 1); the output is quantised anew."""

    op: ClassVar[str] = "global_avg_pool"
    name: str
    input: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Sum of two tensors of one shape: where a residual branch meets its bypass."""

    op: ClassVar[str] = "add"
    name: str
    inputs: tuple[str, str]
    relu: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """(c, h, w) to (c * h * w, 1, 1); no hardware, the stream order stays pixel by pixel."""

    op: ClassVar[str] = "flatten"
    name: str
    input: str | None = None


Layer = Conv | Dense | MaxPool | AvgPool | GlobalAvgPool | Add | Flatten


@dataclass(frozen=True, slots=True)
class Shape:
    """A tensor: c channels of h rows and w columns."""

    c: int
    h: int
    w: int

    @property
    def pixels(self) -> int:
        return self.h * self.w

    @property
    def size(self) -> int:
        return self.c * self.h * self.w

    def __str__(self) -> str:
        return f"{self.c}x{self.h}x{self.w}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What training needs to know: the data set's name and the epochs that a point gets."""

    dataset: str
    epochs: int = 30

    def __post_init__(self) -> None:
        _check_sizes(self, "epochs")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """What a network's TOML file says, before the layers are joined."""

    name: str
    provenance: str  # where the architecture is published, and what was changed
    classes: int
    input: tuple[int, int, int]  # (channels, rows, columns)
    recipe: Recipe
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        catalogue.check_name(self.name)
        _check_sizes(self, "classes")
        if not all(1 <= size <= LARGEST_SIZE for size in self.input):
            raise InputError(f"input sizes must be 1 to {LARGEST_SIZE}, got {list(self.input)}")


@dataclass(frozen=True, slots=True)
class Node:
    """One layer in its place: what it reads, and the shapes that it reads and writes."""

    layer: Layer
    inputs: tuple[str, ...]
    in_shape: Shape
    out_shape: Shape

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def has_weights(self) -> bool:
        return isinstance(self.layer, (Conv, Dense))

    @property
    def k(self) -> int:
        """Kernel side [pixels]; 1 for a dense layer."""
        return self.layer.k if isinstance(self.layer, (Conv, MaxPool, AvgPool)) else 1

    @property
    def stride(self) -> int:
        if isinstance(self.layer, (MaxPool, AvgPool)):
            return self.layer.k if self.layer.stride is None else self.layer.stride
        return self.layer.stride if isinstance(self.layer, Conv) else 1

    @property
    def pad(self) -> tuple[int, int]:
        """Zeros (before, after) each row and column."""
        if not isinstance(self.layer, (Conv, MaxPool)):
            return 0, 0
        after = self.layer.pad_after
        return self.layer.pad, self.layer.pad if after is None else after

    @property
    def groups(self) -> int:
        return self.layer.groups if isinstance(self.layer, Conv) else 1

    @property
    def fan_in(self) -> int:
        """Weights of one output channel: k * k * c_in / groups."""
        return self.k * self.k * self.in_shape.c // self.groups

    @property
    def weights(self) -> int:
        """Number of weights, biases and batch-norm apart."""
        return self.out_shape.c * self.fan_in if self.has_weights else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates an image."""
        return self.weights * self.out_shape.pixels

    @property
    def parameters(self) -> int:
        """Trainable numbers: weights, bias, batch-norm's gain and offset."""
        layer = self.layer
        if not isinstance(layer, (Conv, Dense)):
            return 0
        return self.weights + self.out_shape.c * (self.has_bias + 2 * layer.batch_norm)

    @property
    def has_bias(self) -> bool:
        """Whether a bias is trained: said so, or else where there is no batch-norm."""
        layer = self.layer
        if not isinstance(layer, (Conv, Dense)):
            return False
        return not layer.batch_norm if layer.bias is None else layer.bias


@dataclass(frozen=True)
class Network:
    """Layers in the order of the flow, joined and checked.

    Built by `build`; `file` is the record that it came from.
    """

    file: NetworkFile
    nodes: tuple[Node, ...]  # the file's order, each layer after what it reads

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def input_shape(self) -> Shape:
        return Shape(*self.file.input)

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def engines(self) -> tuple[Node, ...]:
        """The layers with weights, in the order of the flow."""
        return tuple(node for node in self.nodes if node.has_weights)

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """Who reads each tensor; a tensor has the name of the layer that writes it."""
        found: dict[str, list[Node]] = {INPUT: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    @property
    def parameters(self) -> int:
        return sum(node.parameters for node in self.nodes)

    def shape_of(self, tensor: str) -> Shape:
        return self.input_shape if tensor == INPUT else self.by_name[tensor].out_shape


def load(name: str) -> Network:
    """The shipped network of this name, or the one in a user's TOML file.

    >>> load("lenet5").macs
    416520
    """
    path = catalogue.find("network", name, "models")
    file = records.load(path, NetworkFile)
    try:
        return build(file)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def build(file: NetworkFile) -> Network:
    """Join the layers of a file into a graph and work out every shape.

    Raises:
        InputError: names that repeat or are not there, a cycle, a kernel larger than its input,
            channels that groups do not divide, shapes that do not meet, more than one output.
    """
    if not file.layers:
        raise InputError("a network must have at least one layer")
    reads = _edges(file.layers)
    by_name = {layer.name: layer for layer in file.layers}
    shapes = {INPUT: Shape(*file.input)}
    nodes = []
    for name in _order(reads):
        inputs = tuple(shapes[n] for n in reads[name])
        try:
            shapes[name] = out_shape(by_name[name], inputs)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        nodes.append(Node(by_name[name], reads[name], inputs[0], shapes[name]))
        _check_counts(nodes[-1])
    _check_output(file, nodes)
    return Network(file, tuple(nodes))


def _check_counts(node: Node) -> None:
    for what, value, most in (
        ("inputs of one output", node.fan_in, LARGEST_FAN_IN),
        ("elements read", node.in_shape.size, LARGEST_COUNT),
        ("elements written", node.out_shape.size, LARGEST_COUNT),
        ("MACs", node.macs, LARGEST_COUNT),
    ):
        if value > most:
            raise InputError(f"{node.name}: {what} must be at most {most}, got {value}")


def _edges(layers: tuple[Layer, ...]) -> dict[str, tuple[str, ...]]:
    reads: dict[str, tuple[str, ...]] = {}
    before = INPUT
    names = {INPUT, *(layer.name for layer in layers)}
    for index, layer in enumerate(layers):
        if not layer.name.strip() or not layer.name.isprintable() or layer.name in (INPUT, *reads):
            rule = "names must differ, be printable, non-empty and not 'input'"
            raise InputError(f"layers[{index}]: {rule}, got {layer.name!r}")
        if isinstance(layer, Add):
            reads[layer.name] = layer.inputs
        else:
            reads[layer.name] = (before if layer.input is None else layer.input,)
        for name in reads[layer.name]:
            if name not in names:
                raise InputError(f"layers[{index}]: {unknown('input', name, sorted(names))}")
        before = layer.name
    return reads


def _order(reads: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Again and again the first layer of the file whose inputs are done."""
    sorter = graphlib.TopologicalSorter(reads)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise InputError(f"the layers form a cycle: {' <- '.join(error.args[1])}") from None
    names = [INPUT, *reads]
    place = {name: index for index, name in enumerate(names)}
    order, ready = [], [place[name] for name in sorter.get_ready()]
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        sorter.done(name)
        for follower in sorter.get_ready():
            heapq.heappush(ready, place[follower])
    return [name for name in order if name != INPUT]


def out_shape(layer: Layer, inputs: tuple[Shape, ...]) -> Shape:
    """What a layer writes.

    Raises:
        InputError: it does not fit what it reads.
    """
    shape = inputs[0]
    match layer:
        case Conv():
            if shape.c % layer.groups or layer.c_out % layer.groups:
                channels = f"c_in={shape.c}, c_out={layer.c_out}"
                raise InputError(f"groups must divide the channels, got {layer.groups}, {channels}")
            h, w = _windows(shape, layer.k, layer.stride, layer.pad, layer.pad_after)
            return Shape(layer.c_out, h, w)
        case Dense():
            if shape.pixels != 1:
                raise InputError(f"a dense layer reads a vector, got {shape}; put a flatten before")
            return Shape(layer.c_out, 1, 1)
        case MaxPool():
            h, w = _windows(shape, layer.k, layer.stride or layer.k, layer.pad, layer.pad_after)
            return Shape(shape.c, h, w)
        case AvgPool():
            h, w = _windows(shape, layer.k, layer.stride or layer.k, 0, 0)
            return Shape(shape.c, h, w)
        case GlobalAvgPool():
            return Shape(shape.c, 1, 1)
        case Flatten():
            return Shape(shape.size, 1, 1)
        case Add():
            if inputs[0] != inputs[1]:
                shapes = f"{inputs[0]}, {inputs[1]}"
                raise InputError(f"the two inputs must have one shape, got {shapes}")
            return shape


def _windows(shape: Shape, k: int, stride: int, pad: int, after: int | None) -> tuple[int, int]:
    """Rows and columns of windows that a kernel finds in a padded input."""
    around = pad + (pad if after is None else after)
    if k > min(shape.h, shape.w) + around:
        size = f"h_in={shape.h}, w_in={shape.w}, pad={pad}"
        size += "" if after in (None, pad) else f", pad_after={after}"
        raise InputError(f"the kernel must fit the padded input, got k={k}, {size}")
    return (shape.h + around - k) // stride + 1, (shape.w + around - k) // stride + 1


def _check_output(file: NetworkFile, nodes: list[Node]) -> None:
    read = {name for node in nodes for name in node.inputs}
    ends = [node for node in nodes if node.name not in read]
    if len(ends) != 1:
        raise InputError(f"one layer must be the output, got {', '.join(n.name for n in ends)}")
    engines = [node for node in nodes if node.has_weights]
    if not engines:
        raise InputError("a network must have at least one conv or dense layer")
    if ends[0].out_shape.pixels != 1:
        fix = "put a flatten or global_avg_pool before"
        raise InputError(f"the output must be a vector, got {ends[0].out_shape}; {fix}")
    if ends[0].out_shape.c != file.classes:
        channels = ends[0].out_shape.c
        raise InputError(f"the output must have classes={file.classes} channels, got {channels}")
