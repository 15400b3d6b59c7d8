"""The Kubernetes manifests, as kustomize renders them: valid, and fit for one another and the Ray that is installed."""

import copy
import functools
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from ray.scripts.scripts import drain_node

from pipelines.cluster.autoscaling import START_SECONDS
from pipelines.storage import lock
from tests.infra.commands import words_of
from tests.infra.kuberay_schema import WRITTEN, official
from tests.infra.rendered import (
    JOBS,
    KUBERAY,
    OVERLAYS,
    Object,
    kustomize,
    objects,
    one,
    ray_templates,
    rayjob,
    templates,
)

#: The oldest whose Jobs label their pods as the start needs it, and the newest that the package knows.
KUBERNETES = ("1.27", kubernetes_validate.latest_version())
#: RayCronJob has a time zone since 1.7.
KUBERAY_RELEASES = [
    (overlay, release)
    for overlay in OVERLAYS
    for release in ("1.6.0", "1.7.0")
    if (overlay, release) != ("raycronjob", "1.6.0")
]
EACH_JOB = [(overlay, name) for overlay in OVERLAYS for name in JOBS]


def ray_objects(overlay: str) -> list[Object]:
    """Return both definitions and the RayJobs that are made from them."""
    definitions = [item for item in objects(overlay) if item["kind"] == "RayCronJob"]
    return [*definitions, *(rayjob(overlay, name) for name in JOBS)]


@functools.cache
def validator(release: str, kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(official(release, kind))


# ---- valid


def distinct(items: Iterable[Object]) -> list[Object]:
    """Return each object once; overlays share most of theirs."""
    return [json.loads(text) for text in {json.dumps(item, sort_keys=True) for item in items}]


@pytest.mark.parametrize("version", KUBERNETES)
def test_objects_and_pods_have_the_fields_of_kubernetes(version: str) -> None:
    every = [item for overlay in OVERLAYS for item in objects(overlay)]
    plain = [item for item in every if not item["apiVersion"].startswith("ray.io/")]
    assert {"CronJob", "NetworkPolicy", "PodDisruptionBudget", "PriorityClass"} <= {
        item["kind"] for item in plain
    }
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template.get("metadata", {}),
            "spec": template["spec"],
        }
        for overlay, name in EACH_JOB
        for template in templates(overlay, name)
    ]
    for item in distinct([*plain, *pods]):
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize(("overlay", "release"), KUBERAY_RELEASES)
def test_ray_objects_have_the_fields_of_kuberay(overlay: str, release: str) -> None:
    for item in ray_objects(overlay):
        validator(release, item["kind"]).validate(item)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_objects_have_the_fields_that_we_know(overlay: str) -> None:
    for item in ray_objects(overlay):
        jsonschema.validate(item, WRITTEN[item["kind"]])


