"""What workers tell their driver, and signals to it."""

from __future__ import annotations

import os
import signal

import pytest

from fcdd_dist.cluster.board import Board, follow
from fcdd_dist.cluster.signals import Signals
from fcdd_dist.errors import Damaged, Interrupted
from fcdd_dist.storage import MemoryStore


def test_lines_are_passed_on_once_and_a_restarted_rank_begins_anew():
    store, said = MemoryStore(), []
    worker, look = Board(store, 1), follow(Board(store, 1), said.append)
    assert look() is None
    worker.start()
    worker.say("a")
    first = look()
    worker.say("b")
    assert look() == first
    again = Board(store, 1)
    again.start()
    again.say("c")
    assert look() != first
    assert said == ["a", "b", "c"]


def test_the_first_reason_counts_and_keeps_its_kind():
    store = MemoryStore()
    Board(store, 2).fail(Damaged("shard x"))
    Board(store, 2).fail(Interrupted("later"), "traceback")
    error, traceback = Board(store, 2).failure()
    assert type(error) is Damaged
    assert str(error) == "shard x"
    assert traceback is None
    assert Board(store, 2).failed_within(0)


def test_another_attempt_is_neither_heard_nor_cleared():
    store = MemoryStore()
    old = Board(store, 1)
    old.start()
    old.say("a")
    old.fail(Damaged("x"))
    new = Board(store, 2)
    assert (new.started(), new.said(), new.failure()) == (None, [], None)
    assert not new.failed_within(0.1)
    new.start()
    new.say("b")
    new.fail(Damaged("y"))
    old.clear()
    assert new.said() == ["b"]
    assert new.started() is not None
    assert str(new.failure()[0]) == "y"
    new.clear()
    assert list(store.list()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_strike_at_once_where_nothing_can_be_committed(number, code):
    with Signals(), pytest.raises(Interrupted, match=f"stopped by {number.name} before the workers") as caught:
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == code


def test_the_first_signal_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        signals.patient = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.first is signal.SIGTERM
        with pytest.raises(Interrupted, match="stopped by SIGTERM at once") as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
