"""Preprocessing against the published vectors."""

import pytest
import torch

from fcdd_dist.model.normalization import Preprocessing
from fcdd_dist.model.preprocessing import lcn, normalise, prepare

# x(c, p, q) = ((7c + 3p + 5q) mod 16) / 15, shape 2 x 3 x 4
X = torch.tensor([[[[(7 * c + 3 * p + 5 * q) % 16 / 15 for q in range(4)] for p in range(3)] for c in range(2)]],
                 dtype=torch.float64)


def test_local_contrast_normalisation_against_the_published_vector():
    want = [[-1.85915492958, -0.591549295775, 0.676056338028, 1.94366197183],
            [-1.09859154930, 0.169014084507, 1.43661971831, -1.35211267606],
            [-0.338028169014, 0.929577464789, -1.85915492958, -0.591549295775]]
    out = lcn(X)
    assert torch.allclose(out[0, 0], torch.tensor(want, dtype=torch.float64), atol=1e-11)
    assert out.min().item() == pytest.approx(-1.85915492958)
    assert out.max().item() == pytest.approx(1.94366197183)
    assert X.mean().item() == pytest.approx(0.488888888889)


def test_minmax_after_it():
    how = Preprocessing(normalization="lcn-minmax", side=4, shift=(-3.0, -3.0), scale=(8.0, 8.0))
    assert normalise(X, how)[0, 0, 0, 0].item() == pytest.approx(0.142605633803)


def test_an_image_of_one_value_becomes_zeros():
    assert torch.equal(lcn(torch.full((2, 3, 5, 5), 0.7)).round(decimals=5), torch.zeros(2, 3, 5, 5))
    assert torch.equal(lcn(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, 4, 4))


def test_images_do_not_see_each_other():
    batch = torch.rand(5, 1, 6, 6)
    assert torch.equal(lcn(batch)[3:4], lcn(batch[3:4]))


def test_mean_and_std():
    how = Preprocessing.measured("mean-std", 4, mean=(0.5, 0.25), std=(0.25, 0.0), lcn_minimum=(0.0, 0.0),
                                 lcn_maximum=(1.0, 1.0))
    out = normalise(torch.full((1, 2, 4, 4), 1.0), how)
    assert out[0, :, 0, 0].tolist() == [2.0, 0.75]  # a channel that never varies is shifted and not scaled


def test_stored_images_are_scaled_to_the_net():
    how = Preprocessing(normalization="mean-std", side=4, shift=(0.0,), scale=(1.0,))
    out = prepare(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8), how)
    assert out.shape == (2, 1, 4, 4)
    assert torch.allclose(out, torch.ones(()))


def test_the_constants_of_imagenet_and_the_view_travel_as_before():
    how = Preprocessing.measured("imagenet", 4, mean=(), std=(), lcn_minimum=(), lcn_maximum=(), view="centre")
    assert (how.normalization, how.shift, how.scale) == ("mean-std", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert Preprocessing.model_validate_json(how.model_dump_json()) == how
    assert how.centre == 4
    old = Preprocessing(normalization="mean-std", side=4, shift=(0.0,), scale=(1.0,))
    assert old.centre is None
    assert "view" not in old.model_dump_json()
    assert Preprocessing.model_validate_json(old.model_dump_json()) == old


def test_the_centre_is_cut_out_and_never_scaled():
    how = Preprocessing(normalization="mean-std", side=2, shift=(0.0,), scale=(1.0,), view="centre")
    images = torch.arange(5 * 8, dtype=torch.uint8).view(1, 1, 5, 8)
    assert (prepare(images, how) * 255).round().tolist() == [[[[11, 12], [19, 20]]]]
    assert torch.equal(prepare(images[:, :, 1:3, 3:5], how), prepare(images, how))
