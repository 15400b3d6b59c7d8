"""One suite of behaviour over S3 servers of three makes, undisturbed and with one request in ten failing."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.storage import objects, s3
from tests.fault_proxy import KINDS, TENTH, FaultProxy
from tests.object_store import s3_environment

#: moto is a mock: it knows no wrong secret, and of two creations at once it may let both win.
MOCKS = ("moto",)


@dataclass
class Store:
    """An empty folder on a server, and who stands before it."""

    name: str
    folder: str
    proxy: FaultProxy | None = None


@pytest.fixture(params=[f"{name}{how}" for name in ("moto", "seaweedfs", "ceph") for how in ("", ", faults")])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Each server, each way."""
    monkeypatch.setattr(s3, "_FIRST_PAUSE", 0.02)
    name, _, faults = request.param.partition(", ")
    server = request.getfixturevalue({"seaweedfs": "s3_settings"}.get(name, f"{name}_server"))
    folder = f"s3://test/{uuid.uuid4().hex}"
    if not faults:
        with s3_environment(**server):
            yield Store(name, folder)
        return
    port = urlsplit(server["AWS_ENDPOINT_URL"]).port
    with (
        FaultProxy(port, TENTH) as proxy,
        s3_environment(**{**server, "AWS_ENDPOINT_URL": proxy.url}),
    ):
        yield Store(name, folder, proxy)


def test_small_objects(store: Store) -> None:
    contents = {f"{store.folder}/a b/{number:02}.bin": bytes([number]) * number * 99 for number in range(30)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(storage.write_bytes, contents, contents.values()))
        assert storage.list_files(store.folder) == list(contents)
        assert list(pool.map(storage.read_bytes, contents)) == list(contents.values())
    first, second, *rest = contents
    storage.write_bytes(second, b"other")
    assert storage.read_bytes(second, limit=3) == b"oth"
    storage.move(second, first)
    assert storage.read_bytes(first) == b"other"
    assert not storage.exists(second)
    storage.move(second, first)  # as after an interruption
    for _ in range(2):
        storage.copy(first, second)
        storage.copy(f"{store.folder}/nothing", first)
    assert storage.read_bytes(second) == storage.read_bytes(first) == b"other"
    storage.write_bytes(second, b"again")
    assert storage.read_bytes(first) == b"other"
    storage.remove(second)
    assert not storage.exists(second)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(second)
    assert storage.list_files(store.folder) == [first, *rest]
    storage.remove(store.folder)
    assert storage.list_files(store.folder) == []
    if store.proxy:
        assert sum(store.proxy.counts[kind] for kind in KINDS) > 3


def test_large_objects(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)  # the smallest that S3 knows
    data = bytes(range(256)) * (11 << 12)  # 11 MB: three parts
    with storage.whole_file(f"{store.folder}/model/large") as path:
        path.write_bytes(data)
    assert storage.read_bytes(f"{store.folder}/model/large") == data
    assert storage.read_bytes(f"{store.folder}/model/large", limit=6 << 20) == data[: 6 << 20]
    fetched = storage.fetch_folder(f"{store.folder}/model", tmp_path / "model")
    assert (fetched / "large").read_bytes() == data


def test_parquet(store: Store) -> None:
    table = pa.table({"image_id": [str(number) for number in range(50_000)], "n": range(50_000)})
    filesystem, path = storage.arrow_filesystem(f"{store.folder}/rows/part.parquet")
    pq.write_table(table, path, filesystem=filesystem, row_group_size=5000)
    assert pq.read_table(path, filesystem=filesystem).equals(table)
    assert pq.read_table(path, filesystem=filesystem, columns=["n"], filters=[("n", "<", 9)]).num_rows == 9
    with storage.resolve(f"{store.folder}/rows/part.parquet")[0].open(path, "rb") as file:
        assert pq.ParquetFile(file).read_row_group(3).equals(table.slice(15_000, 5000))


def test_an_object_is_created_once(store: Store) -> None:
    uri = f"{store.folder}/lock"
    assert storage.create_bytes(uri, b"first")
    assert not storage.create_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    storage.remove(uri)
    assert storage.create_bytes(uri, b"third")


def test_a_race_to_create_has_one_winner(store: Store) -> None:
    if store.name in MOCKS:
        pytest.skip(f"{store.name} does not decide races")
    with ThreadPoolExecutor(8) as pool:
        for race in range(3):
            uri = f"{store.folder}/{race}"
            names = [f"{number}".encode() for number in range(8)]
            won = list(pool.map(storage.create_bytes, [uri] * 8, names))
            assert won.count(True) == 1
            assert storage.read_bytes(uri) == names[won.index(True)]


def test_a_wrong_secret_is_refused(store: Store) -> None:
    if store.name in MOCKS:
        pytest.skip(f"{store.name} checks no secret")
    storage.write_bytes(f"{store.folder}/a", b"x")
    with s3_environment(AWS_SECRET_ACCESS_KEY="wrong"):
        for operation in (storage.read_bytes, storage.exists, storage.list_files, storage.remove):
            with pytest.raises(PermissionError):
                operation(f"{store.folder}/a")
        with pytest.raises(PermissionError):
            storage.create_bytes(f"{store.folder}/b", b"x")
