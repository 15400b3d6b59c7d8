"""The IAM policies for AWS: documents that IAM takes, and no wider than the launcher and the jobs need."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import yaml
from moto import mock_aws

#: Actions of S3 that are not named after the one operation that they allow.
S3 = {"ListBucket": "ListObjectsV2"}


@pytest.fixture
def folder(repository: Path) -> Path:
    return repository / "infra" / "aws" / "iam"


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("iam", region_name="us-east-1")


def statements(path: Path) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = json.loads(path.read_text())["Statement"]
    return parts


def many(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_iam_takes_the_documents(folder: Path, iam: Any) -> None:
    for name in ("head", "bucket"):
        iam.create_policy(PolicyName=name, PolicyDocument=(folder / f"{name}.json").read_text())
    iam.create_role(RoleName="head", AssumeRolePolicyDocument=(folder / "trust.json").read_text())


@pytest.mark.parametrize("name", ["head", "bucket"])
def test_every_action_is_one_of_aws_and_none_is_a_pattern(folder: Path, name: str) -> None:
    session = botocore.session.get_session()
    for statement in statements(folder / f"{name}.json"):
        for action in many(statement["Action"]):
            service, _, operation = action.partition(":")
            if action == "iam:PassRole":  # a permission without an operation
                continue
            known = session.get_service_model(service).operation_names
            assert S3.get(operation, operation) in known, action


def test_the_bucket_is_all_that_jobs_reach(folder: Path) -> None:
    resources = {
        resource for part in statements(folder / "bucket.json") for resource in many(part["Resource"])
    }
    assert resources == {"arn:aws:s3:::example-catalog", "arn:aws:s3:::example-catalog/*"}


def test_the_head_changes_instances_of_its_own_cluster_only(folder: Path, repository: Path) -> None:
    cluster = yaml.safe_load((repository / "infra/aws/cluster.yaml").read_text())
    tag = {"ray-cluster-name": cluster["cluster_name"]}
    worker = cluster["available_node_types"]["gpu_worker"]["node_config"]["IamInstanceProfile"]["Name"]
    for part in statements(folder / "head.json"):
        resources = many(part["Resource"])
        if part["Action"] == "ec2:DescribeInstances":  # takes no narrower resource
            continue
        assert "*" not in resources
        if "arn:aws:ec2:*:*:instance/*" in resources:
            (conditions,) = part["Condition"].values()
            (key,) = conditions
            name = re.fullmatch(r"(aws:RequestTag|ec2:ResourceTag)/(.+)", key)
            assert (name and tag == {name[2]: conditions[key]}) or conditions == {
                "ec2:CreateAction": "RunInstances"
            }
        if part["Action"] == "iam:PassRole":
            assert resources == [f"arn:aws:iam::*:role/{worker}"]
