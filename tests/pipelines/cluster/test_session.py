import json
import logging
from collections.abc import Iterator

import pytest
import ray
from ray._private.ray_logging import setup_logger

from model.errors import ConfigurationError, RunError
from pipelines.cluster import ray_internals, session
from pipelines.cluster.autoscaling import Scaling


def test_workers_get_the_storage_settings_except_those_submitted_with_the_job() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://a", "AWS_REGION": "x", "HOME": "/root"}
    assert session.worker_environment(environment) == {"AWS_ENDPOINT_URL": "http://a", "AWS_REGION": "x"}
    submitted = json.dumps({"runtime_env": {"working_dir": "gcs://x", "env_vars": {"AWS_REGION": "y"}}})
    environment["RAY_JOB_CONFIG_JSON_ENV_VAR"] = submitted
    assert session.worker_environment(environment) == {"AWS_ENDPOINT_URL": "http://a"}


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        (session.Cluster(8, 0, machines=3), "has 3 machines"),
        (session.Cluster(8, 0, scaling=Scaling()), "may get more"),
        (session.Cluster(8, 0), None),
    ],
)
def test_local_folders_are_warned_of_if_there_are_several_machines(
    cluster: session.Cluster, words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    session._warn_of_local(["/mnt/out", "s3://bucket/catalog", "/mnt/out"], cluster)
    assert len(caplog.messages) == (words is not None)
    assert (words or "") in caplog.text
    assert caplog.text.count("/mnt/out") == len(caplog.messages)
    assert "bucket" not in caplog.text
    caplog.clear()
    session._warn_of_local(["s3://bucket/out"], cluster)
    assert not caplog.messages


def test_a_ray_that_does_not_start_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: object) -> None:
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    for name in ("check", "_quieten"):
        monkeypatch.setattr(session, name, lambda: None)
    monkeypatch.setattr(ray_internals, "leave_sigterm", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RunError, match=r"this machine: .*timed out.*logs are below /.*same command again"):
        session.start()


@pytest.fixture
def ray_logger() -> Iterator[logging.Logger]:
    """Ray's logger, which is afterwards as it was."""
    logger = logging.getLogger("ray")
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    logger.handlers = [logging.NullHandler()]
    yield logger
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def test_messages_of_rays_start_are_written_in_the_format_of_the_log(
    ray_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They reach the root logger, whose handlers have that format, and are written only once."""

    def init(configure_logging: bool = True, **settings: object) -> None:
        """Treat the logger as Ray's own `init` does."""
        if configure_logging:
            setup_logger(logging.WARNING, "%(message)s")
        else:
            ray_logger.handlers.clear()
        logging.getLogger("ray._private.services").warning("/dev/shm is small")
        logging.getLogger("ray._private.worker").info("Started a local Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    for name in ("check", "_quieten"):
        monkeypatch.setattr(session, name, lambda: None)
    monkeypatch.setattr(session, "cluster", lambda: session.Cluster(1, 0))
    monkeypatch.setattr(session, "_started_here", False)
    monkeypatch.setattr(ray_internals, "leave_sigterm", lambda: None)
    session.start()
    assert (caplog.messages, ray_logger.handlers) == (["/dev/shm is small"], [])


@pytest.mark.ray
def test_a_running_ray_is_used_and_left_running(ray_local: None) -> None:
    cluster = session.start()
    assert cluster == session.Cluster(4, cluster.gpus, scaling=None, node_cpus=(4,))
    session.stop()
    assert ray.is_initialized()


@pytest.mark.ray
def test_own_errors_of_workers_are_raised_unchanged(ray_local: None) -> None:
    session.start()

    def complain(table: object) -> object:
        raise ConfigurationError("--catalog: row 3")

    source = ray.data.range(1).map_batches(complain, batch_format="pyarrow")
    with pytest.raises(ConfigurationError, match=r"^--catalog: row 3$"), session.our_errors():
        list(source.iter_batches())


@pytest.mark.ray
def test_other_errors_of_workers_become_run_errors(ray_local: None) -> None:
    session.start()

    def fail(table: object) -> object:
        raise ZeroDivisionError("of a step")

    source = ray.data.range(1).map_batches(fail, batch_format="pyarrow")
    with pytest.raises(RunError, match="ZeroDivisionError: of a step"), session.our_errors():
        list(source.iter_batches())
