"""The AWS launcher file, read by Ray's own loader and schema."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from pipelines.storage import lock
from tests.infra.commands import of_page


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


def test_workers_come_from_zero_and_the_head_is_not_on_spot(cluster: dict[str, Any]) -> None:
    nodes = prepare_config(cluster)["available_node_types"]
    head = nodes.pop(cluster["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in nodes.values())
    assert sum(node["max_workers"] for node in nodes.values()) <= cluster["max_workers"]
    # A disk, a driver and a role belong to every node; a merge key must not have lost them.
    for node in [head, *nodes.values()]:
        assert {"ImageId", "IamInstanceProfile", "BlockDeviceMappings"} <= node["node_config"].keys()


def test_every_spot_machine_has_its_equal_on_demand(cluster: dict[str, Any]) -> None:
    nodes = cluster["available_node_types"]
    for kind in ("gpu_worker", "cpu_worker"):
        spot, on_demand = nodes[kind]["node_config"], nodes[f"{kind}_on_demand"]["node_config"]
        assert spot == {**on_demand, "InstanceMarketOptions": {"MarketType": "spot"}}


def launched(
    cluster: dict[str, Any], demand: dict[str, float], count: int, short: list[str]
) -> dict[str, int]:
    """Return what the autoscaler launches for `count` times `demand` where the types in `short` were not to be had."""
    config = copy.deepcopy(cluster)
    for name, node in config["available_node_types"].items():
        if name != config["head_node_type"]:
            node["resources"] = {"CPU": 8, "GPU": 1} if name.startswith("gpu") else {"CPU": 16}
    config = prepare_config(config)
    nodes = AutoscalingConfig(config, skip_content_hash=True)
    requests = [ResourceRequestUtil.make(demand)] * count
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=nodes.get_node_type_configs(),
            max_num_nodes=nodes.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(requests),
            recoverable_resource_availabilities=dict.fromkeys(short, 0.0),
        )
    )
    return {request.instance_type: request.count for request in reply.to_launch}


def test_spot_comes_first_and_on_demand_where_there_is_none(cluster: dict[str, Any]) -> None:
    gpus: dict[str, float] = {"GPU": 1}
    cpus: dict[str, float] = {"CPU": 1}
    assert launched(cluster, gpus, 3, []) == {"gpu_worker": 3}
    assert launched(cluster, cpus, 32, []) == {"cpu_worker": 2}
    assert launched(cluster, gpus, 3, ["gpu_worker"]) == {"gpu_worker_on_demand": 3}
    assert launched(cluster, cpus, 32, ["cpu_worker"]) == {"cpu_worker_on_demand": 2}


def test_the_job_server_is_closed_to_the_network(cluster: dict[str, Any]) -> None:
    start = " ".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]


def test_a_job_that_is_started_again_outlives_a_dead_machines_lock(repository: Path) -> None:
    jobs = of_page(repository / "infra/aws/cluster.yaml")
    assert len(jobs) == 2
    for words in jobs:
        assert int(words[words.index("--wait-for-lock") + 1]) > lock.STALE, words[1]


def test_all_files_name_one_image(repository: Path, cluster: dict[str, Any]) -> None:
    image = cluster["docker"]["image"]
    for name in ("docs/cluster.md", "infra/Dockerfile"):
        assert image in (repository / name).read_text(), name
