"""Reading shards: what is hostile or damaged is refused, with the shard and the reason."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile

import pytest

from fcdd_dist.data.manifest import Shard, load_manifest
from fcdd_dist.data.shards.read import FETCHERS, _as_written, parse, read_each, read_shard
from fcdd_dist.errors import Damaged, NotFound
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore, MemoryStore
from tests.support.shards import SlowStore, no_thread_is_left, until, write_shards

BLOCK = 512


def members(count=3):
    return [member for number in range(count) for member in (
        (f"cat-{number:08d}.png", b"image %d" % number), (f"cat-{number:08d}.json", json.dumps(
            {"source": f"train/cat/{number}.png"}).encode()))]


def tar(entries, kind=tarfile.USTAR_FORMAT) -> bytes:
    """Entries are (name, body) or a TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as out:
        for entry in entries:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry[0])
            body = b"" if isinstance(entry, tarfile.TarInfo) else entry[1]
            info.size = len(body)
            out.addfile(info, io.BytesIO(body))
    return file.getvalue()


def read(data: bytes, samples=3, **changes):
    """Reads ``data`` with a record that names its true size and sum: whoever made it made the manifest, too."""
    store = MemoryStore("bucket:/set")
    store.write("train/cat/000000.tar", data)
    record = {"key": "train/cat/000000.tar", "samples": samples, "bytes": max(1, len(data)),
              "sha256": hashlib.sha256(data).hexdigest(), **changes}
    return read_shard(store, Shard(**record))


def refused(data: bytes, reason: str, **options):
    with pytest.raises(Damaged, match=reason) as caught:
        read(data, **options)
    assert "bucket:/set/train/cat/000000.tar" in str(caught.value)
    assert "\n" not in str(caught.value)


