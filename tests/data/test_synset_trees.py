"""WordNet ids deeper than the path that was given, in folders and in tars: the classes are the synsets all the same."""

from __future__ import annotations

import os
import tarfile

import numpy as np
import pytest

from fcdd_dist.data.sources import TRAIN_AND_TEST, archive, classes_in_tars, open_exposure, open_source
from fcdd_dist.errors import BadInput
from tests.support.ilsvrc import named, synset_tar, tar_bytes, write_folders, write_synset_tars, write_val_heap

WNIDS = ("n01440764", "n02701002", "n07697537")


def names(source, class_id, split="train"):
    return [item.name for item in source.items(split, class_id)]


def pixels(source, class_id):
    return [np.asarray(item.read()).tobytes() for item in source.items("train", class_id)]


@pytest.fixture(scope="module")
def images(make_image, file_bytes):
    return {wnid: [file_bytes(make_image(10 * place + number), "JPEG") for number in range(2 + place)]
            for place, wnid in enumerate(WNIDS)}


def tree(images, prefix=""):
    return [(f"{prefix}{wnid}/{name}", data) for wnid, files in images.items() for name, data in named(wnid, files)]


@pytest.mark.parametrize("below", ["imagenet21k_train", "ILSVRC2012/train", "a/b/c"])
def test_folders_up_to_three_deep(below, tmp_path, images):
    write_folders(tmp_path / below, images)
    source = open_exposure(str(tmp_path), "imagenet30")
    assert list(source.classes) == list(WNIDS)
    assert names(source, WNIDS[0]) == [f"{below}/{WNIDS[0]}/{WNIDS[0]}_{number}.JPEG" for number in (1, 2)]
    assert [source.about("train", wnid) for wnid in WNIDS] == [2, 3, 4]


def test_folders_deeper_than_three_are_one_class(tmp_path, images):
    write_folders(tmp_path / "a/b/c/d", images)
    assert list(open_exposure(str(tmp_path), "imagenet30").classes) == ["a"]


def test_kaggles_images_from_above(tmp_path, images):
    write_folders(tmp_path / "kaggle/CLS-LOC/train", images)
    write_val_heap(tmp_path / "kaggle/CLS-LOC/val", images[WNIDS[2]])
    source = open_exposure(str(tmp_path), "imagenet30")
    assert list(source.classes) == [*WNIDS, "val"]
    assert len(names(source, "val")) == 4


def test_a_folder_train_of_folders(tmp_path, images):
    """Which would otherwise be two classes with training images."""
    write_folders(tmp_path / "train/first", {WNIDS[0]: images[WNIDS[0]]})
    write_folders(tmp_path / "train/second", images)
    source = open_exposure(str(tmp_path), "imagenet30")
    assert list(source.classes) == list(WNIDS)
    assert len(names(source, WNIDS[0])) == 4
    assert list(open_source(str(tmp_path), "folder").classes) == ["first", "second"]


def test_a_synset_in_two_folders_is_one_class(tmp_path, images):
    for part in ("imagenet21k_val", "imagenet21k_train"):
        write_folders(tmp_path / part, images)
    source = open_exposure(str(tmp_path), "imagenet30")
    assert list(source.classes) == list(WNIDS)
    found = names(source, WNIDS[1])
    assert found == sorted(set(found))
    assert (len(found), source.about("train", WNIDS[1])) == (6, 6)


def test_what_lies_beside_synsets_is_a_class_of_its_own(tmp_path, images, fill_folder):
    write_folders(tmp_path / "21k", images)
    fill_folder(tmp_path / "21k" / "cats" / "deep", 2)
    fill_folder(tmp_path / "21k", 3)
    fill_folder(tmp_path / "Others" / "x", 1)
    fill_folder(tmp_path / "Others", 1)
    fill_folder(tmp_path, 1)
    (tmp_path / "21k" / "n00000009").mkdir()
    (tmp_path / "21k" / WNIDS[0] / "up").symlink_to(tmp_path / "21k")
    source = open_exposure(str(tmp_path), "imagenet30")
    assert {class_id: source.about("train", class_id) for class_id in source.classes} == {
        WNIDS[0]: 2, WNIDS[1]: 3, WNIDS[2]: 4, "cats": 2, "21k": 3, "others": 2, "images": 1}
    assert source.classes["others"] == "Others"
    every = [name for class_id in source.classes for name in names(source, class_id)]
    assert len(every) == len(set(every)) == 17
    assert names(source, "21k") == ["21k/000.png", "21k/001.png", "21k/002.png"]


