"""Checkpoints: whole or not at all, pruned last, damaged ones skipped."""

from pathlib import Path

import pytest
import torch

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.training.checkpoints import Checkpoints


def state(step: int) -> dict:
    return {"step": step, "values": torch.arange(1000.0) + step}


def saved(folder: Path, steps: list[int], keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(str(folder), keep)
    for step in steps:
        checkpoints.save(step, state(step))
    return checkpoints


def test_the_newest_are_kept_and_unfinished_writes_removed(tmp_path: Path) -> None:
    (tmp_path / ".step-00000003-x.part").write_bytes(b"half")
    checkpoints = saved(tmp_path, [2, 4, 6, 8])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000006.pt", "step-00000008.pt"]
    step, restored = checkpoints.load()
    assert step == 8
    assert torch.equal(restored["values"], state(8)["values"])


def test_nothing_is_removed_until_the_newer_one_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, [2], keep=1)
    filesystem = type(storage.resolve(str(tmp_path))[0])

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(filesystem, "mv", fail)
    with pytest.raises(OSError, match="full"):
        checkpoints.save(4, state(4))
    assert checkpoints.steps() == [2]


@pytest.mark.parametrize("damage", ["half", "junk", "empty", "flipped", "other step"])
def test_a_damaged_newest_one_falls_back_to_the_one_before(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, [2, 4])
    newest = tmp_path / "step-00000004.pt"
    whole = newest.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    other = (tmp_path / "step-00000002.pt").read_bytes()
    content = {"half": whole[:middle], "junk": b"junk", "empty": b"", "flipped": flipped, "other step": other}
    newest.write_bytes(content[damage])
    step, _ = checkpoints.load()
    assert step == 2
    assert "step-00000004.pt is damaged" in caplog.text


def test_only_damaged_ones_are_an_error_but_no_checkpoints_are_not(tmp_path: Path) -> None:
    assert Checkpoints(str(tmp_path / "none"), 1).load() is None
    checkpoints = saved(tmp_path, [2, 4])
    for file in tmp_path.glob("*.pt"):
        file.write_bytes(b"junk")
    with pytest.raises(ConfigurationError, match=r"all 2 checkpoints .* --overwrite"):
        checkpoints.load()


def test_the_newest_up_to_a_step_is_named_with_later_ones_to_remove(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [1500, 2000])
    assert checkpoints.newest().endswith("step-00002000.pt")
    assert "step-00001500.pt (first remove the later ones: step-00002000.pt)" in checkpoints.newest(1900)
    assert checkpoints.newest(1000).startswith("gone from")
    assert Checkpoints(str(tmp_path / "none"), 1).newest(5).startswith("none yet")


def test_a_folder_on_s3_works_too(s3_folder: str) -> None:
    checkpoints = Checkpoints(storage.join(s3_folder, "checkpoints"), 1)
    for step in (2, 4):
        checkpoints.save(step, state(step))
    assert checkpoints.steps() == [4]
    assert checkpoints.load()[0] == 4
