"""Batch normalisation: alone it is torch's; in a world of gloo processes it is what one process computes.

Run as a script, this file is one rank of those worlds. Four processes are started once and form one world after the
other, because importing torch is the dearest part.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fcdd_dist.model import batch_norm as batch_norm_module
from fcdd_dist.model.batch_norm import BatchNorm2d
from fcdd_dist.model.networks import build, initialise
from fcdd_dist.model.objectives.fcdd import Fcdd

WORLDS = {  # where the ranks' rows begin and end
    "four": (0, 4, 8, 12, 16),
    "three uneven": (0, 1, 9, 16),
    "three with an idle one": (0, 10, 10, 16),
    "two": (0, 8, 16),
}
STEPS = 20
BATCH = 16


def data(dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(STEPS, BATCH, 1, 28, 28, generator=generator, dtype=torch.float64) * 2 + 0.7
    return images.to(dtype), (torch.arange(BATCH) % 3 == 0).long()


def all_reduced(tensor):
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def trained(rows, **options):
    """SGD in float64 on this rank's ``rows`` of every batch: final state, losses, the last step's input gradient."""
    network = initialise(build("fcdd28", **options), 1).double()
    images, labels = data()
    losses = []
    for step in range(STEPS):
        x = images[step, rows].clone().requires_grad_()
        loss = Fcdd().loss(network(x), labels[rows]).sum() / BATCH
        loss.backward()
        losses.append(all_reduced(loss.detach().clone()))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * all_reduced(parameter.grad)
                parameter.grad = None
    return {**network.state_dict(), "losses": torch.stack(losses), "input gradient": x.grad}


def layer_results(rows, dtype, layout):
    """One layer, one step: output, input gradient, summed parameter gradients, running statistics."""
    layer = BatchNorm2d(8, eps=1e-4)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 2, 8))
    generator = torch.Generator().manual_seed(6)
    x, dy = (torch.randn(BATCH, 8, 6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    x = (x + 3).to(dtype)[rows].contiguous(memory_format=layout).requires_grad_()
    y = layer(x)
    y.backward(dy.to(dtype)[rows])
    if len(x):
        assert y.is_contiguous(memory_format=layout)
        assert x.grad.is_contiguous(memory_format=layout)
    assert y.dtype == x.grad.dtype == dtype
    gradients = {f"{name} gradient": all_reduced(p.grad.clone()) for name, p in layer.named_parameters()}
    return {"output": y.detach(), "input gradient": x.grad, **gradients, **layer.state_dict()}


LAYERS = {
    "float32": (torch.float32, torch.contiguous_format),
    "float32 channels_last": (torch.float32, torch.channels_last),
    "bfloat16": (torch.bfloat16, torch.contiguous_format),
    "bfloat16 channels_last": (torch.bfloat16, torch.channels_last),
}


def experiments(cuts, rank):
    rows = slice(cuts[rank], cuts[rank + 1])
    return {
        "affine": trained(rows),
        "not affine": trained(rows, affine=False, bias=False),
        **{name: layer_results(rows, *how) for name, how in LAYERS.items()},
    }


def be_rank(rank, folder):
    torch.set_num_threads(1)
    for name, cuts in WORLDS.items():
        size = len(cuts) - 1
        if rank < size:
            dist.init_process_group("gloo", init_method=f"file://{folder}/{name}", rank=rank, world_size=size)
            torch.save(experiments(cuts, rank), folder / f"{name} {rank}.pt")
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Name of the world -> results of its ranks."""
    folder = tmp_path_factory.mktemp("worlds")
    environment = {**os.environ, "PYTHONPATH": str(Path(batch_norm_module.__file__).parents[2])}
    ranks = []
    try:
        for rank in range(4):
            with open(folder / f"errors of {rank}", "w") as errors:
                command = [sys.executable, __file__, str(rank), str(folder)]
                ranks.append(subprocess.Popen(command, env=environment, stderr=errors))
        for rank, process in enumerate(ranks):
            assert process.wait(timeout=100) == 0, (folder / f"errors of {rank}").read_text()
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return {
        name: [torch.load(folder / f"{name} {r}.pt") for r in range(len(cuts) - 1)] for name, cuts in WORLDS.items()
    }


@pytest.fixture(scope="module")
def alone():
    """The results of a world of one, that is of torch's own batch norm."""
    return experiments((0, BATCH), 0)


def together(ranks, experiment):
    """One result of a world: rows put together in the order of the ranks; all else must be equal on all ranks."""
    parts = [rank[experiment] for rank in ranks]
    result = {}
    for name in parts[0]:
        if name in ("output", "input gradient"):
            result[name] = torch.cat([part[name] for part in parts])
        else:
            assert all(torch.equal(part[name], parts[0][name]) for part in parts), name
            result[name] = parts[0][name]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["affine", "not affine"])
@pytest.mark.parametrize("world", WORLDS)
def test_twenty_steps_in_float64_equal_those_of_one_rank(worlds, alone, world, experiment):
    ours = together(worlds[world], experiment)
    for name, expected in alone[experiment].items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", LAYERS)
@pytest.mark.parametrize("world", WORLDS)
def test_a_layer_in_low_precision_equals_that_of_one_rank(worlds, alone, world, experiment):
    ours, bound = together(worlds[world], experiment), 1e-5 if experiment.startswith("float32") else 0.02
    for name, expected in alone[experiment].items():
        # sums over 480 numbers of a gradient; everything else is elementwise or a mean
        scale = 10 if name in ("weight gradient", "bias gradient") else 1
        torch.testing.assert_close(ours[name], expected, rtol=bound, atol=bound * scale)
        assert ours[name].dtype == expected.dtype


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_alone_it_is_torchs_to_the_bit(affine, dtype):
    ours = BatchNorm2d(4, eps=1e-4, affine=affine)
    theirs = torch.nn.BatchNorm2d(4, eps=1e-4, momentum=0.1, affine=affine)
    inputs = [torch.randn(6, 4, 3, 3).to(dtype).requires_grad_() for _ in range(3)]
    for x in inputs:
        outputs, gradients = [], []
        for layer in (ours, theirs):
            y = layer(x)
            outputs.append(y)
            gradients.append(torch.autograd.grad(y.square().sum() + y.sum(), x)[0])
        assert torch.equal(*outputs)
        assert torch.equal(*gradients)
    ours.eval(), theirs.eval()
    assert torch.equal(ours(inputs[0]), theirs(inputs[0]))
    state = theirs.state_dict()
    del state["num_batches_tracked"]
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'world' or 'rank'"):
        BatchNorm2d(4, scope="node")
    with pytest.raises(ValueError, match=r"\(B, 4, H, W\)"):
        BatchNorm2d(4)(torch.zeros(2, 3, 5, 5))


if __name__ == "__main__":
    be_rank(int(sys.argv[1]), Path(sys.argv[2]))
