"""One S3 server behind a proxy that fails on purpose: what is retried, until when, and what is not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.storage import objects, s3
from pipelines.storage.pages import pages
from tests.fault_proxy import FaultProxy
from tests.object_store import s3_environment

DATA = bytes(range(256)) * 64


@pytest.fixture
def proxy(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Before the server, and faultless until told otherwise. Pauses are short."""
    monkeypatch.setattr(s3, "_FIRST_PAUSE", 0.01)
    port = urlsplit(s3_settings["AWS_ENDPOINT_URL"]).port
    with FaultProxy(port) as proxy, s3_environment(AWS_ENDPOINT_URL=proxy.url):
        yield proxy


def read_arrow(uri: str) -> pa.Table:
    filesystem, path = storage.arrow_filesystem(uri)
    return pq.read_table(path, filesystem=filesystem)


def write_large(uri: str) -> bool:
    with storage.whole_file(uri) as path:
        path.write_bytes(DATA)
    return storage.read_bytes(uri) == DATA


def removed(uri: str) -> bool:
    storage.remove(uri)
    return not storage.exists(uri)


TABLE = pa.table({"image_id": [str(number) for number in range(2000)]})
OPERATIONS: dict[str, Callable[[str], Any]] = {
    "read": lambda folder: storage.read_bytes(f"{folder}/there") == DATA,
    "begin": lambda folder: storage.read_bytes(f"{folder}/there", limit=5000) == DATA[:5000],
    "write": lambda folder: (
        storage.write_bytes(f"{folder}/new", DATA) or storage.read_bytes(f"{folder}/new") == DATA
    ),
    "create": lambda folder: storage.create_bytes(f"{folder}/new", DATA),
    "list": lambda folder: (
        [uri.rsplit("/", 1)[1] for uri in storage.list_files(folder)] == ["table", "there"]
    ),
    "exists": lambda folder: storage.exists(f"{folder}/there") and not storage.exists(f"{folder}/gone"),
    "remove": lambda folder: removed(f"{folder}/there"),
    "move": lambda folder: (
        storage.move(f"{folder}/there", f"{folder}/new") or storage.read_bytes(f"{folder}/new") == DATA
    ),
    "whole file": lambda folder: write_large(f"{folder}/new"),
    "arrow": lambda folder: read_arrow(f"{folder}/table").equals(TABLE),
}


@pytest.mark.parametrize("kind", ["slow_down", "internal_error", "reset", "reset_body", "lost", "cut"])
def test_every_operation_outlasts_a_fault(proxy: FaultProxy, s3_folder: str, kind: str) -> None:
    for name, operation in OPERATIONS.items():
        folder = f"{s3_folder}/{name}"
        storage.write_bytes(f"{folder}/there", DATA)
        with storage.resolve(folder)[0].open(f"{folder}/table", "wb") as file:
            pq.write_table(TABLE, file)
        proxy.set(**{kind: 1.0, "most": 2})
        assert operation(folder), name
        assert proxy.faults.most == 0, f"{name} met no two faults"
        proxy.set(**{kind: 0.0, "most": -1})


