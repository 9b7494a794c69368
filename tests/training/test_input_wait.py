"""How long a training waited for its input: in the line of an epoch, for people where it matters, in the curves."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fcdd_dist.run import commit
from fcdd_dist.run.commit import Commits
from fcdd_dist.storage import MemoryStore, counts
from fcdd_dist.training.curves import EVENTS, write_tensorboard
from fcdd_dist.training.progress import epoch_line
from fcdd_dist.world import World

LINE = {"epoch": 3, "loss": 0.5, "loss_nominal": 0.4, "loss_anomalous": 0.6, "images_per_s": 1234.0, "seconds": 10.0}


@pytest.mark.parametrize(("waited", "shown"), [(None, ""), (0.0, ""), (0.5, ""), (0.51, "waits 5 % for input"),
                                               (1.24, "waits 12 % for input"), (10.0, "waits 100 % for input")])
def test_an_epochs_line_says_so_above_five_percent(waited, shown):
    line = LINE if waited is None else {**LINE, "input_wait_s": waited}
    text = epoch_line(line, 9)
    assert text.endswith(shown or "images/s")
    assert "\n" not in text


def test_curves_have_it_where_the_lines_have_it():
    store = MemoryStore()
    write_tensorboard(store, [LINE], 0.0)
    assert b"input_wait_seconds" not in store.read(EVENTS)
    write_tensorboard(store, [LINE, {**LINE, "input_wait_s": 0.0}], 0.0)
    assert store.read(EVENTS).count(b"input_wait_seconds") == 1


def test_of_two_ranks_the_one_that_waits_longest_counts(monkeypatch):
    """Each rank in a thread, with an all-reduce between them."""
    given, meet = {}, threading.Barrier(2, timeout=20)

    def sum_over_ranks(values, world, detector):
        given[world.rank] = values
        meet.wait()
        total = given[0] + given[1]
        meet.wait()
        return total

    def figures(rank):
        commits = Commits.__new__(Commits)
        commits._world, commits.detector, commits._counted = World(rank, 2), None, counts()
        return commits.epoch_figures([0.25, 3.0][rank])

    monkeypatch.setattr(commit, "sum_over_ranks", sum_over_ranks)
    with ThreadPoolExecutor(2) as ranks:
        lines = list(ranks.map(figures, range(2)))
    assert [line["input_wait_s"] for line in lines] == [3.0, 3.0]