MISTAKES = [
    (("spec", "entryPoint"), "python x.py"),
    (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"), "4"),
    (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
    (("spec", "rayClusterSpec", "autoscalerOptions", "version"), "v3"),
]


def wrong(path: tuple[str | int, ...], value: object) -> Object:
    job: Any = copy.deepcopy(rayjob("gpu", "nightly-correction"))
    inner = job
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return job


@pytest.mark.parametrize(("path", "value"), MISTAKES)
def test_our_schema_notices_mistakes(path: tuple[str | int, ...], value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong(path, value), WRITTEN["RayJob"])


@pytest.mark.parametrize("release", ["1.6.0", "1.7.0"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        *MISTAKES,
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "nodeselector"), {}),
    ],
)
def test_kuberays_schema_notices_mistakes(path: tuple[str | int, ...], value: object, release: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator(release, "RayJob").validate(wrong(path, value))


# ---- images


def images(item: object) -> list[str]:
    """Return every value of a field `image`, however deep."""
    if isinstance(item, dict):
        own = [item["image"]] if isinstance(item.get("image"), str) else []
        return own + [image for value in item.values() for image in images(value)]
    return [image for value in item for image in images(value)] if isinstance(item, list) else []


def with_images(folder: Path, overlay: str, entries: list[dict[str, str]], **more: object) -> str:
    """Render an overlay with these entries of `images:`."""
    shutil.copytree(KUBERAY, folder / "kuberay")
    path = folder / "kuberay" / "overlays" / overlay / "kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**kustomization, **more, "images": entries}))
    return kustomize(path.parent)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    ("entry", "image"),
    [
        ({"newName": "host:5000/team/repair", "newTag": "7.8.9-rc1"}, "host:5000/team/repair:7.8.9-rc1"),
        ({"newName": "other", "digest": "sha256:" + "0a" * 32}, "other@sha256:" + "0a" * 32),
    ],
)
def test_one_entry_changes_every_image(
    overlay: str, entry: dict[str, str], image: str, tmp_path: Path
) -> None:
    text = with_images(tmp_path, overlay, [{"name": "catalog-repair", **entry}])
    named = images(list(yaml.safe_load_all(text)))
    # Of each job: the head, one or two groups of workers, the pod that submits, the pod that starts.
    assert len(named) >= 2 * 4
    assert set(named) == {image}
    assert "example.com" not in text


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_images_of_an_overlay_are_of_one_version(overlay: str) -> None:
    (image,) = set(images(list(objects(overlay))))
    suffix = "-cpu" if overlay == "cpu-only" else ""
    assert image == f"registry.example.com/catalog-repair{suffix}:0.1.0"


def test_the_cpu_variant_serves_every_pod_but_the_gpu_workers(tmp_path: Path) -> None:
    components = ["../../components/gpu-pool", "../../components/cpu-image"]
    entries = [{"name": name, "newTag": "2"} for name in ("catalog-repair", "catalog-repair-cpu")]
    text = with_images(tmp_path, "gpu", entries, components=components)
    of_gpus = [
        group["template"]["spec"]["containers"][0]["image"]
        for item in yaml.safe_load_all(text)
        if item["kind"] == "RayCronJob"
        for group in item["spec"]["jobTemplate"]["rayClusterSpec"]["workerGroupSpecs"]
        if group["groupName"] == "gpu"
    ]
    named = images(list(yaml.safe_load_all(text)))
    assert of_gpus == ["catalog-repair:2"] * len(JOBS)
    assert sorted(named) == sorted([*of_gpus, *["catalog-repair-cpu:2"] * (len(named) - len(JOBS))])


