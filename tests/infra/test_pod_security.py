"""Every pod that the manifests lead to is admitted by a namespace that enforces the standard "restricted"."""

import copy
from typing import Any

import pytest

from tests.infra.pod_security import violations
from tests.infra.rendered import JOBS, OVERLAYS, Object, one, ray_templates, rayjob, start_template

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
ADMITTED: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "c", "securityContext": RESTRICTED}],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


def pods_of_kuberay(job: Object) -> list[Object]:
    """Return the pod specs with the containers that the operator of KubeRay 1.6 and 1.7 adds to them.

    The autoscaler beside the head has the security context of `autoscalerOptions`, a worker's first container, which
    waits for the head, that of the worker.
    """
    head, *workers = [copy.deepcopy(template["spec"]) for template in ray_templates(job)]
    cluster = job["spec"]["rayClusterSpec"]
    if cluster["enableInTreeAutoscaling"]:
        context = cluster["autoscalerOptions"].get("securityContext", {})
        head["containers"].append({"name": "autoscaler", "securityContext": context})
    for worker in workers:
        context = worker["containers"][0].get("securityContext", {})
        worker["initContainers"] = [{"name": "wait-gcs-ready", "securityContext": context}]
    return [head, *workers, job["spec"]["submitterPodTemplate"]["spec"]]


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_admitted(overlay: str, name: str) -> None:
    pods = [*pods_of_kuberay(rayjob(overlay, name)), start_template(overlay, name)["spec"]]
    assert [violations(pod) for pod in pods] == [[]] * len(pods)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_enforces_it(overlay: str) -> None:
    labels = one(overlay, "Namespace", "catalog-repair")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_example_below_is_admitted() -> None:
    assert violations(ADMITTED) == []


CONTEXT = ("containers", 0, "securityContext")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hostNetwork",), True),
        (("volumes", 0), {"name": "v", "hostPath": {"path": "/"}}),
        (("securityContext", "runAsNonRoot"), False),
        (("securityContext", "runAsUser"), 0),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}),
        (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
        ((*CONTEXT, "allowPrivilegeEscalation"), True),
        ((*CONTEXT, "capabilities"), {}),
        ((*CONTEXT, "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ((*CONTEXT, "privileged"), True),
        ((*CONTEXT, "runAsNonRoot"), False),
        ((*CONTEXT, "procMount"), "Unmasked"),
        ((*CONTEXT, "seLinuxOptions"), {"type": "spc_t"}),
        ((*CONTEXT, "appArmorProfile"), {"type": "Unconfined"}),
        (("containers", 0, "ports"), [{"hostPort": 6379}]),
        (("containers", 0, "livenessProbe"), {"httpGet": {"host": "other"}}),
        (("initContainers",), [{"name": "i"}]),
    ],
)
def test_what_the_standard_forbids_is_noticed(path: tuple[str | int, ...], value: object) -> None:
    pod: Any = copy.deepcopy(ADMITTED)
    inner = pod
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert violations(pod)
