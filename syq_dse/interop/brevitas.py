"""A trained network as a Python module of Brevitas layers, with its weights beside it.

The module needs torch, Brevitas and safetensors, and nothing of this package: the quantisers, whose
text it holds, are those of syq_dse.interop.brevitas_quant. Tested with Brevitas 0.13.4, which must
not compile its quantisers (BREVITAS_JIT=1).
"""

from __future__ import annotations

import ast
import inspect
import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import safetensors.torch
from torch import Tensor, nn

from syq_dse import records
from syq_dse.errors import InputError, one_line
from syq_dse.interop.trained import Trained
from syq_dse.network import INPUT, Add, Conv, Dense, Flatten, GlobalAvgPool, MaxPool, Node
from syq_dse.quant import integer, scales, weights
from syq_dse.quant.model import Model, has_format
from syq_dse.scheme import Scale, weight_bits

Names = dict[tuple[str, str], str]
"""Attributes of the written module, by layer and by part: itself "", its "norm", its "act"."""

QUANTISERS = Path(__file__).with_name("brevitas_quant.py")

WEIGHT_SCALE = "weight_quant.tensor_quant.scaling_impl.value"
ACTIVATION_SCALE = "act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"
"""Where Brevitas keeps the scales of a layer in its state."""

BATCH_NORM = {
    "gain": "weight",
    "offset": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
"""Names of torch for what batch-norm holds."""

WEIGHTS = {"binary": "BinaryWeight", "ternary": "TernaryWeight"}
"""Quantisers of weights that are no integers."""

LONGEST_NAME = 100
"""Of the files [characters], so that a folder can hold them."""

LINE = 100
"""Longest line of the module [characters]."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a class of the written module."""

    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """What one layer of the network becomes."""

    made: dict[str, Call]  # attribute: what makes it
    result: str  # the expression of what the layer writes


def write(trained: Trained, name: str, out: Path) -> list[Path]:
    """Write NAME_brevitas.py and NAME_brevitas.safetensors, NAME made an identifier.

    Raises:
        InputError: a tensor has a step that is not positive, or a file cannot be written; what can
            be told before is told before anything is written.
    """
    model = trained.model()
    _check_steps(model, trained.place)
    names = _identifiers(model)
    stem = f"{identifier(name, 'network')[:LONGEST_NAME]}_brevitas"
    text = _module(model, names, name, f"{stem}.safetensors")
    content = safetensors.torch.save(_state(trained, model, names))
    records.make_folder(out)
    files = [out / f"{stem}.py", out / f"{stem}.safetensors"]
    records.write_bytes(files[1], content)
    records.write_text(files[0], text)
    return files


def identifier(name: str, start: str) -> str:
    """The letters, digits and underscores of ASCII in a name, as an identifier.

    Args:
        start: what stands before a name that cannot stand alone.

    >>> identifier("b.conv1", "layer"), identifier("3x3", "layer"), identifier("../größe", "layer")
    ('b_conv1', 'layer_3x3', 'gr_e')
    """
    found = re.sub("[^0-9A-Za-z]+", "_", name).strip("_")
    usable = found.isidentifier() and not keyword.iskeyword(found)
    return found if usable else f"{start}_{found}".rstrip("_")


def _check_steps(model: Model, place: str) -> None:
    for name in model.bits:
        step = float(model.step(name))
        if not 0 < step < float("inf"):
            raise InputError(
                f"{place}: {one_line(name)}: the step of a code must be positive, got {step}; "
                "remedy: train again"
            )


def _identifiers(model: Model) -> Names:
    """Of each layer, and of its batch-norm and activation, an attribute of its own."""
    taken = {*dir(nn.Module()), "self", "images", "F"}
    found: Names = {}
    for name in (INPUT, *(node.name for node in model.network.nodes)):
        own = "pixels" if name == INPUT else identifier(name, "layer")  # `input` is Python's
        for part in ("", "norm", "act"):
            wanted = f"{own}_{part}" if part else own
            free, count = wanted, 1
            while free in taken:
                count += 1
                free = f"{wanted}_{count}"
            taken.add(free)
            found[name, part] = free
    return found


# The state


def _state(trained: Trained, model: Model, names: Names) -> dict[str, Tensor]:
    """Everything that is trained, under the names of the written module."""
    found: dict[str, Tensor] = {}
    for name in model.weighted:
        for key in ("weight", "bias", "scale", *BATCH_NORM):
            value = trained.state.get(f"{name}/{key}")
            if value is None:
                continue
            part = "norm" if key in BATCH_NORM else ""
            inner = WEIGHT_SCALE if key == "scale" else BATCH_NORM.get(key, key)
            found[f"{names[name, part]}.{inner}"] = value
    for name in model.bits:
        written_by_itself = name == INPUT or not model.network.by_name[name].has_weights
        own = names[name, "" if written_by_itself else "act"]
        found[f"{own}.{ACTIVATION_SCALE}"] = model.step(name)
    return {key: value.detach().cpu().contiguous().clone() for key, value in found.items()}


# The module


def _module(model: Model, names: Names, name: str, file: str) -> str:
    imports, quantisers = _source_of_quantisers()
    formats = ", ".join(f'"{form}"' for form in get_args(Scale))
    return "\n".join(
        [
            '"""A network of Brevitas layers, as syq-dse writes it: load() has its weights."""',
            "",
            "from __future__ import annotations",
            "",
            imports,
            "",
            f"NAME = {name!r}",
            f"NETWORK = {model.network.name!r}",
            f'WEIGHTS = Path(__file__).with_name("{file}")',
            "",
            f"Scale = Literal[{formats}]",
            f"LEAST_STEP = {scales.LEAST_STEP!r}",
            f"MANTISSA_MAX = {integer.MANTISSA_MAX!r}",
            f"EXPONENTS = {integer.EXPONENTS!r}",
            f"DEAD_ZONE = {weights.DEAD_ZONE!r}",
            "",
            "",
            inspect.getsource(scales.mantissas),
            "",
            quantisers,
            "",
            "# The network",
            "",
            "",
            *_network(model, names),
            "",
            "",
            _LOADER,
        ]
    )


def _source_of_quantisers() -> tuple[str, str]:
    """The imports of the written module, and the text of the quantisers behind their own."""
    source = QUANTISERS.read_text("utf-8")
    lines = source.splitlines()
    imports = ["import safetensors.torch", "from pathlib import Path", "from typing import Literal"]
    body = 0
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            body = node.end_lineno or node.lineno
            text = "\n".join(lines[node.lineno - 1 : body])
            if not text.startswith(("from __future__", "from syq_dse")):
                imports.append(text)
    imports.sort(key=lambda text: (text.startswith("from"), text))
    standard = [text for text in imports if text.split()[1] in sys.stdlib_module_names]
    others = [text for text in imports if text not in standard]
    rest = re.sub(r"  # type: ignore\[.*", "", "\n".join(lines[body:]))
    return "\n".join([*standard, "", *others]), f"{rest.strip()}\n"


def _network(model: Model, names: Names) -> Iterator[str]:
    network, pixels = model.network, names[INPUT, ""]
    layers = {node.name: _layers(model, names, node) for node in network.nodes}
    yield "class Network(nn.Module):"
    yield (
        f'    """Images (images, {", ".join(map(str, network.file.input))}) of pixels 0 to 255 to '
        f'logits (images, {network.file.classes})."""'
    )
    yield ""
    yield "    def __init__(self) -> None:"
    yield "        super().__init__()"
    yield f"        self.{pixels} = Pixels({model.bits[INPUT]})"
    for name, own in layers.items():
        if own.made and name not in own.made:
            yield f"        # {name!r}"
        for attribute, call in own.made.items():
            yield from _called(f"        self.{attribute} = {call.function}", call.arguments)
    yield ""
    yield "    def forward(self, images: Tensor) -> Tensor:"
    yield f"        {pixels} = self.{pixels}(images)"
    for name, own in layers.items():
        yield from _wrapped(f"        {names[name, '']} = {own.result}")
    last = network.nodes[-1].name
    value = names[last, ""] + (".value" if model.written[last].name in model.bits else "")
    yield f"        return {value}.flatten(1)"


def _layers(model: Model, names: Names, node: Node) -> Layers:
    """What makes and what runs a layer; layers read and write an IntQuantTensor, the last real."""
    own, read = names[node.name, ""], [names[name, ""] for name in node.inputs]
    codes: tuple[str, ...] = ()
    if node.name in model.bits:
        codes = (f"bit_width={model.bits[node.name]}", f"signed={model.written[node.name].signed}")
    result = f"self.{own}({', '.join(read)})"
    match node.layer:
        case Conv() | Dense():
            return _weighted(model, names, node)
        case MaxPool():
            pad = (str(node.pad),) if any(node.pad) else ()
            return Layers({own: Call("MaxPool", (str(node.k), str(node.stride), *pad))}, result)
        case Flatten():
            return Layers({own: Call("Flatten", ())}, result)
        case Add():
            if not codes:
                return Layers({}, f"{read[0]}.value + {read[1]}.value")
            steps = [float(model.step(model.written[name].name)) for name in node.inputs]
            factors = tuple(step / float(model.step(node.name)) for step in steps)
            return Layers({own: Call("Add", (str(factors), *codes))}, result)
    whole = isinstance(node.layer, GlobalAvgPool)
    kernel = (node.in_shape.h, node.in_shape.w) if whole else (node.k, node.k)
    windows = (str(kernel), str(kernel if whole else (node.stride, node.stride)))
    if not codes:
        return Layers({}, f"F.avg_pool2d({read[0]}.value, {', '.join(windows)})")
    gain = model.mean_gain(node)
    integers = (f"gain={gain.gain}", f"shift={gain.shift}")
    return Layers({own: Call("Mean", (*windows, *integers, *codes))}, result)


def _weighted(model: Model, names: Names, node: Node) -> Layers:
    """A convolution or dense layer, its batch-norm and what makes codes."""
    own, layer = model.weighted[node.name], model.weighted[node.name].layer
    assert layer is not None and own.scale is not None
    x, (before, after) = f"{names[node.inputs[0], '']}.value", node.pad
    arguments = [str(node.in_shape.c), str(node.out_shape.c)]
    if isinstance(node.layer, Conv):
        arguments.append(str(node.k))
        if before == after:
            arguments += [f"padding={before}"] * (before > 0)
        else:
            x = f"F.pad({x}, {(before, after, before, after)})"
        arguments += [f"stride={node.stride}"] * (node.stride > 1)
        arguments += [f"groups={node.groups}"] * (node.groups > 1)
    arguments += [
        f"bias={node.has_bias}",
        f"weight_quant={WEIGHTS.get(layer.weights, 'IntWeight')}",
    ]
    if weights.has_step(layer.weights):
        arguments.append(f"weight_bit_width={weight_bits(layer.weights)}")
    arguments.append(f"weight_scaling_shape={tuple(own.scale.shape)}")
    if has_format(node, layer):
        arguments.append(f'weight_scale_format="{layer.scale}"')
    kind = "qnn.QuantConv2d" if isinstance(node.layer, Conv) else "Dense"
    made = {names[node.name, ""]: Call(kind, tuple(arguments))}
    if own.gain is not None:
        made[names[node.name, "norm"]] = Call("nn.BatchNorm2d", (str(node.out_shape.c),))
    if node.name in model.bits:
        signed = model.written[node.name].signed
        codes = [
            "act_quant=Codes",
            f"bit_width={model.bits[node.name]}",
            "return_quant_tensor=True",
        ]
        kind = "qnn.QuantIdentity" if signed else "qnn.QuantReLU"
        made[names[node.name, "act"]] = Call(kind, (*codes, *["signed=True"] * signed))
    result = x
    for attribute in made:
        result = f"self.{attribute}({result})"
    return Layers(made, result)


def _called(start: str, arguments: tuple[str, ...]) -> Iterator[str]:
    """A call on one line, or with its arguments on one or more lines below."""
    line = f"{start}({', '.join(arguments)})"
    if len(line) <= LINE:
        yield line
        return
    space = " " * (len(start) - len(start.lstrip()))
    yield f"{start}("
    together = f"{space}    {', '.join(arguments)}"
    if len(together) <= LINE:
        yield together
    else:
        yield from (f"{space}    {argument}," for argument in arguments)
    yield f"{space})"


def _wrapped(line: str) -> Iterator[str]:
    """A statement on one line, or with what stands in its outermost brackets on the next."""
    if len(line) <= LINE or not line.endswith(")"):
        yield line
        return
    inner = line.index("(")
    yield from _called(line[:inner], (line[inner + 1 : -1],))


_LOADER = '''\
def build() -> Network:
    """The network with random weights, to be trained."""
    return Network()


def load(path: str | Path = WEIGHTS, dtype: torch.dtype = torch.float32) -> Network:
    """The network with its trained weights, evaluating."""
    network = build()
    # assigned, since steps of codes are held in 64 bit floats
    network.load_state_dict(safetensors.torch.load_file(path), assign=True)
    return network.to(dtype).eval()
'''
