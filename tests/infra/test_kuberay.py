"""The manifests of infra/kuberay, and that each of their checks sees a mistake and says so in one line."""

import os
from pathlib import Path

import pytest
import yaml

from tests.support.changed import GONE, changed
from tests.support.kuberay import OURS, crd_problems, crd_validator, problems

FOLDER = Path(__file__).parents[2] / "infra/kuberay"
DOCUMENTS = [(file.name, document) for file in sorted(FOLDER.glob("*.yaml"))
             for document in yaml.safe_load_all(file.read_text())]
OF_KIND = {document["kind"]: document for _, document in DOCUMENTS}
POD = "headGroupSpec template spec"
GPU = "workerGroupSpecs 0"


@pytest.fixture(scope="module")
def definitions():
    """By kind, those that the API server would ask."""
    folder = os.environ.get("FCDD_TEST_CRDS")
    if not folder:
        pytest.skip("FCDD_TEST_CRDS names no folder with KubeRay's custom resource definitions")
    return {kind: crd_validator(Path(folder), kind) for kind in ("RayCluster", "RayJob")}


@pytest.mark.parametrize(("name", "document"), DOCUMENTS, ids=[f"{n}-{d['kind']}" for n, d in DOCUMENTS])
def test_nothing_is_wrong(name, document):
    assert problems(document) == []


def test_all_files_are_there():
    assert {name for name, _ in DOCUMENTS} == {"namespace.yaml", "networkpolicy.yaml", "raycluster.yaml", "rayjob.yaml"}


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_the_definitions_agree(definitions, kind):
    assert crd_problems(OF_KIND[kind], definitions[kind]) == []


