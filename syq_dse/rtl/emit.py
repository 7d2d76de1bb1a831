"""Verilog of a whole design: a file a unit, a file an engine, the top, and the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syq_dse.network import INPUT, Flatten, Network
from syq_dse.rtl import verilog
from syq_dse.rtl.engine import Engine, Instance, identifier
from syq_dse.rtl.synthesis import PORT, own

Stream = str
"""A stream in structural Verilog: the prefix of its three wires."""


def files(network: Network, engines: Sequence[Engine]) -> dict[str, str]:
    """The text of every Verilog file by its name.

    A file of an engine includes those of its units, the top those of the engines; each can be read
    alone or together with the others.

    Raises:
        InputError: Yosys is missing or broken.
    """
    instances = [instance for engine in engines for instance in engine.instances]
    units = verilog.emit({instance.name: instance.hardware for instance in instances})
    found = {f"{name}.v": _guarded(name, text) for name, text in units.items()}
    tops = {}
    for engine in engines:
        name = identifier(engine.layer)
        body = _engine(name, engine, units)
        tops[engine.layer] = body
        found[f"{name}.v"] = _including([i.name for i in engine.instances], name, body)
    top = top_name(network)
    body = _top(top, network, engines, tops)
    found[f"{top}.v"] = _including([identifier(engine.layer) for engine in engines], top, body)
    return found


def flat(texts: Mapping[str, str], name: str) -> str:
    """A file and all that it includes as one text."""
    parts: list[str] = []
    for line in texts[f"{name}.v"].splitlines(keepends=True):
        if line.startswith("`include "):
            parts.append(flat(texts, line.split('"')[1].removesuffix(".v")))
        else:
            parts.append(line)
    return "".join(parts)


def top_name(network: Network) -> str:
    """The module of the whole network."""
    return f"{identifier(network.name)}_top"


def manifest(network: Network, engines: Sequence[Engine]) -> list[dict[str, Any]]:
    """One entry a unit, an engine and the top: file, module, parameters, estimate."""
    entries = []
    for engine in engines:
        for one in engine.instances:
            entries.append(_entry(one.name, one.layer, one.unit, one.parameters, one.estimate))
    for engine in engines:
        name = identifier(engine.layer)
        entries.append(_entry(name, engine.layer, "engine", {}, engine.estimate))
    names = engines[0].estimate
    total = {name: sum(engine.estimate[name] for engine in engines) for name in names}
    ends = _ends(network, engines)
    entries.append(_entry(top_name(network), None, "network", ends, total))
    return entries


def _ends(network: Network, engines: Sequence[Engine]) -> dict[str, int | str]:
    """Lanes and bits of the words of the image and of the result."""
    queue = next(one.inputs[INPUT][0] for one in engines if INPUT in one.inputs)
    reader = next(one.chain[0].parameters for one in engines if INPUT in one.inputs)
    s_bits = int(reader["bits"] if "bits" in reader else reader["a_bits"])
    last = engines[-1].chain[-1]
    m_lanes = int(last.parameters["to_lanes" if "to_lanes" in last.parameters else "pe"])
    return {
        "s_lanes": len(queue.hardware.s_data) // s_bits,
        "s_bits": s_bits,
        "m_lanes": m_lanes,
        "m_bits": len(last.hardware.m_data) // m_lanes,
    }


def _entry(
    name: str,
    layer: str | None,
    unit: str,
    parameters: Mapping[str, int | str],
    estimate: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "file": f"{name}.v",
        "top": name,
        "layer": layer,
        "unit": unit,
        "parameters": dict(parameters),
        "estimate": dict(estimate),
    }


def _engine(name: str, engine: Engine, units: Mapping[str, str]) -> str:
    """The module of one layer: streams s (and t for a second input), m, and w of its weights."""
    lines: list[str] = []
    ports: list[str] = []
    inputs = dict(zip("st", engine.inputs.values(), strict=False))
    streams = {}
    for prefix, before in inputs.items():
        ports += _ports(prefix, len(before[0].hardware.s_data), "in")
        stream = prefix
        for instance in before:
            lines += _place(instance, units, {"s": stream, "m": f"{instance.name}_out"})
            stream = f"{instance.name}_out"
        streams[prefix] = stream
    if engine.weights is not None:
        links = {"m": "codes"}
        if loaded := engine.loaded_bits:
            ports += _ports("w", loaded, "in")
            links["s"] = "w"
        lines += _place(engine.weights, units, links)
    for index, instance in enumerate(engine.chain):
        last = index == len(engine.chain) - 1
        out = "m" if last else f"{instance.name}_out"
        links = {**streams, "m": out}
        if instance.unit == "mac":
            links["w"] = "codes"
        lines += _place(instance, units, links)
        streams = {"s": out}
    ports += _ports("m", len(engine.chain[-1].hardware.m_data), "out")
    return _module(name, ports, lines, outputs={"m"} | set(inputs) | {"w"})


def _top(name: str, network: Network, engines: Sequence[Engine], texts: Mapping[str, str]) -> str:
    """The module of the network: streams s, m, and w_LAYER of weights that come from outside."""
    by_layer = {engine.layer: engine for engine in engines}
    readers: dict[str, list[tuple[str, str]]] = {}
    for engine in engines:
        for prefix, tensor in zip("st", engine.inputs, strict=False):
            source = _source(network, tensor)
            readers.setdefault(source, []).append((engine.layer, prefix))
    first = by_layer[readers[INPUT][0][0]]
    width = len(first.inputs[INPUT][0].hardware.s_data)
    ports = _ports("s", width, "in")
    lines = []
    for engine in engines:
        module = identifier(engine.layer)
        links = {}
        for prefix, _ in zip("st", engine.inputs, strict=False):
            links[prefix] = f"{module}_{prefix}"
        last = engine is engines[-1]
        links["m"] = "m" if last else f"{module}_m"
        if loaded := engine.loaded_bits:
            ports += _ports(f"w_{module}", loaded, "in")
            links["w"] = f"w_{module}"
        lines += _instantiate(module, texts[engine.layer], links)
    for source, reading in readers.items():
        stream = "s" if source == INPUT else f"{identifier(source)}_m"
        lines += _fork(stream, [f"{identifier(layer)}_{prefix}" for layer, prefix in reading])
    ports += _ports("m", len(engines[-1].chain[-1].hardware.m_data), "out")
    outside = {p.split()[-1].removesuffix("_data") for p in ports if p.endswith("_data")}
    return _module(name, ports, lines, outside)


def _source(network: Network, tensor: str) -> str:
    """The engine that writes a tensor: flattening moves nothing."""
    while tensor != INPUT and isinstance(network.by_name[tensor].layer, Flatten):
        tensor = network.by_name[tensor].inputs[0]
    return tensor


def _fork(stream: Stream, readers: Sequence[Stream]) -> list[str]:
    """A word passes to all its readers at once; their queues are ready whoever asks."""
    lines = []
    for reader in readers:
        others = [f"{other}_ready" for other in readers if other != reader]
        lines.append(f"assign {reader}_valid = {' & '.join([f'{stream}_valid', *others])};")
        lines.append(f"assign {reader}_data = {stream}_data;")
    lines.append(f"assign {stream}_ready = {' & '.join(f'{r}_ready' for r in readers)};")
    return lines


def _place(instance: Instance, units: Mapping[str, str], links: Mapping[str, Stream]) -> list[str]:
    return _instantiate(instance.name, units[instance.name], links)


def _instantiate(name: str, text: str, links: Mapping[str, Stream]) -> list[str]:
    """One instance of a module, with the wires of each of its streams."""
    lines, bound = [], []
    for _, width, port in PORT.findall(own(name, text)):
        prefix, _, what = port.rpartition("_")
        wire = f"{links[prefix]}_{what}" if prefix in links else port
        if prefix in links:
            lines.append(f"wire {width + ' ' if width else ''}{wire};")
        bound.append(f".{port}({wire})")
    return [*lines, f"{name} {name}_unit ({', '.join(bound)});"]


def _ports(prefix: str, width: int, direction: str) -> list[str]:
    there, back = ("input", "output") if direction == "in" else ("output", "input")
    span = f"[{width - 1}:0] " if width > 1 else ""
    return [f"{there} {prefix}_valid", f"{back} {prefix}_ready", f"{there} {span}{prefix}_data"]


def _module(name: str, ports: Sequence[str], lines: Sequence[str], outputs: set[str]) -> str:
    """A module; wires that two instances share, and those that are ports, are declared once."""
    everything = ["input clk", "input rst", *ports]
    names = [port.split()[-1] for port in everything]
    declared = set(names)
    body = []
    for line in lines:
        if line.startswith("wire "):
            wire = line.split()[-1].rstrip(";")
            if wire in declared:
                continue
            declared.add(wire)
        body.append(f"  {line}")
    head = [f"module {name}({', '.join(names)});", *(f"  {port};" for port in everything)]
    return "\n".join([*head, *body, "endmodule", ""])


def _guarded(name: str, text: str) -> str:
    return f"`ifndef SYQ_{name}\n`define SYQ_{name}\n{text}`endif\n"


def _including(needed: Sequence[str], name: str, body: str) -> str:
    includes = "".join(f'`include "{other}.v"\n' for other in needed)
    return _guarded(name, includes + body)
