"""How many trials a cluster runs at once."""

from __future__ import annotations

import math

import pytest

from fcdd_dist.cluster.slots import TrialPlacement, trials_at_once
from fcdd_dist.errors import BadInput

CPUS = {"CPU": 8.0, "memory": 1e9, "node:10.0.0.1": 1.0}
GPUS = {"CPU": 16.0, "GPU": 2.0, "accelerator_type:H200": 1.0}


@pytest.mark.parametrize(("nodes", "placement", "expected"), [
    ([CPUS], TrialPlacement(), 8),
    ([CPUS], TrialPlacement(cpus=3), 2),  # the last two are of no use
    ([CPUS, CPUS], TrialPlacement(cpus=5), 2),  # a worker does not span two nodes
    ([CPUS, {}, GPUS], TrialPlacement(), 24),
    ([CPUS], TrialPlacement(at_once=3), 3),
    ([CPUS], TrialPlacement(at_once=30), 8),
    ([CPUS, GPUS], TrialPlacement(gpus=1), 2),
    ([GPUS], TrialPlacement(gpus=0.1), 16),  # not 20: there are no more CPUs
    ([{"CPU": 64, "GPU": 1}], TrialPlacement(gpus=0.1), 10),
    ([{"CPU": 64, "GPU": 1}], TrialPlacement(gpus=1 / 3), 3),
    ([{"CPU": 64, "GPU": 1}], TrialPlacement(gpus=0.3333), 3),
    ([{"CPU": 64, "GPU": 1}], TrialPlacement(gpus=0.34), 2),
    ([GPUS], TrialPlacement(gpus=0.4), 4),  # not 5: a fraction does not span two GPUs
    ([{"CPU": 64, "GPU": 1}], TrialPlacement(gpus=0.142857), 6),  # Ray takes it for 0.1429
    ([CPUS, CPUS], TrialPlacement(workers=3), 5),  # the workers of a trial may be on several nodes
    ([GPUS, GPUS], TrialPlacement(workers=4, gpus=1), 1),
    ([CPUS], TrialPlacement(workers=8), 1)])
def test_there_is_room_for(nodes, placement, expected):
    assert trials_at_once(nodes, placement) == expected


@pytest.mark.parametrize(("nodes", "placement", "message"), [
    ([CPUS], TrialPlacement(gpus=0.5),
     "a trial takes 1 CPU, 0.5 GPUs, and the cluster has no room for it: its node has 8 CPUs, 0 GPUs"),
    ([CPUS, GPUS], TrialPlacement(cpus=17), "takes 17 CPUs, .* its nodes have 8 CPUs, 0 GPUs; 16 CPUs, 2 GPUs"),
    ([GPUS], TrialPlacement(workers=3, gpus=1), "a trial takes 3 workers with 1 CPU, 1 GPU each, and "),
    ([CPUS] * 10, TrialPlacement(cpus=9), "8 CPUs, 0 GPUs and 2 more$")])
def test_where_not_one_fits_it_says_what_there_is(nodes, placement, message):
    with pytest.raises(BadInput, match=message):
        trials_at_once(nodes, placement)


@pytest.mark.parametrize(("values", "message"), [
    ({"gpus": -1}, "--gpus-per-trial -1: give 0, 1, or a fraction between them"),
    ({"gpus": math.nan}, "--gpus-per-trial nan: give 0, 1, or a fraction"),
    ({"gpus": math.inf}, "--gpus-per-trial inf: give 0, 1, or a fraction"),
    ({"gpus": 1.5}, "a worker uses one GPU at most: give --workers-per-trial, and --gpus-per-trial 1"),
    ({"gpus": 2, "workers": 2}, "a worker uses one GPU at most"),
    ({"gpus": 0.00001}, "Ray counts in ten-thousandths: give at least 0.0001"),
    ({"gpus": 0.5, "workers": 2}, "ranks that share a GPU wait for each other: give 0 or 1, or one worker a trial")])
def test_what_no_trial_can_have_is_refused(values, message):
    with pytest.raises(BadInput, match=message):
        TrialPlacement(**values)


def test_a_placement_says_what_it_is():
    assert str(TrialPlacement()) == "1 CPU"
    assert str(TrialPlacement(cpus=2, gpus=0.25)) == "2 CPUs, 0.25 GPUs"
    assert str(TrialPlacement(workers=2, gpus=1)) == "2 workers with 1 CPU, 1 GPU each"
