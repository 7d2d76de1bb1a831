"""Every sampler alike: legal designs, constraints that Optuna knows, one seed one search."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from syq_dse.cost.integers import Ints
from syq_dse.cost.table import price
from syq_dse.errors import InputError
from syq_dse.search import samplers
from syq_dse.search.front import Front, exact_front, front_of, hypervolume, reference_point
from syq_dse.search.problem import Problem
from syq_dse.search.samplers import (
    SAMPLERS,
    directions,
    distributions,
    frozen_trials,
    parameters,
    propose,
)
from syq_dse.search.storage import (
    Store,
    check_new,
    connect,
    count,
    open_study,
    values_of,
    write_trials,
)

from .small import LIMITED, fits, limits_of, listing, lost, problem, table, with_capacity

TRIALS = {"nsga2": 120, "nsga3": 120, "tpe": 25, "gp": 2, "random": 60}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@cache
def asked() -> Problem:
    """Several limits bind, so that samplers propose what does not fit too."""
    return problem(with_capacity(table("residual"), lut=1200, dsp=6, bram18=6), ("accuracy", "ff"))


@cache
def seeds() -> Front:
    found = exact_front(asked())
    assert len(found.designs) >= 10  # the Gaussian process begins at ten trials
    return found


@cache
def proposed(sampler: str) -> tuple[Ints, tuple[FrozenTrial, ...], tuple[int, ...]]:
    """What a sampler proposes, what it records, and the sizes of the generations."""
    recorded: list[FrozenTrial] = []
    sizes: list[int] = []

    def record(trials: list[FrozenTrial]) -> None:
        recorded.extend(trials)
        sizes.append(len(trials))

    found = propose(asked(), sampler, 3, TRIALS[sampler], seeds().designs, record=record)
    return found, tuple(recorded), tuple(sizes)


def described(trial: FrozenTrial) -> tuple[object, ...]:
    return trial.params, trial.values, trial.constraints, trial.user_attrs


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_are_legal_designs(sampler: str) -> None:
    designs, _, sizes = proposed(sampler)
    assert designs.shape == (TRIALS[sampler], len(asked().table.variables))
    assert (designs >= 0).all()
    assert (designs < asked().table.sizes).all()
    assert len(np.unique(designs, axis=0)) > 1
    assert sum(sizes) == TRIALS[sampler]
    assert max(sizes) <= samplers.GENERATION


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_trial_records_its_design_values_and_constraints(sampler: str) -> None:
    designs, trials, _ = proposed(sampler)
    prices = price(asked().table, designs)
    good = fits(asked(), designs, prices)
    limits = limits_of(asked())[designs[:, 0]]
    assert 0 < good.sum() < len(good) or sampler == "gp"
    for i, (design, trial) in enumerate(zip(designs, trials, strict=True)):
        assert trial.state == TrialState.COMPLETE
        assert trial.params == parameters(asked().table, design)
        accuracy = asked().losses.base - lost(asked(), design[None])[0] * 1e-12
        assert trial.values == pytest.approx([accuracy, prices.total[i, 1]], rel=1e-12)
        over = (prices.total[i, : len(LIMITED)] - limits[i]) / np.maximum(limits[i], 1)
        assert trial.constraints == pytest.approx(dict(zip(LIMITED, over, strict=True)))
        assert all(v <= 0 for v in trial.constraints.values()) == good[i]
        assert trial.user_attrs["source"] == sampler
        assert trial.user_attrs["accuracy_source"] == "prior"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_search_is_told_the_constraints(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the study that the sampler itself reads, through Optuna's own trial.constraints."""
    studies: list[optuna.Study] = []
    make = optuna.create_study
    monkeypatch.setattr(
        optuna, "create_study", lambda **k: studies.append(make(**k)) or studies[-1]
    )
    count = 1 if sampler == "gp" else 5
    designs = propose(asked(), sampler, 0, count, seeds().designs[:9])
    (study,) = studies
    trials = study.get_trials(deepcopy=False)
    assert len(trials) == 9 + count
    expected = [
        *frozen_trials(asked(), seeds().designs[:9], ""),
        *frozen_trials(asked(), designs, ""),
    ]
    for trial, same in zip(trials, expected, strict=True):
        assert (trial.params, trial.values) == (same.params, same.values)
        assert trial.constraints == same.constraints
        assert len(trial.constraints) == len(LIMITED)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_merging_never_loses(sampler: str) -> None:
    designs, _, _ = proposed(sampler)
    reference = reference_point(asked(), seeds())
    merged = front_of(asked(), np.concatenate([seeds().designs, designs]), exact=True)
    whole = hypervolume(asked(), seeds(), reference)
    # The seeds are the exact front: no proposal adds to it, none is better.
    assert hypervolume(asked(), merged, reference) == pytest.approx(whole, rel=1e-12)
    assert hypervolume(asked(), front_of(asked(), designs), reference) <= whole * (1 + 1e-12)
    poor = front_of(asked(), seeds().designs[:2])
    joined = front_of(asked(), np.concatenate([seeds().designs[:2], designs]))
    assert hypervolume(asked(), joined, reference) >= hypervolume(asked(), poor, reference)


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "random"])
def test_the_same_seed_is_the_same_search(sampler: str) -> None:
    designs, trials, _ = proposed(sampler)
    proposed.cache_clear()
    again, others, _ = proposed(sampler)
    np.testing.assert_array_equal(designs, again)
    assert list(map(described, trials)) == list(map(described, others))
    changed = propose(asked(), sampler, 4, TRIALS[sampler], seeds().designs)
    assert (changed != designs).any()


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe"])
def test_the_search_starts_from_the_seeds(sampler: str) -> None:
    """With the exact front it proposes other designs than with one point, and in the mean over
    seeds better ones: of a single seed, luck decides."""
    reference = reference_point(asked(), seeds())
    volumes = []
    for seed in range(8):
        many, few = (
            propose(asked(), sampler, seed, TRIALS[sampler], start)
            for start in (seeds().designs, seeds().designs[-1:])
        )
        assert (few != many).any()
        volumes.append([hypervolume(asked(), front_of(asked(), d), reference) for d in (many, few)])
    better, worse = np.mean(volumes, axis=0)
    assert better > worse


