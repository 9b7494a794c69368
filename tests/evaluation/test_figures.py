"""Heatmaps as pictures."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fcdd_dist.evaluation import figures
from fcdd_dist.evaluation.figures import (
    Block,
    Cell,
    colour,
    evenly_spaced,
    explanation,
    extremes,
    overlay,
    sheet,
)
from fcdd_dist.model.heatmap_scale import HeatmapScale

SCALE = HeatmapScale(minimum=0.0, quantile=1.0, eta=0.93, reference="maps of two images")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def cell(caption: str = "bag", *, side: tuple[int, int] = (28, 28), channels: int = 1, truth: int | None = 1,
         flagged: bool | None = True) -> Cell:
    return Cell(np.full((*side, channels), 90, np.uint8), np.linspace(0, 1, side[0] * side[1]).reshape(side), caption,
                0.0123, truth, flagged)


def test_colours_are_those_of_the_map():
    shown = colour(np.array([[0.0, 1.0]]))
    assert shown.dtype == np.uint8
    assert shown.tolist() == [[[0, 0, 127], [127, 0, 0]]]
    assert colour(np.array([[0.0]]), "viridis").tolist() == [[[68, 1, 84]]]
    for wrong in (np.array([[1.5]]), np.array([[np.nan]]), np.zeros(3)):
        with pytest.raises(ValueError, match="two axes"):
            colour(wrong)


def test_an_overlay_leaves_what_is_not_anomalous_visible():
    image = np.full((2, 2, 3), 200, np.uint8)
    shown = overlay(image, np.array([[0.0, 0.0], [0.0, 1.0]])).astype(int)
    assert np.abs(shown[0, 0] - 200).max() < 40
    assert shown[1, 1, 0] > shown[1, 1, 2]
    with pytest.raises(ValueError, match="over an image"):
        overlay(image, np.zeros((3, 3)))


def test_images_are_chosen_evenly_in_rank():
    scores = np.array([5.0, 1, 4, 2, 3])
    assert evenly_spaced(scores, 3) == [1, 4, 0]
    assert evenly_spaced(scores, 9) == [1, 3, 4, 2, 0]
    assert evenly_spaced(np.zeros(0), 4) == []


def test_extremes_of_both_kinds():
    labels, scores = np.array([0, 0, 0, 1, 1, 1, 1, 1]), np.arange(8.0)[::-1]
    assert extremes(labels, scores, 2) == {
        "Nominal, all 3": [2, 1, 0], "Anomalous, lowest scores": [7, 6], "Anomalous, highest scores": [4, 3]}
    assert extremes(np.ones(2), np.arange(2.0), 2) == {"Anomalous, all 2": [0, 1]}


def test_a_small_image_keeps_its_pixels_in_a_sheet():
    checks = np.indices((28, 28)).sum(0)[..., None].astype(np.uint8) % 2 * 255
    page = pixels(sheet([Cell(checks, np.zeros((28, 28)), "checks", 1.0, 0, None)], 1, "A title", scale=SCALE))
    enlarged = checks.repeat(4, 0).repeat(4, 1).repeat(3, 2)
    windows = np.lib.stride_tricks.sliding_window_view(page[..., 0], (112, 112))[:200, 20]
    assert any(np.array_equal(window, enlarged[..., 0]) for window in windows)


def test_a_frame_and_a_word_tell_the_outcome():
    colours = {}
    for truth in (0, 1):
        for flagged in (True, False):
            page = pixels(sheet([cell(truth=truth, flagged=flagged)], 1, ""))
            colours[truth, flagged] = tuple(page[page.shape[0] // 3, 20 - 2])
    assert colours[0, False] == (255, 255, 255)  # its frame is a thin line
    assert len(set(colours.values())) == 4


@pytest.mark.parametrize("cells", [
    [], [cell()], [cell(flagged=None, truth=None)], [cell(truth=None), cell(truth=None, flagged=False)],
    [cell(side=(240, 240), channels=3)] * 3, [cell(side=(10, 300)), cell(side=(300, 10))], [cell(side=(1, 1))],
    [Block("One", [cell()] * 3), Block("None", [])],
    [cell("$x^2$ <b>\n\t" + "long " * 30 + "猫")]])
def test_sheets_of_all_sorts(cells):
    page = pixels(sheet(cells, 2, "Title $1", "subtitle " * 40, scale=SCALE, colormap="viridis"))
    assert page.shape[1] >= 480
    assert (page[:3] == 255).all()
    assert (page[:, -3:] == 255).all()  # nothing reaches the border


def test_a_sheet_without_overlays_is_lower():
    assert pixels(sheet([cell()], 1, "", overlays=False)).shape[0] == pixels(sheet([cell()], 1, "")).shape[0] - 112


@pytest.mark.parametrize(("side", "shown"), [((28, 28), (196, 196)), ((150, 200), (150, 200)),
                                             ((20, 4096), (10, 2048))])
def test_an_explanation_is_in_the_pixels_of_the_image(side, shown):
    page = pixels(explanation(np.zeros((*side, 3), np.uint8), np.ones(side), "a.png: score 1", scale=SCALE))
    black = (page == 0).all(-1)
    rows = black.sum(1)
    assert (rows >= shown[1]).sum() == shown[0]
    assert ((page == (127, 0, 0)).all(-1)).sum() >= shown[0] * shown[1]


def test_pictures_are_equal_bytes_for_equal_input_and_touch_no_global_state():
    before = dict(matplotlib.rcParams)
    assert sheet([cell()], 1, "t") == sheet([cell()], 1, "t")
    assert dict(matplotlib.rcParams) == before


def test_an_image_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        explanation(np.zeros((4, 4, 3)), np.zeros((4, 4)), "")
    with pytest.raises(ValueError, match="beside an image"):
        sheet([Cell(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 5)), "", 0.0, None, None)], 1, "")


@pytest.mark.parametrize(("eta", "one"), [(0.93, "the top 7 % of places in maps of two images"),
                                          (0.985, "the top 1.5 % of places in"), (1.0, "the highest place in")])
def test_colours_and_score_are_explained_in_plain_words(monkeypatch, eta, one):
    said = []
    monkeypatch.setattr(figures.Page, "_draw", lambda page, text, *style: said.append(text))
    explanation(np.zeros((9, 600, 3), np.uint8), np.zeros((9, 600)), "a.png: anomaly score 1",
                scale=SCALE.model_copy(update={"eta": eta}))
    assert {"0: looks normal", "1: looks abnormal"} <= set(said)
    words = " ".join(said)
    assert "The colours say how much a place raised the anomaly score: 0 the least, 1 as much as " + one in words
    assert "The score is the mean over all places, and no probability." in words


def hatched_pixels(picture):
    """Whether a pixel is one of a hatching's dark lines."""
    return (picture == 130).all(-1)


