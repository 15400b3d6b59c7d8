"""The Kubernetes manifests: their shape, and that they fit one another and the Ray that is installed."""

import copy
import itertools
from typing import Any

import jsonschema
import pytest
import ray

from pipelines.storage import lock
from tests.infra.commands import INFRA, manifests, rayjobs, words_of
from tests.infra.kuberay_schema import SCHEMAS

NIGHTLY = INFRA / "kuberay" / "nightly-correction.yaml"
OBJECTS = [document for path in sorted((INFRA / "kuberay").glob("*.yaml")) for document in manifests(path)]


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]


@pytest.mark.parametrize("document", OBJECTS, ids=lambda document: document["kind"])
def test_manifests_have_the_fields_that_the_api_knows(document: dict[str, Any]) -> None:
    jsonschema.validate(document, SCHEMAS[document["kind"]])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "entryPoint"), "python x.py"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"), "4"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("metadata", "name"), "Nightly_Job"),
    ],
)
def test_the_schema_notices_mistakes(path: tuple[str | int, ...], value: object) -> None:
    job: Any = copy.deepcopy(rayjobs()[0])
    place = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMAS["RayJob"])


@pytest.mark.parametrize("job", rayjobs(), ids=lambda job: str(job["metadata"]))
def test_a_rayjob_cleans_up_scales_from_zero_and_is_closed_to_strangers(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert cluster["enableInTreeAutoscaling"] is True
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in cluster["workerGroupSpecs"])
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["rayVersion"] == ray.__version__


@pytest.mark.parametrize("job", rayjobs(), ids=lambda job: str(job["metadata"]))
def test_every_pod_is_unprivileged_and_gets_its_storage_from_a_secret(job: dict[str, Any]) -> None:
    for pod in pods(job):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000  # the image's user
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["envFrom"] == [{"secretRef": {"name": "catalog-repair-storage", "optional": True}}]
        # Ray sizes itself by the limits, Kubernetes places by the requests.
        assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.parametrize("job", rayjobs(), ids=lambda job: str(job["metadata"]))
def test_there_are_gpus_for_what_the_command_asks(job: dict[str, Any]) -> None:
    flags = dict(itertools.pairwise(words_of(job)))
    wanted = int(flags["--workers"]) if "--workers" in flags else int(flags["--actors"].split(":")[1])
    wanted = wanted * float(flags.get("--gpus-per-actor", 1))
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = [
        (group["maxReplicas"], group["template"]["spec"]["containers"][0]["resources"]["limits"])
        for group in groups
    ]
    gpus = [(most, limit) for most, limit in limits if "nvidia.com/gpu" in limit]
    assert sum(most * int(limit["nvidia.com/gpu"]) for most, limit in gpus) >= wanted
    assert all(int(limit["cpu"]) > 1 for _, limit in gpus)  # a worker takes one; Ray Data needs another


@pytest.mark.parametrize("job", rayjobs(), ids=lambda job: str(job["metadata"]))
def test_a_job_that_is_started_again_outlives_a_dead_heads_lock(job: dict[str, Any]) -> None:
    words = words_of(job)
    assert job["spec"]["backoffLimit"] >= 1
    assert int(words[words.index("--wait-for-lock") + 1]) > lock.STALE


def test_the_cronjob_creates_the_rayjob_and_may_do_nothing_else() -> None:
    by_kind = {document["kind"]: document for document in manifests(NIGHTLY)}
    pod = by_kind["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    file = next(part.partition("=")[2] for part in container["args"] if part.startswith("--filename="))
    assert volume["name"] == mount["name"]
    assert volume["configMap"]["name"] == by_kind["ConfigMap"]["metadata"]["name"]
    assert file.removeprefix(mount["mountPath"] + "/") in by_kind["ConfigMap"]["data"]
    account = by_kind["ServiceAccount"]["metadata"]["name"]
    assert pod["serviceAccountName"] == account
    assert by_kind["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert by_kind["RoleBinding"]["roleRef"]["name"] == by_kind["Role"]["metadata"]["name"]
    assert by_kind["Role"]["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    ]


def test_two_nights_never_overlap() -> None:
    """Names are generated, so nothing but the deadline keeps the next night from starting beside this one."""
    by_kind = {document["kind"]: document for document in manifests(NIGHTLY)}
    cron = by_kind["CronJob"]["spec"]
    assert cron["schedule"].split()[2:] == ["*", "*", "*"]
    assert by_kind["RayJob"]["spec"]["activeDeadlineSeconds"] + cron["startingDeadlineSeconds"] < 24 * 3600


def test_all_nights_have_one_output_which_each_brings_up_to_date() -> None:
    (job,) = [document for document in manifests(NIGHTLY) if document["kind"] == "RayJob"]
    words = words_of(job)
    assert words[words.index("--output") + 1] == "s3://example-catalog/corrected"
    assert "--overwrite" not in words
