"""Threads that do what they are given, and keep nobody waiting."""

import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from fcdd_dist.threads import Threads, ahead


def test_results_and_errors_come_back():
    threads = Threads(3, "t")
    futures = [threads.submit(divmod, 7, number) for number in (2, 0, 3)]
    assert futures[0].result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        futures[1].result()
    assert futures[2].result() == (2, 1)
    threads.close(5)
    assert not any(thread.is_alive() for thread in threads._threads)


def test_no_more_than_so_many_at_once():
    lock, now, most = threading.Lock(), 0, 0

    def work():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    threads = Threads(3, "t")
    for future in [threads.submit(work) for _ in range(20)]:
        future.result()
    assert most == 3
    threads.close()


def test_what_was_not_begun_is_cancelled_and_what_was_ends_by_itself():
    go, threads = threading.Event(), Threads(1, "t")
    begun, not_begun = threads.submit(go.wait), threads.submit(int)
    while not begun.running():
        time.sleep(0.001)
    threads.close(0.05)
    with pytest.raises(CancelledError):
        not_begun.result()
    assert threads.submit(int).cancelled()
    go.set()
    assert begun.result()


def test_a_process_ends_though_a_thread_waits():
    code = "import time; from fcdd_dist.threads import Threads; Threads(1, 't').submit(time.sleep, 60); print('end')"
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"end\n"
    assert time.monotonic() - began < 30


def test_many_may_submit_and_close_at_once():
    for _ in range(50):
        threads, out = Threads(8, "t"), Threads(4, "out")
        futures = [out.submit(lambda threads=threads: [threads.submit(int) for _ in range(20)]) for _ in range(4)]
        threads.close(5)
        for future in [inner for outer in futures for inner in outer.result(5)]:
            assert future.cancelled() or future.result(5) == 0
        out.close()


def test_reading_ahead_keeps_the_order_and_its_bound():
    lock, begun = threading.Lock(), []

    def work(number):
        with lock:
            begun.append(number)
        time.sleep(0.02 if number % 3 == 0 else 0.001)
        if number == 30:
            raise ZeroDivisionError
        return number

    results = ahead(work, range(40), 4, "ahead")
    for number in range(30):
        assert next(results) == number
        assert max(begun) <= number + 4
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert max(begun) < 40
