"""What users hold: a checkpoint that loads anywhere, scores what it scored, and explains images as they are."""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcdd_dist import Detector, checkpoint
from fcdd_dist.cli import main
from fcdd_dist.data.images import decode_stored
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.data.sources import open_source
from fcdd_dist.errors import BadInput, Conflict, Damaged, NotFound
from fcdd_dist.evaluation.explain import explain
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job, claim, prepare, run_rank
from fcdd_dist.storage import FolderStore, open_store
from fcdd_dist.world import World

pytestmark = pytest.mark.slow  # it trains

GOLDEN = Path(__file__).parents[1] / "checkpoints"


@pytest.fixture(scope="module")
def run(digits_data, tmp_path_factory):
    url = str(tmp_path_factory.mktemp("detector") / "run")
    job = Job(experiment=recipe("digits").experiment("0", 0).override(["epochs=40"]), data=digits_data, run=url)
    claim(prepare(job))
    run_rank(job, World())
    return url


@pytest.fixture(scope="module")
def detector(run):
    return Detector.load(run)


def stored_test_images(digits_data, class_id="0"):
    store = FolderStore(digits_data)
    manifest = load_manifest(store)
    (shard,) = manifest.part("test", class_id).shards
    samples = read_shard(store, shard)
    return {sample.source: decode_stored(sample.image, manifest.form).transpose(1, 2, 0) for sample in samples}


def test_scores_of_stored_images_are_those_of_the_run(run, detector, digits_data):
    stored = stored_test_images(digits_data)
    rows = {row["path"]: float(row["score"]) for row in csv.DictReader(io.StringIO(
        FolderStore(run).read("scores.csv").decode())) if row["class"] == "0"}
    scores = detector.score(list(stored.values()))
    assert scores.dtype == np.float32
    assert np.allclose(scores, [rows[source] for source in stored], rtol=1e-5)


def test_an_original_scores_as_its_shard_member_does(detector, digits_data):
    stored = stored_test_images(digits_data)
    originals = {item.name: item.read() for item in open_source(None, "digits").items("test", "0")}
    ours = detector.score([originals[source] for source in stored])
    spread = np.ptp(ours)
    assert np.abs(ours - detector.score(list(stored.values()))).max() < 0.01 * spread


def test_images_of_any_size_get_a_map_in_their_own_grid(detector):
    random = np.random.default_rng(0)
    sizes = [(28, 28), (8, 8), (61, 40), (1, 1), (200, 30)]
    images = [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    maps = detector.explain(images)
    assert [map_.shape for map_ in maps] == sizes
    assert all(map_.dtype == np.float32 and map_.min() >= 0 and map_.max() <= 1 for map_ in maps)
    colour = [np.repeat(image[:, :, None], 3, axis=2) for image in images]
    assert np.allclose(detector.score(colour), detector.score(images), atol=1e-3)
    assert np.allclose(detector.score([Image.fromarray(image) for image in images]), detector.score(images))
    assert detector.score([]).shape == (0,)


@pytest.mark.parametrize(("images", "message"), [
    (np.zeros((28, 28), np.uint8), "give a list"), (np.zeros((28, 28, 3), np.uint8), "give a list"),
    (Image.new("L", (3, 3)), "give a list"), ([np.zeros((0, 5), np.uint8)], "has none")])
def test_one_image_is_no_list_of_images(detector, images, message):
    with pytest.raises(BadInput, match=message):
        detector.score(images)


def test_opened_files_are_seen_as_the_command_line_sees_them(detector, tmp_path):
    """EXIF orientation, 16 bits and transparency: the score of a file does not depend on who opened it."""
    from fcdd_dist.data.images import load_image

    ramp = np.add.outer(np.arange(40) * 5, np.arange(30) * 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp).save(tmp_path / "rotated.jpg", exif=exif)
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([ramp, ramp, ramp, np.where(ramp > 100, 255, 0).astype(np.uint8)])).save(
        tmp_path / "holes.png")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            score, (map_,) = detector.scores_and_maps([image])
        want = load_image(path.read_bytes())
        assert score == detector.score([want])
        assert map_.shape == want.size[::-1]


