"""A storage that is not there."""

from collections.abc import Iterator

import pytest

from pipelines.storage import s3
from tests.object_store import s3_environment


@pytest.fixture
def dead_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 at a port where nobody listens; clients that saw it are forgotten afterwards."""
    monkeypatch.setattr(s3, "PATIENCE", 0.2)
    monkeypatch.setattr(s3, "IMPATIENCE", 0.2)
    with s3_environment(
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="y",
    ):
        yield
