"""JSON schemas of KubeRay's RayJob and RayCronJob.

`official` makes them from the resource definitions of a release, where a checkout has these beside it. `WRITTEN` has
the fields that our manifests use, written after the `ray.io/v1` API reference, for where it has not. Both are closed: a
misspelt or misplaced field is noticed. Pod templates are open in `WRITTEN`, because they are checked as pods.
"""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

DEFINITIONS = Path(__file__).resolve().parents[3] / "shared" / "kuberay"

Schema = dict[str, Any]


@functools.cache
def official(release: str, kind: str) -> Schema:
    """Return the closed schema of version v1 of a kind, such as RayJob of 1.7.0. Skips where there is none."""
    path = DEFINITIONS / f"v{release}-{kind.lower()}.json"
    if not path.exists():
        pytest.skip("no copy of KubeRay's resource definitions beside this checkout")
    versions = json.loads(path.read_text())["spec"]["versions"]
    (schema,) = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"]
    return {**_closed(schema), "required": ["apiVersion", "kind", "metadata", "spec"]}


def _closed(schema: Any) -> Any:
    """Forbid fields beyond `properties` everywhere, as the API server does for `kubectl apply`."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner


def closed(required: list[str], **properties: Any) -> Schema:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
BOOLEAN = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}
TEMPLATE = closed(["spec"], metadata=closed([], labels=TEXTS, annotations=TEXTS), spec={"type": "object"})
METADATA = closed(["name"], name=NAME, namespace=NAME, labels=TEXTS, annotations=TEXTS)

RAY_CLUSTER = closed(
    ["headGroupSpec", "rayVersion", "workerGroupSpecs"],
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=closed(["mode"], mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=closed(
        [],
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        resources=closed(["requests", "limits"], requests=TEXTS, limits=TEXTS),
        securityContext={"type": "object"},
    ),
    headGroupSpec=closed(["rayStartParams", "template"], rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
            groupName=NAME,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        ),
    },
)
RAY_JOB = closed(
    ["entrypoint", "rayClusterSpec"],
    entrypoint=TEXT,
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=COUNT,
    rayClusterSpec=RAY_CLUSTER,
    submitterPodTemplate=TEMPLATE,
)


def kind(name: str, spec: Schema) -> Schema:
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": name},
        metadata=METADATA,
        spec=spec,
    )


WRITTEN = {
    "RayJob": kind("RayJob", RAY_JOB),
    "RayCronJob": kind(
        "RayCronJob",
        closed(
            ["schedule", "jobTemplate"],
            schedule={"type": "string", "pattern": r"^(@\w+|(\S+ ){4}\S+)$"},
            timeZone=TEXT,
            suspend=BOOLEAN,
            jobTemplate=RAY_JOB,
        ),
    ),
}
