import uuid
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.storage import pages as paging
from pipelines.storage import s3
from pipelines.storage.pages import folders, pages, remove_files


@pytest.fixture(params=["local", "s3", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory:///{uuid.uuid4().hex}"
    return str(tmp_path / "a b") if request.param == "local" else str(request.getfixturevalue("s3_folder"))


def test_files_are_listed_and_removed_page_by_page(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (paging, s3):
        monkeypatch.setattr(module, "PAGE", 4)
    contents = {
        f"{folder}/images/{defect}/{number:02}.x.jpg": b"x" * number
        for defect in ("blur", "water [1]")
        for number in range(9)
    }
    storage.write_bytes(f"{folder}/images-of-others/1.jpg", b"")
    for uri, data in contents.items():
        storage.write_bytes(uri, data)
    assert folders(f"{folder}/images") == ["blur", "water [1]"]
    listed = list(pages(f"{folder}/images"))
    assert all(0 < len(page) <= 4 for page in listed)
    assert {file.uri: file.size for page in listed for file in page} == {
        uri: len(data) for uri, data in contents.items()
    }
    some = [file.uri for page in pages(f"{folder}/images", prefix="blur/0") for file in page]
    assert sorted(some) == sorted(uri for uri in contents if "/blur/0" in uri)
    for page in pages(f"{folder}/images"):  # removed while they are listed
        remove_files([file.uri for file in page if not file.uri.endswith("/03.x.jpg")])
    left = sorted(uri for uri in contents if uri.endswith("/03.x.jpg"))
    assert storage.list_files(f"{folder}/images") == left
    remove_files([*left, *left])  # as after an interruption
    assert list(pages(f"{folder}/images")) == []
    assert storage.list_files(folder) == [f"{folder}/images-of-others/1.jpg"]


def test_there_are_no_files_in_a_folder_that_is_missing(folder: str) -> None:
    assert list(pages(f"{folder}/images")) == []
    assert folders(f"{folder}/images") == []
    remove_files([])
