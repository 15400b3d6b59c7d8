"""RAY_ADDRESS of a head that is gone: every job says so before it takes a lock, or removes or writes anything."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import (
    check_dataset,
    correct_catalog,
    evaluate,
    make_sample_catalog,
    prepare_dataset,
    train,
    train_detector,
)
from model.errors import RunError
from pipelines.cluster import preconditions, session
from tests.catalogs import rows, write_bundle, write_catalog
from tests.photo_tables import record, write_table
from tests.training_data import write_dataset


def _correct(folder: Path) -> list[str]:
    write_catalog(folder / "catalog.parquet", rows(4))
    return [
        "--catalog",
        str(folder / "catalog.parquet"),
        "--model",
        str(write_bundle(folder / "bundle")),
        "--no-fid",
    ]


def _prepare(folder: Path) -> list[str]:
    return ["--photos", str(write_table(folder / "photos.parquet", [record("a")]))]


def _train(folder: Path) -> list[str]:
    return [
        "--data",
        str(write_dataset(folder / "set")),
        "--workers",
        "1",
        "--image-size",
        "32",
        "--width",
        "4",
    ]


def _train_detector(folder: Path) -> list[str]:
    return ["--data", str(write_dataset(folder / "set")), "--workers", "1"]


def _evaluate(folder: Path) -> list[str]:
    data, bundle = write_dataset(folder / "set"), write_bundle(folder / "bundle")
    return ["--data", str(data), "--bundle", str(bundle), "--no-fid"]


def _check(folder: Path) -> list[str]:
    return ["--data", str(write_dataset(folder / "set"))]


def _sample(folder: Path) -> list[str]:
    return ["--images", "4"]


@pytest.mark.parametrize(
    ("job", "flags"),
    [
        (correct_catalog, _correct),
        (prepare_dataset, _prepare),
        (train, _train),
        (train_detector, _train_detector),
        (evaluate, _evaluate),
        (check_dataset, _check),
        (make_sample_catalog, _sample),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_head_that_is_gone_ends_the_job_before_anything_is_touched(
    job: object, flags: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(preconditions, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)  # another test may have one
    output = tmp_path / "out"
    with pytest.raises(RunError, match=rf"^RAY_ADDRESS {address}"):
        job.main([*flags(tmp_path), "--output", str(output)])  # type: ignore[attr-defined]
    assert not list(output.rglob("*"))
