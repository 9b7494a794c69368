"""The cache before a store: right bytes whatever happens to its folder, and never more of them than it may hold."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fcdd_dist.errors import BadInput, Damaged, NotFound
from fcdd_dist.storage import Cache, CachedStore, MemoryStore, Store, open_store

SIZE = 1000
ROOT = Path(__file__).parents[2]


def content(number: int) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(SIZE)


def sha256(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


class Counting(MemoryStore):
    """Ten objects, and how often each was read."""

    def __init__(self):
        super().__init__()
        self.reads = []
        for number in range(10):
            self.write(f"{number}.tar", content(number))

    def read(self, key, start=0, end=None):
        self.reads.append(key)
        return super().read(key, start, end)


@pytest.fixture
def store():
    return Counting()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(sys.modules[Cache.__module__], "_said", set())


def cached(store, folder, objects=100.0) -> CachedStore:
    return CachedStore(store, Cache(folder, int(objects * SIZE)))


def get(store: Store, number: int) -> None:
    assert store.verified(f"{number}.tar", SIZE, sha256(number)) == content(number)


def held(folder) -> dict[str, int]:
    """What a cache holds: sizes by name, also of parts."""
    return {path.name: path.stat().st_size for path in folder.glob("??/*")}


def path_of(folder, number) -> Path:
    return folder / sha256(number)[:2] / sha256(number)


def test_an_object_is_fetched_once_by_all_who_share_a_folder(store, folder):
    first, second = cached(store, folder), cached(store, folder)
    for _ in range(3):
        get(first, 1)
        get(second, 1)
    assert store.reads == ["1.tar"]
    assert (first.cache.hits, first.cache.misses) == (2, 1)
    assert (second.cache.hits, second.cache.misses) == (3, 0)


def test_two_keys_with_one_content_are_one_object(store, folder):
    store.write("other/copy.tar", content(1))
    below = cached(store, folder)
    get(below, 1)
    assert below.at("other").verified("copy.tar", SIZE, sha256(1)) == content(1)
    assert store.reads == ["1.tar"]
    assert held(folder) == {sha256(1): SIZE}


def test_all_but_verified_goes_to_the_store(store, folder):
    """Also methods that stores get one day: each has to be thought of here."""
    public = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    assert public <= set(vars(CachedStore))
    below = cached(store, folder)
    assert (below.url, below.look_every) == (store.url, store.look_every)
    assert below.read("1.tar") == below.read("1.tar") == content(1)
    assert store.reads == ["1.tar", "1.tar"]
    assert held(folder) == {}


def test_what_the_store_says_is_said(store, folder):
    store.write("1.tar", b"other")
    below = cached(store, folder)
    with pytest.raises(Damaged, match=r"1\.tar has 5 bytes"):
        below.verified("1.tar", SIZE, sha256(1))
    with pytest.raises(NotFound):
        below.verified("nothing", SIZE, sha256(1))
    assert held(folder) == {}


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty"])
def test_a_damaged_object_is_fetched_again_and_refilled(store, folder, damage):
    below, data = cached(store, folder), content(1)
    get(below, 1)
    path_of(folder, 1).write_bytes({"flip": bytes([data[0] ^ 1]) + data[1:], "cut": data[:-1], "grow": data + b"x",
                                    "empty": b""}[damage])
    get(below, 1)
    get(below, 1)
    assert store.reads == ["1.tar", "1.tar"]
    assert path_of(folder, 1).read_bytes() == data
    assert below.cache.trouble is None


def test_what_was_used_longest_ago_goes_first(store, folder):
    below = cached(store, folder, 3.5)
    for number in (0, 1, 2, 0, 3):  # 0 is used again before 3 needs room
        get(below, number)
        time.sleep(0.02)
    assert set(held(folder)) == {sha256(number) for number in (0, 2, 3)}
    get(below, 4)
    assert set(held(folder)) == {sha256(number) for number in (0, 3, 4)}


def test_an_object_larger_than_the_cache_pushes_nothing_out(store, folder):
    below = cached(store, folder, 2.5)
    get(below, 1)
    store.write("large", large := bytes(3 * SIZE))
    assert below.verified("large", len(large), hashlib.sha256(large).hexdigest()) == large
    assert held(folder) == {sha256(1): SIZE}


def test_a_smaller_limit_holds_from_the_opening_on(store, folder):
    below = cached(store, folder)
    for number in range(10):
        get(below, number)
    cached(store, folder, 4)
    assert 3 <= len(held(folder)) <= 4


def test_a_wrong_total_is_put_right(store, folder):
    for wrong in (b"", b"nonsense", b"%020d\n" % (10**12), b"%020d\n" % 0):
        below = cached(store, folder, 3.5)
        (folder / ".total").write_bytes(wrong)
        for number in range(10):
            get(below, number)
        if wrong != b"%020d\n" % 0:
            assert len(held(folder)) == 3
        cached(store, folder, 3.5)
        assert int((folder / ".total").read_bytes()) == sum(held(folder).values()) <= 3.5 * SIZE


def test_what_two_wrote_at_once_is_counted_once(folder):
    both = Cache(folder, 100 * SIZE)
    both.put(content(1), sha256(1))
    both.put(content(1), sha256(1))
    assert int((folder / ".total").read_bytes()) == SIZE


def test_parts_of_killed_writers_go_once_they_are_old(store, folder):
    get(cached(store, folder), 1)
    shelf = path_of(folder, 1).parent
    for name, age in ((".part-old", 4000), (".part-new", 60)):
        (shelf / name).write_bytes(bytes(SIZE))
        os.utime(shelf / name, (time.time() - age,) * 2)
    cached(store, folder)
    assert set(held(folder)) == {sha256(1), ".part-new"}
    assert int((folder / ".total").read_bytes()) == 2 * SIZE  # what is being written takes room, too


def test_other_files_in_the_folder_are_left_alone(store, folder):
    mine = [folder / "photo.jpg", folder / "ab" / "photo.jpg", folder / "photos" / ("a" * 64)]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(5 * SIZE))
    below = cached(store, folder, 2.5)
    for number in range(10):
        get(below, number)
    assert all(path.stat().st_size == 5 * SIZE for path in mine)


def test_it_is_private_to_its_user(store, folder):
    get(cached(store, folder), 1)
    for path in (folder, path_of(folder, 1).parent, path_of(folder, 1), folder / ".total"):
        assert path.stat().st_mode & 0o077 == 0


def test_planted_links_are_not_followed(store, folder, tmp_path, capfd):
    victim, elsewhere = tmp_path / "victim", tmp_path / "elsewhere"
    victim.write_bytes(content(1))
    elsewhere.mkdir()
    below = cached(store, folder)
    get(below, 1)
    path_of(folder, 1).unlink()
    path_of(folder, 1).symlink_to(victim)
    path_of(folder, 2).parent.symlink_to(elsewhere)
    os.mkfifo(folder / "pipe")
    for _ in range(2):
        get(below, 1)
        get(below, 2)
    assert not path_of(folder, 1).is_symlink()
    assert victim.read_bytes() == content(1)
    assert list(elsewhere.iterdir()) == []
    path_of(folder, 1).unlink()
    os.mkfifo(path_of(folder, 1))
    get(cached(store, folder), 1)
    (folder / ".total").unlink()
    (folder / ".total").symlink_to(victim)
    with pytest.raises(BadInput, match="--cache"):
        cached(store, folder)
    assert victim.read_bytes() == content(1)


def test_a_folder_that_vanishes_is_said_once_and_not_made_again(store, folder, capfd):
    """It may have been on a disk that is gone: what is below its place now is not ours to fill."""
    below = cached(store, folder)
    get(below, 1)
    shutil.rmtree(folder)
    for _ in range(2):
        for number in range(5):
            get(below, number)
    assert not folder.exists()
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "can't write to the cache" in said[0]
    assert below.cache.trouble == said[0]


def test_a_holder_of_the_lock_that_does_not_answer_stops_nobody(store, folder, monkeypatch, capfd):
    monkeypatch.setattr(sys.modules[Cache.__module__], "_LOCK_S", 0.1)
    below = cached(store, folder)
    get(below, 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl; f = open({str(folder / '.total')!r}); fcntl.flock(f, fcntl.LOCK_EX); "
                               f"print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        holder.stdout.readline()
        get(below, 2)
        get(below, 1)
        assert below.cache.hits == 1
        holder.stdin.close()
    assert "kept it locked" in below.cache.trouble
    assert set(held(folder)) == {sha256(1)}


def test_a_folder_that_can_not_be_is_bad_input(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing/here")):
        with pytest.raises(BadInput, match=f"--cache {place}: no cache can be there"):
            Cache(place, 1)


def test_reads_of_what_is_evicted_just_now_come_from_the_store(store, folder, monkeypatch):
    below = cached(store, folder)
    get(below, 1)
    opened = os.open

    def evicted(path, *arguments, **named):
        if path == sha256(1):
            path_of(folder, 1).unlink(missing_ok=True)
        return opened(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", evicted)
        get(below, 1)
    assert store.reads == ["1.tar", "1.tar"]
    assert below.cache.trouble is None


HAMMER = """
    import hashlib, random, sys, threading
    from fcdd_dist.storage import Cache, CachedStore, FolderStore
    folder, data, limit, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    store = CachedStore(FolderStore(data), Cache(folder, limit))
    objects = [(e.key, e.size, hashlib.sha256(store.read(e.key)).hexdigest()) for e in store.list()]
    def work(seed):
        chance = random.Random(seed)
        for _ in range(150):
            key, size, sha256 = chance.choice(objects)
            store.verified(key, size, sha256)
    threads = [threading.Thread(target=work, args=(4 * seed + n,)) for n in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    cache = store.cache
    print(cache.hits + cache.misses, cache.hits > 0, cache.trouble)
"""


@pytest.mark.slow
def test_processes_that_share_a_small_folder_get_right_bytes_and_keep_to_its_limit(tmp_path):
    data, folder, limit = tmp_path / "data", tmp_path / "cache", 300_000
    data.mkdir()
    for number in range(30):
        (data / f"{number:02}.tar").write_bytes(hashlib.shake_128(str(number).encode()).digest(15_000 + 700 * number))
    processes = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(HAMMER), folder, data, str(limit), str(seed)],
                                  cwd=ROOT, stdout=subprocess.PIPE, text=True) for seed in range(3)]
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, sum_of(folder))
        time.sleep(0.002)
    for process in processes:
        assert process.communicate()[0].split() == ["450", "True", "None"]
        assert process.returncode == 0
    assert limit / 2 < most <= limit
    assert not list(folder.glob("??/.part-*"))
    assert int((folder / ".total").read_bytes()) == sum_of(folder)
    for path in folder.glob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def sum_of(folder) -> int:
    """Bytes in the folder at one moment: nothing in it changes size while its lock is held."""
    if not (folder / ".total").exists():
        return 0
    with open(folder / ".total") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return sum(path.stat().st_size for path in folder.glob("??/*") if path.exists())


ON_A_DISK = """
    import hashlib, os, subprocess, sys
    from fcdd_dist.errors import BadInput
    from fcdd_dist.storage import Cache, CachedStore, FolderStore
    disk, store = sys.argv[1], FolderStore(sys.argv[2])
    def mount(*options):
        subprocess.run(["mount", *options, disk], check=True)
    def read_all(store):
        for e in store.list():
            store.verified(e.key, e.size, hashlib.sha256(store.read(e.key)).hexdigest())
    mount("-t", "tmpfs", "-o", "size=1m", "none")
    below = CachedStore(store, Cache(f"{disk}/cache", 10**9))
    read_all(below)
    held = [path for _, _, names in os.walk(f"{disk}/cache") for path in names if path != ".total"]
    print(len(held), any(name.startswith(".part-") for name in held), below.cache.trouble)
    mount("-o", "remount,ro")
    again = CachedStore(store, below.cache)
    read_all(again)
    print(again.cache.hits, again.cache.trouble)
    try:
        Cache(f"{disk}/cache", 10**9)
    except BadInput as error:
        print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="makes a disk of its own as Linux can")
