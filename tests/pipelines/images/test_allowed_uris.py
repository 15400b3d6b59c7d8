import os
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.decode import ImageError

ALLOWED = AllowedUris(("s3://shop/uploads/", "https://cdn.example.com/", "http://img.example.com:8080/a"))


def code(uri: str, allowed: AllowedUris = ALLOWED) -> str | None:
    try:
        allowed.find(uri)
    except ImageError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "uri",
    [
        "s3://shop/uploads/a.jpg",
        "S3://shop/uploads/deep/er/a%20b #?.jpg",
        "s3://shop/uploads/100%.jpg",
        "s3://shop/uploads/a..b.jpg",
        "https://cdn.example.com/a.jpg?width=100",
        "HTTPS://CDN.example.com/a.jpg",
        "https://cdn.example.com:443/a.jpg",
        "http://img.example.com:8080/a/b.jpg",
        "http://img.example.com:8080/a",
    ],
)
def test_uris_below_a_prefix_are_allowed(uri: str) -> None:
    assert code(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        # whole segments
        "s3://shop/uploads-private/a.jpg",
        "s3://shop/uploadsa.jpg",
        "s3://shop/other/a.jpg",
        "s3://shop2/uploads/a.jpg",
        "s3://shop",
        "s3://SHOP/uploads/a.jpg",  # bucket names are case-sensitive
        "s3://shop/Uploads/a.jpg",
        "s3://shop//uploads/a.jpg",
        "http://img.example.com:8080/ab.jpg",
        # leaving the folder: plain, encoded and encoded twice
        "s3://shop/uploads/../secrets/a.jpg",
        "s3://shop/uploads/./a.jpg",
        "s3://shop/uploads/..",
        "s3://shop/uploads/%2e%2e/secrets/a.jpg",
        "s3://shop/uploads/%252e%252e/secrets/a.jpg",
        "http://img.example.com:8080/a/..%2fb.jpg",
        "http://img.example.com:8080/a/..;/b.jpg",
        "http://img.example.com:8080/a/..\\b.jpg",
        "http://img.example.com:8080/a/" + "%" + "25" * 9 + "2e/b.jpg",
        # other hosts and ports
        "https://cdn.example.com.evil.org/a.jpg",
        "https://evil.org/cdn.example.com/",
        "https://cdn.example.com:8443/a.jpg",
        "http://cdn.example.com/a.jpg",
        "http://img.example.com/a/b.jpg",
        "https://cdn.example.com./a.jpg",
        "https://cdn.example.com%2f@evil.org/a.jpg",
        "https://сdn.example.com/a.jpg",  # a Cyrillic letter
        # credentials, which can hide a host
        "https://user:password@cdn.example.com/a.jpg",
        "https://cdn.example.com@evil.org/a.jpg",
        "https://cdn.example.com\\@evil.org/a.jpg",
        "s3://key:secret@shop/uploads/a.jpg",
        # other file systems, alone and in front of an allowed uri
        "simplecache::s3://shop/uploads/a.jpg",
        "zip://a.jpg::s3://shop/uploads/a.zip",
        "s3://shop/uploads/a.zip::zip://a.jpg",
        "ftp://cdn.example.com/a.jpg",
        "memory://shop/uploads/a.jpg",
        "data:image/png;base64,AAAA",
        "file://cdn.example.com/a.jpg",
        "file:///etc/passwd",
        "/etc/passwd",
        "~/a.jpg",
        "//cdn.example.com/a.jpg",
        "",
        # characters that parsers drop
        " https://cdn.example.com/a.jpg",
        "https://cdn.example.com/a.jpg\n",
        "https://cdn.exam\tple.com/a.jpg",
        "s3://shop/uploads/a\0.jpg",
        "https:///a.jpg",
        "https://[::1/a.jpg",
        "https://cdn.example.com:port/a.jpg",
        "s3:///uploads/a.jpg",
    ],
)
def test_there_is_no_way_around_a_prefix(uri: str) -> None:
    assert code(uri) == "uri_not_allowed"


def test_nothing_is_allowed_by_default() -> None:
    for uri in (
        "s3://shop/uploads/a.jpg",
        "https://cdn.example.com/a.jpg",
        "/etc/hostname",
        "file:///etc/hostname",
    ):
        assert code(uri, AllowedUris()) == "uri_not_allowed"


