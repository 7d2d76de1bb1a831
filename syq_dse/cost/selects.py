"""Multiplexers of many words: four at a time, which is what six inputs hold."""

from __future__ import annotations

from syq_dse.cost.integers import Ints, cdiv

WAYS = 4
"""Words among which a multiplexer selects at once."""


def selects(words: Ints) -> dict[str, Ints]:
    """Multiplexers a bit that select one of `words`, by the words that one of them selects among.

    >>> from syq_dse.cost.integers import ints
    >>> {name: int(count) for name, count in selects(ints(11)).items()}
    {'pair_bits': 0, 'triple_bits': 2, 'select_bits': 2}
    """
    found = {"pair_bits": words * 0, "triple_bits": words * 0, "select_bits": words * 0}
    while (words > 1).any():
        found["pair_bits"] = found["pair_bits"] + (words % WAYS == 2)
        found["triple_bits"] = found["triple_bits"] + (words % WAYS == 3)
        found["select_bits"] = found["select_bits"] + words // WAYS
        words = cdiv(words, WAYS)
    return found


def selectors(words: Ints) -> tuple[Ints, Ints]:
    """The same: multiplexers of three or four words, and of two."""
    of = selects(words)
    return of["triple_bits"] + of["select_bits"], of["pair_bits"]