# The storage, read by Optuna itself


def journal(path: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="run", storage=JournalStorage(JournalFileBackend(str(path)))
    )


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_the_storage_holds_every_trial(tmp_path: Path, storage: str) -> None:
    path = tmp_path / "trials"
    place = path if storage == "journal" else f"sqlite:///{path}"
    written = [
        *frozen_trials(asked(), seeds().designs, "exact"),
        *frozen_trials(asked(), proposed("random")[0], "random"),
    ]
    write_trials(open_study(connect(place), "run", directions(asked())), written)
    read = (
        journal(path)
        if storage == "journal"
        else optuna.load_study(study_name="run", storage=f"sqlite:///{path}")
    )
    assert list(map(described, read.trials)) == list(map(described, written))
    assert [d.name for d in read.directions] == ["MAXIMIZE", "MINIMIZE"]
    read_values = values_of(Store(connect(place), read))
    np.testing.assert_array_equal(read_values, [t.values for t in written])


@pytest.mark.parametrize("objectives", [("accuracy", "lut"), ("lut", "accuracy", "fps")])
def test_the_best_trials_of_optuna_are_the_front(
    tmp_path: Path, objectives: tuple[str, ...]
) -> None:
    """Optuna's own domination over the feasible trials that it holds."""
    other = problem(asked().table, objectives)
    designs = np.random.default_rng(1).integers(0, other.table.sizes, (400, len(other.table.sizes)))
    designs = np.concatenate([exact_front(other).designs[::3], designs])
    store = open_study(connect(tmp_path / "trials"), "run", directions(other))
    write_trials(store, frozen_trials(other, designs, "random"))
    best = {tuple(t.values) for t in journal(tmp_path / "trials").best_trials}
    front = front_of(other, designs)
    assert best == set(map(tuple, front.values.tolist()))
    assert len(best) > 2


def test_a_resource_that_the_part_lacks_can_be_written_and_read(tmp_path: Path) -> None:
    """Its utilization is infinite, its limit 0."""
    lacking = problem(with_capacity(table("plain"), bram18=0, dsp=0), ("accuracy", "utilization"))
    designs = listing(lacking.table)[0][::97]
    store = open_study(connect(tmp_path / "trials"), "run", directions(lacking))
    write_trials(store, frozen_trials(lacking, designs, "random"))
    values = values_of(store)
    assert np.isinf(values[:, 1]).any()
    prices = price(lacking.table, designs)
    np.testing.assert_array_equal(values, lacking.values(designs, prices))
    assert not fits(lacking, designs, prices)[np.isinf(values[:, 1])].any()


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_samplers_bear_infinite_utilization(sampler: str) -> None:
    lacking = problem(with_capacity(table("plain"), bram18=0, dsp=0), ("accuracy", "utilization"))
    designs = propose(lacking, sampler, 0, 60, exact_front(lacking).designs)
    assert np.isinf(lacking.values(designs, price(lacking.table, designs))[:, 1]).any()


def test_every_choice_has_its_own_label() -> None:
    priced = asked().table
    for name, options in priced.choices.items():
        held = distributions(priced)[name]
        assert isinstance(held, optuna.distributions.CategoricalDistribution)
        assert len(set(held.choices)) == len(options)


@pytest.mark.parametrize(
    "text",
    [
        '{"op_code": 99, "worker_id": "x"}\n',
        "[]\n",
        "{}\n",
        "not json\n{}\n",
    ],
)
def test_a_broken_journal_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trials"
    open_study(connect(path), "run", directions(asked()))
    path.write_text(path.read_text() + text)
    with pytest.raises(InputError) as caught:
        store = open_study(connect(path), "run", directions(asked()))
        write_trials(store, frozen_trials(asked(), seeds().designs[:1], "exact"))
    assert str(caught.value).startswith(f"storage '{path}': cannot be opened: ")
    assert "\n" not in str(caught.value)


def test_a_half_written_line_is_cut_and_the_journal_goes_on(tmp_path: Path) -> None:
    """What a killed process leaves; Optuna would append to the half line and lose both."""
    path = tmp_path / "trials"
    written = frozen_trials(asked(), seeds().designs[:4], "exact")
    write_trials(open_study(connect(path), "run", directions(asked())), written[:2])
    whole = path.read_bytes()
    for cut in (1, len(whole.splitlines()[-1]) // 2, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        store = open_study(connect(path), "run", directions(asked()))
        kept = count(store)
        assert kept == 1
        write_trials(store, written[kept:])
        assert list(map(described, journal(path).trials)) == list(map(described, written))


def test_messages_of_the_storage(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    open_study(connect(path), "run", directions(asked()))
    rules: list[tuple[Callable[[], object], str]] = [
        (
            lambda: check_new(connect(path), path, "run"),
            f"storage '{path}': holds a study 'run' already; "
            "name the run folder otherwise with --out",
        ),
        (
            lambda: open_study(connect(path), "run", ["minimize"]),
            "the storage's study 'run' has other objectives",
        ),
    ]
    for call, message in rules:
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == message
    with pytest.raises(InputError, match=r"^storage 'nosuch://x': cannot be opened: "):
        connect("nosuch://x")
