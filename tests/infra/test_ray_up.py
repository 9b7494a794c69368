"""infra/aws/cluster.yaml, and that each of its checks sees a mistake and says so in one line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.support.changed import GONE, changed
from tests.support.ray_up import problems

FILE = Path(__file__).parents[2] / "infra/aws/cluster.yaml"


@pytest.fixture(scope="module")
def cluster():
    """What the file's merge keys share is each node's own here, so that a mistake is of one."""
    return json.loads(json.dumps(yaml.safe_load(FILE.read_text())))


def test_nothing_is_wrong(cluster):
    assert problems(cluster) == []


MISTAKES = [
    # Ray's schema and validation
    ("max_worker", 3, "'max_worker' was unexpected"),
    ("max_workers", "12", "max_workers: '12' is not of type 'integer'"),
    ("available_node_types gpu max_worker", 8, "'max_worker' was unexpected"),
    ("available_node_types gpu resources CPU", 0.5, "0.5 is not of type 'integer'"),
    ("docker shm", "1g", "'shm' was unexpected"),
    ("auth ssh_proxy_command", GONE, "'ssh_proxy_command' is a required property"),
    ("head_node_type", "heads", "`head_node_type`"),
    # what they pass over
    ("provider use_internal_ip", True, "provider.use_internal_ip: Ray would pass it over"),
    ("available_node_types gpu node_config InstanceTyp", "g5.xlarge", "gpu.node_config.InstanceTyp: is not among"),
    ("available_node_types gpu node_config InstanceMarketOptions", {"MarketTyp": "spot"}, '"MarketTyp"'),
    ("available_node_types cpu node_config MetadataOptions HttpToken", "required", '"HttpToken"'),
    ("available_node_types head node_config BlockDeviceMappings 0 Ebs VolumeSize", "150", "VolumeSize, value: 150"),
    ("available_node_types head node_config SubnetIds", [4], "SubnetId, value: 4"),
    # nodes
    ("available_node_types gpu max_workers", 13, "gpu: max_workers is 13, and of the whole cluster 12"),
    ("available_node_types gpu min_workers", 1, "gpu: min_workers is 0"),
    ("available_node_types head resources", {"CPU": 2}, "head: resources.CPU of the head is 0"),
    ("available_node_types head resources", {"CPU": 0, "GPU": 1}, "head: a head has no GPU"),
    ("available_node_types head node_config InstanceMarketOptions", {"MarketType": "spot"}, "a head on spot"),
    ("available_node_types cpu node_config InstanceMarketOptions", GONE, "cpu: workers are on spot"),
    ("available_node_types gpu docker", GONE, "gpu: docker.worker_run_options has --gpus=all"),
    ("available_node_types cpu node_config IamInstanceProfile Arn",
     "arn:aws:iam::123456789012:instance-profile/fcdd-head", "cpu: has the head's profile"),
    ("available_node_types cpu node_config SecurityGroupIds", GONE, "cpu.node_config.SecurityGroupIds: is missing"),
    ("available_node_types head node_config KeyName", GONE, "head.node_config.KeyName: is missing"),
    ("available_node_types head node_config MetadataOptions HttpTokens", "optional", "HttpTokens: required"),
    ("available_node_types gpu node_config BlockDeviceMappings 0 Ebs Encrypted", False, "is not encrypted"),
    # doors, and what stays
    ("provider use_internal_ips", False, "provider.use_internal_ips: true"),
    ("provider cache_stopped_nodes", GONE, "provider.cache_stopped_nodes: false"),
    ("docker disable_shm_size_detection", True, "/dev/shm would be 64 MB"),
    ("worker_start_ray_commands", ["ray stop"], "worker_start_ray_commands: one of them is `ray start`"),
    ("file_mounts", {}, "RAY_AUTH_TOKEN_PATH is no file in one of file_mounts"),
]


@pytest.mark.parametrize(("path", "value", "line"), MISTAKES, ids=[line for *_, line in MISTAKES])
def test_a_mistake_is_named(cluster, path, value, line):
    found = problems(changed(cluster, path, value))
    assert all(line in each for each in found)
    assert len(found) == (2 if path == "file_mounts" else 1)  # that one is of head and workers alike


@pytest.mark.parametrize(("which", "old", "new", "line"), [
    ("head", "RAY_AUTH_MODE=token ", "", "head_start_ray_commands: RAY_AUTH_MODE=token is missing"),
    ("worker", "RAY_AUTH_MODE=token ", "RAY_AUTH_MODE=disabled ", "worker_start_ray_commands: RAY_AUTH_MODE=token"),
    ("worker", "--disable-usage-stats", "--node-ip-address=0.0.0.0", "0.0.0.0: nothing is bound"),
    ("worker", "/home/fcdd/token/", "/tmp/", "RAY_AUTH_TOKEN_PATH is no file"),
    ("head", "--dashboard-host=127.0.0.1 ", "", "--dashboard-host=127.0.0.1 is missing"),
    ("worker", "--max-worker-port=10999", "--max-worker-port=19999", "--max-worker-port: has one number"),
    ("head", "--node-manager-port=6380 ", "", "--node-manager-port: has one number"),
])
def test_a_mistake_in_a_start_is_named(cluster, which, old, new, line):
    command = cluster[f"{which}_start_ray_commands"][1]
    assert old in command
    (found,) = problems(changed(cluster, f"{which}_start_ray_commands 1", command.replace(old, new)))
    assert line in found


def test_the_ports_are_those_of_the_readme(cluster):
    ports = {port for which in ("head", "worker") for port in re.findall(r"port=(\d+)", cluster[
        f"{which}_start_ray_commands"][1])}
    table = re.search(r"## Ports\n(.*?)\n## ", (FILE.parents[1] / "README.md").read_text(), re.DOTALL)[1]
    assert {port for port in ports if not re.search(rf"^\|[^|]*\b{port}\b", table, re.MULTILINE)} == set()
