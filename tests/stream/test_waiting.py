"""Waiting counts from when the device has nothing left to do."""

import threading
import time
from concurrent.futures import Future

import pytest
import torch

from fcdd_dist.stream.waiting import idle_s, wait_for


def later(seconds):
    """A part that is done after so many seconds."""
    part = Future()
    threading.Timer(seconds, part.set_result, [None]).start()
    return part


def busy_until(seconds):
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= end


@pytest.mark.parametrize(("decoded", "busy", "idle"), [
    ([0.3], 0.0, 0.3), ([0.3], 0.2, 0.1), ([0.3], 0.6, 0.0), ([0.1, 0.2, 0.4], 0.25, 0.15)])
def test_a_device_that_has_something_to_do_does_not_wait(decoded, busy, idle):
    done = busy_until(busy)
    assert idle_s([later(seconds) for seconds in decoded], done) == pytest.approx(idle, abs=0.08)


def test_what_is_there_is_not_waited_for():
    part = Future()
    part.set_result(None)
    assert idle_s([part, part], lambda: True) == 0
    assert wait_for([], torch.device("cpu")) == 0
    assert wait_for([later(0.2)], torch.device("cpu")) == pytest.approx(0.2, abs=0.08)


@pytest.mark.parametrize("busy", [0.0, 5.0])
def test_what_a_part_raised_is_raised(busy):
    part = Future()
    threading.Timer(0.05, part.set_exception, [ValueError("damaged")]).start()
    began = time.perf_counter()
    with pytest.raises(ValueError, match="damaged"):
        idle_s([part], busy_until(busy))
    assert time.perf_counter() - began < 3


def test_a_gpu_is_asked_by_an_event_of_its_stream(monkeypatch):
    class Event:
        def record(self, stream):
            self.done = busy_until(0.2)
            assert stream == "stream of cuda:0"

        def query(self):
            return self.done()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    assert wait_for([later(0.4)], torch.device("cuda:0")) == pytest.approx(0.2, abs=0.08)
