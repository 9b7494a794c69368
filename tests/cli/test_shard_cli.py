"""`fcdd-dist shard` as a person meets it: repeated, refused, interrupted."""

from __future__ import annotations

import json
import os

import pytest

from fcdd_dist.cli import main
from fcdd_dist.cli.options import RECIPES
from fcdd_dist.data.shards import sharding
from fcdd_dist.recipes import RECIPES as REGISTRY
from fcdd_dist.recipes.imagenet1k import names as imagenet1k
from tests.support import ilsvrc

CHURCH, PLAYER, OTHER = "n03028079", "n02979186", "n00007846"  # the last one is no class of ImageNet-1k


@pytest.fixture(scope="module")
def images(tmp_path_factory, fill_folder):
    """Two classes of ImageNet, and exposure of these and another one."""
    root = tmp_path_factory.mktemp("images")
    for number, wnid in enumerate((CHURCH, PLAYER)):
        fill_folder(root / "set/train" / wnid, 4, 100 * number)
        fill_folder(root / "outliers" / wnid, 3, 1000 + 100 * number)
    fill_folder(root / "outliers" / OTHER, 5, 5000)
    return root


@pytest.fixture
def shard(images, tmp_path, capsys):
    """``shard(*options, recipe="imagenet30")`` into OUT, a folder that is not there: exit code, stdout and stderr."""
    def run(*options, recipe="imagenet30"):
        given = [option.replace("IMAGES", str(images)) for option in options]
        for flag, value in (("--source", "set"), ("--exposure", "outliers")):
            given += [] if flag in given or recipe == "digits" else [flag, str(images / value)]
        code = main(["shard", recipe, "--out", str(tmp_path / "new/out"), *given])
        return code, *capsys.readouterr()
    return run


@pytest.fixture
def refused(shard, tmp_path):
    """The one line of a refusal, which leaves nothing behind."""
    def run(*options, recipe="imagenet30"):
        code, out, err = shard(*options, recipe=recipe)
        assert (code, out) == (2, "")
        assert list(tmp_path.iterdir()) == []
        assert err.count("\n") == 1
        return err.removeprefix("fcdd-dist: error: ").strip()
    return run


def test_the_recipes_of_the_help_are_those_of_the_registry():
    *names, last = RECIPES.replace(" or ", ", ").split(", ")
    assert [*names, last] == list(REGISTRY)


def test_the_same_again_has_nothing_to_do(shard, tmp_path):
    command = ("--classes", "all", "--exclude", "imagenet1k", "--form", "square-224")
    code, out, _ = shard(*command)
    assert (code, shard(*command)) == (0, (0, out, f"{tmp_path}/new/out is finished; nothing to do\n"))
    assert json.loads(shard(*command, "--json")[1])["counts"] == {"train": 6, "holdout": 2, "exposure": 5}
    code, out, err = shard(*command[:-1], "square-256")
    assert (code, out) == (2, "")
    assert 'made from something else (form: "jpeg90-256-rgb" given, "jpeg90-224-rgb" there); choose another' in err


def test_what_exposure_must_not_have(refused):
    ids = f"{PLAYER},{CHURCH}"
    both = f"cassette player ({PLAYER}), church ({CHURCH})"
    start = f"outliers has images of 2 of the classes to be learned and tested, which exposure must not have: {both}. "
    for given, advice in (
            ("none", f"Leave them out (--exclude {ids} or --exclude imagenet1k)"),
            ("benchmark30", f"Leave them out, too (--exclude benchmark30,{ids} or --exclude imagenet1k)"),
            (OTHER, f"Leave them out, too (--exclude {OTHER},{ids} or --exclude imagenet1k)")):
        assert refused("--classes", "all", "--exclude", given).endswith(start + advice)


@pytest.mark.parametrize("given", ["church,cassette player", f"Church,{PLAYER}", "imagenet1k", "benchmark30,church,"
                                   "cassette player,tench", "list.txt"])
