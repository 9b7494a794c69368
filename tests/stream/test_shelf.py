"""The shelf: what is taken stays, what is idle goes when it was used longest ago."""

from concurrent.futures import Future

import pytest

from fcdd_dist.data.manifest import Shard
from fcdd_dist.errors import Fault
from fcdd_dist.stream.shelf import Shelf


class Later:
    """An executor that does its work when it is told to."""

    def __init__(self):
        self.work = []

    def submit(self, function, *arguments):
        self.work.append((Future(), function, arguments))
        return self.work[-1][0]

    def do(self):
        work, self.work = self.work, []
        for future, function, arguments in work:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except Fault as error:
                    future.set_exception(error)


@pytest.fixture
def readers():
    return Later()


def shelf(limit, read, sizes=(10,) * 10):
    shards = [Shard(key=f"{number}.tar", samples=1, bytes=size, sha256="0" * 64) for number, size in enumerate(sizes)]
    done = []
    return Shelf(shards, lambda shard: (done.append(int(shard.key[0])), read(shard))[1], limit), done


def use(shelf, readers, *numbers):
    assert shelf.take(numbers, readers, anyway=False)
    readers.do()
    assert [shelf.content(number) for number in numbers] == [f"{number}.tar" for number in numbers]
    shelf.give_back(numbers)


def key(shard):
    return shard.key


def test_the_least_recently_used_goes_first(readers):
    kept, done = shelf(30, key)
    use(kept, readers, 0, 1, 2)
    use(kept, readers, 0)
    use(kept, readers, 3)  # for which 1 goes
    use(kept, readers, 0, 2)
    assert done == [0, 1, 2, 3]
    use(kept, readers, 1)  # for which 3 goes
    use(kept, readers, 0, 2, 1)
    use(kept, readers, 3)
    assert done == [0, 1, 2, 3, 1, 3]


def test_what_is_taken_stays_and_what_does_not_fit_is_refused(readers):
    kept, done = shelf(30, key)
    assert kept.take([0, 1], readers, anyway=False)
    assert kept.take([1, 2], readers, anyway=False)  # 1 counts once
    assert not kept.take([2, 3], readers, anyway=False)
    assert kept.take([3, 4], readers, anyway=True)
    readers.do()
    assert done == [0, 1, 2, 3, 4]
    kept.give_back([0, 1])
    assert not kept.take([5], readers, anyway=False)  # 1 is still needed
    kept.give_back([3, 4])
    assert kept.take([5], readers, anyway=False)
    assert kept.content(1) == "1.tar"
    use_again = kept.take([4], readers, anyway=True)
    assert use_again
    readers.do()
    assert done == [0, 1, 2, 3, 4, 5, 4]  # nothing idle was left beside 1, 2 and 5


def test_sizes_count_and_not_numbers(readers):
    kept, done = shelf(30, key, sizes=(25, 3, 2, 10))
    use(kept, readers, 0, 1, 2)
    use(kept, readers, 3)  # for which 0 goes
    use(kept, readers, 1, 2)
    assert done == [0, 1, 2, 3]


def test_what_nobody_needs_is_not_read_and_what_failed_is_read_again(readers):
    failing = [True]

    def read(shard):
        if failing[0]:
            raise Fault("no network")
        return shard.key

    kept, done = shelf(30, read)
    assert kept.take([0, 1], readers, anyway=False)
    assert kept.take([1], readers, anyway=False)
    kept.give_back([0, 1])
    readers.do()
    assert done == [1]
    with pytest.raises(Fault, match="no network"):
        kept.content(1)
    kept.give_back([1])
    failing[0] = False
    use(kept, readers, 0, 1)
    assert done == [1, 0, 1]