def link(kind: bytes, name="cat-00000000.png", target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_good_shard():
    samples = read(tar(members()))
    assert [(s.key, bytes(s.image), s.source, s.mask) for s in samples] == [
        (f"cat-{n:08d}", b"image %d" % n, f"train/cat/{n}.png", None) for n in range(3)]


def test_masks_come_along():
    entries = [("cat-00000000.json", b'{"source": "x"}'), ("cat-00000000.mask.png", b"mask"),
               ("cat-00000000.jpg", b"image")]
    sample, = read(tar(entries), samples=1)
    assert (bytes(sample.image), bytes(sample.mask)) == (b"image", b"mask")


@pytest.mark.parametrize("name", [
    "../cat-00000000.png", "/etc/cron.d/cat.png", "a/cat-00000000.png", "cat-00000000.pkl", "cat-00000000.pickle",
    "cat-00000000.pth", "cat-00000000.png.gz", "cat-00000000", "cat-00000000.PNG", "CAT-00000000.png", ".png",
    "cat\n-00000000.png", "cat-0.0.png", "c\u00e4t-00000000.png"])
def test_names_that_no_member_has(name):
    refused(tar([*members(), (name, b"x")]), "is no name of a member")


def test_a_pickle_is_not_opened(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "trap").mkdir, ()

    refused(tar([("cat-00000000.pkl", pickle.dumps(b"x")), *members()]), "'cat-00000000.pkl' is no name of a member")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(("kind", "called"), [
    (tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a hard link"), (tarfile.DIRTYPE, "a folder"),
    (tarfile.CHRTYPE, "a device"), (tarfile.FIFOTYPE, "a pipe"), (b"Z", "of type b'Z'")])
def test_links_and_their_like(kind, called):
    refused(tar([link(kind), *members()]), f"is {called}, not a plain file")


def test_other_tar_formats():
    long = [("x" * 120 + ".png", b"x")]
    refused(tar(long, tarfile.GNU_FORMAT), "ustar format")
    refused(tar(long, tarfile.PAX_FORMAT), "is a pax header")
    info = tarfile.TarInfo("cat-00000000.png")
    info.mtime = 0.5
    refused(tar([info], tarfile.PAX_FORMAT), "is a pax header")


def test_truncated_anywhere():
    data = tar(members())
    second = 2 * BLOCK  # each member takes two blocks
    refused(data[:second], "without the end marker")  # between two members of a sample
    refused(data[:2 * second], "without the end marker")  # between two samples
    refused(data[:second + 100], "without the end marker")  # within a header
    refused(data[:second + BLOCK + 3], "ends within member 'cat-00000000.json'")
    refused(data[:6 * second], "without the end marker")  # all members, no end
    refused(data[:6 * second + BLOCK], "within the end marker")
    refused(b"<html>404</html>", "without the end marker")
    refused(b"", "0 bytes and should have 1")
    refused(bytes(10240), "has 0 samples and should have 3")


@pytest.mark.parametrize("place", [0, 100, 124, 130, 148, 156, 257, 263, 345, 500])
def test_a_flipped_byte_in_a_header(place):
    data = bytearray(tar(members()))
    data[2 * BLOCK + place] ^= 1
    with pytest.raises(Damaged, match="x: the header at byte 1024"):
        parse(bytes(data), "x")
    with pytest.raises(Damaged, match=r"other bytes than .* SHA-256"):
        read(bytes(data), sha256=hashlib.sha256(tar(members())).hexdigest())


def test_both_readers_find_the_same(digits_data):
    store = FolderStore(digits_data)
    for record in load_manifest(store).part("train", "0").shards:
        data = store.read(record.key)
        quick, careful = _as_written(data, record.samples), parse(data, "x")
        assert quick == careful
        assert len(quick) == record.samples
    assert _as_written(data, record.samples + 1) is None
    end = data.rindex(b"ustar") - 257 + 2 * BLOCK + len(data[:0])
    for cut in (end, end + BLOCK, end + 2 * BLOCK - 1, len(data) // 2):
        assert _as_written(data[:cut], record.samples) is None
    assert _as_written(data + b"x", record.samples) is None
    assert _as_written(tar([*members(), ("cat-00000003.mask.png", b"x")]), 4) is None


def test_zero_blocks_in_the_middle():
    data = tar(members())
    refused(data[:4 * BLOCK] + bytes(2 * BLOCK) + data[4 * BLOCK:], "data behind the end marker at byte 2048")
    refused(data[:4 * BLOCK] + bytes(BLOCK) + data[4 * BLOCK:], "data behind the end marker")
    refused(data + tar(members()), "data behind the end marker")


def test_sizes_that_lie():
    for size in (b"77777777777\0", b"\x80" + bytes(11), b"-0000000001\0", b"            "):
        data = bytearray(tar(members()))
        data[124:136] = size
        total = sum(data[:512]) - sum(data[148:156]) + 8 * 32
        data[148:156] = b"%06o\0 " % total
        refused(bytes(data), "ends within member|is no octal number")


def test_wrong_number_of_samples():
    refused(tar(members()), "has 3 samples and should have 4", samples=4)
    refused(tar(members()), "has 3 samples and should have 2", samples=2)


def test_samples_that_are_not_whole():
    good = members()
    refused(tar(good[:2] + good[3:]), "sample cat-00000001 has 0 images")
    refused(tar(good[:3] + good[4:]), "sample cat-00000001 has no cat-00000001.json")
    refused(tar([*good, ("cat-00000002.jpg", b"second")]), "sample cat-00000002 has 2 images")
    refused(tar([*good, good[5]]), "member cat-00000002.json is there twice")
    refused(tar([*good, *good[:2]]), "sample cat-00000000 is there twice")
    for body in (b"", b"{", b"[]", b'"source"', b'{"source": 3}', b"{}", b"\xff", b"[" * 100000):
        [sample] = read(tar([good[0], ("cat-00000000.json", body)]), samples=1)
        with pytest.raises(Damaged, match=r"cat-00000000\.json does not say what the source is"):
            _ = sample.source


def test_other_bytes_than_the_record_says():
    data = bytearray(tar(members()))
    wanted = hashlib.sha256(data).hexdigest()
    data[BLOCK] ^= 1
    refused(bytes(data), "its SHA-256 differs", sha256=wanted)
    refused(bytes(data[:-BLOCK]), "has 9728 bytes and should have 10240", bytes=10240, sha256=wanted)


def test_a_read_that_fails_once_is_made_again():
    class Flaky(MemoryStore):
        reads = 0

        def read(self, key, start=0, end=None):
            self.reads += 1
            data = super().read(key, start, end)
            return data[:100] if self.reads == 1 else data

    data, store = tar(members()), Flaky()
    store.write("a.tar", data)
    record = Shard(key="a.tar", samples=3, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert len(read_shard(store, record)) == 3
    assert store.reads == 2
    store.delete("a.tar")
    with pytest.raises(NotFound):
        read_shard(store, record)


def test_shards_are_read_ahead_in_order_and_an_error_waits_for_its_turn():
    store = SlowStore(wait_s=0.02)
    shards = write_shards(store, Form.parse("png-5-grey"), [2] * 40)
    assert [[sample.source for sample in samples] for samples in read_each(store, shards)] == [
        [f"{number}/{index}" for index in range(2)] for number in range(40)]
    assert store.most_at_once == FETCHERS
    store.delete("30.tar")
    samples = read_each(store, shards)
    for _ in range(30):
        next(samples)
    with pytest.raises(NotFound, match=r"30\.tar"):
        next(samples)
    assert list(samples) == []
    until(no_thread_is_left)
    assert list(read_each(store, [])) == []


def test_few_are_read_ahead_and_none_after_the_end():
    store = SlowStore()
    shards = write_shards(store, Form.parse("png-5-grey"), [2] * 40)
    samples = read_each(store, shards)
    next(samples)
    until(lambda: len(store.done) == FETCHERS)
    store.gate.clear()
    next(samples)
    until(lambda: len(store.asked) == FETCHERS + 1)
    samples.close()  # does not wait
    store.gate.set()
    until(no_thread_is_left)
    assert len(store.asked) == FETCHERS + 1
