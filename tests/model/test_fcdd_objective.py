"""Equation (2) and its two functions, against worked numbers."""

import math

import pytest
import torch

from fcdd_dist.model.objectives.fcdd import BARRIER_FLOOR, Fcdd, log_barrier, pseudo_huber

BARRIER = [  # x, b(x), b'(x)
    (1e-8, 18.420680749, -99999999.5),
    (1e-3, 6.90825523732, -999.500083333),
    (0.1, 2.35216846104, -9.50833194478),
    (0.5, 0.932752129567, -1.54149408254),
    (math.log(2), 0.69314718056, -1),
    (1, 0.458675145387, -0.581976706869),
    (2, 0.145413457869, -0.15651764275),
    (5, 0.00676074944949, -0.0067836549063),
    (10, 4.54009603705e-5, -4.54019910097e-5),
    (20, 2.06115362456e-9, -2.06115362669e-9),
    (50, 1.92874984796e-22, -1.92874984796e-22),
]


def with_gradient(function, x, dtype=torch.float64):
    x = torch.tensor(x, dtype=dtype, requires_grad=True)
    y = function(x)
    y.sum().backward()
    return y.detach(), x.grad


def test_pseudo_huber():
    x = [0, 1e-4, 0.5, 1, -2, 3, 100]
    y, _ = with_gradient(pseudo_huber, x)
    expected = [0, 4.9999999875e-9, 0.11803398875, 0.414213562373, 1.2360679775, 2.16227766017, 99.004999875]
    assert y.tolist() == pytest.approx(expected, rel=1e-11)
    _, gradient = with_gradient(pseudo_huber, [0.5, 1.0, -2.0, 3.0])
    assert gradient.tolist() == pytest.approx([0.4472135955, 0.707106781187, -0.894427191, 0.948683298051], rel=1e-9)


def test_pseudo_huber_in_float32_does_not_cancel():
    x = [0, 1e-8, 1e-4, 4e-4, 0.1, 1, 30, 1e4]
    narrow, wide = (with_gradient(pseudo_huber, x, dtype) for dtype in (torch.float32, torch.float64))
    for ours, exact in zip(narrow, wide, strict=True):
        assert torch.allclose(ours.double(), exact, rtol=1e-6, atol=0)


def test_log_barrier():
    x, value, slope = zip(*BARRIER, strict=True)
    y, gradient = with_gradient(log_barrier, list(x))
    assert y.tolist() == pytest.approx(value, rel=1e-10)
    assert gradient.tolist() == pytest.approx(slope, rel=1e-10)
    assert torch.autograd.gradcheck(log_barrier, torch.tensor([0.3, 0.69, 0.7, 2.0, 9.0]).double().requires_grad_())


def test_log_barrier_in_float32_is_accurate_to_the_last_bits():
    x = [1e-9, 1e-7, 1e-4, 0.1, 0.69, 0.7, 1, 10, 17, 20, 80]
    narrow, wide = (with_gradient(log_barrier, x, dtype) for dtype in (torch.float32, torch.float64))
    x32 = torch.tensor(x, dtype=torch.float32).double().tolist()  # what float32 was really asked
    wide = with_gradient(log_barrier, x32)
    for ours, exact in zip(narrow, wide, strict=True):
        assert torch.allclose(ours.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_below_its_floor_the_barrier_keeps_value_and_slope(dtype):
    y, gradient = with_gradient(log_barrier, [0.0, 1e-30, BARRIER_FLOOR], dtype)
    assert y.tolist() == pytest.approx([27.631021115928] * 3, rel=1e-6)
    assert gradient.tolist() == pytest.approx([-1e12] * 3, rel=1e-6)


def test_not_a_number_stays_one():
    assert log_barrier(torch.tensor(math.nan)).isnan()
    assert Fcdd().loss(torch.full((2, 1, 2, 2), math.nan), torch.tensor([0, 1])).isnan().all()


def test_equation_2():
    i, p, q = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (4, 2, 2)), indexing="ij")
    phi = (0.5 * (i + 1) + 0.25 * p - 0.125 * q)[:, None].requires_grad_()
    labels = torch.tensor([0, 1, 0, 1])
    scores = Fcdd().score(phi)
    assert scores.tolist() == pytest.approx([0.153820524605, 0.462240542668, 0.856641519677, 1.29295480161], rel=1e-11)
    sums = Fcdd().anomaly_map(phi).sum((1, 2, 3))
    assert sums.tolist() == pytest.approx([0.615282098422, 1.84896217067, 3.42656607871, 5.17181920646], rel=1e-11)
    losses = Fcdd().loss(phi, labels)
    assert losses.tolist() == pytest.approx([0.153820524605, 0.99390317459, 0.856641519677, 0.320837162147], rel=1e-11)
    loss = losses.mean()
    assert loss.item() == pytest.approx(0.581300595255, rel=1e-11)
    loss.backward()
    expected = [
        *(0.0279508497187, 0.0219452150993, 0.0375, 0.0331249337502),
        *(-0.0752078488402, -0.0700385236386, -0.0830531752023, -0.0794944251093),
        *(0.0520031433961, 0.0505460052689, 0.0542651963828, 0.0532286447940),
        *(-0.0211465578242, -0.0208610915228, -0.0216048538638, -0.0213922398593),
    ]
    assert phi.grad.flatten().tolist() == pytest.approx(expected, rel=1e-11)
    assert Fcdd().loss(phi, torch.zeros(4)).mean().item() == pytest.approx(0.691414347141, rel=1e-11)


def test_what_does_not_fit_is_refused():
    output = torch.zeros(2, 1, 3, 3)
    with pytest.raises(ValueError, match="masks"):
        Fcdd().loss(output, torch.zeros(2), torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match="labels"):
        Fcdd().loss(output, torch.zeros(2, 1))
