"""Starts a job on Kubernetes: creates a RayJob from the RayCronJob that holds its definition.

    python start_rayjob.py nightly-correction

Runs in a pod of a CronJob of the same namespace; JOB_NAME and JOB_UID are its Job's name and uid. The RayJob is named
after the Job, so that a second try of a pod whose first one had succeeded creates nothing. Standard library only.
Exit codes: 0 the RayJob is there, 1 it is not, and the last line of the log says why.
"""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any

SERVER = "https://kubernetes.default.svc"
#: The token, the namespace and the server's certificate authority, which Kubernetes mounts into each pod.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
STARTED_BY = "catalog-repair/started-by"
TIMEOUT = 60
#: Before the Job's name. KubeRay names the Job that submits after the RayJob; where a Job has that name already, it
#: takes that one for its own, and submits nothing.
PREFIX = "ray-"
#: Jobs' names that leave a RayJob's within the 47 characters that KubeRay takes; it gives no Job such a name itself.
NAME = re.compile(r"(?!ray-)[a-z0-9]([-a-z0-9]{0,41}[a-z0-9])?")

log = logging.getLogger("start_rayjob")


def rayjob_of(definition: dict[str, Any], job_name: str, job_uid: str) -> dict[str, Any]:
    """Return the RayJob that a RayCronJob defines, with its labels, by which queues and budgets know it."""
    return {
        "apiVersion": definition["apiVersion"],
        "kind": "RayJob",
        "metadata": {
            "name": PREFIX + job_name,
            "labels": definition["metadata"].get("labels", {}),
            "annotations": {STARTED_BY: job_uid},
        },
        "spec": definition["spec"]["jobTemplate"],
    }


def request(resource: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Get `resource` of this namespace, such as `rayjobs/NAME`, or create `body` in it."""
    namespace = (ACCOUNT / "namespace").read_text().strip()
    call = urllib.request.Request(
        f"{SERVER}/apis/ray.io/v1/namespaces/{namespace}/{resource}",
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
            "Content-Type": "application/json",
        },
    )
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(call, timeout=TIMEOUT, context=trusted) as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def start(definition_name: str, job_name: str, job_uid: str) -> None:
    """Create a RayJob for the Job.

    Raises ValueError for a name that KubeRay refuses, FileExistsError if another Job has created a RayJob of that name.
    """
    if not NAME.fullmatch(job_name):
        raise ValueError(
            f"no RayJob can be named after the Job {job_name}: give the Job a name of at most 43 characters that does "
            f"not begin with {PREFIX}"
        )
    rayjob = rayjob_of(request(f"raycronjobs/{definition_name}"), job_name, job_uid)
    name = rayjob["metadata"]["name"]
    try:
        request("rayjobs", rayjob)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.CONFLICT:
            raise
        there = request(f"rayjobs/{name}")
        if there["metadata"].get("annotations", {}).get(STARTED_BY) != job_uid:
            raise FileExistsError(
                f"an earlier Job has created the RayJob {name}: delete it, or name this Job otherwise"
            ) from error


def main() -> int:
    """Start the job that the command line names; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = os.environ["JOB_NAME"]
    try:
        start(sys.argv[1], name, os.environ["JOB_UID"])
    except urllib.error.HTTPError as error:
        log.error("%s answered %s: %s", error.url, error.code, error.read().decode(errors="replace"))
        return 1
    except (OSError, ValueError) as error:  # no connection; an answer that is not JSON
        log.error("%s: %s", type(error).__name__, error)
        return 1
    log.info("the RayJob %s%s is created", PREFIX, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
