from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.storage.file_uris import is_file_uri, path_of

#: Paths as file systems have them; surrogates stand for bytes that are not UTF-8.
PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(PATHS)
def test_what_python_writes_as_a_uri_is_read_as_the_same_path(name: str) -> None:
    path = Path("/photos") / name.replace("/", "_")
    assert path_of(path.as_uri()) == str(path)
    assert path_of(path.as_uri().replace("file:///", "file://localhost/")) == str(path)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/my%20photo.jpg", "/a/my photo.jpg"),
        ("FILE://LocalHost/a/%C3%BC.jpg", "/a/ü.jpg"),
        ("file:/a/b%2520.jpg", "/a/b%20.jpg"),  # RFC 8089's shortest form; decoded once
        ("file:///a/100%.jpg", "/a/100%.jpg"),
        ("file:///a/b?c#d", "/a/b?c#d"),  # as people write them by hand
        ("file:///a/%FF.jpg", "/a/\udcff.jpg"),
    ],
)
def test_a_uri_is_decoded_once(uri: str, path: str) -> None:
    assert is_file_uri(uri)
    assert path_of(uri) == path


@pytest.mark.parametrize(
    "path", ["/a/my%20photo.jpg", "a%20b", "file", "file:a", "s3://a/b%20c", "files:///a"]
)
def test_a_path_and_other_uris_are_no_file_uris(path: str) -> None:
    assert not is_file_uri(path)


@pytest.mark.parametrize("uri", ["file://server/a.jpg", "file://", "file://localhost", "file://a"])
def test_another_machine_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="this machine"):
        path_of(uri)