def test_the_overlay_of_a_users_own_in_the_readme_renders(tmp_path: Path) -> None:
    page = (KUBERAY.parent / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shutil.copytree(KUBERAY, tmp_path / "catalog-repair" / "infra" / "kuberay")
    (tmp_path / "kustomization.yaml").write_text(block)
    text = kustomize(tmp_path)
    assert set(images(list(yaml.safe_load_all(text)))) == {"registry.example.com/catalog-repair:0.1.0"}
    assert "s3://my-bucket/nightly.yaml" in text


# ---- the jobs


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_a_rayjob_cleans_up_and_is_closed_to_strangers(overlay: str, name: str) -> None:
    job = rayjob(overlay, name)
    cluster = job["spec"]["rayClusterSpec"]
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_workers_come_from_zero_and_only_a_queue_fixes_their_number(overlay: str, name: str) -> None:
    job = rayjob(overlay, name)
    cluster = job["spec"]["rayClusterSpec"]
    groups = cluster["workerGroupSpecs"]
    if overlay == "kueue":
        # Kueue refuses autoscaling, and more groups than seven.
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
        assert cluster["enableInTreeAutoscaling"] is False
        assert all(0 < group["replicas"] == group["minReplicas"] == group["maxReplicas"] for group in groups)
    else:
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] >= START_SECONDS
        assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in groups)


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_the_jobs_pods_have_what_they_need(overlay: str, name: str) -> None:
    for template in ray_templates(rayjob(overlay, name)):
        (container,) = template["spec"]["containers"]
        assert template["spec"]["securityContext"]["runAsUser"] == 1000  # the image's user
        assert container["envFrom"] == [{"secretRef": {"name": "catalog-repair-storage", "optional": True}}]
        # Ray sizes itself by the limits, Kubernetes schedules by the requests.
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for template in templates(overlay, name):
        assert template["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64"  # the image's


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_there_are_workers_for_what_the_command_asks(overlay: str, name: str) -> None:
    job = rayjob(overlay, name)
    flags = dict(itertools.pairwise(words_of(job)))
    wanted = int(flags["--workers"]) if "--workers" in flags else int(flags["--actors"].split(":")[1])
    resource = "cpu" if overlay == "cpu-only" else "nvidia.com/gpu"
    wanted *= 1 if overlay == "cpu-only" else float(flags.get("--gpus-per-actor", 1))
    limits = [
        (group["maxReplicas"], group["template"]["spec"]["containers"][0]["resources"]["limits"])
        for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    ]
    assert sum(most * int(limit.get(resource, 0)) for most, limit in limits) >= wanted
    assert all(int(limit["cpu"]) > 1 for _, limit in limits)  # a worker takes one; Ray Data needs another


def test_actors_on_cpus_use_several_machines_and_fit_the_first_one() -> None:
    """An actor takes three quarters of a core. Until other machines come, all tasks of three steps are on the first."""
    job = rayjob("cpu-only", "nightly-correction")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    words = words_of(job)
    last = len(words) - 1 - words[::-1].index("--actors")
    actors = int(words[last + 1].split(":")[1])
    assert int(limits["cpu"]) < actors <= group["maxReplicas"] * int(limits["cpu"])
    assert 1 + 3 * actors / 2 <= int(limits["memory"].removesuffix("Gi"))


def test_overlays_differ_in_commands_only_where_the_machines_do() -> None:
    """`test_commands.py` runs the commands of two overlays; these are all that there are."""
    for name in JOBS:
        of_gpu, of_cpu = (rayjob(overlay, name)["spec"]["entrypoint"] for overlay in ("gpu", "cpu-only"))
        others = {rayjob(overlay, name)["spec"]["entrypoint"] for overlay in OVERLAYS}
        assert others == {of_gpu, of_cpu}


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_a_job_that_is_started_again_outlives_a_dead_heads_lock(overlay: str, name: str) -> None:
    job = rayjob(overlay, name)
    words = words_of(job)
    assert job["spec"]["backoffLimit"] >= 1
    assert int(words[words.index("--wait-for-lock") + 1]) > lock.STALE


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_two_nights_never_overlap(overlay: str) -> None:
    """Nothing but the deadline, which KubeRay counts anew for each try, keeps the next night from starting too soon."""
    cron = one(overlay, "CronJob", "nightly-correction")["spec"]
    definition = one(overlay, "RayCronJob", "nightly-correction")["spec"]
    assert cron["schedule"] == definition["schedule"]
    assert cron["schedule"].split()[2:] == ["*", "*", "*"]
    job = definition["jobTemplate"]
    longest = (job["backoffLimit"] + 1) * job["activeDeadlineSeconds"]
    assert cron["startingDeadlineSeconds"] + longest < 24 * 3600


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_exactly_one_of_both_schedules_starts_the_nights_and_none_a_training(overlay: str) -> None:
    def runs(kind: str, name: str) -> bool:
        return not one(overlay, kind, name)["spec"].get("suspend", False)

    by_kuberay = overlay == "raycronjob"
    assert runs("RayCronJob", "nightly-correction") is by_kuberay
    assert runs("CronJob", "nightly-correction") is not by_kuberay
    assert not runs("RayCronJob", "train")
    assert not runs("CronJob", "train")


def test_all_nights_have_one_output_which_each_brings_up_to_date() -> None:
    words = words_of(rayjob("gpu", "nightly-correction"))
    assert words[words.index("--output") + 1] == "s3://example-catalog/corrected"
    assert "--overwrite" not in words


# ---- accounts


@pytest.mark.parametrize("name", JOBS)
def test_the_start_may_read_the_definitions_and_create_rayjobs_and_nothing_else(name: str) -> None:
    cron = one("gpu", "CronJob", name)
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == [name]
    (binding,) = [item for item in objects("gpu") if item["kind"] == "RoleBinding"]
    assert [subject["name"] for subject in binding["subjects"]] == [pod["serviceAccountName"]]
    role = one("gpu", "Role", binding["roleRef"]["name"])
    assert role["rules"] == [
        {
            "apiGroups": ["ray.io"],
            "resources": ["raycronjobs"],
            "verbs": ["get"],
            "resourceNames": sorted(JOBS),
        },
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]},
    ]
    # The script that the command names is the one that is mounted there.
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    script = one("gpu", "ConfigMap", volume["configMap"]["name"])["data"]
    assert container["command"][1].removeprefix(mount["mountPath"] + "/") in script
    assert (volume["name"], mount["readOnly"]) == (mount["name"], True)


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_only_the_head_and_the_start_hold_a_token_of_the_api_server(overlay: str, name: str) -> None:
    head, *others, start = templates(overlay, name)
    assert head["spec"]["serviceAccountName"] == "catalog-repair-head"
    assert start["spec"]["serviceAccountName"] == "catalog-repair-start"
    for template in others:  # workers, and the pod that submits
        assert template["spec"]["serviceAccountName"] == "catalog-repair-worker"
        assert template["spec"]["automountServiceAccountToken"] is False
    known = {item["metadata"]["name"] for item in objects(overlay) if item["kind"] == "ServiceAccount"}
    assert {template["spec"]["serviceAccountName"] for template in templates(overlay, name)} <= known


