"""A network as pixels that move through buffers of finite size: what the timing model abstracts.

Every layer takes pixels from the queues before it and writes pixels behind it. A producer needs
room in the buffer of every reader before it begins a pixel. Nothing here uses a formula of the
model; capacities are the sizes of the memories that it counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from syq_dse.cost import timing
from syq_dse.cost.estimate import geometries
from syq_dse.cost.folding import Folding, Geometry, lanes, word_channels
from syq_dse.cost.integers import ints
from syq_dse.cost.units.window import shifted, window
from syq_dse.network import INPUT, Add, Flatten, GlobalAvgPool, Network, Node

ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One layer; every list is of one image, and repeats."""

    name: str
    inputs: tuple[str, ...]
    room: tuple[int, ...]  # pixels that wait before it, the one on its way included
    pixels: int  # of an input image
    newest: list[int]  # by output pixel, the last input pixel that it needs
    last_use: list[int]  # by input pixel, the last output pixel that needs it, or one before it
    work: int = 0  # cycles on an output pixel
    registers: int = 0  # cycles from its last word to its reader
    passing: bool = False  # takes a pixel as it comes, and holds none back


class DeadlockError(Exception):
    """No layer can go on."""


@dataclass
class Flow:
    """When pixels begin and end, by the layer that writes them; a cycle has `pixels` parts."""

    begin: dict[str, list[int]] = field(default_factory=dict)
    done: dict[str, list[int]] = field(default_factory=dict)


def corners(node: Node) -> tuple[list[int], list[int]]:
    """The first and the last input pixel of each output pixel's window."""
    h, w, shape = node.in_shape.h, node.in_shape.w, node.out_shape

    def inside(y: int, x: int) -> int:
        return min(max(y, 0), h - 1) * w + min(max(x, 0), w - 1)

    if isinstance(node.layer, GlobalAvgPool):
        return [0], [h * w - 1]
    at = [
        (r * node.stride - node.pad[0], c * node.stride - node.pad[0])
        for r in range(shape.h)
        for c in range(shape.w)
    ]
    reach = node.k - 1
    return [inside(*a) for a in at], [inside(a[0] + reach, a[1] + reach) for a in at]


def uses(oldest: list[int], pixels: int) -> list[int]:
    """By input pixel, the last output pixel before which it may not go; pixels go in order."""
    order = list(oldest)
    for later in range(len(order) - 1, 0, -1):
        order[later - 1] = min(order[later - 1], order[later])
    return [bisect_right(order, pixel) - 1 for pixel in range(pixels)]


def held(geo: Geometry, fold: Folding, pixel_channels: int) -> int:
    """Pixels in the copies of a layer's circular buffer, which are alike, or in its registers."""
    pe, simd = ints(fold.pe), ints(fold.simd)
    (memory,) = window(geo, 1, pe, simd).memories
    if shifted(geo, pe, simd):  # k - 1 lines and the window
        return (geo.k - 1) * int(memory.depth) + geo.k * geo.k
    return int(memory.depth * word_channels(geo, pe, simd)) // pixel_channels


def collected(geo: Geometry, fold: Folding, width: int) -> int:
    """Channels of a word of the window that wait in registers until the rest of it is there."""
    return max(0, int(word_channels(geo, ints(fold.pe), ints(fold.simd))) - width)


