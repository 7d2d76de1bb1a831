"""Networks from PyTorch: a module that a user's function makes, as torch.export sees it."""

from __future__ import annotations

import importlib
import io
import logging
import operator as operators
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn

from syq_dse.errors import InputError, one_line
from syq_dse.interop.operators import (
    BATCH_NORM_EPS,
    Assembly,
    Floats,
    Imported,
    Operator,
    by_channel,
    refuse,
)
from syq_dse.network import LARGEST_SIZE, Recipe, Shape

DEFAULT_INPUT = 1, 3, 224, 224


def make(spec: str) -> nn.Module:
    """The module that `package.module:factory` gives; the user's code is run.

    Raises:
        InputError: there is no such module or function, or it gives something else.
    """
    path, _, name = spec.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` has it
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        raise InputError(f"{spec}: cannot be imported: {_reason(error)}") from None
    factory: Any = module
    for part in name.split("."):
        factory = getattr(factory, part, None)
    if not callable(factory):
        raise InputError(f"{spec}: module '{path}' has no function '{name}'")
    try:
        made = factory() if not isinstance(factory, nn.Module) else factory
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{spec}: must give a module without arguments: {_reason(error)}"
        ) from None
    if not isinstance(made, nn.Module):
        raise InputError(f"{spec}: must give a torch.nn.Module, got {type(made).__name__}")
    return made


def _reason(error: BaseException) -> str:
    """What an exception says, on one line."""
    lines = str(error).strip().splitlines()
    return one_line(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch logs and warns of; the error says what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def parse_input(text: str) -> tuple[int, ...]:
    """The sizes in `1,3,224,224`.

    Raises:
        InputError: they are not two or four positive numbers.
    """
    parts = text.split(",")
    digits = all(part.strip().isdecimal() and part.isascii() for part in parts)
    if len(parts) not in (2, 4) or not digits:
        raise InputError(f"input must be N,C,H,W or N,C, got '{one_line(text)}'")
    sizes = tuple(int(part) for part in parts)
    if not all(1 <= size <= LARGEST_SIZE for size in sizes):
        raise InputError(f"input: sizes must be 1 to {LARGEST_SIZE}, got '{one_line(text)}'")
    return sizes


def read(
    module: nn.Module,
    sizes: Sequence[int],
    place: str,
    name: str,
    provenance: str,
    recipe: Callable[[Shape, int], Recipe],
) -> Imported:
    """The network that a module is, in evaluation mode.

    Args:
        sizes: of its input, images first.
        recipe: of the input's shape and the number of classes.

    Raises:
        InputError: torch.export cannot follow it, or an operator is no layer here.
    """
    try:
        with _quietly():
            module = module.eval().cpu().float()
            program = torch.export.export(module, (torch.zeros(tuple(sizes)),), strict=False)
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        raise InputError(
            f"{place}: torch.export cannot follow the module on an input of {list(sizes)}: "
            f"{_reason(error)}"
        ) from None
    with np.errstate(all="ignore"):  # what is not finite is refused by name
        reader = _Reader(program, tuple(sizes), place)
        for node in program.graph.nodes:
            if node.op == "call_function":
                reader.take(node)
        assembly = reader.assembly
        try:
            classes = assembly.shape_of(reader.output, "output").size
            made = recipe(assembly.shape, classes)
            return assembly.imported(reader.output, name, provenance, made)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None


class _Reader:
    def __init__(self, program: Any, sizes: tuple[int, ...], place: str) -> None:
        signature = program.graph_signature
        self.place = place
        self.held: dict[str, tuple[str, Tensor]] = {}
        state = {**program.state_dict, **program.constants}
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        named |= getattr(signature, "inputs_to_lifted_tensor_constants", {})
        for tensor, target in named.items():
            if isinstance(state.get(target), Tensor):
                self.held[tensor] = target, state[target]
        inputs = [
            node.name
            for node in program.graph.nodes
            if node.op == "placeholder" and node.name not in named
        ]
        outputs = list(signature.user_outputs)
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"{place}: one input and one result are needed, got {len(inputs)} and "
                f"{len(outputs)}"
            )
        self.output = str(outputs[0])
        counts = {self.output: 1}
        for node in program.graph.nodes:
            if node.op == "call_function":
                for before in node.all_input_nodes:
                    counts[before.name] = counts.get(before.name, 0) + 1
        padded = (*sizes, 1, 1)
        self.assembly = Assembly(inputs[0], Shape(*padded[1:4]), counts)

    def take(self, node: fx.Node) -> None:
        name = str(node.target)
        place = f"{self.place}: {_module_path(node) or node.name}"
        if node.target is operators.getitem:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            raise refuse(str(source.target), place, "has several results")
        kind = name.removeprefix("aten.").split(".")[0]
        make = _OPERATORS.get(kind)
        if make is None or not name.startswith("aten."):
            raise refuse(name, place, "is not supported")
        if kind.endswith("_") and kind != "_unsafe_view":
            _check_in_place(node, place)
        arguments = _arguments(node)
        self.assembly.take(make(self, node, arguments, place))

    def tensor(self, value: Any, place: str) -> Floats:
        if not isinstance(value, fx.Node) or value.name not in self.held:
            raise InputError(f"{one_line(place)}: weights must be parameters of the module")
        found: Floats = self.held[value.name][1].detach().cpu().double().numpy()
        if not np.isfinite(found).all():
            raise InputError(f"{one_line(place)}: weights must be finite")
        return found

    def is_held(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and value.name in self.held

    def label(self, value: Any) -> str:
        """The module whose parameter a weight is."""
        target = self.held[value.name][0] if self.is_held(value) else ""
        return target.removesuffix(".weight") if target.endswith(".weight") else ""


ALIASES = ("dropout", "view", "flatten", "reshape", "contiguous", "detach", "alias", "squeeze")


def _check_in_place(node: fx.Node, place: str) -> None:
    """Refuse what changes a tensor that others see under another name."""
    before, aliased = node.args[0], False
    while isinstance(before, fx.Node):
        if aliased and len(before.users) > 1:
            raise refuse(str(node.target), place, "changes a tensor in place that others read")
        kind = str(before.target).removeprefix("aten.").split(".")[0]
        if before.op != "call_function" or kind not in ALIASES:
            return
        if len(before.users) > 1:
            raise refuse(str(node.target), place, "changes a tensor in place that others read")
        before, aliased = before.args[0], True


def _module_path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    return paths[-1] if paths else ""


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments by name, defaults too."""
    schema = node.target._schema  # type: ignore[union-attr]  # torch has no types there
    found = {}
    for index, one in enumerate(schema.arguments):
        if index < len(node.args):
            found[one.name] = node.args[index]
        elif one.name in node.kwargs:
            found[one.name] = node.kwargs[one.name]
        else:
            found[one.name] = one.default_value
    return found


_Make = Callable[[_Reader, fx.Node, Mapping[str, Any], str], Operator]


def _square(value: Any, what: str, operator: str, place: str) -> int:
    """One number for both axes."""
    values = [value] if isinstance(value, int) else list(value)
    if len(set(values)) != 1 or len(values) > 2:
        raise refuse(operator, place, f"{what} must be square, got {values}")
    return int(values[0])


def _first(node: fx.Node, place: str) -> str:
    before = node.args[0]
    if not isinstance(before, fx.Node):
        raise InputError(f"{one_line(place)}: must read a tensor")
    return before.name


def _unary(kind: Any, node: fx.Node, place: str) -> Operator:
    return Operator(kind=kind, place=place, inputs=(_first(node, place),), output=node.name)


def _conv(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    weight = reader.tensor(arguments["weight"], place)
    if weight.ndim != 4:
        raise refuse("conv", place, f"must be over two axes, got a weight {list(weight.shape)}")
    if _square(arguments["dilation"], "dilation", "conv", place) != 1:
        raise refuse("conv", place, f"dilation must be 1, got {arguments['dilation']}")
    k = _square(weight.shape[2:], "kernels", "conv", place)
    stride = _square(arguments["stride"], "strides", "conv", place)
    padding = arguments["padding"]
    if padding == "valid":
        pads = 0, 0
    elif padding == "same":
        pads = (k - 1) // 2, k // 2
    else:
        pads = (_square(padding, "padding", "conv", place),) * 2
    arrays = {"weight": weight}
    if arguments.get("bias") is not None:
        arrays["bias"] = reader.tensor(arguments["bias"], place)
    return Operator(
        kind="conv",
        place=place,
        inputs=(_first(node, place),),
        output=node.name,
        label=reader.label(arguments["weight"]),
        k=k,
        stride=stride,
        pads=pads,
        groups=int(arguments["groups"]),
        arrays=arrays,
    )


def _linear(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    arrays = {"weight": reader.tensor(arguments["weight"], place)}
    if arguments.get("bias") is not None:
        arrays["bias"] = reader.tensor(arguments["bias"], place)
    return Operator(
        kind="dense",
        place=place,
        inputs=(_first(node, place),),
        output=node.name,
        label=reader.label(arguments["weight"]),
        arrays=arrays,
    )


def _batch_norm(
    reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str
) -> Operator:
    if arguments.get("training") or arguments.get("running_mean") is None:
        raise refuse("batch_norm", place, "must use its running statistics")
    mean = reader.tensor(arguments["running_mean"], place)
    arrays = {
        "mean": mean,
        "variance": reader.tensor(arguments["running_var"], place)
        + (float(arguments["eps"]) - BATCH_NORM_EPS),
        "gain": np.ones_like(mean),
        "offset": np.zeros_like(mean),
    }
    for name, part in (("weight", "gain"), ("bias", "offset")):
        if arguments.get(name) is not None:
            arrays[part] = reader.tensor(arguments[name], place)
    return Operator(
        kind="batch_norm",
        place=place,
        inputs=(_first(node, place),),
        output=node.name,
        arrays=arrays,
    )


def _relu(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    low = arguments.get("min_val", arguments.get("min", 0))
    high = arguments.get("max_val", arguments.get("max"))
    if low != 0 or (high is not None and not high > 0):
        raise refuse(str(node.target), place, f"must be from 0 up, got {low} to {high}")
    return _unary("relu", node, place)


def _pool(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    name: Literal["max_pool", "avg_pool"]
    name = "max_pool" if "max_pool" in str(node.target) else "avg_pool"
    k = _square(arguments["kernel_size"], "kernels", name, place)
    stride = _square(arguments["stride"] or k, "strides", name, place)
    pad = _square(arguments["padding"], "padding", name, place)
    if _square(arguments.get("dilation") or 1, "dilation", name, place) != 1:
        raise refuse(name, place, f"dilation must be 1, got {arguments['dilation']}")
    if name == "avg_pool" and pad:
        raise refuse(name, place, f"padding must be 0, got {pad}")
    if name == "avg_pool" and arguments.get("divisor_override"):
        raise refuse(name, place, "must divide by the pixels of a window")
    if k == stride == 1 and not pad:
        return _unary("identity", node, place)
    shape = reader.assembly.shape_of(_first(node, place), place)
    uneven = any((n + 2 * pad - k) % stride for n in (shape.h, shape.w))
    if arguments["ceil_mode"] and uneven:
        raise refuse(name, place, "ceil_mode must be off where windows do not fit evenly")
    return Operator(
        kind=name,
        place=place,
        inputs=(_first(node, place),),
        output=node.name,
        k=k,
        stride=stride,
        pads=(pad, pad),
    )


def _adaptive(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    size = _square(arguments["output_size"], "sizes", "adaptive_avg_pool", place)
    shape = reader.assembly.shape_of(_first(node, place), place)
    if size == 1:
        return _unary("global_avg_pool", node, place)
    if shape.h == shape.w == size:
        return _unary("identity", node, place)
    if shape.h != shape.w or shape.h % size:
        raise refuse("adaptive_avg_pool", place, f"{size} must divide {shape}")
    k = shape.h // size
    return Operator(
        kind="avg_pool",
        place=place,
        inputs=(_first(node, place),),
        output=node.name,
        k=k,
        stride=k,
    )


def _mean(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    axes = sorted(int(axis) % 4 for axis in arguments.get("dim") or [])
    if axes != [2, 3] or _rank(node) != 4:
        raise refuse("mean", place, f"must be over rows and columns, got axes {axes}")
    return _unary("global_avg_pool", node, place)


def _added(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    kind = str(node.target).removeprefix("aten.").split(".")[0].rstrip("_")
    a, b = arguments["self"], arguments["other"]
    if arguments.get("alpha") not in (None, 1):
        raise refuse(kind, place, f"alpha must be 1, got {arguments['alpha']}")
    if arguments.get("rounding_mode") is not None:
        raise refuse(kind, place, f"must not round, got {arguments['rounding_mode']!r}")
    tensors = [one for one in (a, b) if isinstance(one, fx.Node) and not reader.is_held(one)]
    if kind == "add" and len(tensors) == 2:
        return Operator(
            kind="add", place=place, inputs=(tensors[0].name, tensors[1].name), output=node.name
        )
    if len(tensors) != 1 or (kind in ("sub", "div") and tensors[0] is not a):
        raise refuse(kind, place, "one operand must be a constant, the second of sub and div")
    other = b if tensors[0] is a else a
    value = reader.tensor(other, place) if reader.is_held(other) else np.asarray(float(other))
    channels = reader.assembly.shape_of(tensors[0].name, place).c
    value = by_channel(value, len(tensors[0].meta["val"].shape), channels, place)
    if kind == "div" and not value.all():
        raise refuse("div", place, "the constant must not be 0")
    arrays = {
        "add": {"term": value},
        "sub": {"term": -value},
        "mul": {"factor": value},
        "div": {"factor": 1 / value if kind == "div" else value},
    }[kind]
    return Operator(
        kind="affine",
        place=place,
        inputs=(tensors[0].name,),
        output=node.name,
        arrays=arrays,
    )


def _flattened(
    reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str
) -> Operator:
    before = node.args[0]
    assert isinstance(before, fx.Node)
    old, new = (list(one.meta["val"].shape) for one in (before, node))
    shape = reader.assembly.shape_of(before.name, place)
    if len(new) == 2 and new[1] == shape.size:
        return _unary("flatten", node, place)
    if new == old or (shape.pixels == 1 and [size for size in new[1:] if size != 1] == [shape.c]):
        return _unary("identity", node, place)
    raise refuse(str(node.target), place, f"must flatten {shape} to a vector, got {new}")


def _rank(node: fx.Node) -> int:
    """Axes of what a node reads."""
    before = node.args[0]
    assert isinstance(before, fx.Node)
    return len(before.meta["val"].shape)


def _dropped(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    if arguments.get("train") and arguments.get("p", 1):
        raise refuse("dropout", place, "is in training mode")
    return _unary("identity", node, place)


def _same(reader: _Reader, node: fx.Node, arguments: Mapping[str, Any], place: str) -> Operator:
    return _unary("identity", node, place)


_OPERATORS: dict[str, _Make] = {
    "conv2d": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("relu", "relu_", "relu6", "hardtanh", "hardtanh_"), _relu),
    **dict.fromkeys(("clamp", "clamp_", "clamp_min", "clamp_min_"), _relu),
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pool),
    "adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    **dict.fromkeys(("add", "add_", "sub", "mul", "div"), _added),
    **dict.fromkeys(("flatten", "view", "reshape", "_unsafe_view", "squeeze"), _flattened),
    **dict.fromkeys(("contiguous", "clone", "alias", "detach"), _same),
    **dict.fromkeys(("dropout", "dropout_", "feature_dropout", "alpha_dropout"), _dropped),
}
