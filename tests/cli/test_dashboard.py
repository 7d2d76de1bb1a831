"""optuna-dashboard opens the storage of a run as it is."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from syq_dse.search import run

dashboard = pytest.importorskip("optuna_dashboard")


def answer(application: Any, path: str) -> bytes:
    """The body of a GET of a WSGI application, whose status must be 200."""
    said: list[str] = []
    environment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }
    parts = application(environment, lambda status, headers, *error: said.append(status))
    body = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    assert said == ["200 OK"], (path, said, body)
    return body


def test_it_shows_the_study_with_the_names_of_its_objectives(
    finished: Path, tmp_path: Path
) -> None:
    journal = shutil.copy(finished / "runs" / "tiny" / run.JOURNAL, tmp_path)  # a lock beside it
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    application = dashboard.wsgi(JournalStorage(JournalFileBackend(str(journal))))
    assert b"<title>Optuna Dashboard</title>" in answer(application, "/dashboard")
    (study,) = json.loads(answer(application, "/api/studies"))["study_summaries"]
    assert study["study_name"] == "tiny"
    shown = json.loads(answer(application, f"/api/studies/{study['study_id']}"))
    front = run.read_front(finished / "runs" / "tiny")
    assert shown["objective_names"] == front["objectives"]
    assert shown["directions"] == ["maximize", "maximize", "minimize"]
    assert {trial["state"] for trial in shown["trials"]} == {"Complete"}
    values = {tuple(trial["values"]) for trial in shown["trials"]}
    for point in front["points"]:
        assert (point["accuracy"], point["fps"], float(point["lut"])) in values
