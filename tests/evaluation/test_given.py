"""What a person means by images: files, folders and globs, the same on this machine and in object storage."""

from __future__ import annotations

import threading
import time

import pytest

from fcdd_dist.data.images import MAX_BYTES, BadImage
from fcdd_dist.errors import BadInput, Fault, NotFound
from fcdd_dist.evaluation import given
from fcdd_dist.evaluation.given import Given, find_images, read_images
from fcdd_dist.storage import FolderStore, MemoryStore, open_store

NAMES = ["in/a.png", "in/b.PNG", "in/notes.txt", "in/.hidden.png", "in/deep/a.jpg", "in/deep/er/ü b.png",
         "in/.git/c.png", "in/out/explained.png", "in2/d.jpg", "in[1].png", "in-x/e.tiff", "top.png"]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The same names in a folder and in a bucket: (what stands before a name, its store)."""
    folder, bucket = FolderStore(tmp_path), MemoryStore("s3://bucket")
    for name in NAMES:
        for store in (folder, bucket):
            store.write(name, name.encode())

    def opened(url: str):
        assert url == "s3://bucket"
        return bucket

    monkeypatch.setattr(given, "open_store", opened)
    return [(str(tmp_path), folder), ("s3://bucket", bucket)]


def found(root: str, *arguments: str, out: str = "in/out") -> list[str]:
    images = find_images([f"{root}/{argument}" if argument else root for argument in arguments], f"{root}/{out}")
    assert all(image.read().decode() == image.where.removeprefix(f"{root}/") for image in images)
    return [image.where.removeprefix(f"{root}/") for image in images]


@pytest.mark.parametrize(("argument", "wanted"), [
    ("in/a.png", ["in/a.png"]),
    ("in/notes.txt", ["in/notes.txt"]),
    ("in/.hidden.png", ["in/.hidden.png"]),
    ("in[1].png", ["in[1].png"]),
    ("in", ["in/a.png", "in/b.PNG", "in/deep/a.jpg", "in/deep/er/ü b.png"]),
    ("in/", ["in/a.png", "in/b.PNG", "in/deep/a.jpg", "in/deep/er/ü b.png"]),
    ("in/.git", ["in/.git/c.png"]),
    ("in/*.png", ["in/a.png"]),
    ("in/*", ["in/a.png", "in/b.PNG", "in/notes.txt"]),
    ("in/.*.png", ["in/.hidden.png"]),
    ("in/.g*/*", ["in/.git/c.png"]),
    ("in/**/*.png", ["in/a.png", "in/deep/er/ü b.png"]),
    ("in/**", ["in/a.png", "in/b.PNG", "in/deep/a.jpg", "in/deep/er/ü b.png", "in/notes.txt"]),
    ("**/a.*", ["in/a.png", "in/deep/a.jpg"]),
    ("in/**/er/**/*.png", ["in/deep/er/ü b.png"]),
    ("in?/*.jpg", ["in2/d.jpg"]),
    ("in[!2]x/*", ["in-x/e.tiff"]),
    ("t*", ["top.png"]),
])
def test_an_argument_means_the_same_everywhere(places, argument, wanted):
    for root, _ in places:
        assert sorted(found(root, argument)) == sorted(wanted)


def test_a_whole_bucket_and_each_image_once(places):
    everything = [name for name in sorted(NAMES) if name not in ("in/notes.txt", "in/.hidden.png", "in/.git/c.png",
                                                                 "in/out/explained.png")]
    for root, _ in places:
        assert sorted(found(root, "", "in", "*/a.png")) == everything


def test_what_was_found_is_not_searched_for_again(places):
    (_, _), (root, bucket) = places
    images = find_images([f"{root}/in"], "out")
    bucket.list = bucket.size = None
    assert find_images(images, "out") == images


@pytest.mark.parametrize(("argument", "kind", "line"), [
    ("none.png", NotFound, "there is no .*none.png: give an image"), ("none", NotFound, "there is no"),
    ("in/*.gif", NotFound, "there is no"), ("only-text", BadInput, r"only-text holds no images \(.avif"),
    ("in/out", BadInput, r"in/out names lies in .*in/out, which is about to be written"),
    ("in/out/*.png", BadInput, "lies in"), ("in/**/*.exp*", NotFound, "there is no")])
def test_what_names_none_is_refused(places, argument, kind, line):
    for root, store in places:
        store.write("only-text/a.txt", b"")
        with pytest.raises(kind, match=line):
            find_images([f"{root}/{argument}"], f"{root}/in/out")


def test_where_an_image_lies():
    def image(where):
        return Given(where, 0, bytes)

    assert image("s3://bucket/out/x.png").lies_in("s3://bucket/out")
    assert image("s3://bucket/out/x.png").lies_in("s3://bucket")
    assert not image("s3://bucket/out2/x.png").lies_in("s3://bucket/out")
    assert not image("/bucket/out/x.png").lies_in("s3://bucket/out")
    assert not image("s3://bucket/out/x.png").lies_in("/bucket/out")
    assert image("/a/../b/x.png").lies_in("/b")


def test_what_can_not_be_read_is_named_and_a_failing_storage_stops(places, make_image, file_bytes):
    (_, _), (root, bucket) = places
    bucket.write("set/1.png", file_bytes(make_image(1), "PNG"))
    bucket.write("set/2.png", b"junk")
    bucket.write("set/3.png", b"")
    bucket._objects["set/a//b.png"] = b"x", 0.0  # others write such keys
    images = find_images([f"{root}/set"], "out")
    bucket.delete("set/3.png")
    results = [result for _, result in read_images(images)]
    assert results[0].size == (12, 8)
    assert all(isinstance(result, BadImage) for result in results[1:])
    assert [str(result).partition(":")[0] for result in results[2:]] == ["it can't be read"] * 2
    assert "there is no s3://bucket/set/3.png" in str(results[2])

    def broken(*_arguments):
        raise Fault("no answer")

    bucket.read = broken
    with pytest.raises(Fault, match="no answer"):
        list(read_images(images))

    def forbidden(*_arguments):
        raise BadInput("no permission")

    bucket.read = forbidden
    with pytest.raises(BadInput, match="no permission"):
        list(read_images(images))


def test_who_stops_does_not_wait_for_what_was_being_fetched(make_image, file_bytes):
    data, go = file_bytes(make_image(1), "PNG"), threading.Event()
    images = read_images([Given("1.png", 1, lambda: data), Given("2.png", 1, go.wait)])
    next(images)
    began = time.monotonic()
    images.close()
    assert time.monotonic() - began < 5
    go.set()


def test_an_object_that_is_too_large_is_never_read(places, monkeypatch):
    (_, _), (root, bucket) = places
    monkeypatch.setattr(given, "check_bytes", lambda size: (_ for _ in ()).throw(BadImage(f"{size} bytes")))
    bucket.read = None
    assert [str(result) for _, result in read_images(find_images([f"{root}/top.png"], "out"))] == ["7 bytes"]


def test_images_are_fetched_a_few_ahead_and_no_more(make_image, file_bytes):
    data, lock, held, most = file_bytes(make_image(1), "PNG"), threading.Lock(), 0, 0

    def read():
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        time.sleep(0.005)
        return data

    for size, limit in ((10, given._AHEAD), (MAX_BYTES // 2, 2), (MAX_BYTES, 1)):
        held = most = 0
        for _ in read_images([Given(f"{number}.png", size, read) for number in range(30)]):
            with lock:
                held -= 1
        assert most <= limit
        assert (most > 1) == (limit > 1)


@pytest.mark.s3
def test_a_real_bucket(bucket, make_image, file_bytes):
    store = open_store(f"{bucket.url}/photos of ü")
    for number in range(20):
        store.write(f"day+{number % 2}/{number:02} %.png", file_bytes(make_image(number), "PNG"))
    bucket.put("photos of ü/day+0/", b"")  # a "folder", as consoles make them
    images = find_images([f"{store.url}/day+1", f"{store.url}/**/0? *.png"], bucket.url + "/out")
    assert len(images) == 15
    assert all(result.size == (12, 8) for _, result in read_images(images))
    with pytest.raises(NotFound, match=f"there is no {bucket.url}/none"):
        find_images([f"{bucket.url}/none"], "out")
    with pytest.raises(BadInput, match="credentials"):
        find_images([f"{bucket.url}/none"], "s3://a@b/c")
