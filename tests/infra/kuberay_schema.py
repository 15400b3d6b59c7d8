"""A compact JSON schema of the KubeRay and Kubernetes fields that our manifests use.

Not the official resource definitions, which no package ships: written after the `ray.io/v1` API reference
of KubeRay 1.6 and the Kubernetes API of the same kinds. It is closed (no further properties) wherever our
files go, so that a misspelt or misplaced field is noticed. A right field that is not here has to be added.
"""

from typing import Any


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
BOOLEAN = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}

METADATA = {
    **closed(
        [],
        name=NAME,
        generateName={"type": "string", "pattern": "^[a-z0-9][-a-z0-9]*-$"},
        labels=TEXTS,
        annotations=TEXTS,
    ),
    "oneOf": [{"required": ["name"]}, {"required": ["generateName"]}],
}
RESOURCES = closed(["requests", "limits"], requests=QUANTITIES, limits=QUANTITIES)
SECURITY = closed(
    [],
    allowPrivilegeEscalation=BOOLEAN,
    capabilities=closed(["drop"], drop={"type": "array", "items": TEXT}),
    runAsNonRoot=BOOLEAN,
    runAsUser={"type": "integer", "minimum": 1},
    fsGroup=COUNT,
    seccompProfile=closed(["type"], type={"enum": ["RuntimeDefault"]}),
)
CONTAINER = closed(
    ["name", "image", "resources", "securityContext"],
    name=NAME,
    image=TEXT,
    args={"type": "array", "items": TEXT},
    envFrom={
        "type": "array",
        "items": closed(["secretRef"], secretRef=closed(["name"], name=NAME, optional=BOOLEAN)),
    },
    ports={
        "type": "array",
        "items": closed(["containerPort"], containerPort=COUNT, name={**NAME, "maxLength": 15}),
    },
    resources=RESOURCES,
    securityContext=SECURITY,
    volumeMounts={
        "type": "array",
        "items": closed(["name", "mountPath"], name=NAME, mountPath=TEXT, readOnly=BOOLEAN),
    },
)
POD = closed(
    ["containers", "serviceAccountName", "securityContext"],
    serviceAccountName=NAME,
    securityContext=SECURITY,
    restartPolicy={"enum": ["Never", "OnFailure"]},
    tolerations={
        "type": "array",
        "items": closed(
            ["key", "operator"],
            key=TEXT,
            operator={"enum": ["Exists", "Equal"]},
            effect={"enum": ["NoSchedule"]},
        ),
    },
    containers={"type": "array", "items": CONTAINER, "minItems": 1},
    volumes={"type": "array", "items": closed(["name"], name=NAME, configMap=closed(["name"], name=NAME))},
)
TEMPLATE = closed(["spec"], metadata=METADATA, spec=POD)

RAY_CLUSTER = closed(
    ["headGroupSpec", "rayVersion"],
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=closed(["mode"], mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=closed([], idleTimeoutSeconds=COUNT, resources=RESOURCES, securityContext=SECURITY),
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


def kind(name: str, version: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return closed(
        ["apiVersion", "kind", "metadata", *required],
        apiVersion={"const": version},
        kind={"const": name},
        metadata=METADATA,
        **properties,
    )


RULE = closed(
    ["apiGroups", "resources", "verbs"],
    **{key: {"type": "array", "items": TEXT} for key in ("apiGroups", "resources", "verbs")},
)

SCHEMAS: dict[str, dict[str, Any]] = {
    "RayJob": kind(
        "RayJob",
        "ray.io/v1",
        ["spec"],
        spec=closed(
            ["entrypoint", "rayClusterSpec"],
            entrypoint=TEXT,
            backoffLimit=COUNT,
            activeDeadlineSeconds={"type": "integer", "minimum": 1},
            shutdownAfterJobFinishes=BOOLEAN,
            ttlSecondsAfterFinished=COUNT,
            rayClusterSpec=RAY_CLUSTER,
        ),
    ),
    "CronJob": kind(
        "CronJob",
        "batch/v1",
        ["spec"],
        spec=closed(
            ["schedule", "jobTemplate"],
            schedule={"type": "string", "pattern": r"^(\S+ ){4}\S+$"},
            timeZone=TEXT,
            concurrencyPolicy={"enum": ["Forbid", "Allow", "Replace"]},
            startingDeadlineSeconds=COUNT,
            jobTemplate=closed(
                ["spec"],
                spec=closed(
                    ["template"], backoffLimit=COUNT, ttlSecondsAfterFinished=COUNT, template=TEMPLATE
                ),
            ),
        ),
    ),
    "ServiceAccount": kind("ServiceAccount", "v1", []),
    "ConfigMap": kind("ConfigMap", "v1", ["data"], data=TEXTS),
    "Role": kind("Role", "rbac.authorization.k8s.io/v1", ["rules"], rules={"type": "array", "items": RULE}),
    "RoleBinding": kind(
        "RoleBinding",
        "rbac.authorization.k8s.io/v1",
        ["roleRef", "subjects"],
        roleRef=closed(["apiGroup", "kind", "name"], apiGroup=TEXT, kind=TEXT, name=NAME),
        subjects={"type": "array", "items": closed(["kind", "name"], kind=TEXT, name=NAME)},
    ),
}
