"""Names in CSV files stay text in a spreadsheet and come back as they were."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import cells

names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1)
odd = st.tuples(st.sampled_from(list("=+-@'\t")), st.text("=+-@'a1", max_size=3)).map("".join)


@settings(derandomize=True, deadline=None)
@given(st.lists(names | odd, min_size=1, max_size=6))
def test_names_come_back(found: list[str]) -> None:
    rows = pd.DataFrame({"name": found, "value": [-1.5] * len(found)})
    text = cells.text(rows)
    read = pd.read_csv(io.StringIO(text), dtype={"name": str}, keep_default_na=False)
    assert cells.read_back(read).equals(rows)
    for cell, value in list(csv.reader(io.StringIO(text)))[1:]:
        assert cell == "-" or not cell.startswith(("=", "+", "-", "@", "\t")), cell
        assert value == "-1.5"


@pytest.mark.parametrize("name", ["conv1", "a=b", "", "é", "p001"])
def test_other_names_are_as_they_are(name: str) -> None:
    assert cells.to_cell(name) == name == cells.of_cell(name)
