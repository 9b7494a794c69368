"""The nets of Appendix B, weight by weight and number by number."""

import math

import pytest
import torch

from fcdd_dist import chance
from fcdd_dist.errors import BadInput
from fcdd_dist.model.architectures import NETWORKS, info
from fcdd_dist.model.networks import build, initialise

COUNTS = {  # (bias, affine): Appendix B counts neither; the published runs had both
    "fcdd28": {(False, False): 3_416, (True, False): 3_441, (False, True): 3_432, (True, True): 3_457},
    "fcdd32": {(False, False): 93_152, (True, False): 93_377, (False, True): 93_344, (True, True): 93_569},
    "fcdd224": {(False, False): 246_744, (True, False): 247_105, (False, True): 247_208, (True, True): 247_569},
}

# phi[0,0,0,0], phi[0,0,u//2,u//2], phi[1,0,u-1,0], sum of phi, mean of A of both images; None: not worked out
OUTPUTS = {
    ("fcdd28", "eval", False): (-0.056632302, -0.038037055, 0.000966082, -1.649399592, 0.000366577, 0.000438331),
    ("fcdd28", "eval", True): (-0.050851245, -0.033290360, 0.007427280, -1.065797142, 0.000305450, 0.000352977),
    ("fcdd28", "train", False): (-0.228945921, None, None, -7.266118149, 0.007754408, 0.009604824),
    ("fcdd28", "train", True): (-0.222787825, None, None, -6.662624701, 0.007380541, 0.009118205),
    ("fcdd32", "eval", False): (0.968190903, -0.302241777, -0.943009636, -27.570946177, 0.328403596, 0.228072565),
    ("fcdd32", "eval", True): (0.985294907, -0.291688262, -0.941302866, -26.400197398, 0.331069670, 0.226309687),
    ("fcdd32", "train", False): (0.625025734, None, None, -19.535018896, 0.152838122, 0.120138547),
    ("fcdd32", "train", True): (0.635538061, None, None, -18.189441026, 0.152721213, 0.118101330),
    ("fcdd224", "eval", False): (0.005840590, -0.036575812, -0.200445840, -19.112398254, 0.004564545, 0.004859280),
    ("fcdd224", "eval", True): (0.013862986, -0.027988350, -0.199013329, -6.132198061, 0.004808774, 0.005124087),
    ("fcdd224", "train", False): (-0.019697388, None, None, -61.796638847, 0.039030265, 0.042207567),
    ("fcdd224", "train", True): (-0.010977781, None, None, -48.124295282, 0.038812065, 0.041994113),
}


def convolutions(network):
    return [module for module in network if isinstance(module, torch.nn.Conv2d)]


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_counts(name):
    for (bias, affine), count in COUNTS[name].items():
        network = build(name, bias=bias, affine=affine)
        assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(("name", "mode", "bias"), OUTPUTS)
def test_outputs_with_known_weights(name, mode, bias):
    network = build(name, bias=bias).double().train(mode == "train")
    with torch.no_grad():
        for position, conv in enumerate(convolutions(network)):
            t = torch.arange(conv.weight.numel(), dtype=torch.float64)
            fan_in = conv.weight[0].numel()
            conv.weight.copy_((torch.sin(0.7 * t + position) / math.sqrt(fan_in)).view_as(conv.weight))
            if bias:
                conv.bias.copy_(0.01 * torch.arange(1, conv.out_channels + 1).double() / conv.out_channels)
        shape = (2, info(name).channels, info(name).image_size, info(name).image_size)
        phi = network(torch.cos(0.013 * torch.arange(math.prod(shape), dtype=torch.float64)).view(shape))
    u = phi.shape[-1]
    means = (torch.sqrt(phi**2 + 1) - 1).mean((1, 2, 3))
    seen = (phi[0, 0, 0, 0], phi[0, 0, u // 2, u // 2], phi[1, 0, u - 1, 0], phi.sum(), *means)
    for value, expected in zip(seen, OUTPUTS[name, mode, bias], strict=True):
        if expected is not None:
            assert value.item() == pytest.approx(expected, abs=2e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_stands_between_the_last_two_convolutions_but_a_pool(name):
    kinds = [type(module).__name__ for module in build(name)]
    last = len(kinds) - 1
    before = max(i for i in range(last) if kinds[i] == "Conv2d")
    assert kinds[last] == "Conv2d"
    assert set(kinds[before + 1 : last]) <= {"MaxPool2d"}


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'fcdd32'"):
        build("fcd32")


def test_building_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    build("fcdd28")
    assert torch.equal(before, torch.get_rng_state())


def test_initial_weights_are_a_function_of_seed_and_name():
    network, again = initialise(build("fcdd32"), 7), initialise(build("fcdd32"), 7)
    other, bare = initialise(build("fcdd32"), 8), initialise(build("fcdd32", bias=False), 7)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        if "conv" in name:
            assert not torch.equal(parameter, other.get_parameter(name))
        if name.endswith("weight"):
            assert torch.equal(parameter, bare.get_parameter(name))
    draws = chance.uniforms(3, 7, "init", "conv2.weight")
    expected = (2 * draws - 1) / math.sqrt(32 * 3 * 3)
    assert network.conv2.weight.flatten()[:3].tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_initial_weights_have_the_distribution_of_torchs_default():
    """U(-b, b) with b = 1/sqrt(fan_in), for biases too, as Conv2d.reset_parameters draws it."""
    for conv in convolutions(initialise(build("fcdd224"), 3)):
        bound = 1 / math.sqrt(conv.in_channels * conv.kernel_size[0] ** 2)
        fresh = torch.nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size)
        for ours, theirs in ((conv.weight, fresh.weight), (conv.bias, fresh.bias)):
            assert ours.abs().max() <= bound * (1 + 1e-6)
            assert theirs.abs().max() <= bound * (1 + 1e-6)
        if conv.weight.numel() > 5000:
            assert conv.weight.abs().max() > 0.99 * bound
            assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
            assert abs(conv.weight.mean().item()) < 0.03 * bound


def test_initialising_resets_batch_norm_and_refuses_what_it_does_not_know():
    network = build("fcdd28")
    network(torch.randn(4, 1, 28, 28))
    assert network.norm1.running_mean.abs().max() > 0
    initialise(network, 0)
    fresh = build("fcdd28").state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in network.state_dict().items())
    with pytest.raises(TypeError, match="no initialisation for 0, a Linear"):
        initialise(torch.nn.Sequential(torch.nn.Linear(2, 2)), 0)
