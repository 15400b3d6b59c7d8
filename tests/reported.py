"""Records the metrics that code reports, with Ray's rules for them."""

from ray.util import metrics as rays

from pipelines.cluster import metrics


class Reported:
    """Values of metrics: (name, *values of its labels in their order) -> value."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def record(self, metric: rays.Metric, value: float, tags: dict[str, str] | None = None) -> None:
        """Take the part of Ray's `Metric._record` that sends the value."""
        final = metric._get_final_tags(tags)
        metric._validate_tags(final)
        assert set(final) == set(metric.info["tag_keys"])
        name = metric.info["name"].removeprefix(metrics.PREFIX)
        key = (name, *(final[label] for label in metric.info["tag_keys"]))
        adds = isinstance(metric, rays.Counter)
        self.values[key] = value + (self.values.get(key, 0.0) if adds else 0.0)
