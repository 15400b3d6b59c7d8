"""The AWS launcher file, read by Ray's own loader and schema."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


@pytest.fixture
def cluster(repository: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((repository / "infra/aws/cluster.yaml").read_text())
    return config


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_rays_schema_would_notice_a_misspelt_key(cluster: dict[str, Any]) -> None:
    wrong = copy.deepcopy(cluster)
    wrong["available_node_types"]["gpu_worker"]["max_worker"] = 4
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(wrong))


def test_nothing_is_left_to_defaults_that_would_install_another_ray(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    commands = (
        prepared["head_setup_commands"] + prepared["worker_setup_commands"] + prepared["setup_commands"]
    )
    assert not [command for command in commands if "pip install" in command]


def test_workers_come_from_zero_on_spot_and_the_head_does_not(cluster: dict[str, Any]) -> None:
    nodes = prepare_config(cluster)["available_node_types"]
    head = nodes.pop(cluster["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    assert {name: node["min_workers"] for name, node in nodes.items()} == {"gpu_worker": 0, "cpu_worker": 0}
    assert all(
        node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for node in nodes.values()
    )
    assert sum(node["max_workers"] for node in nodes.values()) <= cluster["max_workers"]
    # A disk, a driver and a role belong to every node; a merge key must not have lost them.
    for node in [head, *nodes.values()]:
        assert {"ImageId", "IamInstanceProfile", "BlockDeviceMappings"} <= node["node_config"].keys()


def test_the_job_server_is_closed_to_the_network(cluster: dict[str, Any]) -> None:
    start = " ".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]


def test_all_files_name_one_image(repository: Path, cluster: dict[str, Any]) -> None:
    image = cluster["docker"]["image"]
    for name in (
        "docs/cluster.md",
        "infra/Dockerfile",
        "infra/kuberay/train-rayjob.yaml",
        "infra/kuberay/nightly-correction.yaml",
    ):
        assert image in (repository / name).read_text(), name