def test_documents_name_each_other():
    """All are in the namespace, pods are who the namespace knows, and the policy holds them."""
    namespace = OF_KIND["Namespace"]["metadata"]["name"]
    assert {document["metadata"].get("namespace", namespace) for _, document in DOCUMENTS} == {namespace}
    accounts = {document["metadata"]["name"] for _, document in DOCUMENTS if document["kind"] == "ServiceAccount"}
    job = OF_KIND["RayJob"]["spec"]
    groups = [group for spec in (OF_KIND["RayCluster"]["spec"], job["rayClusterSpec"])
              for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    templates = [job["submitterPodTemplate"], *(group["template"] for group in groups)]
    assert {template["spec"]["serviceAccountName"] for template in templates} == accounts
    assert OF_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == dict([OURS])
    head = OF_KIND["RayCluster"]["spec"]["headGroupSpec"]["template"]["spec"]
    assert head.get("automountServiceAccountToken") is not False  # the autoscaler asks Kubernetes for pods


def test_the_policy_opens_what_is_meant():
    spec = OF_KIND["NetworkPolicy"]["spec"]
    among_us = {"podSelector": {"matchLabels": dict([OURS])}}
    assert [rule for rule in spec["ingress"] if "ports" not in rule] == [{"from": [among_us]}]
    assert [each["port"] for rule in spec["ingress"] for each in rule.get("ports", ())] == [8265, 8080]
    assert sorted({each["port"] for rule in spec["egress"] for each in rule.get("ports", ())}) == [53, 443, 6443]


MISTAKES = [
    # the model
    ("RayCluster", "apiVersion", "ray.io/v1alpha1", "apiVersion ray.io/v1alpha1"),
    ("RayCluster", "spec rayversion", "2.60.0", "spec.rayversion: Extra inputs"),
    ("RayCluster", "spec headGroupSpec rayStartParams num-cpus", 0, "num-cpus: Input should be a valid string"),
    ("RayCluster", f"spec {GPU} minReplica", 1, "spec.workerGroupSpecs.0.minReplica: Extra inputs"),
    ("RayCluster", f"spec {POD} containers 0 resource", {}, "containers.0.resource: Extra inputs"),
    ("RayCluster", f"spec {POD} securityContext", GONE, "securityContext: Field required"),
    ("RayCluster", f"spec {POD} hostNetwork", True, "hostNetwork: Extra inputs"),
    ("RayCluster", "spec authOptions", GONE, "spec.authOptions: Field required"),
    ("RayCluster", "spec authOptions mode", "disabled", "spec.authOptions.mode: Input should be 'token'"),
    ("RayJob", "spec entryPoint", "x", "spec.entryPoint: Extra inputs"),
    ("RayJob", "spec submissionMode", "K8sJob", "spec.submissionMode: Input should be"),
    ("NetworkPolicy", "spec ingres", [], "spec.ingres: Extra inputs"),
    ("ServiceAccount", "automount", False, "automount: Extra inputs"),
    # the operator
    ("RayCluster", "metadata name", "f" * 54, "of at most 53"),
    ("RayCluster", "metadata name", "8gpus", "8gpus is no name"),
    ("RayJob", "metadata name", "f" * 48, "of at most 47"),
    ("RayCluster", "spec rayVersion", GONE, "rayVersion: is missing"),
    ("RayCluster", "spec rayVersion", "2.52.0", "rayVersion: 2.52.0 knows neither"),
    ("RayCluster", f"spec {POD} restartPolicy", "Always", "headGroupSpec: restartPolicy is Never or unset"),
    ("RayCluster", f"spec {POD} containers 0 env 0 name", "RAY_enable_autoscaler_v2", "_v2 beside autoscalerOptions"),
    ("RayCluster", f"spec {GPU} minReplicas", 9, "worker group gpu: replicas are not between"),
    ("RayJob", f"spec rayClusterSpec {GPU} maxReplicas", GONE, "minReplicas and maxReplicas are needed"),
    ("RayJob", f"spec rayClusterSpec {GPU} idleTimeoutSeconds", 60, "idleTimeoutSeconds needs the autoscaler"),
    ("RayCluster", f"spec {GPU} rayStartParams labels", "a=b", "rayStartParams takes no labels"),
    ("RayJob", "spec shutdownAfterJobFinishes", False, "ttlSecondsAfterFinished: only with"),
    ("RayJob", "spec submissionMode", "InteractiveMode", "backoffLimit: neither with"),
    ("RayJob", "spec submissionMode", "SidecarMode", "submitterPodTemplate: not in SidecarMode"),
    ("RayJob", "spec rayClusterSpec", GONE, "rayClusterSpec: either that or clusterSelector"),
    ("RayJob", "spec runtimeEnvYAML", "env_vars", "runtimeEnvYAML: is no YAML of"),
    # ours
    ("RayJob", "spec runtimeEnvYAML", "env_vars: {AWS_SECRET_ACCESS_KEY: x}", "AWS_SECRET_ACCESS_KEY is a secret"),
    ("RayCluster", f"spec {POD} containers 0 env 0 name", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN is a secret"),
    ("RayCluster", "spec headGroupSpec rayStartParams num-cpus", "2", 'num-cpus is "0"'),
    ("RayCluster", "spec headGroupSpec rayStartParams dashboard-host", GONE, "127.0.0.1, not all interfaces"),
    ("RayJob", "spec rayClusterSpec headGroupSpec rayStartParams dashboard-host", "0.0.0.0", "$(POD_IP), not 0.0.0.0"),
    ("RayJob", f"spec rayClusterSpec {POD} containers 0 env 1 name", "IP", "POD_IP, which dashboard-host names"),
    ("RayCluster", f"spec {POD} nodeSelector", {"eks.amazonaws.com/capacityType": "SPOT"}, "a head on spot"),
    ("RayCluster", f"spec {POD} containers 0 resources",
     {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}, "a head has no GPU"),
    ("RayCluster", f"spec {GPU} template spec terminationGracePeriodSeconds", 30, "is at least 120"),
    ("RayCluster", f"spec {GPU} template spec automountServiceAccountToken", True, "nothing to ask of Kubernetes"),
    ("RayCluster", f"spec {GPU} template spec volumes 0 emptyDir medium", GONE, "/dev/shm is no emptyDir"),
    ("RayCluster", f"spec {GPU} template spec volumes 1 name", "scrach", "/scratch is of no volume"),
    ("RayCluster", f"spec {GPU} template spec containers 0 resources limits cpu", "4", "requests and limits differ"),
    ("RayCluster", f"spec {GPU} template spec containers 0 securityContext allowPrivilegeEscalation", True,
     "ray-worker keeps privileges"),
    ("RayCluster", f"spec {GPU} template spec securityContext runAsUser", 0, "runs as root"),
    ("RayCluster", f"spec {GPU} template metadata labels", {"app": "fcdd"}, "the network policy does not hold it"),
]


@pytest.mark.parametrize(("kind", "path", "value", "line"), MISTAKES, ids=[f"{m[0]}-{m[3]}" for m in MISTAKES])
def test_a_mistake_is_named(kind, path, value, line):
    (found,) = problems(changed(OF_KIND[kind], path, value))
    assert line in found


def test_resources_twice_are_named():
    head = changed(OF_KIND["RayCluster"], f"spec {GPU} resources", {"CPU": "3"})
    (found,) = problems(changed(head, f"spec {GPU} rayStartParams num-cpus", "3"))
    assert "resources stand in rayStartParams or in resources" in found


@pytest.mark.parametrize(("kind", "path", "value", "line"), [
    ("RayCluster", "spec rayversion", "2.60.0", "'rayversion' was unexpected"),
    ("RayCluster", f"spec {POD} containers 0 resource", {}, "'resource' was unexpected"),
    ("RayCluster", "spec headGroupSpec rayStartParams num-cpus", 0, "0 is not of type 'string'"),
    ("RayCluster", "spec authOptions mode", "tokens", "'tokens' is not one of"),
    ("RayJob", "spec entryPoint", "x", "'entryPoint' was unexpected"),
    ("RayJob", f"spec rayClusterSpec {GPU} template spec containers 0 name", GONE, "'name' is a required property"),
])
def test_the_definitions_see_a_mistake(definitions, kind, path, value, line):
    (found,) = crd_problems(changed(OF_KIND[kind], path, value), definitions[kind])
    assert line in found
