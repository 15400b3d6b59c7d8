"""The PromQL expressions of infra/monitoring, and the metrics that they use."""

import json
import re
from typing import Any, NamedTuple

import yaml

from pipelines.cluster.metrics import METRICS, PREFIX
from tests.infra.commands import INFRA

FOLDER = INFRA / "monitoring"
#: Values for the variables that Grafana fills in.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}
#: Ray's own metrics that the dashboard uses.
RAYS_OWN = {
    "ray_data_output_rows",
    "ray_data_rows_inputs_of_submitted_tasks",
    "ray_node_cpu_count",
    "ray_node_cpu_utilization",
}
_NAME = re.compile(r"\bray_\w+|\bcatalog_repair:[\w:]+")


class Expression(NamedTuple):
    """An expression. name: of its panel, alert or recording rule. alert: it has series only if something is wrong."""

    name: str
    text: str
    alert: bool = False

    @property
    def metrics(self) -> set[str]:
        """Names of all metrics in it."""
        return set(_NAME.findall(self.text))


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels that show something."""
    return [
        one for one in json.loads((FOLDER / "dashboard.json").read_text())["panels"] if one["type"] != "row"
    ]


def of_dashboard() -> list[Expression]:
    """Return every expression of the dashboard, with values for Grafana's variables."""
    found = []
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            found.append(Expression(panel["title"], text))
    return found


def rules() -> list[dict[str, Any]]:
    """Return every rule of rules.yml."""
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def of_rules() -> list[Expression]:
    """Return the expression of every rule."""
    return [
        Expression(rule.get("alert") or rule["record"], rule["expr"], alert="alert" in rule)
        for rule in rules()
    ]


def exported() -> dict[str, str]:
    """Return Prometheus's name of each of the project's metrics -> its name in METRICS."""
    return {
        f"ray_{PREFIX}{name}{'_total' if definition.kind == 'counter' else ''}": name
        for name, definition in METRICS.items()
    }