def test_files_of_synsets_are_not_walked(tmp_path, images, monkeypatch):
    """Opening looks at a synset's folder until it sees an image, and into no folder in it."""
    write_folders(tmp_path / "21k", images)
    for wnid in WNIDS:
        for number in range(20):
            (tmp_path / "21k" / wnid / f"deep{number}").mkdir()
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or scandir(path))
    source = open_exposure(str(tmp_path), "imagenet30")
    assert list(source.classes) == list(WNIDS)
    assert not [path for path in looked if "deep" in path]


# -- Tars of folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "imagenet21k_resized/imagenet21k_train/", "d" * 60 + "/ї" * 2 + "/"])
def test_a_tar_of_folders(prefix, format, tmp_path, images):
    """By its own path or as the only file of a folder: the same images of the same names."""
    path = tmp_path / "imagenet21k_resized.tar"
    path.write_bytes(tar_bytes([("readme.txt", b"about"), *tree(images, prefix)], format))
    for given in (tmp_path, path):
        source = open_exposure(str(given), "imagenet30")
        assert list(source.classes) == list(WNIDS)
        assert [source.about("train", wnid) for wnid in WNIDS] == [2, 3, 4]
        assert [source.about("test", wnid) for wnid in WNIDS] == [0, 0, 0]
        assert names(source, WNIDS[0]) == [f"imagenet21k_resized/{prefix.removeprefix('./')}{WNIDS[0]}/{name}"
                                           for name, _ in named(WNIDS[0], images[WNIDS[0]])]
    write_folders(tmp_path / "folders", images)
    plain = open_exposure(str(tmp_path / "folders"), "imagenet30")
    assert [pixels(source, wnid) for wnid in WNIDS] == [pixels(plain, wnid) for wnid in WNIDS]


def test_tars_of_folders_beside_tars_of_synsets(tmp_path, images):
    (tmp_path / "first.tar").write_bytes(tar_bytes(tree(images)))
    (tmp_path / "second.tar").write_bytes(tar_bytes([*tree(images), ("cats/1.JPEG", images[WNIDS[0]][0]),
                                                     ("loose.JPEG", images[WNIDS[0]][0])]))
    (tmp_path / "Third.tar").write_bytes(synset_tar("x", images[WNIDS[1]]))
    write_synset_tars(tmp_path, {WNIDS[0]: images[WNIDS[0]]})
    source = open_exposure(str(tmp_path), "imagenet30")
    assert dict(source.classes) == {"third": "Third", **{wnid: wnid for wnid in WNIDS}, "second": "second"}
    found = {class_id: names(source, class_id) for class_id in source.classes}
    assert {class_id: len(listed) for class_id, listed in found.items()} == {
        "third": 3, WNIDS[0]: 6, WNIDS[1]: 6, WNIDS[2]: 8, "second": 2}
    every = [name for listed in found.values() for name in listed]
    assert len(every) == len(set(every))
    assert found[WNIDS[0]] == sorted(found[WNIDS[0]])


def test_members_in_any_order(tmp_path, images, monkeypatch):
    """Of a name that comes twice the last counts. Too many stretches to hold are refused."""
    mixed = [member for pair in zip(tree(images), tree(images)[::-1], strict=True) for member in pair]
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(mixed))
    source = open_exposure(str(path), "imagenet30")
    assert [len(names(source, wnid)) for wnid in WNIDS] == [2, 3, 4]
    monkeypatch.setattr(classes_in_tars, "_RUNS", 5)
    with pytest.raises(BadInput, match=r"x\.tar has its classes mixed: unpack it into folders"):
        open_exposure(str(path), "imagenet30")


def test_a_tar_of_tars_by_any_name(tmp_path, images):
    """Alone it is opened; beside others it would be a class without images."""
    whole = tar_bytes([(f"{wnid}.tar", synset_tar(wnid, files)) for wnid, files in images.items()])
    (tmp_path / "winter21.tar").write_bytes(whole)
    source = open_exposure(str(tmp_path), "imagenet30")
    assert [len(names(source, wnid)) for wnid in source.classes] == [2, 3, 4]
    write_synset_tars(tmp_path, {WNIDS[0]: images[WNIDS[0]]})
    with pytest.raises(BadInput, match=r"winter21.tar holds tars, unlike those beside it: give its path"):
        open_exposure(str(tmp_path), "imagenet30")