# ---- disruption, priority, network


def selects(selector: Object, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def labels_of(template: Object, **more: str) -> dict[str, str]:
    labels = template.get("metadata", {}).get("labels", {})
    return {**labels, **{f"ray.io/{key.replace('_', '-')}": value for key, value in more.items()}}


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_heads_stay_where_they_are(overlay: str, name: str) -> None:
    head, *workers = ray_templates(rayjob(overlay, name))
    budgets = [item["spec"] for item in objects(overlay) if item["kind"] == "PodDisruptionBudget"]
    (budget,) = [item for item in budgets if selects(item["selector"], labels_of(head, node_type="head"))]
    # For pods of a RayCluster, which has no scale, Kubernetes takes no share and no `maxUnavailable`.
    assert budget == {"minAvailable": 1, "selector": budget["selector"]}
    for worker in workers:
        assert not any(selects(item["selector"], labels_of(worker, node_type="worker")) for item in budgets)
    values = {
        item["metadata"]["name"]: item["value"]
        for item in objects(overlay)
        if item["kind"] == "PriorityClass"
    }
    of_head = values[head["spec"]["priorityClassName"]]
    assert all(-10 <= values[worker["spec"]["priorityClassName"]] < of_head for worker in workers)
    for template in ray_templates(rayjob(overlay, name)):
        assert template["metadata"]["annotations"] == {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "karpenter.sh/do-not-disrupt": "true",
        }


def test_on_spot_only_workers() -> None:
    for name in JOBS:
        head, *others, _ = templates("spot", name)
        *workers, submitter = others
        for template in (head, submitter):
            (term,) = template["spec"]["affinity"]["nodeAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]["nodeSelectorTerms"]
            never = {item["key"]: item["values"] for item in term["matchExpressions"]}
            assert {item["operator"] for item in term["matchExpressions"]} == {"NotIn"}
        for template in workers:
            preferred = template["spec"]["affinity"]["nodeAffinity"][
                "preferredDuringSchedulingIgnoredDuringExecution"
            ]
            wanted = [item["preference"]["matchExpressions"][0] for item in preferred]
            assert {item["key"]: item["values"] for item in wanted} == never
    gpu = ray_templates(rayjob("spot", "train"))[-1]
    assert {item["key"] for item in gpu["spec"]["tolerations"]} == {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    }


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_a_jobs_pods_are_reached_by_one_another_and_by_few_others(overlay: str, name: str) -> None:
    policies = [item["spec"] for item in objects(overlay) if item["kind"] == "NetworkPolicy"]
    assert any(item == {"podSelector": {}, "policyTypes": ["Ingress"]} for item in policies)
    *of_job, start = templates(overlay, name)
    for template in of_job:  # the head, workers, and the pod that submits
        (policy,) = [
            item
            for item in policies
            if item["podSelector"] and selects(item["podSelector"], labels_of(template))
        ]
        assert policy["policyTypes"] == ["Ingress"]
        inside = [rule for rule in policy["ingress"] if "ports" not in rule]
        assert inside == [{"from": [{"podSelector": policy["podSelector"]}]}]
        outside = [rule for rule in policy["ingress"] if "ports" in rule]
        assert [[port["port"] for port in rule["ports"]] for rule in outside] == [
            [8265],
            [8080, 44217, 44227],
        ]
        assert all("namespaceSelector" in peer for rule in outside for peer in rule["from"])
        other = next(item for item in JOBS if item != name)
        assert not any(
            selects(policy["podSelector"], labels_of(template)) for template in templates(overlay, other)
        )
    assert [item["podSelector"] for item in policies if selects(item["podSelector"], labels_of(start))] == [
        {}
    ]


# ---- leaving


def hook(overlay: str, name: str) -> list[str]:
    (command,) = {
        tuple(template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"])
        for template in ray_templates(rayjob(overlay, name))[1:]
    }
    return list(command)


@pytest.mark.parametrize(("overlay", "name"), EACH_JOB)
def test_workers_get_the_time_that_they_take_to_drain(overlay: str, name: str) -> None:
    script = hook(overlay, name)[-1]
    (remaining,) = [
        int(word)
        for before, word in itertools.pairwise(script.split())
        if before == "--deadline-remaining-seconds"
    ]
    for worker in ray_templates(rayjob(overlay, name))[1:]:
        assert worker["spec"]["terminationGracePeriodSeconds"] >= 20 + remaining


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


@pytest.fixture
def alone() -> list[str]:
    """Return the command that gives a program processes of its own, as a container does."""
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine allows no namespace of processes")
    return NAMESPACE


def test_the_hook_drains_this_node_and_returns_when_it_has_ended(alone: list[str], tmp_path: Path) -> None:
    """A stand-in for `ray` notes its arguments, and ends the stand-in for the raylet a second later."""
    (tmp_path / "ray").write_text(
        '#!/bin/bash\necho "$@" > "$WORK/notes"\n(sleep 1; touch "$WORK/ended"; kill "$(cat "$WORK/raylet")") &\n'
    )
    (tmp_path / "ray").chmod(0o755)
    (tmp_path / "hook").write_text(hook("gpu", "train")[-1])
    pod = """
        bash -c 'sleep 60; true' other --node-id=cd34 &
        bash -c 'sleep 60; true' raylet --node_id=ab12 & echo $! > "$WORK/raylet"
        bash "$WORK/hook"
        test -e "$WORK/ended"
    """
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORK": str(tmp_path), "FQ_RAY_IP": "head"}
    subprocess.run([*alone, "bash", "-c", pod], check=True, timeout=60, env=environment)
    words = (tmp_path / "notes").read_text().split()
    assert words[:5] == ["drain-node", "--address", "head:6379", "--node-id", "ab12"]


def test_the_hook_of_a_pod_whose_raylet_has_ended_returns_at_once(alone: list[str], tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(hook("gpu", "train")[-1])
    subprocess.run([*alone, "bash", str(tmp_path / "hook")], check=True, timeout=30)


def test_ray_still_takes_what_the_hook_gives_it() -> None:
    """`ray drain-node` is not part of Ray's public interface."""
    options = {option for parameter in drain_node.params for option in parameter.opts}
    given = {word for word in hook("gpu", "train")[-1].split() if word.startswith("--") and "=" not in word}
    assert given - {"--pid"} <= options
    (reasons,) = [parameter.type for parameter in drain_node.params if parameter.name == "reason"]
    assert "DRAIN_NODE_REASON_PREEMPTION" in reasons.choices