def test_what_is_left_out_by_name(shard, tmp_path, monkeypatch, given):
    """A class of ImageNet-1k that the exposure lacks, such as tench, is left out already."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("church\nbenchmark30\nn02979186 cassette player\n")
    code, out, err = shard("--classes", "all", "--exclude", given)
    assert code == 0, err
    assert "5 images in exposure" in out


def test_what_can_not_be_left_out(refused):
    def says(given, *reasons):
        error = refused("--classes", "all", "--exclude", given)
        assert all(reason in error for reason in reasons), error

    lists = "; or the name of a list: imagenet1k, benchmark30, none"
    says("imagnet1k", "no class 'imagnet1k' (did you mean 'imagenet1k'?)", lists,
         f"; it has: {OTHER}, cassette player ({PLAYER}), church ({CHURCH})")
    says("ex.txt", "--exclude ex.txt: there is no such file, and ")
    says("lists/ex", "--exclude lists/ex: there is no such file, and ")
    says("none,church", "--exclude none,church: none leaves out nothing, so it goes alone")
    says("chuch", "no class 'chuch' (did you mean 'church'?)")


def test_nothing_is_left_of_the_exposure(refused, images, tmp_path_factory):
    start = "has no exposure images besides those of imagenet1k, which are left out"
    end = ": give others, or leave out less (--exclude A,B, or a list: imagenet1k, benchmark30, none)"
    assert refused("--classes", "all", "--exclude", f"imagenet1k,{OTHER}").endswith(
        f"besides those of imagenet1k, {OTHER}, which are left out{end}")
    church = tmp_path_factory.mktemp("church")
    (church / CHURCH).symlink_to(images / "outliers" / CHURCH)
    assert refused("--classes", PLAYER, "--exposure", str(church)).endswith(f"{start} as recipe imagenet30 has it{end}")
    assert "no WordNet ids, so those of imagenet1k can't be left out" in refused(
        "--classes", "all", "--exclude", "imagenet1k", "--exposure", f"IMAGES/outliers/{CHURCH}")


def test_classes_twice_and_none_at_all(refused):
    assert refused("--classes", "church,church") == f"class church ({CHURCH}) is named twice"
    assert refused("--classes", f"church,{CHURCH}") == (
        f"class church ({CHURCH}) is named twice: as church and as {CHURCH}")
    assert f"it has: cassette player ({PLAYER}), church ({CHURCH})" in refused("--classes", "curch")
    assert f"30 classes; it has cassette player ({PLAYER}), church ({CHURCH}): choose with --classes" in refused()


def test_long_lists_are_cut(refused, tmp_path_factory, make_image, file_bytes):
    folder, image = tmp_path_factory.mktemp("many"), file_bytes(make_image(0), "JPEG")
    ilsvrc.write_folders(folder / "train", {wnid: [image] for wnid in list(imagenet1k())[:30]})
    error = refused("--classes", "no such", "--source", str(folder))
    assert "it has: tench (n01440764), goldfish (n01443537), " in error
    assert error.endswith(" and 20 more")


def test_forms(refused, shard):
    assert "write square-256 or short-side-256 (or another number of pixels), or all of it, png-SIDE" in refused(
        "--classes", "all", "--form", "gif")
    for form in ("short-side-100", "square-223", "jpeg90-128-rgb"):
        assert refused("--classes", "all", "--form", form).startswith(
            f"--form {form}: recipe imagenet30 trains on crops of 224 px, which don't fit into images of ")
    code, _, err = shard("--form", "png-16-rgb", "--exclude", "church,cassette player", recipe="folder")
    assert code == 0
    assert err.startswith("to train on this form takes other settings than recipe folder has: network fcdd224 takes "
                          "images of 224 px and the data have 16 (stored form png-16-rgb)")


def test_places_that_are_not_there_or_not_ours(refused, capsys, tmp_path_factory):
    assert refused("--exposure", "nowhere.tar", "--classes", "all") == (
        f"there is no file or folder {os.getcwd()}/nowhere.tar")
    folder = tmp_path_factory.mktemp("taken")
    (folder / "notes.txt").write_text("mine")
    for out, reason in (("notes.txt/data", f"can't write {folder}/notes.txt/data/: Not a directory"),
                        ("", f"{folder} holds other files, such as notes.txt: choose another place, or an empty one")):
        assert main(["shard", "digits", "--out", str(folder / out)]) == 2
        assert capsys.readouterr() == ("", f"fcdd-dist: error: {reason}\n")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_labels_from_above_are_told(capsys, tmp_path, make_image, file_bytes):
    pictures = [file_bytes(make_image(seed), "JPEG") for seed in range(4)]
    ilsvrc.write_folders(tmp_path / "in/deep/train", {CHURCH: pictures})
    ilsvrc.write_val_heap(tmp_path / "in/deep/val", pictures[:2])
    ilsvrc.write_kaggle_csv(tmp_path / "LOC_val_solution.csv", [CHURCH, CHURCH])
    assert main(["shard", "imagenet30", "--source", str(tmp_path / "in/deep"), "--classes", "church", "--form",
                 "square-224", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == f"labels from {tmp_path}/LOC_val_solution.csv"


def test_an_interrupted_one_says_that_it_goes_on(shard, monkeypatch, tmp_path):
    add = sharding.Progress.add

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sharding.Progress, "add", interrupt)
    command = ("--classes", "all", "--form", "square-224")
    code, out, err = shard(*command)
    assert (code, out) == (130, "")
    assert err.endswith("fcdd-dist: stopped by SIGINT; what is finished stands, and the same command goes on from "
                        "there\n")
    monkeypatch.setattr(sharding.Progress, "add", add)
    code, _, err = shard(*command)
    assert (code, err.splitlines()[0]) == (0, "going on with what is there")
    assert not (tmp_path / "new/out/unfinished").exists()