def test_a_flat_tar_is_not_gone_through(tmp_path, monkeypatch):
    path = tmp_path / "flat.tar"
    path.write_bytes(tar_bytes([(f"{number}.JPEG", b"") for number in range(5000)]))
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: read.append(args) or pread(*args))
    with pytest.raises(BadInput, match=r"flat\.tar holds no tars of synsets"):
        open_exposure(str(path), "imagenet30")
    assert len(read) < 3000


def test_members_are_not_held():
    """An archive may have 14 million."""
    assert iter(archive.members(None)) is not None, "nothing is read before the first is asked for"


# -- Damage is said at opening ----------------------------------------------------------------------------------------


def test_a_truncated_synset_is_said_at_opening(tmp_path, images):
    write_synset_tars(tmp_path, images)
    path = tmp_path / f"{WNIDS[1]}.tar"
    data = path.read_bytes()
    for cut in (data[:700], data[:-10240], data[:1024], b""):
        path.write_bytes(cut)
        with pytest.raises(BadInput, match=rf"{WNIDS[1]}.tar is (truncated|no tar: it is empty)") as caught:
            open_exposure(str(tmp_path), "imagenet30")
        assert "\n" not in str(caught.value)
    path.write_bytes(data)
    assert len(open_exposure(str(tmp_path), "imagenet30").classes) == 3


@pytest.mark.parametrize("name", ["fall11_whole.tar", "ILSVRC2012_img_train.tar"])
def test_a_truncated_synset_in_a_whole_is_said_at_opening(name, tmp_path, images):
    synsets = {wnid: synset_tar(wnid, files) for wnid, files in images.items()}
    synsets[WNIDS[1]] = synsets[WNIDS[1]][:1024]
    (tmp_path / name).write_bytes(tar_bytes([(f"{wnid}.tar", data) for wnid, data in synsets.items()]))
    with pytest.raises(BadInput, match=rf"{WNIDS[1]}.tar in .*{name} is truncated"):
        open_exposure(str(tmp_path), "imagenet30")


def test_synsets_without_end_markers_are_whole(tmp_path, images, monkeypatch):
    """Their size is known. Of many no more than a few are gone through."""
    monkeypatch.setattr(archive, "_IN_DOUBT", 2)
    data = synset_tar(WNIDS[0], images[WNIDS[0]])
    end = max(place for place in range(0, len(data), 512) if any(data[place:place + 512])) + 512
    (tmp_path / "fall11_whole.tar").write_bytes(tar_bytes([(f"n{number:08}.tar", data[:end]) for number in range(9)]))
    read = []
    members = archive.members
    monkeypatch.setattr(archive, "members", lambda tar: read.append(tar.inside) or members(tar))
    source = open_exposure(str(tmp_path), "imagenet30")
    assert read == ["", "n00000000.tar", "n00000001.tar"]
    assert [len(names(source, class_id)) for class_id in source.classes] == [2] * 9


def test_a_truncated_tar_of_validation_images_is_said_at_opening(tmp_path, images):
    write_folders(tmp_path / "train", images)
    data = tar_bytes([(f"ILSVRC2012_val_{number:08}.JPEG", data) for number, data in enumerate(images[WNIDS[2]], 1)])
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(data[:3000])
    with pytest.raises(BadInput, match=r"ILSVRC2012_img_val\.tar is truncated"):
        open_source(str(tmp_path), "imagenet30")


@pytest.mark.parametrize("split", TRAIN_AND_TEST)
def test_a_class_of_one_split_alone(split, tmp_path, images):
    other = "val" if split == "train" else "train"
    write_folders(tmp_path / "train", images)
    write_folders(tmp_path / "val", images)
    write_folders(tmp_path / ("train" if split == "train" else "val"), {"n02690373": images[WNIDS[0]]})
    source = open_source(str(tmp_path), "imagenet30")
    assert source.about(split, "n02690373") == 2
    assert source.about("train" if other == "train" else "test", "n02690373") == 0
