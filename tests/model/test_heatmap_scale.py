"""Appendix A's normalisation of heatmaps, against the published vectors."""

import numpy as np
import pytest

from fcdd_dist.model.heatmap_scale import HeatmapScale, heatmap_scale, normalise_heatmap

SCALE = HeatmapScale(minimum=0.0, quantile=1.0, eta=0.93, reference="maps of two images")


@pytest.mark.parametrize(("eta", "quantile", "mean", "corner", "other"), [
    (0.93, 10.0, 0.5825, 0.85, 0.5), (0.97, 10.5, 0.559523810, 0.809523810, 0.476190476),
    (0.85, 9.5, 0.605263158, 0.894736842, 0.526315789)])
def test_normalisation_of_appendix_a(eta, quantile, mean, corner, other):
    p, q = np.mgrid[:4, :5]
    heatmap = (3 * p + 5 * q) % 11 + 0.5 * p + 0.25
    scale = heatmap_scale(heatmap, eta, "itself")
    shown = normalise_heatmap(heatmap, scale)
    assert (scale.minimum, scale.quantile, scale.eta, scale.reference) == (0.25, quantile, eta, "itself")
    assert shown.mean() == pytest.approx(mean, abs=1e-8)
    assert (shown[3, 4], shown[0, 1]) == (pytest.approx(corner), pytest.approx(other))
    assert (shown.min(), shown.max()) == (0, 1)


def test_a_map_outside_its_reference_is_cut_off():
    assert normalise_heatmap(np.array([[-1.0, 0.5, 7.0]]), SCALE).tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize("maps", [np.zeros((3, 4, 4)), np.full((1, 1), 2.5), np.r_[np.zeros(99), 1.0]])
def test_a_quantile_of_zero_divides_nothing(maps):
    scale = heatmap_scale(maps, 0.93, "constant maps")
    assert scale.quantile == 0
    assert np.array_equal(normalise_heatmap(maps, scale), (maps > maps.min()).astype(float))


@pytest.mark.parametrize("maps", [np.zeros(0), np.array([1.0, np.nan])])
def test_a_scale_needs_finite_maps(maps):
    with pytest.raises(ValueError, match="finite"):
        heatmap_scale(maps, 0.9, "")
