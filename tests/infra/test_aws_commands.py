"""The `aws` commands of infra/README.md: services, operations and options are known to the models of botocore."""

import re
import shlex
from functools import cache
from pathlib import Path

import botocore.loaders
import botocore.model
import pytest
from botocore import xform_name

README = (Path(__file__).parents[2] / "infra/README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"\baws ([a-z0-9]+ [a-z-]+[^|#\n]*)", "\n".join(BLOCKS).replace("\\\n", " "))
OF_ALL = {"region", "query", "output"}
OF_THE_COMMAND_LINE = {("ecr", "get-login-password")}  # not of the service
SERVICE = {"s3api": "s3"}


@cache
def model(service: str) -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)


def problem(command: str) -> str | None:
    # Up to the bracket that ends a $(...), and without what is redirected.
    service, operation, *words = shlex.split(re.split(r" > |\)\s*(?:$|BUCKET)", command)[0])
    if (service, operation) in OF_THE_COMMAND_LINE:
        return None
    asked = model(SERVICE.get(service, service))
    name = next((name for name in asked.operation_names if xform_name(name, "-") == operation), None)
    if name is None:
        return f"aws {service} has no {operation}"
    shape = asked.operation_model(name).input_shape
    known = {xform_name(member, "-") for member in shape.members} if shape else set()
    unknown = {word.removeprefix("--") for word in words if word.startswith("--")} - known - OF_ALL
    return f"aws {service} {operation} has no --{unknown.pop()}" if unknown else None


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[:2]))
def test_a_command_is_known(command):
    assert problem(command) is None


def test_all_are_looked_at():
    assert len(COMMANDS) >= 18
    assert {command.split()[0] for command in COMMANDS} == {"sts", "ssm", "ec2", "s3api", "iam", "ecr"}


@pytest.mark.parametrize(("command", "line"), [
    ("s3api put-bucket-lifecycle --rules x", "aws s3api put-bucket-lifecycle has no --rules"),
    ("iam make-role --role-name x", "aws iam has no make-role"),
    ("iam create-role --name x", "aws iam create-role has no --name"),
])
def test_a_mistake_is_named(command, line):
    assert problem(command) == line
