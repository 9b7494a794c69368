"""How far a trial is, by its run folder: what is damaged, old or another's counts as not there."""

from __future__ import annotations

import json

import pytest

from fcdd_dist import checkpoint
from fcdd_dist.checkpoint import Position, Record, Threshold
from fcdd_dist.model.normalization import Preprocessing
from fcdd_dist.run import fingerprint
from fcdd_dist.storage import MemoryStore
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.standing import Standing, look, note_divergence, of_history, standing
from tests.sweep.making import history, result, search, sweep

PLAIN = sweep(["coat"], seeds=2)
SEARCHED = sweep(["coat"], seeds=1, search=search())


def vouches(this, trial):
    return fingerprint(trial.experiment, this.data_id, this.exposure_id)


def write_checkpoint(store, this, trial, epochs, step=0, **values):
    """A real one, whose record has the lines of ``epochs``."""
    experiment = trial.experiment
    record = Record(
        experiment=experiment, experiment_id=experiment.id, fingerprint=vouches(this, trial), data_id=this.data_id,
        exposure_id=this.exposure_id, class_name="Coat", cursor=Position(epoch=epochs, step=step), sums={},
        history=tuple(history(trial, epochs)), heatmap_scale=None, versions={}, threads=1, workers=1, files={},
        preprocessing=Preprocessing(normalization="mean-std", side=28, shift=(0.5,), scale=(0.5,)),
        threshold=Threshold(value=None, budget=0.05, images=0, how="none"))
    return checkpoint.write(store.at(trial.folder), record.model_copy(update=values), {"detector.safetensors": b"x"})


def write_result(store, this, trial, **values):
    store.write(f"{trial.folder}/result.json",
                json.dumps(result(trial) | {"fingerprint": vouches(this, trial)} | values).encode())


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def trial():
    return Plan(PLAIN).cells({})[0]


@pytest.fixture
def tried():
    return Plan(SEARCHED).wanted({})[0]


def test_what_has_not_begun_stands_nowhere(store, trial):
    assert standing(store, PLAIN, trial) == Standing()
    assert not Standing().has(trial)


def test_the_newest_checkpoint_counts_with_its_finished_epochs(store, tried):
    write_checkpoint(store, SEARCHED, tried, 2)
    write_checkpoint(store, SEARCHED, tried, 4, step=7)
    found = standing(store, SEARCHED, tried)
    assert found == of_history(history(tried, 4))
    assert (found.epochs, sorted(found.figures)) == (4, [1, 2, 3, 4])
    assert found.has(tried.up_to(3))
    assert not found.has(tried.up_to(9))


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"schema_version": 2}', b"[]"])
def test_a_damaged_record_is_passed_over(store, tried, damage):
    write_checkpoint(store, SEARCHED, tried, 2)
    name = write_checkpoint(store, SEARCHED, tried, 4)
    store.write(f"{tried.folder}/checkpoints/{name}/checkpoint.json", damage)
    assert standing(store, SEARCHED, tried).epochs == 2


def test_checkpoints_results_and_divergences_of_other_experiments_are_passed_over(store, tried, trial):
    write_checkpoint(store, SEARCHED, tried, 4, fingerprint="0" * 16)
    note_divergence(store.at(tried.folder), "0" * 16, "not finite")
    assert standing(store, SEARCHED, tried) == Standing()
    write_result(store, PLAIN, trial, fingerprint="0" * 16)
    assert standing(store, PLAIN, trial) == Standing()


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b"{}", b"null", b'{"fingerprint": "x"}'])
def test_a_damaged_result_is_none(store, trial, damage):
    write_checkpoint(store, PLAIN, trial, 9)
    store.write(f"{trial.folder}/result.json", damage)
    found = standing(store, PLAIN, trial)
    assert (found.epochs, found.result) == (9, None)
    assert not found.has(trial)


def test_a_result_is_enough_where_nobody_asks_for_figures(store, trial):
    write_result(store, PLAIN, trial)
    found = standing(store, PLAIN, trial)
    assert (found.epochs, found.figures, found.result["auroc"]) == (9, {}, result(trial)["auroc"])
    assert found.has(trial)


def test_after_a_result_of_fewer_epochs_the_checkpoints_count(store, trial):
    write_result(store, PLAIN, trial, epochs=4)
    assert not standing(store, PLAIN, trial).has(trial)
    write_checkpoint(store, PLAIN, trial, 6)
    found = standing(store, PLAIN, trial)
    assert (found.epochs, found.result["epochs"]) == (6, 4)
    write_result(store, PLAIN, trial, epochs=12)  # and one of more is one
    assert standing(store, PLAIN, trial).has(trial)


def test_lines_of_earlier_versions_have_no_auroc(store, tried):
    lines = [{name: value for name, value in line.items() if name != "holdout_auroc"} for line in history(tried, 2)]
    write_checkpoint(store, SEARCHED, tried, 2, history=tuple(lines))
    figures = standing(store, SEARCHED, tried).figures
    assert [figures[epoch]["holdout_auroc"] for epoch in (1, 2)] == [None, None]
    assert figures[2]["holdout_loss"] == lines[1]["holdout_loss"]


def test_a_divergence_is_remembered_with_its_reason(store, tried):
    write_checkpoint(store, SEARCHED, tried, 3)
    note_divergence(store.at(tried.folder), vouches(SEARCHED, tried), "the loss of epoch 5 is not finite")
    found = standing(store, SEARCHED, tried)
    assert (found.epochs, found.diverged, found.reason) == (3, True, "the loss of epoch 5 is not finite")
    assert found.has(tried.up_to(9))


def test_a_result_without_its_checkpoints_has_no_figures_to_be_compared_by(store, tried):
    write_result(store, SEARCHED, tried)
    found = standing(store, SEARCHED, tried)
    assert found.result is not None
    assert not found.has(tried)  # it is trained once more


def test_many_are_looked_at_in_their_order(store):
    this = sweep(["coat", "bag"], seeds=20)
    trials = Plan(this).cells({})
    write_result(store, this, trials[30])
    found = list(look(store, this, trials))
    assert [trial for trial, _ in found] == list(trials)
    assert [number for number, (_, one) in enumerate(found) if one.result] == [30]
