"""A point of a run as a file of its own."""

from __future__ import annotations

from pathlib import Path

from syq_dse import records
from syq_dse.errors import InputError
from syq_dse.search import points, run


def export_train(folder: Path, name: str, out: Path) -> Path:
    """Write the JSON that training reads: NETWORK-TARGET-POINT.json in the folder `out`.

    Raises:
        InputError: no such run or point, or the file exists with other contents.
    """
    with run.unchanged(folder):
        front = run.read_front(folder)
        point = points.point_of(front, name)
        found = run.read_point(folder, point)
    path = out / f"{front['network']}-{front['target']}-{point}.json"
    records.make_folder(out)
    if path.exists() and records.read(path) != found:
        raise InputError(f"{path}: exists with other contents; give another -o")
    records.write_json(path, found)
    return path
