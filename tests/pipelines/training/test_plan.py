"""What every training is resolved to before it starts: its length. Pairs made anew: `test_making`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines.shards.index import build_index
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.plan import epoch_steps
from tests.pipelines.training.builders import settings
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


def test_an_epoch_is_what_is_drawn_shared_among_workers(source: TrainingSource, tmp_path: Path) -> None:
    one = settings(tmp_path)  # two samples an update
    index = build_index(source.shards, source.label_map, 0)  # 36 training rows

    def steps(workers: int = 1, **changes: Any) -> int:
        return epoch_steps(replace(one, **changes), index, source.label_map, workers)

    assert (steps(), steps(2), steps(5)) == (18, 9, 3)
    assert steps(batch_size=3, accumulate=2) == 6
    assert steps(repeat=(("watermark", 3),)) == 18 + 12  # its 12 rows twice more
    with pytest.raises(
        ConfigurationError, match=r"36 samples, fewer than one update of 2 x 20: use a smaller --b"
    ):
        steps(2, batch_size=20)
