"""`make monitoring-demo`: a real Prometheus scrapes a real local run, and answers every expression of infra/monitoring.

Starts a Ray head and Prometheus (Debian's package `prometheus`) on free ports, with the committed configuration and
rules, but with figures every few seconds; corrects a small catalog; trains for some steps; prints how many series each
expression of the dashboard and the rules had meanwhile; and stops everything. Exit code 1: an expression had none,
though it must have some. Alerts need not fire, but each of their metrics must be there.
"""

import contextlib
import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests import ray_nodes
from tests.catalogs import row, rows, write_bundle, write_catalog
from tests.infra.commands import REPOSITORY
from tests.infra.monitoring import FOLDER, Expression, of_dashboard, of_rules
from tests.processes import wait_until
from tests.ray_nodes import RayNode
from tests.training_data import write_dataset

logger = logging.getLogger("monitoring_demo")

ROWS, UNREADABLE = 600, 10
STEPS = 20
#: Of the generator's input: large enough for the generator to be at work while figures are exported several times.
SIDE = 128
#: So short a run needs figures more often than a night: every few seconds, instead of every ten.
EXPORT = {"RAY_metrics_report_interval_ms": "4000"}
SCRAPE = "3s"
#: Seconds between evaluations of the rules, and between points of a query.
_EVERY = 5
#: Seconds for the last figures to arrive.
_LAST_FIGURES = 60


class Prometheus:
    """Run Prometheus with the committed configuration, for the cluster of `head`."""

    def __init__(self, folder: Path, head: RayNode) -> None:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
        config["global"] = {
            "scrape_interval": SCRAPE,
            "scrape_timeout": SCRAPE,
            "evaluation_interval": f"{_EVERY}s",
        }
        (discovery,) = config["scrape_configs"][0]["file_sd_configs"]
        discovery["files"] = [str(head.folder / Path(file).name) for file in discovery["files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (port,) = ray_nodes.free_ports(1)
        self._url, self._began = f"http://127.0.0.1:{port}/api/v1/", time.time()
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Return as soon as the server answers. Raises AssertionError with its log if it does not."""
        wait_until(self._answers, self._process, self._log, patience=60, pause=0.2)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            self._get("status/runtimeinfo")
            return True
        return False

    def _get(self, path: str, **query: Any) -> Any:
        with urllib.request.urlopen(
            f"{self._url}{path}?{urllib.parse.urlencode(query)}", timeout=60
        ) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> int:
        """Return how many series the expression has had since the start. Raises HTTPError if it is wrong."""
        span = {"start": self._began, "end": time.time(), "step": _EVERY}
        return len(self._get("query_range", query=expression, **span)["result"])

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()


def lacking(expression: Expression, series: Callable[[str], int]) -> str:
    """Return what the expression lacks; an empty text if it is answered."""
    if not expression.alert:
        return "" if series(expression.text) else "no series"
    series(expression.text)  # is valid
    gone = sorted(name for name in expression.metrics if not series(name))
    return f"no series of {', '.join(gone)}" if gone else ""


def run_jobs(folder: Path, head: RayNode) -> None:
    """Correct a catalog and train, as jobs of the cluster. Raises CalledProcessError."""
    unreadable = [row(f"unreadable-{number}", "watermark", image=b"junk") for number in range(UNREADABLE)]
    write_catalog(folder / "catalog" / "a.parquet", rows(ROWS) + unreadable, row_group_size=50)
    write_bundle(folder / "bundle", side=SIDE)
    small = "--image-size 32 --width 4 --blocks 1 --batch-size 2 --shuffle-rows 8 --precision float32"
    train = (
        f"--data {write_dataset(folder / 'set')} --workers 1 --steps {STEPS} --log-every 1 --validate-every 0"
    )
    correct = f"--catalog {folder / 'catalog'} --model {folder / 'bundle'} --actors 1:1 --no-fid"
    environment = {
        **ray_nodes.environment(),
        **EXPORT,
        "RAY_ADDRESS": head.address,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    for name, flags in (("correct_catalog", correct), ("train", f"{train} {small}")):
        logger.info("jobs/%s.py ...", name)
        line = [sys.executable, f"jobs/{name}.py", *flags.split(), "--output", str(folder / name)]
        subprocess.run(line, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, check=True)


def main() -> int:
    """Run the demonstration; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if shutil.which("prometheus") is None:
        logger.error("prometheus is not installed: Debian's package of that name has it")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the ends of all that is started
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monitoring-")))
        head = RayNode(dashboard=True, settings=EXPORT)
        stack.callback(head.kill)
        head.wait_for_job_server()
        prometheus = Prometheus(folder, head)
        stack.callback(prometheus.stop)
        prometheus.wait()
        run_jobs(folder, head)
        expressions = of_rules() + of_dashboard()

        def complete() -> bool:
            return not any(lacking(one, prometheus.series) for one in expressions)

        with contextlib.suppress(AssertionError):  # the report says what is missing
            wait_until(complete, patience=_LAST_FIGURES, pause=_EVERY)
        return report(expressions, prometheus.series)


def report(expressions: list[Expression], series: Callable[[str], int]) -> int:
    """Print a line for each expression; returns the exit code."""
    failed = 0
    for one in expressions:
        problem = lacking(one, series)
        failed += bool(problem)
        kind, text = "alert" if one.alert else "", " ".join(one.text.split())
        line = f"{series(one.text):4d} series  {problem or 'ok':10}  {kind:5}  {one.name}: {text}"
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{len(expressions)} expressions, {failed} without an answer\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
