"""ILSVRC2012 and ImageNet22k as people have them, and what is said of those that can't be used."""

from __future__ import annotations

import gzip
import io
import os
import resource
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from fcdd_dist.data.images import BadImage
from fcdd_dist.data.sources import TRAIN_AND_TEST, archive, open_exposure, open_source
from fcdd_dist.errors import BadInput
from tests.support.ilsvrc import (
    KIT,
    TRUTH,
    devkit_files,
    named,
    synset_tar,
    tar_bytes,
    val_name,
    write_csv,
    write_devkit,
    write_folders,
    write_kaggle_csv,
    write_lines,
    write_synset_tars,
    write_train_tar,
    write_val_heap,
    write_val_tar,
    write_whole_tar,
)

WNIDS = ("n01440764", "n02701002", "n07697537")  # tench, and two of the recipe's 30: ambulance, hotdog
HEAP = ["n07697537", "n01440764", "n02701002", "n02701002", "n01440764"]  # of the validation images 1 to 5
TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
SYNSET_LINES = "imagenet_2012_validation_synset_labels.txt"


def content(source):
    """{(split, class id): {name: pixels}} of all of a source."""
    return {(split, class_id): {item.name: np.asarray(item.read()).tobytes() for item in source.items(split, class_id)}
            for split in TRAIN_AND_TEST for class_id in source.classes}


def names(source, split, class_id):
    return [item.name for item in source.items(split, class_id)]


@pytest.fixture(scope="module")
def train(make_image, file_bytes):
    return {wnid: [file_bytes(make_image(10 * place + number), "JPEG") for number in range(2 + place)]
            for place, wnid in enumerate(WNIDS)}


@pytest.fixture(scope="module")
def val(make_image, file_bytes):
    return [file_bytes(make_image(100 + number), "JPEG") for number in range(len(HEAP))]


def write_kit_files(folder, labels):
    for name, data in devkit_files(WNIDS[::-1], labels).items():
        (folder / name).write_bytes(data)


