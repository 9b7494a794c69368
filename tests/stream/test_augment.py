"""Augmentation: batched, per sample, exact where torchvision is exact, and blind to how a batch is cut."""

import numpy as np
import pytest
import torch

from fcdd_dist.experiment import Augmentation, Noise
from fcdd_dist.model.preprocessing import unit
from fcdd_dist.stream.augment import _hue, augment, dense_noise, parameters
from fcdd_dist.world import World, rows

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), dtype=np.uint8))
EVERYTHING = Augmentation(jitter=((0.01,) * 4,), crop="pad", padding=4, flip=0.5, noise=Noise(std=0.001))


def draws(n=24, **columns):
    """Uniforms in which every column has the one value given (c12=0.3), others 0.5."""
    out = np.full((n, 16), 0.5)
    for name, value in columns.items():
        out[:, int(name[1:])] = value
    return out


def test_nothing_is_nothing():
    assert torch.equal(augment(IMAGES, Augmentation(), draws(), 32, None), unit(IMAGES))


def test_a_crop_is_a_window_of_the_padded_image_and_a_flip_mirrors_it():
    padded = torch.nn.functional.pad(unit(IMAGES), (4,) * 4)
    how = Augmentation(crop="pad", padding=4, flip=0.5)
    for top, left, flip in ((0, 0, False), (8, 8, False), (3, 5, True), (4, 4, False)):
        out = augment(IMAGES, how, draws(c10=(top + 0.5) / 9, c11=(left + 0.5) / 9, c13=0.1 if flip else 0.9), 32, None)
        want = padded[:, :, top: top + 32, left: left + 32]
        assert torch.equal(out, want.flip(-1) if flip else want)


def test_every_offset_is_drawn():
    how = Augmentation(crop="pad", padding=1)
    ramp = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3).repeat(500, 1, 1, 1)
    seen = {tuple(image.flatten().tolist()) for image in augment(ramp, how, parameters(500, 0, 0), 3, None)}
    assert len(seen) == 9


def test_half_are_cropped_and_half_scaled():
    how = Augmentation(crop="random-or-resize")
    images = IMAGES.repeat(20, 1, 1, 1)
    out = augment(images, how, parameters(len(images), 0, 0), 28, None)
    whole = torch.nn.functional.interpolate(unit(images), (28, 28), mode="bilinear", antialias=True)
    scaled = [torch.allclose(a, b, atol=1e-6) for a, b in zip(out, whole, strict=True)]
    assert 0.4 < np.mean(scaled) < 0.6
    windows = unit(images).unfold(2, 28, 1).unfold(3, 28, 1)
    for index, done in enumerate(scaled[:40]):
        if not done:
            assert any(torch.equal(out[index], windows[index, :, i, j]) for i in range(5) for j in range(5))


@pytest.mark.parametrize(("column", "name"), [
    (0, "adjust_brightness"), (1, "adjust_contrast"), (2, "adjust_saturation")])
def test_jitter_by_itself_is_torchvisions(column, name):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    strengths = [0.0] * 4
    strengths[column] = 0.3
    out = augment(IMAGES, Augmentation(jitter=(tuple(strengths),)), draws(**{f"c{column}": 0.9}), 32, None)
    want = getattr(functional, name)(unit(IMAGES), 1 + 0.3 * 0.8)
    assert torch.allclose(out, want, atol=2e-4)  # torchvision rounds the weights of grey to four digits


def test_jitter_composes_in_the_drawn_order():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    gentle = (IMAGES * 0.5 + 60).to(torch.uint8)  # so that clamping between the steps changes nothing
    how = Augmentation(jitter=((0.1, 0.1, 0.1, 0.0),))
    b, c, s = (1 + 0.1 * (2 * u - 1) for u in (0.9, 0.2, 0.7))
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        keys = {f"c{5 + op}": place / 10 for place, op in enumerate(order)}
        out = augment(gentle, how, draws(c0=0.9, c1=0.2, c2=0.7, c8=0.99, **keys), 32, None)
        want = unit(gentle)
        for op in order:
            want = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)[op](
                want, (b, c, s)[op])
        assert torch.allclose(out, want, atol=3e-4)


def test_hue_turns_about_the_grey_axis():
    third = torch.from_numpy(_hue(np.array([1 / 3]))[0])
    assert torch.allclose(third @ torch.tensor([1.0, 0, 0], dtype=torch.float64), torch.tensor([0.0, 1, 0]).double(),
                          atol=1e-12)
    some = _hue(np.array([0.01, -0.2]))
    assert np.allclose(some @ np.ones(3), 1)  # grey stays


def test_each_image_takes_one_of_the_presets():
    how = Augmentation(jitter=((0.4, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)))
    grey = torch.full((1000, 1, 4, 4), 100, dtype=torch.uint8)
    changed = (augment(grey, how, parameters(1000, 0, 0), 4, None) - 100 / 255).abs().amax((1, 2, 3)) > 1e-6
    assert 0.45 < changed.float().mean() < 0.55


def test_noise():
    noise = torch.ones(24, 3, 32, 32)
    out = augment(IMAGES, Augmentation(noise=Noise(std=0.25)), draws(), 32, noise)
    assert torch.allclose(out, unit(IMAGES) + 0.25)
    relative = augment(IMAGES, Augmentation(noise=Noise(std=0.1, relative=True, clamp=True)), draws(), 32, noise)
    x = unit(IMAGES)
    assert torch.allclose(relative, (x + 0.1 * x.std((1, 2, 3), keepdim=True)).clamp(0, 1))
    half = augment(IMAGES, Augmentation(noise=Noise(std=0.25, probability=0.4)), draws(), 32, noise)
    assert torch.equal(half, unit(IMAGES))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_cut_into_ranks_changes_nothing(size):
    lanes, batch_size = 5, 24
    device = torch.device("cpu")
    noise = dense_noise((3, 32, 32), batch_size, lanes, range(lanes), 7, 11, device)
    whole = augment(IMAGES, EVERYTHING, parameters(batch_size, 7, 11), 32, noise)
    parts = []
    for rank in range(size):
        owned = World(rank, size).lanes(lanes)
        part = slice(rows(batch_size, lanes, owned[0])[0], rows(batch_size, lanes, owned[-1])[1])
        mine = dense_noise((3, 32, 32), batch_size, lanes, owned, 7, 11, device)
        parts.append(augment(IMAGES[part], EVERYTHING, parameters(batch_size, 7, 11)[part], 32, mine))
    assert torch.equal(torch.cat(parts), whole)


def test_noise_differs_between_steps_lanes_and_seeds():
    device = torch.device("cpu")
    several = [dense_noise((1, 4, 4), 8, 4, range(4), seed, step, device) for seed in (0, 1) for step in (0, 1)]
    images = torch.cat(several).flatten(1)
    assert len(images.unique(dim=0)) == len(images)
