from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.storage import s3
from tests.object_store import s3_environment


def complaint(check: object, uri: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check(uri, "--flag")  # type: ignore[operator]
    message = str(caught.value)
    assert message.startswith("--flag: ")
    assert "\n" not in message
    return message


def test_existing_places_pass_the_checks(folder: str) -> None:
    storage.check_writable(folder, "--output")
    assert storage.list_files(folder) == []
    assert storage.list_files(storage.join(folder, ".write-check")) == []
    for name in ("file", "empty"):
        storage.write_bytes(storage.join(folder, name), b"x" if name == "file" else b"")
        storage.check_readable(storage.join(folder, name), "--catalog")
    storage.check_readable(folder, "--catalog")


def test_a_missing_path_is_named_with_its_flag(folder: str) -> None:
    message = complaint(storage.check_readable, storage.join(folder, "absent"))
    assert "absent: it does not exist" in message


def test_wildcards_that_nobody_expands_are_told(tmp_path: Path) -> None:
    message = complaint(storage.check_readable, str(tmp_path / "*.parquet"))
    assert "it does not exist; wildcards are not expanded here: name the file, or its folder" in message
    (tmp_path / "a[1].parquet").touch()
    storage.check_readable(str(tmp_path / "a[1].parquet"), "--photos")


def test_a_missing_bucket_is_a_configuration_error(s3_server: str) -> None:
    for check in (storage.check_readable, storage.check_writable):
        assert "check the bucket" in complaint(check, "s3://no-such-bucket/folder")


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID"),
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"},
            "credentials",
        ),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1"}, "AWS_ENDPOINT_URL"),
        ({"AWS_PROFILE": "no-such-profile"}, "no-such-profile"),
    ],
)
def test_wrong_access_is_a_configuration_error_with_a_remedy(
    s3_folder: str,
    tmp_path: Path,
    variables: dict[str, str | None],
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "IMPATIENCE", 0.3)
    nowhere = {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    with s3_environment(**nowhere, **variables):
        assert remedy in complaint(storage.check_readable, s3_folder)
        assert remedy in complaint(storage.check_writable, s3_folder)


def test_an_output_below_a_file_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "a file stands where a folder is needed" in complaint(
        storage.check_writable, str(tmp_path / "file")
    )


@pytest.mark.parametrize("uri", ["", "  ", "nosuchscheme://x/y"])
def test_what_no_storage_serves_is_a_configuration_error(uri: str) -> None:
    assert "s3:// URI" in complaint(storage.check_readable, uri)
    with pytest.raises(ConfigurationError):
        storage.resolve(uri)


def test_a_file_of_another_machine_is_refused() -> None:
    assert "this machine" in complaint(storage.check_readable, "file://server/photo.jpg")