LABELS = {
    "devkit": lambda path, labels: write_devkit(path / f"{KIT}.tar.gz", WNIDS[::-1], labels),
    "unpacked devkit": lambda path, labels: write_devkit(path / KIT, WNIDS[::-1], labels),
    "its two files": lambda path, labels: write_kit_files(path, labels),
    "Kaggle's csv": lambda path, labels: write_kaggle_csv(path / "LOC_val_solution.csv", labels),
    "a csv": lambda path, labels: write_csv(path / "my_val_labels.csv", labels),
    "lines": lambda path, labels: write_lines(path / SYNSET_LINES, labels),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("packed", [True, False])
def test_all_arrangements_are_one_data_set(labels, packed, tmp_path, train, val):
    """Tars and folders, with labels from anywhere, give the same images of the same names."""
    if packed:
        write_train_tar(tmp_path / TRAIN_TAR, train)
        write_val_tar(tmp_path / VAL_TAR, val)
    else:
        write_folders(tmp_path / "train", train)
        write_val_heap(tmp_path / "val", val)
    LABELS[labels](tmp_path, HEAP)
    source = open_source(str(tmp_path), "imagenet30")
    assert source.classes == {"n01440764": "tench", "n02701002": "ambulance", "n07697537": "hotdog"}
    found = content(source)
    for wnid in WNIDS:
        assert found["train", wnid] == {f"train/{wnid}/{name}": np.asarray(Image.open(io.BytesIO(data))).tobytes()
                                        for name, data in named(wnid, train[wnid])}
        assert found["test", wnid] == {
            f"val/{val_name(number)}": np.asarray(Image.open(io.BytesIO(data))).tobytes()
            for number, (data, label) in enumerate(zip(val, HEAP, strict=True), 1) if label == wnid}


@pytest.mark.parametrize("below", ["", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC"])
@pytest.mark.parametrize("beside", [True, False])
def test_kaggles_folders(below, beside, tmp_path, train, val):
    """Labels beside the images, or at the root that was given; Kaggle's test images have none and are passed over."""
    write_folders(tmp_path / below / "train", train)
    write_val_heap(tmp_path / below / "val", val)
    write_val_heap(tmp_path / below / "test", val)
    write_kaggle_csv((tmp_path / below if beside else tmp_path) / "LOC_val_solution.csv", HEAP)
    source = open_source(str(tmp_path), "imagenet30")
    assert [source.about("test", wnid) for wnid in WNIDS] == [2, 2, 1]
    assert names(source, "train", WNIDS[0]) == [f"train/{WNIDS[0]}/{WNIDS[0]}_{number}.JPEG" for number in (1, 2)]


def test_mixtures(tmp_path, train):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_folders(tmp_path / "val", {"n02701002": train["n02701002"], "n02690373": train["n07697537"]})
    source = open_source(str(tmp_path), "imagenet30")
    assert source.classes == {"n01440764": "tench", "n02690373": "airliner", "n02701002": "ambulance",
                              "n07697537": "hotdog"}
    assert names(source, "test", "n02701002") == [f"val/n02701002/n02701002_{number}.JPEG" for number in (1, 2, 3)]
    assert source.about("test", "n01440764") == 0


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_labels_are_found_above(given, tmp_path, train, val):
    """By their exact name, and no further than three folders up."""
    write_folders(tmp_path / "ILSVRC/Data/CLS-LOC/train", train)
    write_val_heap(tmp_path / "ILSVRC/Data/CLS-LOC/val", val)
    write_kaggle_csv(tmp_path / "LOC_val_solution.csv", HEAP)
    source = open_source(str(tmp_path / given), "imagenet30")
    assert [source.about("test", wnid) for wnid in WNIDS] == [2, 2, 1]
    assert source.notes == (f"labels from {tmp_path}/LOC_val_solution.csv",)
    if given:
        (tmp_path / "LOC_val_solution.csv").rename(tmp_path / "my_val.csv")
        refused(tmp_path / given, "val needs labels")


def test_labels_four_folders_above_are_none_of_ours(tmp_path, train, val):
    write_folders(tmp_path / "a/b/c/d/train", train)
    write_val_heap(tmp_path / "a/b/c/d/val", val)
    write_kaggle_csv(tmp_path / "LOC_val_solution.csv", HEAP)
    refused(tmp_path / "a/b/c/d", "val needs labels")


def test_the_tar_kept_beside_the_folders_it_was_sorted_into(tmp_path, train, val):
    """Without labels the folders are taken; with labels the tar, which is known to be all."""
    write_folders(tmp_path / "train", train)
    write_folders(tmp_path / "val", {"n02701002": val[:3]})
    write_val_tar(tmp_path / VAL_TAR, val)
    for source in (open_source(str(tmp_path), "imagenet30"), open_exposure(str(tmp_path), "imagenet30")):
        assert [source.about("test", wnid) for wnid in WNIDS] == [0, 3, 0]
        assert names(source, "test", "n02701002")[0] == "val/n02701002/n02701002_1.JPEG"
    write_lines(tmp_path / SYNSET_LINES, HEAP)
    assert [open_source(str(tmp_path), "imagenet30").about("test", wnid) for wnid in WNIDS] == [2, 2, 1]


@pytest.mark.parametrize("given", ["", TRAIN_TAR])
def test_a_set_without_validation_images_trains(given, tmp_path, train):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    source = open_source(str(tmp_path / given), "imagenet30")
    assert [len(names(source, split, WNIDS[2])) for split in TRAIN_AND_TEST] == [4, 0]
    assert content(source) == content(open_exposure(str(tmp_path / given), "imagenet30"))


def test_exposure_needs_no_labels(tmp_path, train, val):
    write_folders(tmp_path / "train", train)
    write_val_heap(tmp_path / "val", val)
    assert names(open_exposure(str(tmp_path), "imagenet30"), "test", WNIDS[0]) == []
    with pytest.raises(BadInput, match="val needs labels"):
        open_source(str(tmp_path), "imagenet30")


def test_names_of_the_recipe_go_to_the_plain_layout(tmp_path, fill_folder):
    for name in ("American alligator", "hotdog"):
        fill_folder(tmp_path / "train" / name, 1)
    assert list(open_source(str(tmp_path), "imagenet30").classes) == ["n01698640", "n07697537"]
    fill_folder(tmp_path / "train" / "aeroplane", 1)
    with pytest.raises(BadInput, match=r"'aeroplane' is none of the recipe's classes.*: acorn, airliner") as caught:
        open_source(str(tmp_path), "imagenet30")
    assert "\n" not in str(caught.value)


# -- ImageNet22k ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "winter21_whole/"])
def test_a_tar_of_synset_tars(prefix, tmp_path, train):
    name = "winter21_whole.tar" if prefix else "fall11_whole.tar"
    write_whole_tar(tmp_path / name, train, prefix)
    write_synset_tars(tmp_path / "tars", train)
    write_folders(tmp_path / "folders", train)
    expected = content(open_exposure(str(tmp_path / "folders"), "imagenet30"))
    assert len(expected["train", WNIDS[2]]) == 4
    shutil.move(tmp_path / "folders", tmp_path.parent / f"{tmp_path.name}-folders")
    assert content(open_exposure(str(tmp_path / name), "imagenet30")) == expected
    assert content(open_exposure(str(tmp_path / "tars"), "imagenet30")) == expected
    shutil.rmtree(tmp_path / "tars")
    assert content(open_exposure(str(tmp_path), "imagenet30")) == expected
    write_synset_tars(tmp_path, {"n01440764": []})
    with pytest.raises(BadInput, match="and other images: give the path of the one"):
        open_exposure(str(tmp_path), "imagenet30")


@pytest.mark.parametrize("size", [300, 1_100_000])
def test_a_class_is_weighed_not_counted(size, tmp_path):
    """By what the first images have, with their headers: full size or scaled to 64 px."""
    write_synset_tars(tmp_path, {"n00000001": [bytes(size)] * 3, "n00000002": [], "n00000003": [bytes(size)] * 70})
    source = open_exposure(str(tmp_path), "imagenet30")
    # The end of a tar is filled up to 10,240 bytes.
    assert source.about("train", "n00000001") in (3, 10)
    assert source.about("train", "n00000003") in (70, 73, 80)
    assert names(source, "train", "n00000002") == []


def test_a_class_is_weighed_by_few_reads(tmp_path, monkeypatch):
    write_synset_tars(tmp_path, {f"n{number:08}": [bytes(100)] * 60 for number in range(40)})
    source = open_exposure(str(tmp_path), "imagenet30")
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: read.append(args) or pread(*args))
    first = [source.about("train", class_id) for class_id in source.classes]
    assert all(60 <= about <= 72 for about in first)
    assert 16 * 50 <= len(read) <= 16 * 53
    assert [source.about("train", class_id) for class_id in source.classes] == first
    assert len(read) <= 16 * 53, "once a source"


def test_nothing_is_listed_before_it_is_asked_for(tmp_path, train, monkeypatch):
    """Opening reads the outer headers; items of one class are all that a listing holds."""
    write_whole_tar(tmp_path / "fall11_whole.tar", train)
    read = []
    members = archive.members
    monkeypatch.setattr(archive, "members", lambda tar: read.append(tar.inside) or members(tar))
    source = open_exposure(str(tmp_path), "imagenet30")
    items = source.items("train", WNIDS[1])
    assert read == [""]
    next(items)
    assert read == ["", f"{WNIDS[1]}.tar"]


def test_folders_hold_no_lists_of_files(tmp_path, fill_folder):
    """Files that come after opening are found: no names were kept."""
    fill_folder(tmp_path / "n00000001", 2)
    source = open_exposure(str(tmp_path), "imagenet30")
    fill_folder(tmp_path / "n00000001" / "more", 1)
    assert len(names(source, "train", "n00000001")) == 3


def test_folders_are_in_the_order_of_their_paths(tmp_path, fill_folder):
    """A blank comes before the slash: the order of data sets that were made before is kept."""
    for name in ("a", "a b", "images"):
        fill_folder(tmp_path / name, 1)
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    fill_folder(tmp_path, 1)
    source = open_exposure(str(tmp_path), "imagenet30")
    assert source.classes == {"a_b": "a b", "a": "a", "images": "images"}
    assert names(source, "train", "a") == ["a/000.png"]
    assert names(source, "train", "images") == ["000.png", "images/000.png"]
    assert source.about("train", "images") == 2


# -- Odd members ------------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path, make_image, file_bytes):
    """Items by the ends of their names, of a synset tar with all that is known to be in ImageNet's, and more."""
    picture, exif = make_image(1, (40, 30)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    link = tarfile.TarInfo("n01_link.JPEG")
    link.type, link.linkname = tarfile.LNKTYPE, "n01_grey.JPEG"
    device = tarfile.TarInfo("n01_device.JPEG")
    device.type = tarfile.CHRTYPE
    folder = tarfile.TarInfo("folder.JPEG")
    folder.type = tarfile.DIRTYPE
    plain = file_bytes(picture, "JPEG")
    data = tar_bytes([
        ("n01_cmyk.JPEG", file_bytes(picture.convert("CMYK"), "JPEG")), ("n01_png.JPEG", file_bytes(picture, "PNG")),
        ("n01_grey.JPEG", file_bytes(picture.convert("L"), "JPEG")),
        ("n01_exif.JPEG", file_bytes(picture, "JPEG", exif=exif)),
        ("n01_empty.JPEG", b""), ("n01_cut.JPEG", plain[:len(plain) // 2]), ("n01_text.JPEG", b"<html>gone</html>"),
        (link, b""), (device, b""), (folder, b""), ("readme.txt", b"text"), ("._n01_grey.JPEG", b"junk"),
        ("./deep/er/x.jpg", plain), ("twice.jpg", b"old"), ("twice.jpg", plain), ("x" * 240 + ".jpg", plain),
        ("наїв.jpg", plain), ("back\udce9.jpg", plain)], format=tarfile.GNU_FORMAT)
    (tmp_path / "n00000001.tar").write_bytes(data)
    source = open_exposure(str(tmp_path / ".."  / tmp_path.name), "imagenet30")
    return {item.name.removeprefix("n00000001/"): item for item in source.items("train", "n00000001")}


def test_odd_images(odd):
    assert set(odd) == {"n01_cmyk.JPEG", "n01_png.JPEG", "n01_grey.JPEG", "n01_exif.JPEG", "n01_empty.JPEG",
                        "n01_cut.JPEG", "n01_text.JPEG", "n01_link.JPEG", "n01_device.JPEG", "deep/er/x.jpg",
                        "twice.jpg", "x" * 240 + ".jpg", "наїв.jpg", r"back\xe9.jpg"}
    for name, reason in (("n01_empty.JPEG", "it is empty"), ("n01_cut.JPEG", "truncated"),
                         ("n01_text.JPEG", "no image"),
                         ("n01_link.JPEG", "link"), ("n01_device.JPEG", "device")):
        with pytest.raises(BadImage, match=reason):
            odd.pop(name).read()
    found = {name: item.read() for name, item in odd.items()}
    assert found.pop("n01_exif.JPEG").size == (30, 40)
    assert {image.size for image in found.values()} == {(40, 30)}
    assert found.pop("n01_grey.JPEG").mode == "L"
    assert {image.mode for image in found.values()} == {"RGB"}
    close = np.asarray(found["n01_cmyk.JPEG"], int) - np.asarray(found["n01_png.JPEG"], int)
    assert abs(close).mean() < 6, "CMYK is the same picture"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_all_kinds_of_tars(format, tmp_path, train):
    name = f"{'d' * 90}/{'f' * 90}.jpg"
    (tmp_path / "n00000001.tar").write_bytes(tar_bytes([(name, train[WNIDS[0]][0])], format))
    item = next(open_exposure(str(tmp_path), "imagenet30").items("train", "n00000001"))
    assert (item.name, item.read().size) == (f"n00000001/{name}", (12, 8))


def test_threads_read_one_archive_side_by_side(tmp_path, train):
    write_whole_tar(tmp_path / "fall11_whole.tar", train)
    source = open_exposure(str(tmp_path), "imagenet30")
    expected = content(source)
    items = [item for class_id in source.classes for item in source.items("train", class_id)] * 30
    with ThreadPoolExecutor(8) as pool:
        for item, pixels in zip(items, pool.map(lambda item: np.asarray(item.read()).tobytes(), items), strict=True):
            assert pixels == expected["train", item.class_id][item.name]


def test_more_archives_than_files_may_be_open(tmp_path, train):
    write_synset_tars(tmp_path, {f"n{number:08d}": train[WNIDS[0]] for number in range(3 * archive._OPEN_FILES)})
    before = len(os.listdir("/proc/self/fd"))
    source = open_exposure(str(tmp_path), "imagenet30")
    items = [item for class_id in source.classes for item in source.items("train", class_id)]
    assert all(item.read().size == (12, 8) for item in items)
    assert len(os.listdir("/proc/self/fd")) <= before + archive._OPEN_FILES


def test_an_archive_that_changes_while_it_is_read(tmp_path, train):
    write_synset_tars(tmp_path, {"n00000001": train[WNIDS[0]]})
    path = tmp_path / "n00000001.tar"
    source = open_exposure(str(tmp_path), "imagenet30")
    archive._opened.cache_clear()
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(BadInput, match=r"n00000001.tar was changed while it was read"):
        list(source.items("train", "n00000001"))


# -- Bad input --------------------------------------------------------------------------------------------------------


def refused(path, match, *, exposure=False, listed=()):
    """Opening, or listing a class, raises one line."""
    def look():
        source = (open_exposure if exposure else open_source)(str(path), "imagenet30")
        for split, class_id in listed:
            list(source.items(split, class_id))

    with pytest.raises(BadInput, match=match) as caught:
        look()
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, BadImage)


def test_tars_that_are_none(tmp_path, train):
    for name, data, reason in (("text", b"this is not a tar" * 100, "is no tar"), ("empty", b"", "it is empty"),
                               ("short", b"x" * 100, "is no tar"), ("zipped", b"\x1f\x8b" + bytes(600), "is gzipped")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / TRAIN_TAR).write_bytes(data)
        refused(folder, rf"{name}/ILSVRC2012_img_train.tar {reason}|{reason}")
        (folder / "x_whole.tar").write_bytes(data)
        refused(folder / "x_whole.tar", rf"x_whole.tar .*{reason}", exposure=True)
        (folder / "tars").mkdir()
        (folder / "tars" / "n01440764.tar").write_bytes(data)
        refused(folder / "tars", f"n01440764.tar .*{reason}", exposure=True, listed=[("train", "n01440764")])


def test_a_zipped_whole(tmp_path):
    (tmp_path / "winter21_whole.tar.gz").write_bytes(b"\x1f\x8b")
    for path in (tmp_path, tmp_path / "winter21_whole.tar.gz"):
        refused(path, r"winter21_whole.tar.gz is gzipped; gzip can't be read at places: unpack it once", exposure=True)


def test_truncated_and_damaged_archives(tmp_path, train):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    data = (tmp_path / TRAIN_TAR).read_bytes()
    second = 512 + len(synset_tar(WNIDS[0], train[WNIDS[0]]))  # where the second class's header is
    end = sum(512 + len(synset_tar(wnid, files)) for wnid, files in train.items())
    for damaged, reason in (
            (data[:end + 512], None), (data[:end], "is truncated: it has no end marker"),
            (data[:second], "is truncated: it has no end marker"), (data[:second + 100], "is truncated"),
            (data[:second + 600], "is truncated: n02701002.tar goes on"),
            (data[:second] + b"\xff" * 512 + data[second + 512:], "is damaged at byte"),
            (data[:second] + bytes(512) + data[second + 512:], "is damaged at byte"),  # a hole, as of a download
            (data[:second] + bytes(2 << 20), "is damaged at byte")):
        (tmp_path / TRAIN_TAR).write_bytes(damaged)
        if reason is None:
            assert len(open_source(str(tmp_path), "imagenet30").classes) == 3, "padding doesn't matter"
        else:
            refused(tmp_path, rf"ILSVRC2012_img_train.tar {reason}")


def test_damaged_archives_in_archives(tmp_path, train):
    """A class that breaks off is said at opening; damage further inside when it is listed, and of that class alone."""
    whole = synset_tar(WNIDS[0], train[WNIDS[0]])
    other = synset_tar(WNIDS[1], train[WNIDS[1]])
    for inner, reason, early in ((whole[:700], "is truncated", True), (whole[:1024], "is truncated", True),
                                 (b"x" * 2000, "is no tar", True), (b"", "it is empty", True),
                                 (whole[:1536] + b"\xff" * 512 + whole[2048:], "is damaged at byte", False)):
        (tmp_path / TRAIN_TAR).write_bytes(tar_bytes([("n01440764.tar", inner), ("n02701002.tar", other)]))
        if early:
            refused(tmp_path, rf"n01440764.tar in {tmp_path}/ILSVRC2012_img_train.tar .*{reason}")
            continue
        assert len(names(open_source(str(tmp_path), "imagenet30"), "train", "n02701002")) == 3
        refused(tmp_path, rf"n01440764.tar in {tmp_path}/ILSVRC2012_img_train.tar .*{reason}",
                listed=[("train", "n01440764")])
    whole = tar_bytes(named(WNIDS[0], train[WNIDS[0]]))
    ends = max(place for place in range(0, len(whole), 512) if any(whole[place:place + 512])) + 512
    (tmp_path / TRAIN_TAR).write_bytes(tar_bytes([("n01440764.tar", whole[:ends])]))
    assert len(names(open_source(str(tmp_path), "imagenet30"), "train", "n01440764")) == 2, "its size is known"


def test_any_damage_ends_in_one_line_or_in_whole_images(tmp_path, train):
    """Random bytes changed anywhere in the headers: never another error, never an endless loop."""
    random = np.random.default_rng(0)
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = tar_bytes([("d" * 90 + "/" + "ї" * 40 + f"{number}.jpg", data)
                           for number, data in enumerate(train[WNIDS[2]])], format)
        path = tmp_path / f"{format}.tar"
        for _ in range(150):
            data = bytearray(whole)
            block = 512 * int(random.integers(0, len(whole) // 512))
            places = block + random.integers(0, 512, 3)
            for place in places:
                data[place] = int(random.integers(0, 256))
            if random.random() < 0.7:  # with a true checksum, so that the other fields are believed
                header = data[block:block + 512]
                header[148:156] = b"        "
                data[block + 148:block + 156] = b"%06o\0 " % sum(header)
            path.write_bytes(data)
            try:
                found = archive.images(archive.whole(path))
            except BadInput as error:
                assert "\n" not in str(error)  # noqa: PT017
                continue
            for read in found.values():
                try:
                    read()
                except BadImage:
                    continue


def test_a_train_tar_without_classes(tmp_path, train):
    (tmp_path / TRAIN_TAR).write_bytes(tar_bytes(named(WNIDS[0], train[WNIDS[0]])))
    refused(tmp_path, r"ILSVRC2012_img_train.tar has no tars of classes \(n01440764.tar")
    (tmp_path / "fall11_whole.tar").write_bytes(tar_bytes([("cats.txt", b"")]))
    refused(tmp_path / "fall11_whole.tar", "holds no tars of synsets", exposure=True)


def test_a_class_without_images(tmp_path, train):
    write_train_tar(tmp_path / TRAIN_TAR, {**train, "n02690373": []})
    refused(tmp_path, r"n02690373.tar in .*ILSVRC2012_img_train.tar has no images", listed=[("train", "n02690373")])
    write_folders(tmp_path / "other" / "train", {**train, "n02690373": []})
    refused(tmp_path / "other", "train/n02690373 has no images")


def test_folders_and_tars_at_once(tmp_path, train):
    write_folders(tmp_path / "train", train)
    write_synset_tars(tmp_path / "train", train)
    refused(tmp_path, "has both folders and tars")
    refused(tmp_path / "train", "has both tars, such as n01440764.tar, and images outside", exposure=True)


def test_a_folder_that_is_no_synset(tmp_path, train, fill_folder):
    """It is passed over where it has no images."""
    write_folders(tmp_path / "train", train)
    (tmp_path / "train" / "lost+found" / "deep").mkdir(parents=True)
    (tmp_path / "train" / "lost+found" / "notes.txt").write_text("no image")
    for opened in (open_source, open_exposure):
        assert list(opened(str(tmp_path), "imagenet30").classes) == list(WNIDS)
    fill_folder(tmp_path / "train" / "old", 1)
    refused(tmp_path, "train/old has no WordNet id for a name")
    assert set(open_exposure(str(tmp_path), "imagenet30").classes) == {*WNIDS, "old"}
    fill_folder(tmp_path / "train", 1)
    refused(tmp_path, "train has images outside of its folders, such as 000.png")


@pytest.mark.parametrize("packed", [True, False])
def test_validation_images_without_labels(packed, tmp_path, train, val):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    if packed:
        write_val_tar(tmp_path / VAL_TAR, val)
    else:
        write_val_heap(tmp_path / "val", val)
    above = " and ".join(str(folder) for folder in list(tmp_path.parents)[:3])
    refused(tmp_path, r"val(.tar)? needs labels, and there are none; looked for ILSVRC2012_devkit_t12.tar.gz "
                      r".*meta.mat.*LOC_val_solution.csv, imagenet_2012_validation_synset_labels.txt, or a csv with "
                      rf"'val' in its name and .*, in {tmp_path}; and for LOC_val_solution.csv in {above}, too$")


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("change", [HEAP[:-1], [*HEAP, HEAP[0]]])
def test_labels_of_another_number_than_images(labels, change, tmp_path, train, val):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_val_tar(tmp_path / VAL_TAR, val)
    LABELS[labels](tmp_path, change)
    refused(tmp_path, rf"ILSVRC2012_img_val.tar has 5 images, but .* has {len(change)} labels",
            listed=[("test", WNIDS[0])])


@pytest.mark.parametrize("labels", LABELS)
def test_labels_of_other_images(labels, tmp_path, train, val):
    """As many, but number 2 is missing and there is a number 9: no label moves to another image."""
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_val_heap(tmp_path / "val", val)
    (tmp_path / "val" / val_name(2)).rename(tmp_path / "val" / val_name(9))
    LABELS[labels](tmp_path, HEAP)
    refused(tmp_path, "has no label for val/ILSVRC2012_val_00000009.JPEG", listed=[("test", WNIDS[0])])


def test_labels_that_are_none(tmp_path, train, val):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_val_tar(tmp_path / VAL_TAR, val)

    def says(name, data, match):
        path = tmp_path / name
        path.write_bytes(data)
        refused(tmp_path, match)
        path.unlink()

    unknown = "n99999999\n" * 5
    says(SYNSET_LINES, unknown.encode(), "has the label n99999999, which is no class of ILSVRC2012")
    says(SYNSET_LINES, b"tench\n" * 5, "line 1: 'tench' is no WordNet id")
    says(SYNSET_LINES, b"\xff\xfe", "is no text in UTF-8")
    says("val.csv", b"x,n99999999\n" * 5, "has the label n99999999")
    says("val.csv", b"name,id\nx,tench\n", "val.csv, row 2: 'x,tench' is not a file and a WordNet id")
    says("val.csv", b"name,id\nx,n01440764\nx,n02701002\n", "row 3: x is n02701002 here and n01440764 before")
    says(TRUTH, b"1\n", "has ILSVRC2012_validation_ground_truth.txt, but not meta.mat")
    says(f"{KIT}.tar.gz", b"junk", "devkit_t12.tar.gz can't be read")
    (tmp_path / "meta.mat").write_bytes(devkit_files(WNIDS, HEAP)["meta.mat"])
    says(TRUTH, b"1\n2\n3\n4\n1\n", "line 4: '4' is no class of meta.mat, which has the numbers 1 to 3")
    says(TRUTH, b"1\ntwo\n", "line 2: 'two' is no class")
    (tmp_path / "meta.mat").write_bytes(b"MATLAB")
    says(TRUTH, b"1\n", "meta.mat can't be read")
    for name in ("a_val.csv", "b_val.csv"):
        write_csv(tmp_path / name, HEAP)
    refused(tmp_path, "has a_val.csv and b_val.csv: which")


def test_a_devkit_that_unpacks_to_gigabytes(tmp_path, train, val):
    """A bomb, in a member or in a header: no more is unpacked than a devkit may have."""
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_val_tar(tmp_path / VAL_TAR, val)
    zeros = gzip.compress(bytes(70 << 20), 1)
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("readme.txt")
        info.type, info.size = kind, 4 << 30
        (tmp_path / f"{KIT}.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT)) + zeros)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refused(tmp_path, r"devkit_t12.tar.gz unpacks to more than 64 MiB, which no devkit has")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 << 10, "KiB"


def test_a_disks_own_folder_that_is_not_ours_to_read(tmp_path, train, monkeypatch):
    write_folders(tmp_path / "train", train)
    (tmp_path / "train" / "lost+found").mkdir()
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert list(open_source(str(tmp_path), "imagenet30").classes) == list(WNIDS)
    assert list(open_exposure(str(tmp_path / "train"), "imagenet30").classes) == list(WNIDS)


def test_no_permission(tmp_path, train, monkeypatch):
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_whole_tar(tmp_path / "fall11_whole.tar", train)
    write_folders(tmp_path / "folders", train)
    real = {"open": os.open, "scandir": os.scandir}

    def deny(kind):
        def denied(path, *args, **options):
            if str(path).startswith(str(tmp_path)):
                raise PermissionError(13, "Permission denied", path)
            return real[kind](path, *args, **options)
        return denied

    archive._opened.cache_clear()
    for kind in real:  # whoever runs the tests may be root, whom nothing is denied
        monkeypatch.setattr(os, kind, deny(kind))
    refused(tmp_path, rf"{TRAIN_TAR} can't be read: Permission denied")
    refused(tmp_path / "fall11_whole.tar", "fall11_whole.tar can't be read: Permission denied", exposure=True)
    refused(tmp_path / "folders", r"folders.* can't be read: Permission denied", exposure=True)


# -- Real images ------------------------------------------------------------------------------------------------------


def files_in(folder):
    return {child.name: [path.read_bytes() for path in sorted(child.iterdir())] for child in sorted(folder.iterdir())}


@pytest.mark.data
@pytest.mark.slow
def test_real_images_in_the_real_layouts(test_data, tmp_path):
    """imagenette-3 as ILSVRC2012's tars, 400 photographs as ImageNet22k's: the pixels of the plain folders."""
    plain = open_source(str(test_data / "imagenette-3"), "imagenet30")
    train, val = (files_in(test_data / "imagenette-3" / split) for split in ("train", "val"))
    heap = sorted(((data, wnid) for wnid, files in val.items() for data in files), key=lambda pair: pair[0][-64:])
    write_train_tar(tmp_path / TRAIN_TAR, train)
    write_val_tar(tmp_path / VAL_TAR, [data for data, _ in heap])
    write_devkit(tmp_path / f"{KIT}.tar.gz", sorted(val, reverse=True), [wnid for _, wnid in heap])
    packed = open_source(str(tmp_path), "imagenet30")
    assert packed.classes == plain.classes
    for key, pixels in content(plain).items():
        assert sorted(content_of(packed, *key)) == sorted(pixels.values())
    sample = files_in(test_data / "imagenet-sample")
    write_whole_tar(tmp_path / "fall11_whole.tar", sample)
    folders = open_exposure(str(test_data / "imagenet-sample"), "imagenet30")
    tars = open_exposure(str(tmp_path / "fall11_whole.tar"), "imagenet30")
    assert tars.classes == folders.classes
    for class_id in list(folders.classes)[::8]:
        assert content_of(tars, "train", class_id) == content_of(folders, "train", class_id)


def content_of(source, split, class_id):
    return [np.asarray(item.read()).tobytes() for item in source.items(split, class_id)]
