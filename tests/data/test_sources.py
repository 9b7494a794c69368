"""What people's folders look like, and what is said of those that can't be used."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from fcdd_dist.data.images import BadImage
from fcdd_dist.data.sources import open_exposure, open_source
from fcdd_dist.errors import BadInput, NotFound


def names(source, split, class_id):
    return [item.name for item in source.items(split, class_id)]


def write_idx(path: Path, part: str, images: np.ndarray, labels: np.ndarray, prefix: str = "") -> None:
    for kind, values in ((f"images-idx{images.ndim}", images), ("labels-idx1", labels)):
        head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        (path / f"{prefix}{part}-{kind}-ubyte").write_bytes(head + values.astype(np.uint8).tobytes())


def test_folders_of_a_known_recipe_by_id_or_display_name_in_any_case(tmp_path, fill_folder):
    for name in ("Ankle boot", "t-shirt_TOP", "Trouser"):
        fill_folder(tmp_path / "train" / name, 1)
    source = open_source(str(tmp_path), "fmnist")
    assert source.classes == {"t-shirt_top": "T-shirt/top", "trouser": "Trouser", "ankle_boot": "Ankle boot"}


def test_a_folder_that_is_no_class_of_the_recipe(tmp_path, fill_folder):
    fill_folder(tmp_path / "train" / "aeroplane", 1)
    with pytest.raises(BadInput, match=r"'aeroplane' is none of the recipe's classes .did you mean 'airplane'"):
        open_source(str(tmp_path), "cifar10")


def test_own_folders_give_ids_and_keep_their_names(tmp_path, fill_folder):
    fill_folder(tmp_path / "train" / "Ärmel & Co.", 1)
    fill_folder(tmp_path / "train" / "plain-1", 1)
    assert open_source(str(tmp_path), "folder").classes == {"plain-1": "plain-1", "_rmel___co_": "Ärmel & Co."}


def test_two_folders_that_would_be_one_class(tmp_path, fill_folder):
    fill_folder(tmp_path / "train" / "a b", 1)
    fill_folder(tmp_path / "train" / "a.b", 1)
    with pytest.raises(BadInput, match=r"'a b' and 'a.b' would both be class 'a_b'"):
        open_source(str(tmp_path), "folder")


def test_folder_names_fit_into_plain_tar_headers(tmp_path, fill_folder):
    fill_folder(tmp_path / "train" / ("x" * 81), 1)
    with pytest.raises(BadInput, match="more than 80 characters"):
        open_source(str(tmp_path), "folder")


@pytest.mark.parametrize(("train", "test"), [("good", "good"), ("normal", "good"), ("good", "Normal")])
def test_good_and_normal_are_two_names_of_one_class(train, test, tmp_path, fill_folder):
    fill_folder(tmp_path / "train" / train, 2)
    for kind in (test, "crack"):
        fill_folder(tmp_path / "test" / kind, 2)
    fill_folder(tmp_path / "ground_truth" / "crack", 2)
    source = open_source(str(tmp_path), "folder")
    assert set(source.classes) == {train, "crack"}
    assert names(source, "test", train) == [f"test/{test}/000.png", f"test/{test}/001.png"]


def test_good_and_normal_side_by_side_in_test_are_refused(tmp_path, fill_folder):
    for folder in ("train/good", "test/good", "test/normal"):
        fill_folder(tmp_path / folder, 1)
    with pytest.raises(BadInput, match="both good and normal"):
        open_source(str(tmp_path), "folder")


def test_val_stands_in_for_test_only_where_there_is_none(tmp_path, fill_folder):
    for folder in ("train/a", "val/a"):
        fill_folder(tmp_path / folder, 1)
    assert names(open_source(str(tmp_path), "folder"), "test", "a") == ["val/a/000.png"]
    fill_folder(tmp_path / "test" / "a", 1)
    assert names(open_source(str(tmp_path), "folder"), "test", "a") == ["test/a/000.png"]


def test_an_empty_train_folder_is_named(tmp_path, fill_folder):
    fill_folder(tmp_path / "train" / "a", 1)
    (tmp_path / "train" / "b").mkdir()
    (tmp_path / "train" / "b" / "readme.txt").write_text("nothing here")
    with pytest.raises(BadInput, match=r"train/b has no images"):
        open_source(str(tmp_path), "folder")


def test_odd_files(tmp_path, make_image, fill_folder):
    """Odd names are kept, what is no image by its extension is not counted, links are followed."""
    folder = tmp_path / "train" / "a"
    fill_folder(folder, 1)
    for name in ("two.dots.png", "with space.PNG", "наїв.png", "new\nline.png"):
        make_image(1).save(folder / name, "PNG")
    make_image(2).save(os.fsencode(folder) + b"/latin-\xe9.png", "PNG")
    for name in ("Thumbs.db", "notes.txt", "._000.png", ".hidden.png"):
        (folder / name).write_bytes(b"junk")
    (folder / "broken.jpg").write_bytes(b"")
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    outside = tmp_path / "elsewhere"
    fill_folder(outside, 1)
    (folder / "link.png").symlink_to(outside / "000.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    items = {item.name.removeprefix("train/a/"): item for item in open_source(str(tmp_path), "folder").items(
        "train", "a")}
    assert set(items) == {"000.png", "two.dots.png", "with space.PNG", "наїв.png", "new\nline.png",
                          r"latin-\xe9.png", "broken.jpg", "photo.heic", "link.png", "dangling.png", "linked/000.png",
                          "itself.png"}
    for name, reason in (("broken.jpg", "empty"), ("photo.heic", "HEIC"), ("dangling.png", "can't be read: No such"),
                         ("itself.png", "can't be read: Too many levels")):
        with pytest.raises(BadImage, match=reason):
            items.pop(name).read()
    assert all(item.read().size == (12, 8) for item in items.values())


def test_a_png_named_jpg_is_read(tmp_path, make_image):
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    make_image(1).save(folder / "x.jpg", "PNG")
    assert next(open_source(str(tmp_path), "folder").items("train", "a")).read().size == (12, 8)


def test_loose_and_nested_exposure_images(tmp_path, fill_folder):
    fill_folder(tmp_path, 2)
    fill_folder(tmp_path / "cats" / "deep" / "deeper", 2)
    source = open_exposure(str(tmp_path), "cifar10")
    assert {c: names(source, "train", c) for c in source.classes} == {
        "cats": ["cats/deep/deeper/000.png", "cats/deep/deeper/001.png"], "images": ["000.png", "001.png"]}
    with pytest.raises(BadInput, match=r"looked for: .*cifar-10-batches-py.*train/CLASS"):
        open_source(str(tmp_path), "cifar10")


def test_what_is_not_there(tmp_path):
    with pytest.raises(NotFound, match=r"there is no file or folder .*/none$"):
        open_source(str(tmp_path / "none"), "fmnist")
    with pytest.raises(BadInput, match="looked for: train-images-idx3-ubyte"):
        open_source(str(tmp_path), "fmnist")
    with pytest.raises(BadInput, match="--source"):
        open_source(None, "fmnist")
    with pytest.raises(BadInput, match="--exposure"):
        open_exposure(None, "fmnist")
    with pytest.raises(BadInput, match="no recipe 'fminst'"):
        open_source(str(tmp_path), "fminst")


def test_idx_of_a_test_part_alone_is_good_for_exposure(tmp_path):
    write_idx(tmp_path, "t10k", np.zeros((4, 28, 28)), np.array([0, 1, 1, 3]))
    source = open_exposure(str(tmp_path), "fmnist")
    assert {c: len(names(source, "test", c)) for c in source.classes} == {"0": 1, "1": 2, "3": 1}
    assert not list(source.items("train", "1"))


def test_idx_in_the_folders_of_torchvision(tmp_path):
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    write_idx(tmp_path / "FashionMNIST" / "raw", "train", np.zeros((2, 28, 28)), np.array([1, 2]))
    assert list(open_source(str(tmp_path), "fmnist").classes) == ["trouser", "pullover"]
    (tmp_path / "KMNIST" / "raw").mkdir(parents=True)
    write_idx(tmp_path / "KMNIST" / "raw", "train", np.zeros((2, 28, 28)), np.array([1, 2]))
    with pytest.raises(BadInput, match="several sets"):
        open_source(str(tmp_path), "fmnist")


def test_emnist_letters_stand_upright(tmp_path):
    lying = np.zeros((2, 28, 28))
    lying[0, 5, :] = 200  # a row on disk is a column of the letter
    write_idx(tmp_path, "train", lying, np.array([1, 26]), prefix="emnist-letters-")
    write_idx(tmp_path, "train", np.zeros((1, 28, 28)), np.array([0]), prefix="emnist-digits-")
    source = open_exposure(str(tmp_path), "fmnist")
    assert source.classes == {"a": "A", "z": "Z"}
    image = np.asarray(next(source.items("train", "a")).read())
    assert (image[:, 5] == 200).all()
    assert image.sum() == 28 * 200


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda data: data[:-1], r"should hold 2352 bytes after its header and holds 2351"),
    (lambda data: data + b"x", "holds more"), (lambda data: data[:10], "is no idx file"),
    (lambda data: b"\0\0\x0d\3" + data[4:], "is no idx file"),
    (lambda data: data[:4] + b"\xff" * 12 + data[16:], "more than the limit"),
    (lambda data: gzip.compress(data)[:-30], "is damaged"), (lambda data: b"\x1f\x8b" + bytes(40), "is damaged")])
def test_damaged_idx_files(damage, reason, tmp_path):
    write_idx(tmp_path, "train", np.zeros((3, 28, 28)), np.array([0, 1, 2]))
    path = tmp_path / "train-images-idx3-ubyte"
    data = damage(path.read_bytes())
    if data[:2] == b"\x1f\x8b":
        path.unlink()
        path = path.with_name(path.name + ".gz")
    path.write_bytes(data)
    with pytest.raises(BadInput, match=reason):
        open_source(str(tmp_path), "fmnist")


def test_idx_files_that_do_not_fit_together(tmp_path):
    write_idx(tmp_path, "train", np.zeros((3, 28, 28)), np.array([0, 1]))
    with pytest.raises(BadInput, match=r"has 3 images, but .* has 2 labels"):
        open_source(str(tmp_path), "fmnist")
    write_idx(tmp_path, "train", np.zeros((2, 28, 28)), np.array([0, 10]))
    with pytest.raises(BadInput, match="labels go from 0 to 10, but there are 10 classes"):
        open_source(str(tmp_path), "fmnist")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match="not its labels"):
        open_source(str(tmp_path), "fmnist")


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["FCDD_TEST_TRAP"],)


def test_a_pickle_that_is_not_the_published_one_is_never_opened(tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    monkeypatch.setenv("FCDD_TEST_TRAP", str(trap))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch",
                 "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Malicious()))
    for opened in (lambda: open_source(str(tmp_path), "cifar10"), lambda: open_exposure(str(folder), "cifar10")):
        with pytest.raises(BadInput, match="data_batch_1 is not the published file"):
            opened()
    (folder / "data_batch_1").unlink()
    with pytest.raises(BadInput, match="data_batch_1 is missing"):
        open_source(str(tmp_path), "cifar10")
    assert not trap.exists()


def test_digits_are_split_once_and_for_all():
    first, second = (open_source(None, "digits") for _ in range(2))
    for digit in first.classes:
        train, test = (names(first, split, digit) for split in ("train", "test"))
        assert train == names(second, "train", digit)
        assert 0.75 < len(train) / len(train + test) < 0.85
        pixels = {split: {np.asarray(item.read()).tobytes() for item in first.items(split, digit)}
                  for split in ("train", "test")}
        assert not pixels["train"] & pixels["test"]


def test_exposure_of_digits_holds_no_upright_digit():
    """Turned digits of the training part, and as many patches of photographs."""
    digits, exposure = open_source(None, "digits"), open_exposure(None, "digits")
    count = sum(len(names(digits, "train", c)) for c in digits.classes)
    assert {c: len(names(exposure, "train", c)) for c in exposure.classes} == {"turned": count, "photographs": count}
    turned = [np.asarray(item.read()) for item in exposure.items("train", "turned")]
    upright = next(digits.items("train", "0")).read()
    candidates = [np.asarray(upright.rotate(angle).resize((28, 28), 2)) for angle in (90, -90)]
    assert sum(any((image == candidate).all() for candidate in candidates) for image in turned) == 1
    assert all(np.asarray(item.read()).shape == (28, 28) for item in exposure.items("train", "photographs"))


def test_downloads_are_only_tried_where_asked_for(tmp_path, monkeypatch):
    from torchvision import datasets

    asked = []

    def refuse(root, download):
        asked.append(Path(root))
        raise RuntimeError("Error downloading\n<urlopen error no route>")

    monkeypatch.setattr(datasets, "FashionMNIST", refuse)
    with pytest.raises(NotFound):
        open_source(str(tmp_path / "new"), "fmnist")
    assert not asked
    with pytest.raises(BadInput, match=r"FashionMNIST can't be downloaded.*no route"):
        open_source(str(tmp_path / "new"), "fmnist", download=True)
    with pytest.raises(BadInput, match="nothing to download for recipe 'folder'"):
        open_source(str(tmp_path), "folder", download=True)
    assert asked == [tmp_path / "new"]
    write_idx(tmp_path, "train", np.zeros((1, 28, 28)), np.array([0]))
    assert open_source(str(tmp_path), "fmnist", download=True).classes == {"t-shirt_top": "T-shirt/top"}
