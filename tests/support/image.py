"""What is wrong with the definition of the image, a line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

EXTRA = "optuna"  # the one that the image has; a tracker is each user's own choice


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def pins(requirements: str) -> dict[str, str]:
    """Version by name. A line that pins nothing gives an empty version."""
    lines = [line.strip() for line in requirements.splitlines() if line.strip() and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def problems(dockerfile: str, ignored: str, requirements: str, project: dict[str, Any]) -> list[str]:
    return [*_dockerfile(instructions(dockerfile), ignored, project), *_pins(pins(requirements), project)]


def _dockerfile(steps: list[tuple[str, str]], ignored: str, project: dict[str, Any]) -> Iterator[str]:
    bases = [text for step, text in steps if step == "FROM"]
    version = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+", bases[0])
    if len(bases) != 1 or version is None:
        yield f"FROM {bases[0]}: one base, python:X.Y.Z-slim-RELEASE"
    elif version[1] not in SpecifierSet(project["requires-python"]):
        yield f"FROM {bases[0]}: pyproject.toml wants Python {project['requires-python']}"
    if (last := [text for step, text in steps if step == "USER"][-1:]) != ["1000:1000"]:
        yield f"USER {''.join(last) or 'root'}: 1000:1000, by numbers, which Kubernetes can tell from root"
    environment = dict(pair.split("=", 1) for step, text in steps if step == "ENV" for pair in text.split())
    if environment.get("HOME") != "/home/fcdd":
        yield "ENV HOME: /home/fcdd, else `ray up` takes /root"
    if environment.get("RAY_AUTH_MODE") != "token":
        yield "ENV RAY_AUTH_MODE: token, else a Ray that is started by hand lets everybody in"
    for name in environment:
        if re.search(r"(?i)secret|password|access_key|auth_token$", name):
            yield f"ENV {name}: a secret, which stays in the image"
    if any(step in ("ENTRYPOINT", "ADD") for step, _ in steps):
        yield "ENTRYPOINT, ADD: neither, since `ray up` and KubeRay run commands of their own, and COPY fetches nothing"
    runs = " ".join(text for step, text in steps if step == "RUN")
    for tool in ("openssh-client", "rsync"):
        if tool not in runs:
            yield f"RUN: {tool} is missing, by which the head of `ray up` reaches its workers"
    for command in runs.split("pip install")[1:]:
        if "--no-deps" not in command:
            yield f"RUN pip install{command.rstrip()}: without --no-deps it brings what nobody pinned"
    if "pip check" not in runs:
        yield "RUN: pip check is missing, which says what was not pinned"
    rules = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    if rules[0] != "*":
        yield f".dockerignore: begins with {rules[0]}, not with *, and lets into the build what nobody named"
    for step, text in steps:
        for source in text.split()[:-1] if step == "COPY" else ():
            if f"!{source}" not in rules:
                yield f"COPY {source}: .dockerignore keeps it out"


def _pins(pinned: dict[str, str], project: dict[str, Any]) -> Iterator[str]:
    for name, version in pinned.items():
        if not version:
            yield f"requirements.txt: {name} has no version"
    wanted = [*project["dependencies"], *project["optional-dependencies"][EXTRA]]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"requirements.txt: {requirement.name} is missing, which pyproject.toml wants"
        elif version and version not in requirement.specifier:
            yield f"requirements.txt: {requirement.name} {version}, and pyproject.toml wants {requirement.specifier}"
