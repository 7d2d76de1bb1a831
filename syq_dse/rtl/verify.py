"""A design's estimate against its synthesis, engine by engine, and its simulation."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syq_dse.cost import folding
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.quant import integer
from syq_dse.rtl import emit, simulate
from syq_dse.rtl.engine import Engine, identifier, input_words, result_values
from syq_dse.rtl.synthesis import Synthesis, synthesise
from syq_dse.scheme import Scheme

if TYPE_CHECKING:
    from syq_dse.rtl.calibrate import Progress

FOLLOWING = 2
"""Images that come behind those that are looked at."""

COMPARED = ("lut", "lutram", "ff", "dsp", "bram18", "uram")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One engine: what was estimated and what synthesis made of it, by resource."""

    layer: str
    estimate: Mapping[str, int]
    synthesis: Mapping[str, int]


def verify(
    engines: Sequence[Engine],
    texts: Mapping[str, str],
    family: str,
    *,
    cache: Path | None,
    jobs: int = 1,
    timeout_s: float,
    progress: Progress | None = None,
) -> list[Compared]:
    """Synthesise every engine as one flat design, and set its estimate beside it.

    Args:
        texts: what `emit.files` makes of the engines.

    Raises:
        InputError: Yosys is missing, fails or exceeds its time.
    """
    flat = {engine.layer: emit.flat(texts, identifier(engine.layer)) for engine in engines}
    made: dict[str, Synthesis] = {}

    def one(layer: str) -> Synthesis:
        name = identifier(layer)
        return synthesise({name: flat[layer]}, family, cache, timeout_s)[name]

    with ThreadPoolExecutor(jobs) as pool:  # each waits for a process of its own
        running = {pool.submit(one, layer): layer for layer in flat}
        for done, future in enumerate(as_completed(running), start=1):
            made[running[future]] = future.result()
            if progress:
                progress(done, len(running), "engines synthesised")
    return [
        Compared(
            layer=engine.layer,
            estimate={name: sum(i.estimate[name] for i in engine.instances) for name in COMPARED},
            synthesis={name: getattr(made[engine.layer], name) for name in COMPARED},
        )
        for engine in engines
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """Images that the hardware was run on."""

    images: int
    interval_cycles: int | None  # between the last two; None: there was one
    latency_cycles: int


def simulate_design(
    network: Network,
    scheme: Scheme,
    interval: int,
    engines: Sequence[Engine],
    texts: Mapping[str, str],
    integers: integer.NetworkIntegers,
    images: int,
    seed: int = 0,
) -> Simulated:
    """Run the whole network on random images and hold every result against the integer model.

    Raises:
        InputError: a result differs, the hardware stalls, or there is no C++ compiler.
    """
    shape = network.input_shape
    bits = scheme.bits["input"]
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, size=(images, shape.c, shape.h, shape.w))
    expected = integer.infer(network, scheme, integers, codes).reshape(images, -1)
    top = emit.top_name(network)
    out = network.nodes[-1].out_shape
    lanes = folding.lanes(out, interval)
    width = len(engines[-1].chain[-1].hardware.m_data) // lanes
    # images follow each other: the interval is that of the steady state
    stream = [*codes, *codes[:FOLLOWING]]
    words = [word for image in stream for word in input_words(network, interval, bits, image)]
    per_image = out.size // lanes
    with tempfile.TemporaryDirectory(prefix="syq-dse-") as folder:
        built = simulate.compile(emit.flat(texts, top), top, Path(folder))
        run = simulate.run(built, {"s": words}, images * per_image)
    found = np.array(result_values(run.words, lanes, width)).reshape(images, -1)
    wrong = np.flatnonzero((found != expected).any(axis=1))
    if len(wrong):
        raise InputError(
            f"{top}: image {wrong[0]} of {images} gives {found[wrong[0]].tolist()}, and the "
            f"integer model {expected[wrong[0]].tolist()}"
        )
    ends = [run.times[per_image * (i + 1) - 1] for i in range(images)]
    return Simulated(
        images=images,
        interval_cycles=ends[-1] - ends[-2] if images > 1 else None,
        latency_cycles=ends[0] + 1,
    )