def words_after(geo: Geometry, fold: Folding, width: int) -> int:
    """Cycles from an engine's last result of a pixel to its last word, of `width` channels."""
    sent = 0
    ready = [(i + 1) * (geo.fan_in // fold.simd) for i in range(geo.c_out // fold.pe)]
    for result in ready:
        sent = max(sent, result) + -(-fold.pe // width)
    return sent - ready[-1]


def stages(
    network: Network,
    interval: int,
    chosen: Mapping[str, Folding],
    *,
    buffers: Callable[[Node, int], int] = lambda node, pixels: pixels,
    queues: Callable[[Node, str, int], int] = lambda node, tensor, pixels: pixels,
    endless: bool = False,
    words: bool = False,
) -> list[Stage]:
    """The layers of a network, with the buffers that the model gives them.

    Args:
        buffers: changes the pixels that a layer's window unit holds.
        queues: changes the pixels that wait before an addition.
        endless: every buffer is, so that nothing ever waits for room; then the registers of the
            pipelines count, which otherwise would have to hold pixels too.
        words: count the cycles (of endless buffers) in which the words of a pixel leave an engine.
    """
    geos, waiting = geometries(network), timing.queues(network, interval)
    made: list[Stage] = []
    renamed: dict[str, str] = {}  # flatten moves nothing: its reader reads the map
    for node in network.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if isinstance(node.layer, Flatten):
            renamed[node.name] = inputs[0]
            continue
        shapes = [timing.stream_shape(network, name) for name in node.inputs]
        queued = [
            waiting[node.name, name].words * waiting[node.name, name].lanes // shape.c
            for name, shape in zip(node.inputs, shapes, strict=True)
        ]
        pixels = shapes[0].pixels
        late = timing.stages(node) if endless else 0
        if isinstance(node.layer, Add):
            room = [queues(node, n, q) for n, q in zip(node.inputs, queued, strict=True)]
            every = list(range(pixels))
            made.append(
                Stage(
                    name=node.name,
                    inputs=inputs,
                    room=tuple(room),
                    pixels=pixels,
                    newest=every,
                    last_use=every,
                    registers=late,
                )
            )
            continue
        oldest, newest = corners(node)
        if pixels != node.in_shape.pixels:  # a flattened map
            oldest, newest = [0], [pixels - 1]
        if not node.has_weights:
            made.append(
                Stage(
                    name=node.name,
                    inputs=inputs,
                    room=(queued[0] + 1,),
                    pixels=pixels,
                    newest=newest,
                    last_use=[bisect_right(newest, p) - 1 for p in range(pixels)],
                    registers=late,
                    passing=True,
                )
            )
            continue
        geo, fold = geos[node.name], chosen[node.name]
        work = int(timing.work(geo, ints(fold.pe), ints(fold.simd)))
        if words:
            late += words_after(geo, fold, lanes(node.out_shape, interval))
        size = held(geo, fold, shapes[0].c)
        queue = waiting[node.name, node.inputs[0]]
        before = queue.words * queue.lanes + collected(geo, fold, queue.lanes)
        made.append(
            Stage(
                name=node.name,
                inputs=inputs,
                room=(buffers(node, max(size, 1)) + before // shapes[0].c,),
                pixels=pixels,
                newest=newest,
                last_use=uses(oldest, pixels) if size else [-1] * pixels,
                work=work,
                registers=late,
                passing=size == 0,
            )
        )
    if endless:
        return [replace(stage, room=(ENDLESS,) * len(stage.room)) for stage in made]
    return made


def run(layers: list[Stage], pixels: int, interval: int, images: int) -> Flow:
    """Let images come, one an interval, pixel by pixel at a constant rate.

    Args:
        pixels: of an image of the network's input, and parts of a cycle in which time is counted,
            so that a pixel takes `interval` of them.

    Raises:
        DeadlockError: some layers wait for each other.
    """
    flow = Flow({INPUT: []}, {INPUT: []})
    readers: dict[str, list[tuple[Stage, int]]] = {INPUT: []}
    for stage in layers:
        flow.begin[stage.name], flow.done[stage.name], readers[stage.name] = [], [], []
        for place, name in enumerate(stage.inputs):
            readers[name].append((stage, place))
    late = {INPUT: 0} | {stage.name: stage.registers * pixels for stage in layers}

    def gone(stage: Stage, place: int, pixel: int) -> int | None:
        """When a pixel leaves the room before a layer; None where that is not yet known."""
        image, at = divmod(pixel, stage.pixels)
        output = image * len(stage.newest) + stage.last_use[at]
        came = flow.done[stage.inputs[place]]
        if output >= len(flow.done[stage.name]) or pixel >= len(came):
            return None
        last = flow.done[stage.name][output] if output >= 0 else 0
        return max(last, came[pixel]) if stage.passing else last

    def space(name: str) -> int | None:
        """When every reader has room for the next pixel."""
        times = [0]
        for stage, place in readers[name]:
            pixel = len(flow.begin[name]) - stage.room[place]
            if pixel >= 0:
                time = gone(stage, place, pixel)
                if time is None:
                    return None
                times.append(time)
        return max(times)

    def step_input() -> bool:
        if len(flow.done[INPUT]) == images * pixels:
            return False
        room = space(INPUT)
        if room is None:
            return False
        begin = max(room, flow.done[INPUT][-1] if flow.done[INPUT] else 0)
        flow.begin[INPUT].append(begin)
        flow.done[INPUT].append(begin + interval)
        return True

    def step(stage: Stage) -> bool:
        done = flow.done[stage.name]
        image, at = divmod(len(done), len(stage.newest))
        newest = image * stage.pixels + stage.newest[at]
        if image == images or any(len(flow.done[name]) <= newest for name in stage.inputs):
            return False
        room = space(stage.name)
        if room is None:
            return False
        ready = max(flow.done[name][newest] + late[name] for name in stage.inputs)
        first = ready
        if stage.passing and stage.work:  # it works while its first pixels come
            since = image * stage.pixels if len(stage.newest) == 1 else newest
            first = max(flow.begin[name][since] + late[name] for name in stage.inputs)
        begin = max(room, first, done[-1] if done else 0)
        flow.begin[stage.name].append(begin)
        done.append(max(begin + stage.work * pixels, ready))
        return True

    moved = True
    while moved:
        moved = False
        while step_input():
            moved = True
        for stage in layers:
            while step(stage):
                moved = True
    if any(len(flow.done[stage.name]) < images * len(stage.newest) for stage in layers):
        raise DeadlockError
    return flow


def steady_interval(layers: list[Stage], pixels: int, interval: int, images: int = 4) -> float:
    """Cycles between the last two images of a row of them."""
    done = run(layers, pixels, interval, images).done[layers[-1].name]
    return (done[-1] - done[-1 - len(layers[-1].newest)]) / pixels


def first_latency(layers: list[Stage], pixels: int, interval: int) -> float:
    """Cycles from the first word of the first image to the last of its result."""
    last = run(layers, pixels, interval, 1).done[layers[-1].name][-1]
    return last / pixels + layers[-1].registers
