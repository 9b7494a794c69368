"""The image, the runtime environment, and that all files of infra/ mean the same versions, places and accounts."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.changed import changed
from tests.support.image import pins, problems
from tests.support.kuberay import secrets

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE, IGNORED, REQUIREMENTS = (
    (INFRA / "image" / name).read_text() for name in ("Dockerfile", "Dockerfile.dockerignore", "requirements.txt"))
PINS = pins(REQUIREMENTS)
TEXTS = {str(file.relative_to(INFRA)): file.read_text() for file in INFRA.rglob("*")
         if file.is_file() and file.suffix in (".yaml", ".json", ".md", "") and not file.name.startswith("local")}


def test_nothing_is_wrong():
    assert problems(DOCKERFILE, IGNORED, REQUIREMENTS, PROJECT) == []


@pytest.mark.parametrize(("old", "new", "line"), [
    ("FROM python:3.11.14-slim-bookworm", "FROM python:3.11-slim", "one base, python:X.Y.Z-slim-RELEASE"),
    ("FROM python:3.11.14-slim-bookworm", "FROM python:3.10.9-slim-bookworm", "pyproject.toml wants Python >=3.11"),
    ("USER 1000:1000\n", "", "USER root: 1000:1000"),
    ("USER 1000:1000\n", "USER 1000:1000\nUSER root\n", "USER root: 1000:1000"),
    ("HOME=/home/fcdd \\\n    ", "", "ENV HOME: /home/fcdd"),
    ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "ENV RAY_AUTH_MODE: token"),
    ("RAY_USAGE_STATS_ENABLED=0", "AWS_SECRET_ACCESS_KEY=x", "ENV AWS_SECRET_ACCESS_KEY: a secret"),
    ("CMD", "ENTRYPOINT", "ENTRYPOINT, ADD: neither"),
    (" rsync \\\n", " \\\n", "rsync is missing"),
    ("--no-deps --no-build-isolation", "--no-build-isolation", "without --no-deps"),
    ("pip check", "true", "pip check is missing"),
    ("COPY pyproject.toml", "COPY .env pyproject.toml", "COPY .env: .dockerignore keeps it out"),
])
def test_a_mistake_in_the_dockerfile_is_named(old, new, line):
    assert old in DOCKERFILE
    (found,) = problems(DOCKERFILE.replace(old, new), IGNORED, REQUIREMENTS, PROJECT)
    assert line in found


def test_a_build_that_sees_all_is_named():
    (found,) = problems(DOCKERFILE, IGNORED.replace("\n*\n", "\n"), REQUIREMENTS, PROJECT)
    assert ".dockerignore: begins with !pyproject.toml" in found


@pytest.mark.parametrize(("name", "version", "line"), [
    ("torch", "==2.10.0", "torch 2.10.0, and pyproject.toml wants >=2.11"),
    ("ray", "==2.59.1", "ray 2.59.1, and pyproject.toml wants >=2.60"),
    ("boto3", None, "boto3 is missing"),
    ("optuna", None, "optuna is missing"),
    ("numpy", ">=2", "numpy>=2 has no version"),
])
def test_a_pin_beside_pyproject_is_named(name, version, line):
    text, count = re.subn(rf"(?m)^{name}==.*\n", f"{name}{version}\n" if version else "", REQUIREMENTS)
    assert count == 1
    found = problems(DOCKERFILE, IGNORED, text, PROJECT)
    assert line in found[0]


def test_the_build_is_pinned():
    """Without isolation the image is built by its own setuptools."""
    assert "setuptools" in PINS


def test_all_files_name_one_image_and_one_version_of_ray():
    tag = f"{PROJECT['version']}-ray{PINS['ray']}"
    images = {(name, image) for name, text in {**TEXTS, "Dockerfile": DOCKERFILE}.items()
              for image in re.findall(r"fcdd-dist:([\w.-]+)", text)}
    assert {image for _, image in images} == {tag}
    assert {name for name, _ in images} == {"aws/cluster.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml",
                                            "README.md", "image/Dockerfile", "Dockerfile"}
    versions = {match for text in TEXTS.values() for match in re.findall(r"rayVersion: *(\S+)", text)}
    assert versions == {PINS["ray"]}


@pytest.mark.parametrize("what", [r"\b\d{12}\b", r"arn:aws:s3:::([\w-]+)|s3://([\w-]+)", r"ami-[0-9a-f]+",
                                  r"subnet-[0-9a-f]{8,}", r"sg-[0-9a-f]{8,}", r"\b[a-z]{2}-[a-z]+-\d\b"])
def test_what_each_user_has_to_put_in_is_the_same_everywhere(what):
    """And stands in the table of README.md, which says how."""
    found = {next(filter(None, match.groups()), match[0]) for text in TEXTS.values()
             for match in re.finditer(what, text)}
    assert len(found) == 1, found
    assert f"`{found.pop()}`" in TEXTS["README.md"]


def test_the_runtime_environment_is_one_and_has_no_secrets():
    from ray.runtime_env import RuntimeEnv

    file = yaml.safe_load((INFRA / "runtime-env.yaml").read_text())
    of_job = yaml.safe_load(yaml.safe_load((INFRA / "kuberay/rayjob.yaml").read_text())["spec"]["runtimeEnvYAML"])
    assert of_job["env_vars"] == file["env_vars"]
    assert set(file) <= set(RuntimeEnv.known_fields)
    RuntimeEnv(**file)  # raises where a type is wrong
    assert secrets(file) is None


@pytest.mark.parametrize(("path", "value"), [("env_vars RAY_JOB_STOP_WAIT_TIME_S", 60), ("excludes", "/docs")])
def test_a_wrong_type_in_the_runtime_environment_is_refused(path, value):
    from ray.runtime_env import RuntimeEnv

    with pytest.raises((TypeError, ValueError)):
        RuntimeEnv(**changed(yaml.safe_load((INFRA / "runtime-env.yaml").read_text()), path, value))


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DB_PASSWORD",
                                  "WANDB_API_KEY"])
def test_a_secret_is_known_by_its_name(name):
    assert secrets({"env_vars": {name: "x"}}) == name
    assert secrets({"env_vars": {"RAY_AUTH_TOKEN_PATH": "x", "AWS_REGION": "y"}}) is None


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_nothing_is_bound_to_all_interfaces_and_no_key_is_written_down(name):
    lines = [line for line in TEXTS[name].splitlines() if "0.0.0.0" in line or re.search(r"AKIA[0-9A-Z]{16}", line)]
    assert lines == []