@pytest.mark.parametrize("side", [(200, 300), (40, 60), (20, 4096)])
def test_what_was_not_looked_at_is_hatched_and_said(side):
    heatmap = np.full(side, np.nan)
    inside = np.s_[side[0] // 4: side[0] * 3 // 4, side[1] // 4: side[1] * 3 // 4]
    heatmap[inside] = 1.0
    explained = explanation(np.zeros((*side, 3), np.uint8), heatmap, "a.png", scale=SCALE)
    for picture in (explained,
                    sheet([Cell(np.zeros((*side, 3), np.uint8), heatmap, "a", 1.0, 0, None)], 1, "", scale=SCALE)):
        page = pixels(picture)
        red = (page == (127, 0, 0)).all(-1)
        assert hatched_pixels(page).sum() > 0.3 * red.sum()
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red[:, :page.shape[1]].any(0))
        assert rows.size
        assert columns.size
    whole = np.where(np.isnan(heatmap), 1.0, heatmap)
    page = pixels(explanation(np.zeros((*side, 3), np.uint8), whole, "a.png", scale=SCALE))
    assert not hatched_pixels(page).sum() > 0.01 * page[..., 0].size
    assert page.shape[0] < pixels(explained).shape[0]


def test_the_map_lies_where_it_was_looked_at():
    heatmap = np.full((200, 300), np.nan)
    heatmap[50:150, 100:260] = 1.0
    page = pixels(explanation(np.zeros((200, 300, 3), np.uint8), heatmap, "a.png", scale=SCALE))
    red = (page == (127, 0, 0)).all(-1)
    row = red[red.any(1).argmax() + 50]
    first = int(row.argmax())
    assert row[first: first + 160].all()
    assert not row[first - 1]
    assert not row[first + 160]
    assert red[:, first + 5].sum() == 100
    # 20 px of margin, the image and the gap between pictures lie before the heatmap
    assert first == 20 + 300 + 16 + 100


def test_nothing_is_hatched_in_vain(monkeypatch):
    monkeypatch.setattr(figures, "_hatched", None)
    image, heatmap = np.full((150, 200, 3), 90, np.uint8), np.linspace(0, 1, 30000).reshape(150, 200)
    assert not hatched_pixels(pixels(explanation(image, heatmap, "a.png", scale=SCALE))).sum() > 100


def test_nothing_was_looked_at():
    page = pixels(explanation(np.zeros((150, 150, 3), np.uint8), np.full((150, 150), np.nan), "a.png", scale=SCALE))
    assert hatched_pixels(page).sum() > 5000
