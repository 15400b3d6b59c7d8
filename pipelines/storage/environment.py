"""Environment variables that decide how storage is reached, for Ray workers."""

import os
from collections.abc import Mapping

#: Environment variables with the endpoint and credentials of S3. Every FSSPEC_* variable (fsspec's own way to configure
#: any scheme) is forwarded as well.
STORAGE_ENVIRONMENT = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CA_BUNDLE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)


def worker_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the storage variables of `environment`, for `runtime_env={"env_vars": …}` of Ray workers.

    Ray shows a job's runtime environment on its dashboard: on a shared cluster give the machines a role instead of
    setting keys in variables.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in STORAGE_ENVIRONMENT or name.startswith("FSSPEC_")
    }
