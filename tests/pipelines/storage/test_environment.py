import pytest

from pipelines import storage


def test_workers_get_what_decides_about_storage_and_nothing_else() -> None:
    environment = {
        "AWS_ENDPOINT_URL": "u",
        "AWS_PROFILE": "p",
        "FSSPEC_GS_PROJECT": "g",
        "HOME": "/",
        "AWS_OTHER": "x",
    }
    expected = {"AWS_ENDPOINT_URL": "u", "AWS_PROFILE": "p", "FSSPEC_GS_PROJECT": "g"}
    assert storage.worker_environment(environment) == expected


@pytest.mark.ray
def test_a_file_system_works_in_ray_workers(s3_folder: str, ray_local: None) -> None:
    import ray

    fs, path = storage.resolve(s3_folder)
    assert storage.list_files(s3_folder) == []

    @ray.remote(runtime_env={"env_vars": storage.worker_environment()})
    def write(fs: object, path: str, uri: str) -> bytes:
        fs.pipe_file(path + "/by-pickle", b"1")  # type: ignore[attr-defined]
        storage.write_bytes(uri + "/by-uri", b"2")
        return storage.read_bytes(uri + "/by-pickle")

    assert ray.get(write.remote(fs, path, s3_folder)) == b"1"
    assert storage.list_files(s3_folder) == [s3_folder + "/by-pickle", s3_folder + "/by-uri"]
    assert storage.read_bytes(s3_folder + "/by-uri") == b"2"