def test_a_full_disk_and_one_that_becomes_read_only(tmp_path):
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk of their own")
    disk, data = tmp_path / "disk", tmp_path / "data"
    disk.mkdir()
    data.mkdir()
    for number in range(8):
        (data / f"{number}.tar").write_bytes(hashlib.shake_128(str(number).encode()).digest(200_000))
    done = subprocess.run([*alone, sys.executable, "-c", textwrap.dedent(ON_A_DISK), disk, data], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    full, read_only, refused = done.stdout.splitlines()
    why = f"can't write to the cache {disk}/cache (No space left on device): going on without it"
    assert full == f"5 False {why}"
    assert done.stderr.splitlines() == [why]
    assert read_only == f"5 can't write to the cache {disk}/cache (Read-only file system): going on without it"
    assert refused.startswith(f"--cache {disk}/cache: no cache can be there (Read-only file system)")


def test_filling_is_tried_again_after_a_while(store, folder, monkeypatch):
    below = cached(store, folder)
    (folder / ".total").rename(folder / "away")
    (folder / ".total").mkdir()
    get(below, 1)
    (folder / ".total").rmdir()
    get(below, 1)
    assert held(folder) == {}
    below.cache._rests_until = time.monotonic()
    get(below, 1)
    assert set(held(folder)) == {sha256(1)}


@pytest.mark.s3
def test_before_a_real_server_only_the_first_epoch_costs_requests(bucket, folder):
    from fcdd_dist.storage import counts

    store = CachedStore(open_store(f"{bucket.url}/data"), Cache(folder, 10**6))
    for number in range(3):
        store.write(f"{number}.tar", content(number))
    requests = []
    for _ in range(2):
        before = counts()
        for number in range(3):
            get(store, number)
        requests.append((counts() - before).requests)
    assert requests == [3, 0]
