"""What is wrong with a cluster YAML for `ray up` on AWS, a line each.

Asked are Ray's schema and validation, the model of EC2's own interface that botocore carries, and then our rules: what
neither of them holds, and what would cost money or open a door.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate
import jsonschema

PROVIDER = {"type", "region", "availability_zone", "use_internal_ips", "cache_stopped_nodes"}
NODE = {"InstanceType", "ImageId", "KeyName", "SubnetIds", "SecurityGroupIds", "IamInstanceProfile",
        "InstanceMarketOptions", "MetadataOptions", "BlockDeviceMappings"}
PORTS = ("--node-manager-port", "--object-manager-port", "--metrics-export-port", "--min-worker-port",
         "--max-worker-port")


def problems(config: dict[str, Any]) -> list[str]:
    """Of the first that complains; what comes later takes what comes first for granted."""
    for ask in (_rays_schema, _rays_validation, _misspelt, _nodes, _doors):
        if found := list(ask(config)):
            return found
    return []


def _rays_schema(config: dict) -> Iterator[str]:
    for error in _schema().iter_errors(config):
        yield f"{'.'.join(map(str, error.absolute_path)) or 'the top level'}: {error.message}"


@functools.cache
def _schema() -> jsonschema.Draft7Validator:
    import ray.autoscaler

    file = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    return jsonschema.Draft7Validator(json.loads(file.read_text()))


def _rays_validation(config: dict) -> Iterator[str]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(copy.deepcopy(config)))
    except (ValueError, AssertionError, jsonschema.ValidationError) as error:
        yield str(error).splitlines()[0]


def _misspelt(config: dict) -> Iterator[str]:
    for key in sorted(config["provider"].keys() - PROVIDER):
        yield f"provider.{key}: Ray would pass it over; known here are {', '.join(sorted(PROVIDER))}"
    for name, node in config["available_node_types"].items():
        request = dict(node["node_config"])
        for key in sorted(request.keys() - NODE):
            yield f"{name}.node_config.{key}: is not among what we use, {', '.join(sorted(NODE))}"
        if "SubnetIds" in request:  # Ray's own key: it chooses one of them
            request["SubnetId"] = request.pop("SubnetIds")[0]
        known = {key: value for key, value in request.items() if key in {*NODE, "SubnetId"}}
        report = botocore.validate.ParamValidator().validate({**known, "MinCount": 1, "MaxCount": 1}, _run_instances())
        for line in report.generate_report().splitlines():
            yield f"{name}.node_config: {line}"


@functools.cache
def _run_instances() -> botocore.model.Shape:
    model = botocore.loaders.Loader().load_service_model("ec2", "service-2")
    return botocore.model.ServiceModel(model, "ec2").operation_model("RunInstances").input_shape


def _nodes(config: dict) -> Iterator[str]:
    head = config["head_node_type"]
    for name, node in config["available_node_types"].items():
        ec2, resources = node["node_config"], node["resources"]
        spot = "InstanceMarketOptions" in ec2
        if name == head:
            if resources.get("GPU"):
                yield f"{name}: a head has no GPU, whose price it would pay day and night"
            if resources.get("CPU") != 0:
                yield f"{name}: resources.CPU of the head is 0, so that no training lands there"
            if spot:
                yield f"{name}: a head on spot takes the whole cluster with it"
        else:
            if node.get("max_workers", 0) > config["max_workers"]:
                yield (f"{name}: max_workers is {node['max_workers']}, and of the whole cluster "
                       f"{config['max_workers']}")
            if not spot:
                yield f"{name}: workers are on spot: they may be lost at any time"
            if node.get("min_workers", 0):
                yield f"{name}: min_workers is 0, else nodes are paid for that do nothing"
            if ec2.get("IamInstanceProfile") == config["available_node_types"][head]["node_config"].get(
                    "IamInstanceProfile"):
                yield f"{name}: has the head's profile, which may start instances"
            options = node.get("docker", {}).get("worker_run_options", [])
            if bool(resources.get("GPU")) != ("--gpus=all" in options):
                yield f"{name}: docker.worker_run_options has --gpus=all where there are GPUs, and only there"
        for key in ("SubnetIds", "SecurityGroupIds", "KeyName", "ImageId", "IamInstanceProfile"):
            if key not in ec2:
                yield f"{name}.node_config.{key}: is missing, and Ray would make or choose its own"
        if ec2.get("MetadataOptions", {}).get("HttpTokens") != "required":
            yield f"{name}.node_config.MetadataOptions.HttpTokens: required, else any request gets the role's keys"
        for disk in ec2.get("BlockDeviceMappings", []):
            if not disk["Ebs"].get("Encrypted"):
                yield f"{name}.node_config.BlockDeviceMappings: {disk['DeviceName']} is not encrypted"


def _doors(config: dict) -> Iterator[str]:
    if "0.0.0.0" in json.dumps(config):
        yield "0.0.0.0: nothing is bound to all interfaces"
    if config["provider"].get("use_internal_ips") is not True:
        yield "provider.use_internal_ips: true, else nodes have public addresses"
    if config["provider"].get("cache_stopped_nodes") is not False:
        yield "provider.cache_stopped_nodes: false, else stopped nodes and their disks stay"
    if config["docker"].get("disable_shm_size_detection"):
        yield "docker.disable_shm_size_detection: /dev/shm would be 64 MB"
    starts = {which: [command for command in config[f"{which}_start_ray_commands"] if "ray start" in command]
              for which in ("head", "worker")}
    for which, commands in starts.items():
        if len(commands) != 1:
            yield f"{which}_start_ray_commands: one of them is `ray start`"
            return
        (command,) = commands
        if "RAY_AUTH_MODE=token " not in command:
            yield f"{which}_start_ray_commands: RAY_AUTH_MODE=token is missing, without which Ray lets everybody in"
        path = re.search(r"RAY_AUTH_TOKEN_PATH=(\S+)/[^/\s]+", command)
        if path is None or path[1] not in config.get("file_mounts", {}):
            yield f"{which}_start_ray_commands: RAY_AUTH_TOKEN_PATH is no file in one of file_mounts"
    (head,), (worker,) = starts["head"], starts["worker"]
    if "--dashboard-host=127.0.0.1 " not in head:
        yield "head_start_ray_commands: --dashboard-host=127.0.0.1 is missing"
    for port in PORTS:
        if _option(head, port) is None or _option(head, port) != _option(worker, port):
            yield f"{port}: has one number for head and workers, which is among the ports of README.md"


def _option(command: str, name: str) -> str | None:
    found = re.search(rf"{name}=(\S+)", command)
    return found and found[1]