@pytest.mark.parametrize("name", ["fcdd28", "fcdd32", "fcdd224"])
def test_outputs_do_not_depend_on_the_number_of_threads(name):
    import torch

    from fcdd_dist.detector import build_network
    from fcdd_dist.model.normalization import Preprocessing

    experiment = recipe({"fcdd28": "fmnist", "fcdd32": "cifar10", "fcdd224": "folder"}[name]).experiment("x", 0)
    form, side = experiment.data.form, int(name[4:])
    zeros, ones = (0.0,) * form.channels, (1.0,) * form.channels
    this = Detector(experiment, build_network(experiment), Preprocessing(
        normalization="mean-std", side=side, shift=zeros, scale=ones))
    images = torch.randint(0, 256, (9, form.channels, form.side, form.side), dtype=torch.uint8)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(this.outputs(images))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    with torch.no_grad():
        x = images.float() / 255
        plain = this.network.eval()(torch.nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True))
    assert torch.allclose(found[0], plain, atol=1e-4)


def test_a_map_points_at_what_is_wrong(detector, digits_data):
    image = next(iter(stored_test_images(digits_data).values())).copy()
    before = detector.maps([image])[0]
    image[20:26, 2:8] = 255  # a blot in the lower left corner
    grown = detector.maps([image])[0] - before
    row, column = np.unravel_index(grown.argmax(), grown.shape)
    assert row > 14
    assert column < 14


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), "photo.png", np.zeros(4, np.uint8)])
def test_what_is_no_image_is_refused(detector, image):
    with pytest.raises(BadInput, match="an image"):
        detector.score([image])


def test_it_loads_without_ray_and_without_pickle(run):
    code = ("import sys; sys.modules['ray'] = None; import pickle; pickle.load = pickle.loads = None\n"
            f"from fcdd_dist import Detector; d = Detector.load({run!r}); import numpy as np\n"
            "print(d.score([np.zeros((28, 28), np.uint8)]).shape, 'webdataset' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(1,) False"


def test_last_best_and_a_folder_of_checkpoints(run, tmp_path):
    names = checkpoint.names(FolderStore(run))
    assert checkpoint.locate(f"{run}/last").url == checkpoint.locate(run).url
    assert checkpoint.locate(run).url.endswith(names[-1])
    assert checkpoint.locate(f"{run}/best").url.rpartition("/")[2] in names
    assert checkpoint.locate(f"{run}/checkpoints/{names[0]}").url.endswith(names[0])
    with pytest.raises(NotFound, match="holds no checkpoint"):
        Detector.load(str(tmp_path))


def test_a_sweep_names_one_of_its_runs(run, tmp_path):
    sweep = FolderStore(tmp_path / "sweep")
    sweep.write("sweep.json", b"{}")
    with pytest.raises(NotFound, match="holds no checkpoint"):
        Detector.load(sweep.url)
    shutil.copytree(run, tmp_path / "sweep/trials/0-s0")
    Image.new("L", (9, 9)).save(tmp_path / "x.png")
    with pytest.raises(NotFound, match=r"holds runs and is none: give one of them, such as .*/sweep/trials/0-s0$"):
        explain(sweep.url, [str(tmp_path / "x.png")], str(tmp_path / "out"))


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda folder: (folder / "detector.safetensors").unlink(), "detector.safetensors is missing"),
    (lambda folder: (folder / "detector.safetensors").write_bytes(b"x" * 100), "detector.safetensors has 100 bytes"),
    (lambda folder: _flip(folder / "detector.safetensors"), "detector.safetensors has other bytes.* altered"),
    (lambda folder: (folder / "checkpoint.json").write_text("{}"), "checkpoint.json is damaged"),
    (lambda folder: (folder / "checkpoint.json").write_text("\x80\x04pickle"), "checkpoint.json is damaged"),
])
def test_an_altered_checkpoint_is_refused(run, tmp_path, spoil, message):
    folder = Path(shutil.copytree(checkpoint.locate(run).url, tmp_path / "copy"))
    spoil(folder)
    with pytest.raises(Damaged, match=message):
        Detector.load(str(folder))


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_checkpoints_of_every_schema_load_and_score_as_they_did(folder):
    expected = json.loads((folder / "expected.json").read_text())
    detector = Detector.load(str(folder))
    image = (np.arange(28 * 28).reshape(28, 28) * 7 % 256).astype(np.uint8)
    assert detector.score([image])[0] == pytest.approx(expected["score"], rel=1e-4)
    assert detector.maps([image])[0][14, 10] == pytest.approx(expected["map"], rel=1e-4)
    assert detector.threshold.value == expected["threshold"]


