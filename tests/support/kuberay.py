"""What is wrong with a manifest for KubeRay, a line each.

The models hold the fields that we use and no others. The rules are those of the operator that its custom resource
definitions do not hold, and ours. ``crd_problems`` asks the definitions themselves, where they are at hand.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import yaml
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError, create_model

Text, Number, Flag = StrictStr, StrictInt, StrictBool
Labels = dict[Text, Text]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


def part(name: str, /, **fields: Any) -> type[Part]:
    """A model of ``name``: a field is its type where it must be there, (type,) where it may."""
    return create_model(name, __base__=Part, **{
        field: (kind[0] | None, None) if isinstance(kind, tuple) else (kind, ...) for field, kind in fields.items()})


Metadata = part("Metadata", name=Text, namespace=(Text,), labels=(Labels,), annotations=(Labels,))
Seccomp = part("Seccomp", type=Literal["RuntimeDefault"])
PodSecurity = part("PodSecurity", runAsNonRoot=Flag, runAsUser=Number, fsGroup=Number, seccompProfile=Seccomp)
Capabilities = part("Capabilities", drop=list[Text])
ContainerSecurity = part("ContainerSecurity", allowPrivilegeEscalation=Flag, capabilities=Capabilities)
Resources = part("Resources", requests=Labels, limits=Labels)
Port = part("Port", name=Text, containerPort=Number)
FieldReference = part("FieldReference", fieldPath=Text)
Source = part("Source", fieldRef=FieldReference)
Variable = part("Variable", name=Text, value=(Text,), valueFrom=(Source,))
Secret = part("Secret", name=Text, optional=Flag)
From = part("From", secretRef=Secret)
Mount = part("Mount", name=Text, mountPath=Text)
Container = part("Container", name=Text, image=Text, securityContext=ContainerSecurity, resources=Resources,
                 ports=(list[Port],), env=(list[Variable],), envFrom=(list[From],), volumeMounts=(list[Mount],))
EmptyDir = part("EmptyDir", medium=(Literal["Memory"],), sizeLimit=Text)
Volume = part("Volume", name=Text, emptyDir=EmptyDir)
Toleration = part("Toleration", key=Text, operator=Literal["Exists"], effect=Literal["NoSchedule"])
Pod = part("Pod", serviceAccountName=Text, automountServiceAccountToken=(Flag,), restartPolicy=(Text,),
           terminationGracePeriodSeconds=(Number,), nodeSelector=(Labels,), tolerations=(list[Toleration],),
           securityContext=PodSecurity, containers=list[Container], volumes=(list[Volume],))
PodMetadata = part("PodMetadata", labels=Labels)
Template = part("Template", metadata=PodMetadata, spec=Pod)
Head = part("Head", rayStartParams=Labels, template=Template)
Workers = part("Workers", groupName=Text, replicas=Number, minReplicas=(Number,), maxReplicas=(Number,),
               idleTimeoutSeconds=(Number,), rayStartParams=Labels, resources=(Labels,), template=Template)
Auth = part("Auth", mode=Literal["token"], secretName=Text)
Autoscaler = part("Autoscaler", version=(Literal["v2"],), upscalingMode=Literal["Default", "Conservative"],
                  idleTimeoutSeconds=Number, securityContext=ContainerSecurity, resources=Resources)
Cluster = part("Cluster", rayVersion=(Text,), authOptions=Auth, enableInTreeAutoscaling=(Flag,),
               autoscalerOptions=(Autoscaler,), headGroupSpec=Head, workerGroupSpecs=list[Workers])
Job = part("Job", entrypoint=Text, submissionMode=Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"],
           backoffLimit=Number, activeDeadlineSeconds=Number, shutdownAfterJobFinishes=(Flag,), suspend=(Flag,),
           ttlSecondsAfterFinished=(Number,), runtimeEnvYAML=Text, submitterPodTemplate=(Template,),
           rayClusterSpec=(Cluster,), clusterSelector=(Labels,))
Selector = part("Selector", matchLabels=Labels)
Peer = part("Peer", podSelector=(Selector,), namespaceSelector=(Selector,))
PolicyPort = part("PolicyPort", protocol=Literal["TCP", "UDP"], port=Number)
Ingress = create_model("Ingress", __base__=Part, from_=(list[Peer], Field(alias="from")),
                       ports=(list[PolicyPort] | None, None))
Egress = part("Egress", to=(list[Peer],), ports=(list[PolicyPort],))
Policy = part("Policy", podSelector=Selector, policyTypes=list[Literal["Ingress", "Egress"]], ingress=list[Ingress],
              egress=list[Egress])

KINDS = {("v1", "Namespace"): {}, ("v1", "ServiceAccount"): {"automountServiceAccountToken": (Flag,)},
         ("networking.k8s.io/v1", "NetworkPolicy"): {"spec": Policy},
         ("ray.io/v1", "RayCluster"): {"spec": Cluster}, ("ray.io/v1", "RayJob"): {"spec": Job}}
MODELS = {(version, kind): part(kind, apiVersion=Literal[version], kind=Literal[kind], metadata=Metadata, **fields)
          for (version, kind), fields in KINDS.items()}

OURS = ("app.kubernetes.io/part-of", "fcdd")
LONGEST = {"RayCluster": 53, "RayJob": 47}  # characters of a name
RESOURCES = {"num-cpus", "num-gpus", "memory", "resources"}  # of rayStartParams
DASHBOARD = ("127.0.0.1", "$(POD_IP)")


def problems(manifest: dict[str, Any]) -> list[str]:
    what = manifest.get("apiVersion"), manifest.get("kind")
    if what not in MODELS:
        return [f"apiVersion {what[0]}, kind {what[1]}: known here are {', '.join(map(' '.join, MODELS))}"]
    try:
        MODELS[what].model_validate(manifest)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    if what[1] == "RayCluster":
        return [*_name(manifest), *_cluster(manifest["spec"])]
    if what[1] == "RayJob":
        return [*_name(manifest), *_job(manifest["spec"])]
    return []


def _name(manifest: dict) -> Iterator[str]:
    name, longest = manifest["metadata"]["name"], LONGEST[manifest["kind"]]
    if len(name) > longest or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"metadata.name: {name} is no name of at most {longest} lower-case letters, digits and hyphens"


def _job(spec: dict) -> Iterator[str]:
    ends = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished") and not ends:
        yield "ttlSecondsAfterFinished: only with shutdownAfterJobFinishes"
    if spec.get("suspend") and not ends:
        yield "suspend: only with shutdownAfterJobFinishes"
    if spec["backoffLimit"] and ("clusterSelector" in spec or spec["submissionMode"] == "InteractiveMode"):
        yield "backoffLimit: neither with clusterSelector nor in InteractiveMode"
    if ("rayClusterSpec" in spec) == ("clusterSelector" in spec):
        yield "rayClusterSpec: either that or clusterSelector"
    if spec["submissionMode"] == "SidecarMode" and "submitterPodTemplate" in spec:
        yield "submitterPodTemplate: not in SidecarMode"
    environment = yaml.safe_load(spec["runtimeEnvYAML"])
    if not isinstance(environment, dict):
        yield "runtimeEnvYAML: is no YAML of names and values"
    elif secret := secrets(environment):
        yield f"runtimeEnvYAML: {secret} is a secret, which everybody would see who sees the cluster"
    if "submitterPodTemplate" in spec:
        yield from _pod("submitterPodTemplate", spec["submitterPodTemplate"], ray=False)
    if "rayClusterSpec" in spec:
        yield from _cluster(spec["rayClusterSpec"], from_outside=True)


def _cluster(spec: dict, from_outside: bool = False) -> Iterator[str]:
    try:
        if Version(spec["rayVersion"]) < Version("2.53"):
            yield f"rayVersion: {spec['rayVersion']} knows neither the token nor the health check that KubeRay uses"
    except (KeyError, InvalidVersion):
        yield "rayVersion: is missing, and authOptions need it"
    head, groups = spec["headGroupSpec"], spec["workerGroupSpecs"]
    scales, options = spec.get("enableInTreeAutoscaling", False), spec.get("autoscalerOptions", {})
    parts = [("headGroupSpec", head), *((f"worker group {group['groupName']}", group) for group in groups)]
    for where, group in parts:
        if options.get("version") == "v2" and group["template"]["spec"].get("restartPolicy") not in (None, "Never"):
            yield f"{where}: restartPolicy is Never or unset with the autoscaler's version v2"
        if group.get("resources") and RESOURCES & group["rayStartParams"].keys():
            yield f"{where}: resources stand in rayStartParams or in resources, not in both"
        if "labels" in group["rayStartParams"]:
            yield f"{where}: rayStartParams takes no labels"
        variables = [each["name"] for each in group["template"]["spec"]["containers"][0].get("env", ())]
        if "RAY_enable_autoscaler_v2" in variables and options.get("version"):
            yield f"{where}: RAY_enable_autoscaler_v2 beside autoscalerOptions.version"
        yield from _pod(where, group["template"])
    for group in groups:
        where = f"worker group {group['groupName']}"
        if not scales and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"{where}: minReplicas and maxReplicas are needed without autoscaling"
        elif not group.get("minReplicas", 0) <= group["replicas"] <= group.get("maxReplicas", group["replicas"]):
            yield f"{where}: replicas are not between minReplicas and maxReplicas"
        if "idleTimeoutSeconds" in group and options.get("version") != "v2":
            yield f"{where}: idleTimeoutSeconds needs the autoscaler's version v2"
        if group["template"]["spec"].get("terminationGracePeriodSeconds", 30) < 120:
            yield f"{where}: terminationGracePeriodSeconds is at least 120, the notice that a spot node gets"
        if group["template"]["spec"].get("automountServiceAccountToken") is not False:
            yield f"{where}: automountServiceAccountToken is false: workers have nothing to ask of Kubernetes"
    yield from _head(head, from_outside)


def _head(head: dict, from_outside: bool) -> Iterator[str]:
    if head["rayStartParams"].get("num-cpus") != "0":
        yield 'headGroupSpec: rayStartParams num-cpus is "0", so that no training lands there'
    host, pod = head["rayStartParams"].get("dashboard-host"), head["template"]["spec"]
    if host != DASHBOARD[from_outside]:
        yield (f"headGroupSpec: rayStartParams dashboard-host is {DASHBOARD[from_outside]}, not "
               f"{host or 'all interfaces'}")
    if from_outside and not any(each["name"] == "POD_IP" for each in pod["containers"][0].get("env", ())):
        yield "headGroupSpec: POD_IP, which dashboard-host names, is not in env"
    if "SPOT" in pod.get("nodeSelector", {}).values():
        yield "headGroupSpec: a head on spot takes the whole cluster with it"
    if any("nvidia.com/gpu" in container["resources"]["limits"] for container in pod["containers"]):
        yield "headGroupSpec: a head has no GPU"


def _pod(where: str, template: dict, ray: bool = True) -> Iterator[str]:
    pod = template["spec"]
    if template["metadata"]["labels"].get(OURS[0]) != OURS[1]:
        yield f"{where}: without the label {OURS[0]}: {OURS[1]} the network policy does not hold it"
    if pod["securityContext"]["runAsNonRoot"] is not True or pod["securityContext"]["runAsUser"] == 0:
        yield f"{where}: runs as root"
    for container in pod["containers"]:
        security = container["securityContext"]
        if security["allowPrivilegeEscalation"] or security["capabilities"]["drop"] != ["ALL"]:
            yield f"{where}: {container['name']} keeps privileges that the namespace forbids"
        if secret := secrets({each["name"]: each.get("value") for each in container.get("env", ())}):
            yield f"{where}: {secret} is a secret: name a Secret in envFrom"
        if not ray:
            continue
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod.get("volumes", ())}
        mounts = {mount["mountPath"]: volumes.get(mount["name"]) for mount in container.get("volumeMounts", ())}
        if (mounts.get("/dev/shm") or {}).get("medium") != "Memory":
            yield f"{where}: /dev/shm is no emptyDir of medium Memory: Ray would keep objects on disk"
        for path, volume in mounts.items():
            if volume is None and path != "/dev/shm":
                yield f"{where}: {path} is of no volume of this pod"
        if container["resources"]["requests"] != container["resources"]["limits"]:
            yield f"{where}: requests and limits differ, and Ray counts by the limits"


def secrets(value: Any) -> str | None:
    """The first name in nested dictionaries that is one of a secret."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if re.search(r"(?i)secret|password|access_key|api_key|credential|token$", name):
                return name
            if found := secrets(inner):
                return found
    return None


