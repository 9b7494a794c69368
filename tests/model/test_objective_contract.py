"""What every objective of the registry promises."""

import math

import pytest
import torch

from fcdd_dist.model.objectives import OBJECTIVES


def fcdd(output, label):
    """Equation (2) for one sample, in plain Python."""
    values = output.double().flatten().tolist()
    score = sum(v * v / (math.sqrt(v * v + 1) + 1) for v in values) / len(values)
    floored = max(score, 1e-12)
    return -math.log(-math.expm1(-floored)) if label else score


FORMULAS = {"fcdd": fcdd}
MAGNITUDES = [0.0, 1e-8, 1.0, 1e4]


@pytest.fixture(params=OBJECTIVES)
def name(request):
    return request.param


@pytest.fixture
def objective(name):
    return OBJECTIVES[name]()


def batch(size=12, scale=1.0):
    generator = torch.Generator().manual_seed(size)
    output = scale * torch.randn(size, 1, 5, 5, generator=generator, dtype=torch.float64)
    return output.float(), torch.arange(size) % 2


def loss_and_gradient(objective, output, labels):
    output = output.clone().requires_grad_()
    losses = objective.loss(output, labels)
    losses.sum().backward()
    return losses.detach(), output.grad


def test_shapes_types_and_signs(objective):
    output, labels = batch()
    for dtype, expected in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        losses, gradient = loss_and_gradient(objective, output.to(dtype), labels)
        amap, score = objective.anomaly_map(output.to(dtype)), objective.score(output.to(dtype))
        assert (losses.shape, amap.shape, score.shape) == ((12,), (12, 1, 5, 5), (12,))
        assert {losses.dtype, amap.dtype, score.dtype} == {expected}
        assert gradient.dtype == dtype
        assert bool((amap >= 0).all())
        assert bool((losses >= 0).all())


def test_permuting_splitting_and_duplicating_a_batch_does_the_same_to_the_losses(objective):
    output, labels = batch()
    losses, gradient = loss_and_gradient(objective, output, labels)
    order = torch.tensor([3, 0, 11, 5, 5, 5, 2, 8, 1])
    picked, picked_gradient = loss_and_gradient(objective, output[order], labels[order])
    assert torch.equal(picked, losses[order])
    assert torch.equal(picked_gradient, gradient[order])
    parts = [loss_and_gradient(objective, output[i : i + 5], labels[i : i + 5]) for i in (0, 5, 10)]
    assert torch.equal(torch.cat([part[0] for part in parts]), losses)
    assert torch.equal(torch.cat([part[1] for part in parts]), gradient)
    twice = objective.loss(output.repeat(2, 1, 1, 1), labels.repeat(2))
    assert torch.equal(twice, losses.repeat(2))


def test_a_batch_of_one_label_keeps_that_label(objective):
    output, labels = batch()
    losses = objective.loss(output, labels)
    for label in (0, 1):
        chosen = labels == label
        assert torch.equal(objective.loss(output[chosen], labels[chosen]), losses[chosen])
        single = chosen.nonzero()[0]
        assert torch.equal(objective.loss(output[single], labels[single]), losses[single])
    anomalous, nominal = (objective.loss(output, torch.full((12,), label)) for label in (1, 0))
    assert not torch.equal(anomalous, nominal)


def test_labels_may_have_any_type(objective):
    output, labels = batch()
    losses = objective.loss(output, labels)
    for dtype in (torch.bool, torch.uint8, torch.int32, torch.float32):
        assert torch.equal(objective.loss(output, labels.to(dtype)), losses)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [[0], [1], [0, 0, 0], [1, 1, 1], [0, 1, 1]])
def test_values_and_gradients_are_finite_everywhere(objective, labels, dtype):
    for magnitude in MAGNITUDES:
        for sign in (1, -1):
            output = torch.full((len(labels), 1, 3, 3), sign * magnitude, dtype=dtype)
            losses, gradient = loss_and_gradient(objective, output, torch.tensor(labels))
            assert bool(losses.isfinite().all())
            assert bool(gradient.isfinite().all())


def test_losses_are_monotone_in_the_map_in_the_right_direction(objective):
    sizes = torch.logspace(-8, 4, 49)
    output = sizes[:, None, None, None].expand(-1, 1, 3, 3)
    score = objective.score(output)
    assert bool((score.diff() > 0).all())
    assert bool((objective.loss(output, torch.zeros(49)).diff() > 0).all())
    anomalous = objective.loss(output, torch.ones(49))
    assert bool((anomalous.diff() <= 0).all())
    middle = (sizes > 1e-5) & (sizes < 50)  # neither at the floor nor below the smallest float32
    assert bool((anomalous[middle].diff() < 0).all())
    one_pixel = torch.zeros(2, 1, 3, 3)
    one_pixel[1, 0, 1, 1] = 0.5
    amap = objective.anomaly_map(one_pixel)
    assert amap[1].sum() > amap[0].sum()
    assert objective.score(one_pixel)[1] > objective.score(one_pixel)[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_losses_are_those_of_the_formula(name, objective, scale):
    output, labels = batch(scale=scale)
    expected = [FORMULAS[name](o, y) for o, y in zip(output, labels.tolist(), strict=True)]
    assert objective.loss(output.double(), labels).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert objective.loss(output, labels).tolist() == pytest.approx(expected, rel=2e-6, abs=1e-15)
    low = output.bfloat16()
    expected = [FORMULAS[name](o, y) for o, y in zip(low, labels.tolist(), strict=True)]
    assert objective.loss(low, labels).tolist() == pytest.approx(expected, rel=2e-6, abs=1e-15)


def test_autocast_changes_nothing(objective):
    output, labels = batch()
    losses = objective.loss(output, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(objective.loss(output, labels), losses)
