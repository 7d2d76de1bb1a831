"""Layers drawn at random for the tests of the cost model."""

from __future__ import annotations

from hypothesis import strategies as st

from syq_dse.cost.folding import Geometry, can_be_folded, geometry
from syq_dse.network import Conv, Node, Shape


def conv(
    c_in: int,
    c_out: int,
    k: int = 1,
    *,
    h: int = 1,
    w: int | None = None,
    stride: int = 1,
    pad: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Node:
    """A convolution by itself; a dense layer is one of k = 1 on one pixel."""
    w = h if w is None else w
    h_out, w_out = ((side + sum(pad) - k) // stride + 1 for side in (h, w))
    layer = Conv(
        name="layer", c_out=c_out, k=k, stride=stride, pad=pad[0], pad_after=pad[1], groups=groups
    )
    return Node(layer, ("input",), Shape(c_in, h, w), Shape(c_out, h_out, w_out))


@st.composite
def convs(
    draw: st.DrawFn,
    *,
    channels: int = 6,
    side: int = 6,
    kernels: tuple[int, ...] = (1, 2, 3, 4, 5),
    strides: int = 3,
    groups: int = 4,
) -> Node:
    """Any legal convolution: groups, depthwise, k = 1, uneven padding, maps of one pixel."""
    k = draw(st.sampled_from(kernels))
    pad = draw(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)))
    fits = st.integers(max(1, k - sum(pad)), max(side, k))
    h, w = draw(fits), draw(fits)
    g = draw(st.integers(1, groups))
    c_in, c_out = draw(st.integers(1, channels)), draw(st.integers(1, channels))
    stride = draw(st.integers(1, strides))
    return conv(g * c_in, g * c_out, k, h=h, w=w, stride=stride, pad=pad, groups=g)


def geometries(**sizes: int) -> st.SearchStrategy[Geometry]:
    """The geometry of any convolution that can be folded, its input signed or not."""
    every = st.builds(geometry, convs(**sizes), st.booleans())
    return every.filter(can_be_folded)