def crd_validator(folder: Path, kind: str) -> jsonschema.Draft7Validator:
    """Of the definition of RayCluster or RayJob, made strict; the API server drops what a definition does not know."""
    with gzip.open(folder / f"ray.io_{kind.lower()}s.yaml.gz") as file:
        definition = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (schema,) = (version["schema"]["openAPIV3Schema"] for version in definition["spec"]["versions"]
                 if version["name"] == "v1")
    strict = _strict(schema)
    strict["properties"]["metadata"] = {"type": "object", "required": ["name"], "additionalProperties": False,
                                        "properties": {"name": {"type": "string"}, "namespace": {"type": "string"},
                                                       "labels": {"type": "object"}, "annotations": {"type": "object"}}}
    return jsonschema.Draft7Validator(strict)


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: value if key in ("enum", "required") else
            {name: _strict(each) for name, each in value.items()} if key == "properties" else _strict(value)
            for key, value in schema.items()
            if not key.startswith("x-kubernetes-") and key not in ("description", "default", "format", "nullable")}
    if "properties" in kept and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    return kept


def crd_problems(manifest: dict[str, Any], validator: jsonschema.Draft7Validator) -> list[str]:
    # As the API server sees it: JSON.
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
            for error in validator.iter_errors(json.loads(json.dumps(manifest)))]