class TestExplain:
    @pytest.fixture
    def said(self):
        return []

    def test_files_folders_globs_and_bad_images(self, run, tmp_path):
        pictures = tmp_path / "pictures"
        (pictures / "deep").mkdir(parents=True)
        image = Image.fromarray(np.full((30, 20), 90, np.uint8))
        image.save(pictures / "a.png")
        image.save(pictures / "deep" / "a.png")
        image.convert("RGB").save(pictures / "b ü.jpg")
        (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        (pictures / "notes.txt").write_text("no image")
        said = []
        found = explain(run, [str(pictures), str(pictures / "*.png")], str(tmp_path / "out"), raw=True,
                        say=said.append)
        assert found.failed == 1
        assert [one.picture for one in found.images] == ["a.png", "b_ü.png", "a-2.png"]
        assert any("left out" in line and "broken.png" in line for line in said)
        rows = list(csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines()))
        assert len(rows) == 3
        assert {row["label"] for row in rows} <= {"0", "1"}
        for name in ("a", "a-2", "b_ü"):
            with Image.open(tmp_path / f"out/{name}.png") as picture:
                assert picture.size[0] > 60
            assert np.load(tmp_path / f"out/{name}.npy", allow_pickle=False).shape == (30, 20)

    def test_an_earlier_explanation_is_written_over_where_nothing_is_lost(self, run, tmp_path, said):
        out, copy = tmp_path / "out", shutil.copytree(checkpoint.locate(run).url, tmp_path / "copy")
        for name in "ab":
            Image.new("L", (9, 9)).save(tmp_path / f"{name}.png")
        (tmp_path / "c.png").write_bytes(b"nothing")
        one, both = [str(tmp_path / "a.png")], [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
        explain(run, [*one, str(tmp_path / "c.png")], str(out), raw=True, say=said.append)
        assert not any("writing over" in line for line in said)
        explain(run, both, str(out), say=said.append)  # what could not be read is no loss
        assert "writing over the earlier explanation" in said[-1]
        files = {path.name: path.read_bytes() for path in out.iterdir()}
        assert set(files) == {"a.png", "b.png", "scores.csv", "explanation.json"}
        with pytest.raises(Conflict, match=r"out holds an explanation of other images, such as .*b.png: give another"):
            explain(run, one, str(out))
        record = json.loads((copy / "checkpoint.json").read_text())
        weights = copy / "detector.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
        record["files"][weights.name]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        (copy / "checkpoint.json").write_text(json.dumps(record))
        with pytest.raises(Conflict, match="out holds an explanation by another detector: give another --out"):
            explain(str(copy), both, str(out))
        assert {path.name: path.read_bytes() for path in out.iterdir()} == files
        (out / "a.npy").write_bytes(b"mine")  # no file of that explanation, which was without --raw
        with pytest.raises(Conflict, match=r"holds other files, such as a\.npy"):
            explain(run, both, str(out))

    def test_scores_threshold_and_verdict_are_told(self, run, detector, tmp_path, capsys):
        for name, grey in (("a", 0), ("b", 250)):
            Image.new("L", (28, 28), grey).save(tmp_path / f"{name}.png")
        asked = ["explain", run, str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(tmp_path / "out")]
        assert main(asked) == 0
        head, *lines, end = capsys.readouterr().out.splitlines()
        assert head.split() == ["score", "threshold", "verdict", "image"]
        assert main([*asked, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["threshold"] == detector.threshold.value
        assert found["failed"] == 0
        scores = detector.score([np.full((28, 28), grey, np.uint8) for grey in (0, 250)])
        for line, one, name, score in zip(lines, found["images"], "ab", scores, strict=True):
            assert one == {"path": str(tmp_path / f"{name}.png"), "score": pytest.approx(float(score)),
                           "flagged": bool(score > detector.threshold.value), "picture": f"{name}.png"}
            verdict = "flagged" if one["flagged"] else "not flagged"
            assert line.split(maxsplit=2)[:2] == [f"{score:.4g}", f"{detector.threshold.value:.4g}"]
            assert re.fullmatch(rf"{verdict} +{re.escape(one['path'])}", line.split(maxsplit=2)[2])
            assert line.index(one["path"]) == head.index("image")
        assert end == f"pictures and scores.csv are in {tmp_path / 'out'}"

    def test_a_folder_of_somebody_else_is_not_touched(self, run, tmp_path):
        (tmp_path / "thesis.tex").write_text("")
        Image.new("L", (9, 9)).save(tmp_path / "x.png")
        with pytest.raises(Conflict, match="holds other files"):
            explain(run, [str(tmp_path / "x.png")], str(tmp_path))

    def test_a_run_and_the_images_themselves_are_never_written_over(self, run, tmp_path):
        Image.new("L", (9, 9)).save(tmp_path / "x.png")
        before = sorted(entry.key for entry in FolderStore(run).list())
        with pytest.raises(Conflict, match=r"holds other files, such as checkpoints/"):
            explain(run, [str(tmp_path / "x.png")], run)
        assert sorted(entry.key for entry in FolderStore(run).list()) == before
        explain(run, [str(tmp_path / "x.png")], str(tmp_path / "out"))
        explain(run, [str(tmp_path)], str(tmp_path / "out"))  # a folder is searched but for what lies in --out
        rows = list(csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines()))
        assert [row["picture"] for row in rows] == ["x.png"]
        with pytest.raises(BadInput, match=r"x.png lies in .*give another --out"):
            explain(run, [str(tmp_path / "out/x.png")], str(tmp_path / "out"))
        (tmp_path / "out/mine.txt").write_text("")
        with pytest.raises(Conflict, match=r"such as mine.txt"):
            explain(run, [str(tmp_path / "x.png")], str(tmp_path / "out"))

    def test_a_checkpoint_that_does_not_verify_is_bad_input(self, run, tmp_path):
        folder = Path(shutil.copytree(checkpoint.locate(run).url, tmp_path / "copy"))
        (folder / "detector.safetensors").write_bytes(b"x")
        Image.new("L", (9, 9)).save(tmp_path / "x.png")
        with pytest.raises(BadInput, match=r"detector.safetensors has .* it was altered.*another checkpoint"):
            explain(str(folder), [str(tmp_path / "x.png")], str(tmp_path / "out"))

    @pytest.mark.parametrize("images", ["nothing.png", "*.png", "."])
    def test_what_names_no_image(self, run, tmp_path, monkeypatch, images):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(BadInput, match="no"):
            explain(run, [images], str(tmp_path / "out"))

    def test_colours_and_scale(self, run, tmp_path):
        Image.new("L", (9, 9), 200).save(tmp_path / "x.png")
        with pytest.raises(BadInput, match=r"no colours 'virids' \(did you mean 'viridis'\?\)"):
            explain(run, [str(tmp_path / "x.png")], str(tmp_path / "out"), colour="virids")
        pictures = []
        for scale in ("given", "reference", "each"):
            explain(run, [str(tmp_path / "x.png")], str(tmp_path / "out"), scale=scale)
            pictures.append((tmp_path / "out/x.png").read_bytes())
        assert len(set(pictures)) == 3

    def test_normal_images_stay_blue_and_flagged_ones_show_why(self, run, tmp_path, digits_data):
        """By the shares of red pixels in the pictures of both kinds, explained together and the normal ones alone."""
        for class_id, name in (("0", "normal"), ("5", "other")):
            for number, pixels in enumerate(list(stored_test_images(digits_data, class_id).values())[:6]):
                Image.fromarray(pixels[:, :, 0]).save(tmp_path / f"{name}-{number}.png")
        explain(run, [str(tmp_path / "*.png")], str(tmp_path / "both"), raw=True)
        explain(run, [str(tmp_path / "normal-*.png")], str(tmp_path / "alone"))

        def red(picture):
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB")).astype(int)
            return ((pixels[..., 0] > 150) & (pixels[..., 2] < 60)).mean()

        def mean_red(folder, name):
            return np.mean([red(path) for path in sorted((tmp_path / folder).glob(f"{name}-*.png"))])

        assert mean_red("both", "other") > 3 * mean_red("both", "normal")
        assert mean_red("alone", "normal") < mean_red("both", "other") / 2

    def test_without_a_threshold_labels_stay_empty_and_why_is_said_once(self, run, tmp_path):
        copy = FolderStore(shutil.copytree(checkpoint.locate(run).url, tmp_path / "copy"))
        record = json.loads(copy.read("checkpoint.json"))
        record["threshold"] = {"value": None, "budget": 0.05, "images": 0, "how": "no images were held out"}
        copy.write("checkpoint.json", json.dumps(record).encode())
        for name in "ab":
            Image.new("L", (9, 9)).save(tmp_path / f"{name}.png")
        said = []
        explain(copy.url, [str(tmp_path / "a.png"), str(tmp_path / "b.png")], str(tmp_path / "out"), say=said.append)
        assert [line for line in said if "threshold" in line] == [
            "no threshold, labels stay empty: no images were held out"]
        rows = csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines())
        assert [row["label"] for row in rows] == ["", ""]


@pytest.mark.s3
class TestInObjectStorage:
    """What reads a run, images and a data set takes their URLs, and gives the same."""

    @pytest.fixture
    def there(self, run, digits_data, bucket):
        for name, folder in (("runs/zero", run), ("data", digits_data)):
            source, store = FolderStore(folder), open_store(f"{bucket.url}/{name}")
            for entry in source.list():
                store.write(entry.key, source.read(entry.key))
        return bucket.url

    def test_checkpoints(self, run, there):
        image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
        for which in ("", "/last", "/best", f"/checkpoints/{checkpoint.names(FolderStore(run))[0]}"):
            ours, theirs = Detector.load(f"{run}{which}"), Detector.load(f"{there}/runs/zero{which}")
            assert ours.record == theirs.record
            assert ours.score([image]) == theirs.score([image])
        with pytest.raises(NotFound, match=f"{there}/runs holds runs and is none: .* such as {there}/runs/zero$"):
            Detector.load(f"{there}/runs")

    def test_explain_and_where_it_goes(self, run, there, tmp_path, bucket):
        store, folder = open_store(f"{there}/in"), FolderStore(tmp_path / "in")
        for number in range(12):
            file = io.BytesIO()
            Image.fromarray(np.full((30, 20), 20 * number, np.uint8)).save(file, "PNG")
            for place in (store, folder):
                place.write(f"{number % 3}/ü {number}.png", file.getvalue())
        for place in (store, folder):
            place.write("0/broken.png", b"junk")
        said = []
        assert explain(f"{there}/runs/zero", [store.url], f"{there}/out", raw=True, say=said.append).failed == 1
        assert f"left out {there}/in/0/broken.png: it is no image" in said[0]
        assert explain(run, [folder.url], str(tmp_path / "out"), raw=True).failed == 1
        theirs = {entry.key: bucket.get(f"out/{entry.key}") for entry in open_store(f"{there}/out").list()}
        ours = {entry.key: FolderStore(tmp_path / "out").read(entry.key) for entry in
                FolderStore(tmp_path / "out").list()}
        for name in ("scores.csv", "explanation.json"):
            assert theirs.pop(name).decode() == ours.pop(name).decode().replace(str(tmp_path), there)
        assert theirs == ours

        with pytest.raises(Conflict, match=r"/out holds an explanation of other images, such as .*/in/"):
            explain(run, [f"{there}/in/**/ü 1*.png"], f"{there}/out")
        assert explain(run, [f"{there}/in/**/ü*.png"], f"{there}/out").failed == 0  # an earlier one is replaced
        assert bucket.list("out/") == ["out/explanation.json", "out/scores.csv", *sorted(
            f"out/ü_{number}.png" for number in range(12))]
        before = bucket.list()
        with pytest.raises(BadInput, match=r"ü_1.png lies in .*/out, which is about to be written"):
            explain(run, [f"{there}/out/ü_1.png"], f"{there}/out")
        for out in ("runs/zero", "in/0"):
            with pytest.raises(Conflict, match="holds other files"):
                explain(run, [f"{there}/in"], f"{there}/{out}")
        with pytest.raises(BadInput, match="which is about to be written"):
            explain(run, [f"{there}/in"], there)
        assert bucket.list() == before

    def test_evaluate_and_report(self, run, there, digits_data, bucket, capsys):
        def told(*arguments):
            assert main([*arguments, "--json"]) == 0
            return json.loads(capsys.readouterr().out)

        ours = told("evaluate", run, "--data", digits_data)
        theirs = told("evaluate", f"{there}/runs/zero", "--data", f"{there}/data")
        assert theirs.pop("data") == f"{there}/data"
        assert theirs.pop("checkpoint").startswith(f"{there}/runs/zero/checkpoints/epoch-")
        assert theirs == {key: value for key, value in ours.items() if key not in ("data", "checkpoint")}
        assert told("report", f"{there}/runs/zero")["pages"] == [
            f"{there}/runs/zero/report.html", f"{there}/runs/zero/report.md"]
        assert b"<html" in bucket.get("runs/zero/report.html")
        secret = bucket.server.secret_key.encode()
        assert not any(secret in bucket.get(key) for key in bucket.list())
