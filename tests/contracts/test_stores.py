"""What every store promises."""

import hashlib
import threading

import pytest

from fcdd_dist.errors import BadInput, Damaged, NotFound
from fcdd_dist.storage import Cache, CachedStore, FolderStore, MemoryStore, absolute, open_store, probe

STORES = {"folder": lambda path: FolderStore(path / "store"), "memory": lambda path: MemoryStore(),
          "cached": lambda path: CachedStore(MemoryStore(), Cache(path / "cache", 10**6))}


@pytest.fixture(params=[*STORES, pytest.param("s3", marks=pytest.mark.s3)])
def store(request, tmp_path):
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('bucket').url}/a prefix/ü")
    return STORES[request.param](tmp_path)


def keys(store, prefix=""):
    return [entry.key for entry in store.list(prefix)]


def test_reads_what_was_written(store):
    store.write("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read("a/b.bin", 2, 5) == b"234"
    assert store.read("a/b.bin", 8) == b"89"
    assert store.read("a/b.bin", 20) == b""
    assert store.size("a/b.bin") == 10
    store.write("a/b.bin", b"new")
    assert store.read("a/b.bin") == b"new"


def test_pours_what_it_reads_in_order(store):
    data = bytes(range(256)) * 4000
    store.write("a", data)
    for start, end in ((0, len(data)), (1000, 900_000), (7, 8)):
        got = []
        store.pour("a", start, end, got.append)
        assert b"".join(got) == data[start:end]
    with pytest.raises(NotFound, match="nothing"):
        store.pour("nothing", 0, 1, got.append)
    with pytest.raises(BadInput, match="ours"):  # what the sink raises is not tried again
        store.pour("a", 0, 10, lambda _: (_ for _ in ()).throw(BadInput("ours")))


def test_what_is_not_there_is_not_found(store):
    for ask in (store.read, store.size):
        with pytest.raises(NotFound, match="nothing/here"):
            ask("nothing/here")
    store.delete("nothing/here")
    assert keys(store) == []
    assert keys(store, "nothing/") == []


def test_lists_by_prefix_in_order_of_keys(store):
    for key in ("b/2", "a/1", "ab/3", "a/10", "a/deep/er", "z ü/ö.txt"):
        store.write(key, key.encode())
    assert keys(store) == sorted(["b/2", "a/1", "ab/3", "a/10", "a/deep/er", "z ü/ö.txt"])
    assert keys(store, "a/") == ["a/1", "a/10", "a/deep/er"]
    assert keys(store, "a/1") == ["a/1", "a/10"]
    assert keys(store, "a") == ["a/1", "a/10", "a/deep/er", "ab/3"]
    entry = next(iter(store.list("a/10")))
    assert entry.size == 4
    assert entry.modified > 1e9


def test_verified_reads(store):
    data = b"x" * 1000
    sha256 = hashlib.sha256(data).hexdigest()
    store.write("a", data)
    assert store.verified("a", 1000, sha256) == data
    for size, sum_, why in ((999, sha256, "has 1000 bytes and should have 999"), (1000, "0" * 64, "has other bytes")):
        with pytest.raises(Damaged, match=f"/a {why}"):
            store.verified("a", size, sum_)
    with pytest.raises(NotFound):
        store.verified("b", 1000, sha256)


def test_a_whole_store_has_no_leftovers(store):
    store.write("a", b"1")
    assert list(store.leftovers()) == []


def test_can_be_written_and_listed(store):
    probe(store)
    assert keys(store) == []


def test_a_probe_leaves_no_folder_and_names_the_one_that_can_not_be_written(tmp_path):
    (tmp_path / "mine").mkdir()
    for place in ("mine", "mine/new", "a/b/c"):
        probe(FolderStore(tmp_path / place))
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=f"^can't write {tmp_path}/file/x/: Not a directory$"):
        probe(FolderStore(tmp_path / "file/x"))


def test_deletes(store):
    store.write("a/b/c", b"1")
    store.write("a/d", b"2")
    store.delete("a/b/c")
    assert keys(store) == ["a/d"]


def test_a_store_below_a_store(store):
    below = store.at("runs/one")
    below.write("x", b"1")
    assert store.read("runs/one/x") == b"1"
    assert keys(below) == ["x"]
    assert below.url == f"{store.url}/runs/one"


def test_of_many_who_create_one_key_one_wins(store):
    won = []
    barrier = threading.Barrier(8)

    def race(number):
        barrier.wait()
        if store.create("key", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("key") == str(won[0]).encode()
    assert not store.create("key", b"late")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b", "a/"])
def test_a_key_can_not_leave_the_store(store, key):
    for ask in (store.read, store.size, store.delete, store.at):
        with pytest.raises(ValueError, match="no key"):
            ask(key)
    with pytest.raises(ValueError, match="no key"):
        store.write(key, b"")


def test_a_folder_store_writes_whole_or_not_at_all(tmp_path):
    store = FolderStore(tmp_path)
    store.write("a", b"old")

    class Unwritable(bytes):
        pass

    with pytest.raises(TypeError):
        store.write("a", "text is no bytes")
    assert store.read("a") == b"old"
    assert keys(store) == ["a"]  # a temporary that was left behind is never listed


def test_a_file_where_a_folder_should_be_is_bad_input(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="can't write"):
        FolderStore(tmp_path / "file").write("a", b"1")


def test_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("runs") == str(tmp_path / "runs")
    assert absolute(f"file://{tmp_path}/with%20space") == f"{tmp_path}/with space"
    assert open_store("x").url == str(tmp_path / "x")
    for url, why in (("gopher://x/y", "gopher://"), ("file://host/x", "names no host"), ("", "empty path")):
        with pytest.raises(BadInput, match=why):
            absolute(url)