def test_links_of_local_files_are_resolved(tmp_path: Path) -> None:
    photos, secrets = tmp_path / "photos", tmp_path / "secrets"
    for folder in (photos, secrets, tmp_path / "photos-private"):
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"x")
    (photos / "out.jpg").symlink_to(secrets / "a.jpg")
    (photos / "outside").symlink_to(secrets)
    (photos / "within.jpg").symlink_to(photos / "a.jpg")
    (tmp_path / "link").symlink_to(photos)
    allowed = AllowedUris((str(photos) + "/",))
    for path in (photos / "a.jpg", photos / "within.jpg", photos / "gone.jpg", tmp_path / "link" / "a.jpg"):
        assert allowed.find(str(path)) in (str(photos / "a.jpg"), str(photos / "gone.jpg"))
        assert allowed.find(f"FILE://{path}") == allowed.find(str(path))
    assert allowed.find(f"{secrets}/../photos/a.jpg") == str(photos / "a.jpg")
    for path in (
        *(
            "out.jpg",
            "outside/a.jpg",
            "../secrets/a.jpg",
            "../photos-private/a.jpg",
        ),
        *("outside/../secrets/a.jpg", ".."),
    ):
        assert code(f"{photos}/{path}", allowed) == "uri_not_allowed", path
    # A prefix that is a link means the folder it leads to.
    assert AllowedUris((str(tmp_path / "link"),)).find(str(photos / "a.jpg")) == str(photos / "a.jpg")


def test_file_uris_are_percent_decoded_before_they_are_compared(tmp_path: Path) -> None:
    photos, secrets = tmp_path / "my photos", tmp_path / "secrets"
    for folder in (photos, secrets):
        folder.mkdir()
        (folder / "a b.jpg").write_bytes(b"x")
    for prefix in (photos.as_uri(), f"file://localhost{photos}/", str(photos)):
        allowed = AllowedUris((prefix,))
        assert allowed.find((photos / "a b.jpg").as_uri()) == str(photos / "a b.jpg")
        assert allowed.find(f"{photos}/a%20b.jpg") == str(photos / "a%20b.jpg")
        for way in ("../secrets", "%2e%2e/secrets", "%2E%2E%2Fsecrets", "..%2fsecrets"):
            assert code(f"{photos.as_uri()}/{way}/a%20b.jpg", allowed) == "uri_not_allowed", way
        for byte in ("%00", "%0A", "%5C"):
            assert code(f"{photos.as_uri()}/a{byte}b.jpg", allowed) == "uri_not_allowed", byte
    assert code(photos.as_uri(), AllowedUris((str(tmp_path / "my%20photos"),))) == "uri_not_allowed"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "..", "%2e", "photos", "secrets", "%2e%2e", "%2f", "out", "//"]), max_size=8
    )
)
def test_no_file_uri_leaves_its_folder(parts: list[str]) -> None:
    allowed = AllowedUris(("file:///srv/photos",))
    uri = "file:///srv/photos/" + "/".join(parts)
    real = os.path.realpath(unquote(uri.removeprefix("file://")))
    assert (code(uri, allowed) is None) == (real == "/srv/photos" or real.startswith("/srv/photos/"))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "..", ".", "photos", "secrets", "%2e%2e", "out", "//"]), max_size=8))
def test_no_local_path_leaves_its_folder(parts: list[str]) -> None:
    allowed = AllowedUris(("/srv/photos",))
    uri = "/srv/photos/" + "/".join(parts)
    real = os.path.realpath(uri)
    assert (code(uri, allowed) is None) == (real == "/srv/photos" or real.startswith("/srv/photos/"))


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "",
            "ftp://host/",
            "https://",
            "s3://shop/../",
            "a::b",
            "https://u:p@host/",
            "file://host/a",
            "file:///a%00b",
            "s3://",
        ),
        *("https://host/get?user=7", "HTTP://host/a#b"),  # any other query would be allowed as well
    ],
)
def test_an_invalid_prefix_is_a_configuration_error(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow-uri"):
        AllowedUris((prefix,))


def test_messages_show_no_password() -> None:
    with pytest.raises(ImageError) as caught:
        ALLOWED.find("https://user:very-secret@cdn.example.com/a.jpg")
    assert "very-secret" not in str(caught.value)


def test_messages_show_no_signature_of_a_link() -> None:
    with pytest.raises(ImageError, match=r"https://elsewhere\.example/a\.jpg\?…") as caught:
        ALLOWED.find("https://elsewhere.example/a.jpg?X-Amz-Signature=very-secret")
    assert "very-secret" not in str(caught.value)
    with pytest.raises(ImageError, match=r"s3://shop/a\?b"):  # a key has no query
        ALLOWED.find("s3://shop/a?b")
