"""What a person sees: the live line on a terminal and elsewhere, and the epochs of a run as they come."""

from __future__ import annotations

import io
import json

import pytest

from fcdd_dist.storage import MemoryStore
from fcdd_dist.training.progress import Console, Follower, duration, epoch_line


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal


def line(epoch: int, seconds: float = 2.0) -> dict:
    return {"epoch": epoch, "loss": 0.5, "loss_nominal": 0.25, "loss_anomalous": None, "holdout_loss": None,
            "lr": 0.1, "images_per_s": 12345.6, "seconds": seconds}


def write(store, *lines: dict) -> None:
    store.write("metrics.jsonl", "".join(json.dumps(each) + "\n" for each in lines).encode())


def test_plain_lines_are_rare_and_the_last_one_comes_in_order():
    now = [0.0]
    stream = Stream(terminal=False)
    console = Console(stream, every=2, clock=lambda: now[0])
    for second in range(10):
        now[0] = second / 2
        console.live(f"line {second}")
    console("said")
    console.close()
    assert stream.getvalue().splitlines() == ["line 0", "line 4", "line 8", "line 9", "said"]


def test_a_terminal_has_one_line_that_makes_room():
    stream = Stream(terminal=True)
    console = Console(stream)
    console.live("epoch 1")
    console("said")
    console.close()
    assert stream.getvalue() == "epoch 1\r\x1b[Jsaid\nepoch 1\n"


def test_a_terminal_has_lines_below_the_live_one_that_are_redrawn_with_it():
    stream = Stream(terminal=True)
    console = Console(stream)
    console.live("1/4 done", "a  epoch 3/9", "b  epoch 2/9")
    console.live("2/4 done", "b  epoch 3/9")
    console.close()
    assert stream.getvalue() == ("1/4 done\na  epoch 3/9\nb  epoch 2/9\r\x1b[2A\x1b[J"
                                 "2/4 done\nb  epoch 3/9\n")
    plain = Stream(terminal=False)
    console = Console(plain)
    console.live("1/4 done", "a  epoch 3/9")
    console.close()
    assert plain.getvalue() == "1/4 done\n"


def test_what_is_said_of_input_waits_until_it_is_taken():
    stream = Stream(terminal=False)
    console = Console(stream)
    console.later("precision bf16")
    console.close()
    assert stream.getvalue() == ""
    console("starting")
    console.later("one more")
    console.live("epoch 1")
    assert stream.getvalue().splitlines() == ["precision bf16", "starting", "one more", "epoch 1"]


def test_a_follower_tells_each_epoch_once():
    store = MemoryStore()
    follower = Follower(store, epochs=10)
    assert follower.news() is None
    write(store, line(1), line(2))
    assert follower.news() == "epoch 2/10  eta 16 s  loss 0.5 (nominal 0.25)  12,346 images/s"
    assert follower.news() is None


def test_a_follower_of_a_resumed_run_follows_it_back():
    store = MemoryStore()
    write(store, *(line(epoch) for epoch in range(1, 6)))
    follower = Follower(store, epochs=10)
    write(store, line(1), line(2), line(3))  # the epochs since the last checkpoint are redone
    assert follower.news() is None
    write(store, *(line(epoch) for epoch in range(1, 5)))
    assert follower.news().startswith("epoch 4/10")


def test_the_last_epoch_has_no_eta():
    assert epoch_line(line(10), 10, 0.0) == "epoch 10/10  loss 0.5 (nominal 0.25)  12,346 images/s"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00 min"), (187, "3:07 min"), (7500, "2:05 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_elsewhere_an_equal_line_does_not_follow():
    now = [0.0]
    stream = Stream(terminal=False)
    console = Console(stream, clock=lambda: now[0])
    for second, line in enumerate(("1/2", "1/2", "2/2", "2/2")):
        now[0] = 10.0 * second
        console.live(line)
    console.close()
    assert stream.getvalue() == "1/2\n2/2\n"