def test_a_server_that_never_answers_is_asked_again(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_SILENCE", 1.0)
    proxy.set(hang=1.0, methods="PUT", most=2)
    storage.write_bytes(f"{s3_folder}/a", DATA)
    assert proxy.counts["hang"] == 2
    assert storage.read_bytes(f"{s3_folder}/a") == DATA


def test_a_server_that_stops_reading_is_asked_again(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's own timeout begins when the request's body has been sent."""
    monkeypatch.setattr(s3, "_SILENCE", 1.0)
    monkeypatch.setattr(s3, "_SLOWEST", 16 << 20)
    data = bytes(15 << 20)  # more than the buffers on the way hold
    proxy.set(hang=1.0, methods="PUT", most=1)
    storage.write_bytes(f"{s3_folder}/a", data)
    assert proxy.counts["hang"] == 1
    assert storage.read_bytes(f"{s3_folder}/a") == data


def test_a_block_of_a_large_object_that_was_cut_is_read_again(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3.PatientS3, "default_block_size", 1 << 20)
    data = DATA * 300  # 5 MB: five blocks
    storage.write_bytes(f"{s3_folder}/a", data)
    proxy.set(cut=1.0, methods="GET", most=2)
    assert storage.read_bytes(f"{s3_folder}/a") == data
    assert proxy.counts["cut"] == 2


def test_bodies_are_sent_without_asking_for_leave(s3_folder: str) -> None:
    """A client that waits for "100 Continue" waits without a timeout."""
    seen: list[object] = []
    storage.exists(s3_folder)
    client = storage.resolve(s3_folder)[0].s3
    client.meta.events.register_last(
        "before-send.s3", lambda request, **_: seen.append(request.headers.get("Expect"))
    )
    storage.write_bytes(f"{s3_folder}/a", DATA)
    assert seen == [None]


def test_a_server_that_stays_away_ends_with_its_last_error(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PATIENCE", 0.3)
    proxy.set(slow_down=1.0)
    for operation in (storage.read_bytes, storage.exists, storage.list_files, storage.remove, read_arrow):
        with pytest.raises(s3.UnavailableError, match=r"503.*attempts: ") as caught:
            operation(f"{s3_folder}/a")
        assert isinstance(caught.value, storage.STORAGE_ERRORS)
    assert proxy.counts["requests"] > 8


def test_a_server_that_comes_back_is_found(proxy: FaultProxy, s3_folder: str) -> None:
    proxy.set(reset=1.0, most=8)
    storage.write_bytes(f"{s3_folder}/a", DATA)
    assert proxy.counts["reset"] == 8
    assert storage.read_bytes(f"{s3_folder}/a") == DATA


def test_what_no_repetition_changes_is_told_at_once(proxy: FaultProxy, s3_folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{s3_folder}/gone", limit=1)
    assert proxy.counts["requests"] == 1
    with s3_environment(AWS_SECRET_ACCESS_KEY="wrong"), pytest.raises(PermissionError):
        storage.read_bytes(f"{s3_folder}/gone", limit=1)
    assert proxy.counts["requests"] == 2


def test_a_creation_whose_answer_was_lost_counts(proxy: FaultProxy, s3_folder: str) -> None:
    proxy.set(lost=1.0, methods="PUT", most=1)
    assert storage.create_bytes(f"{s3_folder}/lock", b"mine")
    assert proxy.counts["lost"] == 1
    assert not storage.create_bytes(f"{s3_folder}/lock", b"theirs")
    assert storage.read_bytes(f"{s3_folder}/lock") == b"mine"


def test_an_upload_in_parts_whose_end_was_lost_is_whole(
    proxy: FaultProxy, s3_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    data = DATA * 700  # 11 MB: three parts
    proxy.set(lost=1.0, methods="POST", match="uploadId", most=1)
    storage.write_bytes(f"{s3_folder}/large", data)
    assert proxy.counts["lost"] == 1
    assert storage.read_bytes(f"{s3_folder}/large") == data


def test_objects_that_a_list_did_not_delete_are_told(s3_folder: str) -> None:
    answer = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "no"}]}
    with pytest.raises(PermissionError, match="a: no"):
        s3._check_deleted(answer)
    answer["Errors"][0]["Code"] = "InternalError"
    with pytest.raises(ConnectionError) as caught:
        s3._check_deleted(answer)
    assert s3.is_transient(caught.value)


def test_checks_before_a_run_are_impatient(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "IMPATIENCE", 0.2)
    monkeypatch.setattr(s3, "_IMPATIENT_SILENCE", 0.2)
    proxy.set(hang=1.0)
    for check in (storage.check_readable, storage.check_writable):
        with pytest.raises(ConfigurationError, match=r"--flag: cannot .*no answer.*the storage's state"):
            check(s3_folder, "--flag")


def test_impatience_ends_with_its_block(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "IMPATIENCE", 0.0)
    storage.write_bytes(f"{s3_folder}/a", DATA)
    proxy.set(slow_down=1.0)
    with s3.impatient(), pytest.raises(s3.UnavailableError, match="attempts: 1 in"):
        storage.read_bytes(f"{s3_folder}/a")
    proxy.set(slow_down=1.0, most=3)
    assert storage.read_bytes(f"{s3_folder}/a") == DATA


def test_a_folder_is_removed_by_pages_and_its_neighbours_stay(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE", 2)
    monkeypatch.setattr(s3, "_DELETIONS", 3)
    for number in range(9):
        storage.write_bytes(f"{s3_folder}/images/a/{number}", b"")
    neighbour = f"{s3_folder}/images-of-others/0"
    storage.write_bytes(neighbour, b"")
    proxy.counts.clear()
    storage.remove(f"{s3_folder}/images")
    assert proxy.counts["POST"] == 5  # one deletion for each page
    assert storage.list_files(s3_folder) == [neighbour]
    proxy.counts.clear()
    storage.remove(f"{s3_folder}/images")
    assert proxy.counts["POST"] == 0


@pytest.mark.parametrize(
    ("uri", "prefix"), [("s3://shop/out", "out/"), ("s3://shop//out", "/out/"), ("s3://shop", "")]
)
def test_a_folder_below_a_name_that_is_empty_is_not_its_namesake(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, uri: str, prefix: str
) -> None:
    asked = []

    async def list_nothing(_: s3.PatientS3, method: str, **query: Any) -> dict[str, Any]:
        asked.append((method, query["Prefix"]))
        return {}

    monkeypatch.setattr(s3.PatientS3, "_call_s3", list_nothing)
    fs, path = storage.resolve(uri)
    fs.remove_below(path)
    assert asked == [("list_objects_v2", prefix)]


def test_a_listing_that_breaks_off_is_an_error(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_off(*_: Any, **__: Any) -> dict[str, Any]:
        return {"IsTruncated": True}

    monkeypatch.setattr(s3.PatientS3, "_call_s3", break_off)
    with pytest.raises(ConnectionError, match="breaks off"):
        list(pages("s3://shop/out"))


def test_a_page_that_cannot_be_removed_is_an_error(
    proxy: FaultProxy, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE", 2)
    monkeypatch.setattr(s3, "PATIENCE", 0.2)
    for number in range(5):
        storage.write_bytes(f"{s3_folder}/images/{number}", b"")
    proxy.set(slow_down=1.0, methods="POST", skip=1)
    with pytest.raises(s3.UnavailableError):
        storage.remove(f"{s3_folder}/images")
    proxy.set(slow_down=0.0)
    assert 0 < len(storage.list_files(f"{s3_folder}/images")) < 5
