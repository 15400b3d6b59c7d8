"""The dashboard and the rules use metrics that exist, and the rules alert when they must."""

import re
import shutil
import subprocess

import pytest
import yaml

from pipelines.cluster.metrics import METRICS
from pipelines.cluster.placement import Instance
from pipelines.correction.stream.commit import commit_block
from pipelines.correction.stream.decode import decode_rows
from pipelines.correction.stream.read import read_works
from tests.infra.commands import REPOSITORY
from tests.infra.monitoring import (
    FOLDER,
    RAYS_OWN,
    Expression,
    exported,
    of_dashboard,
    of_rules,
    panels,
    rules,
)
from tests.infra.monitoring_demo import lacking

#: Labels that Ray adds to every metric, or to its own.
RAYS_LABELS = {"SessionName", "WorkerId", "dataset", "operator"}
EVERY = of_dashboard() + of_rules()
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def test_the_metrics_of_dashboard_and_rules_exist() -> None:
    known = {*exported(), *RECORDED, *RAYS_OWN}
    assert {(one.name, metric) for one in EVERY for metric in one.metrics - known} == set()


def test_nothing_is_defined_that_no_one_looks_at() -> None:
    used = set().union(*(one.metrics for one in EVERY))
    assert ({*exported(), *RECORDED} - used, RAYS_OWN - used) == (set(), set())


def test_the_labels_of_dashboard_and_rules_exist() -> None:
    """In an expression of one metric, each label is one of that metric's; a recording rule keeps some of them."""
    labels = {metric: {*METRICS[name].labels} for metric, name in exported().items()}
    for one in EVERY:
        known = RAYS_LABELS.union(*(labels.get(metric, {"output"}) for metric in one.metrics))
        groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", one.text)
        named = {label.strip() for group in groups for label in group.split(",") if label.strip()}
        named |= set(re.findall(r"(\w+)(?:=~|!=|=)\"", one.text))
        assert named <= known, one


def test_the_steps_of_the_dashboard_are_those_of_the_stream() -> None:
    """Ray names an operator after the function or the class that runs in it."""
    named = set(re.findall(r"MapBatches\.(\w+)\.", " ".join(one.text for one in of_dashboard())))
    assert named == {one.__name__ for one in (read_works, decode_rows, commit_block, Instance)}


def test_statuses_and_states_are_those_that_are_reported() -> None:
    values = set(re.findall(r'(?:status|state)=~?"([^"]*)"', " ".join(one.text for one in EVERY)))
    assert {word for value in values for word in value.split("|")} == {
        *("corrected", "rejected", "failed"),
        "busy",
    }


def test_every_alert_says_what_to_do_and_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "cluster.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert {"summary", "action"} <= set(rule["annotations"])
            assert rule["labels"]["severity"] in ("page", "ticket", "info")
            assert f"`{rule['alert']}`" in page


def test_the_page_has_the_table_of_all_metrics() -> None:
    page = (REPOSITORY / "docs" / "cluster.md").read_text()
    lines = [
        f"| `{metric}` | {', '.join(METRICS[name].labels)} | {METRICS[name].unit} | {METRICS[name].meaning} |"
        for metric, name in exported().items()
    ]
    assert re.findall(r"(?m)^\| `ray_catalog_repair_.*$", page) == lines


def test_the_demo_notices_what_has_no_series() -> None:
    panel, alert = Expression("p", "rate(ray_a[1m])"), Expression("a", "ray_a > 1 and ray_b < 2", alert=True)
    assert lacking(panel, lambda _: 1) == lacking(alert, lambda text: text in ("ray_a", "ray_b")) == ""
    assert lacking(panel, lambda _: 0) == "no series"
    assert lacking(alert, lambda text: text == "ray_a") == "no series of ray_b"


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        x, y, width, height = (panel["gridPos"][name] for name in "xywh")
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert not cells & taken, panel["title"]
        assert x + width <= 24
        taken |= cells


def test_a_gauge_that_is_gone_after_20_seconds_is_scraped_before() -> None:
    (monitor,) = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())["spec"]["podMetricsEndpoints"]
    intervals = [
        yaml.safe_load((FOLDER / "prometheus.yml").read_text())["global"]["scrape_interval"],
        monitor["interval"],
    ]
    assert intervals == ["10s", "10s"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "rules_test.yml"),
        ("test", "rules", "outage_test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_the_files_and_the_rules_alert_as_they_should(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
