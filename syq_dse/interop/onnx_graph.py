"""An ONNX model that is put together node by node, every tensor with its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from syq_dse import __version__, records, scheme
from syq_dse.interop.files import DOCUMENT
from syq_dse.network import Network, Node
from syq_dse.scheme import Scheme

OPSET = 17

IR_VERSION = 8
"""Of the file format, as opset 17 has it: older readers refuse newer ones."""

EXACT = 1 << 24
"""Integers below which 32 bit floats hold, and their sums."""

TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


class Graph:
    """Nodes in the order of the flow, constants, and the type and shape of every tensor.

    Names that are asked for may be those of layers, whatever these are: of a name that is taken,
    another is made.

    Args:
        ends: tensors that have the very names that are asked for: inputs and outputs.
    """

    def __init__(self, ends: Sequence[str]) -> None:
        self.ends = set(ends)
        self.taken = set(ends)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.values: dict[str, onnx.ValueInfoProto] = {}

    def _free(self, name: str) -> str:
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}~{number}"
        self.taken.add(found)
        return found

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        """A stored tensor, once for each name that is asked for."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array), self._free(name))
        return str(self.constants[name].name)

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int | str],
        kind: str = "float32",
        domain: str = "",
        name: str | None = None,
        end: bool = False,
        **attributes: Any,
    ) -> str:
        """Add a node; the tensor that it writes.

        Args:
            output: a name for the tensor.
            end: whether it is one of `ends`.
            name: of the node; None: that of the tensor.
        """
        if end:
            assert output in self.ends and output not in self.values
        else:
            output = self._free(output)
        self.nodes.append(
            helper.make_node(
                operator, list(inputs), [output], name=name or output, domain=domain, **attributes
            )
        )
        self.values[output] = helper.make_tensor_value_info(output, TYPES[kind], list(shape))
        return output

    def model(
        self,
        network: Network,
        chosen: Scheme,
        inputs: Mapping[str, tuple[str, Sequence[int | str]]],
        outputs: Sequence[str],
        domains: Mapping[str, int] | None = None,
    ) -> onnx.ModelProto:
        """The model, which says what network and scheme it is of.

        Args:
            inputs: type and shape of each.
            domains: of operators, and their versions.
        """
        graph = helper.make_graph(
            self.nodes,
            network.name,
            [helper.make_tensor_value_info(n, TYPES[k], list(s)) for n, (k, s) in inputs.items()],
            [self.values[name] for name in outputs],
            list(self.constants.values()),
            value_info=[value for name, value in self.values.items() if name not in outputs],
        )
        versions = {"": OPSET, **(domains or {})}
        model = helper.make_model(
            graph,
            producer_name="syq-dse",
            producer_version=__version__,
            opset_imports=[helper.make_opsetid(name, of) for name, of in versions.items()],
            ir_version=IR_VERSION,
        )
        said = {
            "network": records.plain(network.file),
            "scheme": records.plain(scheme.file_of(network, chosen)),
        }
        helper.set_model_props(model, {DOCUMENT: json.dumps(said)})
        return model


def windows(node: Node) -> dict[str, Any]:
    """Attributes of a node over the windows of a layer: rows and columns are alike."""
    before, after = node.pad
    return {
        "kernel_shape": [node.k] * 2,
        "strides": [node.stride] * 2,
        "pads": [before, before, after, after],
    }
