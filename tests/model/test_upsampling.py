"""Heatmaps: the matrix form against worked numbers, a transposed convolution, and Algorithm 1 in loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from fcdd_dist.errors import BadInput
from fcdd_dist.model.receptive_field import ReceptiveField
from fcdd_dist.model.upsampling import sigma_for, upsample, upsampling_matrix

FIELDS = {  # field, image side, cells
    28: (ReceptiveField(16, 4, 1.5), 28, 7),
    32: (ReceptiveField(18, 4, 1.5), 32, 8),
    224: (ReceptiveField(59, 8, 0.0), 224, 28),
    "vgg": (ReceptiveField(62, 8, 3.5), 224, 28),
    "odd": (ReceptiveField(5, 3, 1.0), 9, 3),
    "even": (ReceptiveField(6, 2, 0.5), 8, 4),
}


def matrix(net, sigma, kernel="code"):
    field, side, cells = FIELDS[net]
    return upsampling_matrix(side, cells, field, sigma, kernel)


def heatmap(net, a, sigma, kernel="code"):
    r = matrix(net, sigma, kernel)
    return upsample(a[None, None], r, r)[0, 0]


def grid(u, function):
    p, q = torch.meshgrid(torch.arange(u, dtype=torch.float64), torch.arange(u, dtype=torch.float64), indexing="ij")
    return function(p, q)


def close(values, expected):
    """Equal to the nine decimals that are known."""
    ours, known = (torch.as_tensor(x, dtype=torch.float64) for x in (values, expected))
    torch.testing.assert_close(ours, known, rtol=0, atol=1e-9)


def by_transposed_convolution(net, a, sigma):
    """The authors' code of July 2020: peak-1 kernel, output padding, crop."""
    field, side, cells = FIELDS[net]
    k, odd = field.size, field.size % 2
    d = torch.arange(k - 1 + odd, dtype=torch.float64) - (k - 2 + odd) // 2
    profile = torch.exp(-(d**2) / (2 * sigma**2))
    if not odd:
        profile = torch.cat([profile[: k // 2], profile[k // 2 - 1 :]]) / 2
    padding = side - (cells - 1) * field.stride - 2 + odd
    full = F.conv_transpose2d(
        a[None, None], torch.outer(profile, profile)[None, None], stride=field.stride, output_padding=padding
    )[0, 0]
    reach, shift = (k - 1) // 2, math.floor(field.centre)
    first, last = reach - shift, full.shape[0] - (reach + shift)
    return full[first:last, first:last]


def by_algorithm_1(net, a, sigma):
    """Every cell times a two-dimensional normal density at its field's centre, all added up."""
    field, side, cells = FIELDS[net]
    total = torch.zeros(side, side, dtype=torch.float64)
    for i in range(cells):
        for j in range(cells):
            cy, cx = field.centre + i * field.stride, field.centre + j * field.stride
            for y in range(side):
                for x in range(side):
                    density = math.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
                    total[y, x] += a[i, j] * density
    return total


@pytest.mark.parametrize(
    ("size", "sigma"),
    [
        *((3, 0.621067862), (5, 0.761883361), (7, 0.868048097), (9, 0.953291378), (11, 1.024516966)),
        *((13, 1.085690571), (15, 1.139301703), (16, 1.163813852), (17, 1.187016107), (18, 1.209041392)),
        *((19, 1.230003372), (20, 10), (22, 10), (31, 10), (32, 10), (59, 10), (62, 10)),
    ],
)
def test_sigma_rule(size, sigma):
    assert sigma_for(size) == pytest.approx(sigma, abs=1e-9)


def test_odd_field():
    sigma = sigma_for(5)
    far, near = 0.031888621, 0.422579994
    code = [
        *([near, 0, 0], [1, 0, 0], [near, far, 0], [far, near, 0], [0, 1, 0]),
        *([0, near, far], [0, far, near], [0, 0, 1], [0, 0, near]),
    ]
    close(matrix("odd", sigma), code)
    half = [
        *([0.221274063, 0.000000541, 0], [0.523626451, 0.000225010, 0], [0.221274063, 0.016697725, 0]),
        *([0.016697725, 0.221274063, 0.000000541], [0.000225010, 0.523626451, 0.000225010]),
    ]
    close(matrix("odd", sigma, "literal"), half + [row[::-1] for row in half[3::-1]])
    a = grid(3, lambda p, q: 1 + p + 2 * q)
    for kernel, expected in (
        ("code", (0.178573852, 4, 1.250016962, 128.279836656)),
        ("literal", (0.048962810, 1.098624591, 0.342736794, 35.193769293)),
    ):
        m = heatmap("odd", a, sigma, kernel)
        close([m[0, 0], m[4, 4], m[8, 8], m.sum()], expected)


def test_even_field():
    sigma = sigma_for(6)
    assert sigma == pytest.approx(0.818201724067, abs=1e-12)
    far, near = 0.025206431, 0.236921973
    code = [
        *([0.5, far, 0, 0], [0.5, near, 0, 0], [near, 0.5, far, 0], [far, 0.5, near, 0]),
        *([0, near, 0.5, far], [0, far, 0.5, near], [0, 0, near, 0.5], [0, 0, far, 0.5]),
    ]
    close(matrix("even", sigma), code)
    literal = [
        [0.404537242, 0.004578999, 0.000000132, 0],
        [0.404537242, 0.090829973, 0.000051830, 0],
        [0.090829973, 0.404537242, 0.004578999, 0.000000132],
    ]
    close(matrix("even", sigma, "literal")[:3], literal)
    a = grid(4, lambda p, q: 1 + p + 2 * q)
    for kernel, expected in (
        ("code", (0.315557533, 3.581814644, 2.718702210, 170.806736126)),
        ("literal", (0.172996560, 1.620454865, 1.668141713, 79.794953505)),
    ):
        m = heatmap("even", a, sigma, kernel)
        close([m[0, 0], m[4, 4], m[7, 7], m.sum()], expected)


@pytest.mark.parametrize(
    ("net", "sigma", "rows", "columns", "peak", "total", "off_centre", "corner"),
    [
        (28, None, (6, 21), (2, 17), 0.25, 3.836209361, 0.000155433, (0.119481407, 0.25, 0.172830413, 3.330526464)),
        (32, None, (9, 26), (5, 22), 0.25, 4.061469034, 0.000267267, (0.126136412, 0.25, 0.177578442, 3.470065636)),
        (28, 1.2, (6, 21), (2, 17), 0.25, 4.015923674, 0.000240994, (0.124837947, 0.25, 0.176662069, 3.442184922)),
        (224, 10, (83, 141), (75, 133), 1, 624.347420622, 0.843664817, (1, 0.990049834, 0.937067463, 168.830327657)),
        (224, 12, (83, 141), (75, 133), 1, 879.745829953, 0.888646682, (1, 0.993079612, 0.955864714, 235.016712290)),
    ],
)
def test_one_hot_maps(net, sigma, rows, columns, peak, total, off_centre, corner):
    field, _, u = FIELDS[net]
    sigma = sigma_for(field.size) if sigma is None else sigma
    row, column = u // 2, u // 2 - 1
    a = torch.zeros(u, u, dtype=torch.float64)
    a[row, column] = 1
    m = heatmap(net, a, sigma)
    for axis, ends in ((1, rows), (0, columns)):
        support = m.sum(axis).nonzero().flatten()
        assert (support[0], support[-1]) == ends
    y, x = (math.floor(field.centre + cell * field.stride) for cell in (row, column))
    close([m.max(), m.sum(), m[y + 5, x + 3]], (peak, total, off_centre))
    a = torch.zeros(u, u, dtype=torch.float64)
    a[0, 0] = 1
    m = heatmap(net, a, sigma)
    close([m[0, 0], m[1, 1], m[2, 3], m.sum()], corner)


def test_big_maps():
    phi = grid(28, lambda p, q: 0.5 * torch.cos(0.3 * p) + 0.4 * torch.sin(0.2 * q))
    a = torch.sqrt(phi**2 + 1) - 1
    box = torch.zeros(224, 224, dtype=torch.float64)
    box[60:120, 80:150] = 1
    for kernel, sigma, points, parts in (
        ("code", 10, (0.567974194, 0.146697604, 0.106173449, 0.864706013), (0.813941131, 0.050764882)),
        ("code", 12, (0.748920877, 0.262156940, 0.154229295, 1.205336247), (1.133408043, 0.071928204)),
        ("literal", 10, None, (0.001302743, 0.000081366)),
    ):
        m = heatmap(224, a, sigma, kernel)
        if points:
            close([m[0, 0], m[112, 104], m[223, 223], m.mean()], points)
        close([((1 - box) * m).mean(), (box * m).mean()], parts)


@pytest.mark.parametrize(("net", "sigma"), [(28, None), (32, None), (224, 10), (224, 12), ("vgg", 8), ("odd", None)])
def test_code_kernel_is_the_authors_transposed_convolution(net, sigma):
    field, side, cells = FIELDS[net]
    sigma = sigma_for(field.size) if sigma is None else sigma
    a = torch.rand(cells, cells, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = by_transposed_convolution(net, a, sigma)
    assert expected.shape == (side, side)
    assert torch.allclose(heatmap(net, a, sigma), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("net", ["odd", "even"])
def test_literal_kernel_is_algorithm_1(net):
    cells = FIELDS[net][2]
    a = torch.rand(cells, cells, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for sigma in (0.8, 2.0):
        expected = by_algorithm_1(net, a, sigma)
        assert torch.allclose(heatmap(net, a, sigma, "literal"), expected, rtol=1e-12, atol=0)


def test_kernels_differ_by_the_normalisation_alone_for_odd_fields():
    inside = matrix("odd", 0.7) > 0
    ratio = matrix("odd", 0.7)[inside] / matrix("odd", 0.7, "literal")[inside]
    assert torch.allclose(ratio**2, torch.full_like(ratio, 2 * math.pi * 0.7**2))


def test_rectangles_batches_precision_and_gradients():
    field = FIELDS[28][0]
    rows, columns = (upsampling_matrix(side, side // 4, field, 1.2) for side in (28, 40))
    maps = torch.rand(3, 1, 7, 10, dtype=torch.float64, requires_grad=True)
    full = upsample(maps, rows, columns)
    assert full.shape == (3, 1, 28, 40)
    assert full.dtype == torch.float64
    full.sum().backward()
    assert torch.allclose(maps.grad, (rows.sum(0)[:, None] * columns.sum(0)).expand_as(maps))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        with torch.autocast("cpu", torch.bfloat16):
            low = upsample(maps.detach().to(dtype), rows, columns)
        assert low.dtype == torch.float32
        assert torch.allclose(low.double(), full, rtol=tolerance, atol=tolerance)
    exact = upsample(maps.detach().bfloat16().double(), rows, columns)  # only the input was rounded
    assert torch.allclose(low.double(), exact, rtol=1e-6, atol=1e-6)


def test_bad_requests_are_refused():
    with pytest.raises(BadInput, match="did you mean 'literal'"):
        matrix("odd", 1.0, "literl")
    with pytest.raises(BadInput, match="positive"):
        matrix("odd", 0.0)
