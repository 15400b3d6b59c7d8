"""A second run over the output of an earlier one."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import command, maintain_output
from jobs.correct_catalog import main
from model.errors import RunError
from pipelines.contracts.schemas import CATALOG, CHANGES
from pipelines.correction import job
from pipelines.correction.measure import fid
from pipelines.correction.output import remove_run
from pipelines.correction.publish import stage
from pipelines.published import changes
from pipelines.published.row_keys import id_keys
from tests.catalogs import (
    picture,
    published,
    read_parquet,
    row,
    rows,
    tree,
    write_bundle,
    write_catalog,
    write_detector,
)
from tests.hostile_images import encode

pytestmark = pytest.mark.ray


#: Columns of the manifest that make a row a changed one.
VISIBLE = tuple(name for name in CHANGES.names if name not in ("change", "corrected_at"))


class KilledError(Exception):
    """Simulates SIGKILL."""


def killed(*_: object) -> None:
    raise KilledError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


class Shop:
    """A catalog and its output."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle, self.output = folder, bundle, folder / "out"

    def write(self, catalog: Sequence[Mapping[str, Any]], name: str = "a", **settings: Any) -> None:
        write_catalog(self.folder / "catalog" / f"{name}.parquet", catalog, **settings)

    def correct(self, *flags: str) -> dict[str, Any]:
        places = ["--catalog", str(self.folder / "catalog"), "--output", str(self.output)]
        places += [
            "--allow-uri",
            str(self.folder),
            "--model",
            str(self.bundle),
            "--device",
            "cpu",
            "--actors",
            "1:1",
            "--max-failed",
            "0.9",
        ]
        places += ["--gates", "off"]  # toy bundles' corrections pass none
        before = self.rows_by_id()
        assert main([*places, *(flags or ("--no-fid",))]) == command.EXIT_OK
        assert not (self.output / ".run").exists()
        told: dict[str, Any] = json.loads((self.output / "run.json").read_text())
        success = json.loads((self.output / "_SUCCESS").read_text())
        found = read_parquet(self.output / "manifest")
        assert success["rows"] == len(found) == sum(told["counts"].values()) == told["rows_in"]
        assert success["parts"] == len(list((self.output / "manifest").iterdir()))
        self.check_changes(told, before)
        kept = read_parquet(self.output / "manifests" / told["manifest_run"])
        assert kept == found
        return told

    def check_changes(self, told: dict[str, Any], before: Mapping[str, list[dict[str, Any]]]) -> None:
        """Check that the changes of a run lead from the rows `before`, by id, to those of its manifest."""
        found = pq.read_table(self.output / "changes" / f"{told['run']}.parquet").to_pylist()
        assert Counter(one["change"] for one in found) == +Counter(told["changes"])
        now = self.rows_by_id()
        for one in found:
            kind, name = one.pop("change"), one["image_id"]
            if kind == "removed":
                assert name in before
                assert name not in now
            else:
                assert (name in before) == (kind == "changed")
                assert one in [{column: other[column] for column in one} for other in now[name]]
        touched = {one["image_id"] for one in found}
        assert touched >= before.keys() ^ now.keys()
        for name in now.keys() - touched:  # equal, but for what is for the next run alone
            old, new = ([[one[column] for column in VISIBLE] for one in side[name]] for side in (before, now))
            assert all(one in old for one in new)

    def rows_by_id(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the manifest, of which an id may have several."""
        by_id: dict[str, list[dict[str, Any]]] = {}
        for one in read_parquet(self.output / "manifest"):
            by_id.setdefault(one["image_id"], []).append(one)
        return by_id

    def manifest(self) -> dict[str, dict[str, Any]]:
        return {one["image_id"]: one for one in read_parquet(self.output / "manifest")}

    def fid(self) -> dict[str, dict[str, Any]]:
        defects: dict[str, dict[str, Any]] = json.loads((self.output / "report" / "fid.json").read_text())[
            "defects"
        ]
        return defects


@pytest.fixture
def shop(ray_local: None, tmp_path: Path, bundle: Path) -> Shop:
    return Shop(tmp_path, bundle)


def test_a_deleted_image_is_noticed_and_comes_back_with_its_part_of_the_manifest(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.write(rows(10))
    assert shop.correct()["images_check"] is None
    before = tree(shop.output / "images")
    lost = min(before)
    (shop.output / "images" / lost).unlink()
    said = shop.correct()["images_check"]
    assert (said["checked"], said["missing"]) == (8, 1)
    assert said["examples"] == [str(shop.output / "images" / lost)]
    assert "1 of 8 images that were looked for are gone" in caplog.text
    for part in said["parts"]:
        Path(part).unlink()
    shop.correct()
    assert tree(shop.output / "images") == before
    caplog.clear()
    assert shop.correct()["images_check"]["missing"] == 0
    assert "are gone" not in caplog.text
    assert len(read_parquet(shop.output / "manifest")) == 10


def test_a_second_run_corrects_nothing_and_says_so(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write([*rows(9), row("broken", "watermark", image=b"x")])
    first = shop.correct()
    assert (first["unchanged"], first["counts"]["failed"]) == (0, 1)
    before = tree(shop.output)
    again = shop.correct()
    assert again["unchanged"] == 10
    assert (first["manifest_run"], again["manifest_run"]) == (first["run"], first["run"])
    assert again["counts"] == first["counts"]
    assert not any(again["corrected_now"].values())
    after = tree(shop.output)
    assert before.pop("run.json") != after["run.json"]
    assert after.pop(f"changes/{again['run']}.parquet")
    assert after.pop(f"runs/{again['run']}.json") == after.pop("run.json")
    assert after == before  # the report, too, which describes what was corrected
    said = capsys.readouterr().out
    assert "10 images have not changed since an earlier run" in said
    assert "nothing was corrected" in said
    retried = shop.correct("--no-fid", "--retry-failed", "unknown_format", "--summary", "json")
    assert (retried["unchanged"], retried["corrected_now"]["failed"]) == (9, 1)
    (line,) = capsys.readouterr().out.splitlines()
    summary = json.loads(line)
    same = (summary.keys() & retried.keys()) - {"seconds"}  # the summary has those of publishing, too
    assert {name: summary[name] for name in same} == {name: retried[name] for name in same}
    assert summary["error_counts"] == {"unknown_format": 1}
    assert not any(retried["changes"].values())  # it failed alike


def test_only_what_changed_is_corrected(shop: Shop, tmp_path: Path) -> None:
    catalog = rows(12)
    catalog[4] |= {"image": None, "uri": str(tmp_path / "there.png")}
    catalog[5] |= {"image": None, "uri": str(tmp_path / "gone.png")}
    (tmp_path / "there.png").write_bytes(encode(picture(1), "PNG"))
    shop.write([*catalog[:4], *catalog[6:]])
    shop.write(catalog[4:6], "fetched")
    shop.correct()
    before, images = shop.manifest(), published(shop.output)

    (tmp_path / "there.png").write_bytes(encode(picture(2), "PNG"))
    catalog[0]["labels"] = [{"label": "wrong_angle", "score": 0.9}]
    catalog[1]["image"] = encode(picture(77))
    catalog[2]["product_type"] = "shoe"
    shop.write(catalog[8:11], "z", row_group_size=2)
    shop.write([*catalog[7:5:-1], *catalog[3::-1], row("new", "watermark")], row_group_size=3)
    shop.write(catalog[5:3:-1], "fetched")
    told = shop.correct()
    after = shop.manifest()
    assert set(after) == {one["image_id"] for one in catalog[:11]} | {"new"}
    changed = {
        name for name in after if before.get(name, {}).get("corrected_at") != after[name]["corrected_at"]
    }
    assert changed == {"image-0", "image-1", "image-4", "new"}
    assert told["corrected_now"] == {"corrected": 4, "passthrough": 0, "rejected": 0, "failed": 0}
    assert (told["unchanged"], told["dropped"]) == (8, 4)
    assert after["image-2"]["product_type"] == "shoe"
    assert after["image-0"]["defect"] == "wrong_angle"
    assert after["image-5"]["error_code"] == "missing"
    now = published(shop.output)
    assert {name for name in now if images.get(name) != now[name]} == {
        "wrong_angle/image-0.jpg",
        "non_white_background/image-1.jpg",
        "watermark/new.jpg",
        "wrong_angle/image-4.jpg",
    }
    # Everything is as after a run that begins with nothing.
    undisturbed = Shop(tmp_path, shop.bundle)
    undisturbed.output = tmp_path / "other"
    undisturbed.correct()
    assert published(undisturbed.output) == now
    own = ("corrected_at", "output_uri", "row_key", "image_key")
    assert [{**one, **dict.fromkeys(own)} for one in undisturbed.manifest().values()] == [
        {**one, **dict.fromkeys(own)} for one in after.values()
    ]
    # The unchanged image is known by its new version now.
    assert shop.correct()["unchanged"] == 12


def test_another_model_corrects_everything_anew(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(rows(6))
    shop.correct()
    images, before = published(shop.output), tree(shop.output / "images")
    shop.bundle = write_bundle(tmp_path / "bundle", content=0.5, matte=1)
    monkeypatch.setattr(changes, "PART_ROWS", 5)  # so many changes are a folder of parts, made by tasks
    told = shop.correct()
    assert len(list((shop.output / "changes" / f"{told['run']}.parquet").iterdir())) == 3
    assert told["changes"] == {"added": 0, "changed": 6, "removed": 0}
    assert (told["unchanged"], told["corrected_now"]["corrected"]) == (0, 5)
    now = published(shop.output)
    assert set(now) == set(images)
    assert all(now[name] != images[name] for name in now)
    assert before.items() <= tree(shop.output / "images").items()  # for the manifest of the first run
    assert {one["model_version"] for one in shop.manifest().values()} == {
        told["configuration"]["model_version"]
    }


def test_fid_of_a_second_run_is_of_what_it_corrected_against_all_clean_images(shop: Shop) -> None:
    catalog = rows(20)
    shop.write(catalog)
    shop.correct("--fid-samples", "10")
    catalog[0]["image"], catalog[5]["image"] = encode(picture(50)), encode(picture(51))
    # The first file changes, so that all its images are read again; the second does not.
    shop.write(catalog[:8])
    shop.write(catalog[8:], "b")
    shop.correct("--no-fid")
    catalog[0]["image"], catalog[5]["image"] = encode(picture(60)), encode(picture(61))
    shop.write(catalog[:8])
    told = shop.correct("--fid-samples", "10")
    assert (told["corrected_now"]["corrected"], told["unchanged"]) == (2, 18)
    (watermark,) = shop.fid().values()
    assert (watermark["n"], watermark["n_reference"]) == (2, 4)
    assert "interrupted" not in watermark["note"]


def test_fid_and_pictures_are_of_the_last_attempt_and_say_of_how_many_rows(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.write(
        [row("early", "watermark", image=encode(picture(1))), *(row(f"clean {n}", "clean") for n in range(3))]
    )
    with monkeypatch.context() as patch:
        patch.setattr(fid, "compute_fid", killed)
        with pytest.raises(KilledError):
            shop.correct("--fid-samples", "10")
    shop.write([row(f"later {n}", "watermark", image=encode(picture(n))) for n in (2, 3)], "b")
    told = shop.correct("--fid-samples", "10")
    assert (told["corrected_now"]["corrected"], told["resumed"], told["unchanged"]) == (3, 4, 0)
    (watermark,) = shop.fid().values()
    assert (watermark["n"], watermark["n_reference"]) == (
        2,
        3,
    )  # the images that finished rows are compared with are read again
    assert watermark["note"].startswith("of 2 of 3 corrected rows: ")
    assert "4 of these were finished by an interrupted attempt" in capsys.readouterr().out
    page = (shop.output / "report" / "index.html").read_text()
    assert "3 of 6 images corrected" in page
    assert "FID, KID and pictures are of the 2 that followed" in page
    assert "of 2 of 3 corrected rows" in page
    assert ("later 2" in page, "early" in page) == (True, False)

    shop.write([row("last", "watermark", image=encode(picture(4)))], "c")
    with monkeypatch.context() as patch:
        patch.setattr(fid, "compute_fid", killed)
        with pytest.raises(KilledError):
            shop.correct("--fid-samples", "10")
    told = shop.correct("--fid-samples", "10")
    assert (told["resumed"], told["unchanged"]) == (1, 6)
    assert "interrupted attempts finished all new and changed images" in told["fid_missing"]
    assert not (shop.output / "report" / "fid.json").exists()


def test_ids_that_differ_are_counted_and_nothing_is_published(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(rows(6))
    shop.correct()
    before = {name: data for name, data in tree(shop.output).items() if not name.startswith("runs/")}
    shop.write([*rows(6), row("new", "clean")])
    inspect = job.inspect

    def adds_one(run: job.Run, known: Any, published: int) -> None:
        inspect(run, known, published)
        run.inspection.ids.add(id_keys(["new"]))

    monkeypatch.setattr(job, "inspect", adds_one)
    with pytest.raises(
        RunError,
        match=r"lost or doubled: 8 in the catalog, 7 for the manifest; ids differ in 1 .*\(2 and 1 rows\)",
    ):
        shop.correct()
    ours = (".run/", "runs/")  # what a run that broke off may leave: its work, and its record
    assert {name: data for name, data in tree(shop.output).items() if not name.startswith(ours)} == before


def test_rows_of_one_id_are_one_row_where_they_name_one_image_and_else_they_fail(
    shop: Shop, tmp_path: Path
) -> None:
    places = []
    for number in range(3):
        places.append(str(tmp_path / f"{number}.png"))
        (tmp_path / f"{number}.png").write_bytes(encode(picture(number), "PNG"))
    image = encode(picture(9))
    catalog = [
        row("once", "watermark", image=image),
        row("twin", "watermark", image=image),
        row("twice", "wrong_angle", uri=places[0]),
        row("two", "watermark", uri=places[1]),
        row("unlike", "clean", uri=places[2]),
        row("embedded", "watermark", image=image),
        row("page", "watermark", image=image, uri="https://shop/page"),  # not the source of its bytes
    ]
    others = [
        row("page", "watermark", image=encode(picture(10)), uri="https://shop/page"),
        row("twice", "wrong_angle", uri=places[0]),
        row("two", "watermark", uri=places[2]),
        row("unlike", "watermark", uri=places[2]),
        row("embedded", "watermark", image=image),
    ]
    shop.write(catalog, row_group_size=3)
    shop.write(others, "others")
    told = shop.correct()
    assert told["counts"] == {"corrected": 4, "passthrough": 0, "rejected": 0, "failed": 8}
    found = read_parquet(shop.output / "manifest")
    assert Counter((one["image_id"], one["status"]) for one in found) == {
        ("once", "corrected"): 1,
        ("twin", "corrected"): 1,
        ("twice", "corrected"): 2,
        ("two", "failed"): 2,
        ("unlike", "failed"): 2,
        ("embedded", "failed"): 2,
        ("page", "failed"): 2,
    }
    refused = [one for one in found if one["status"] == "failed"]
    assert {one["error_code"] for one in refused} == {"duplicate_id"}
    assert "occurs 2 times, here in" in refused[0]["error_message"]
    assert any("others.parquet row 2 " in one["error_message"] for one in refused)
    images = published(shop.output)
    assert len(tree(shop.output / "images")) == len(images)
    assert set(images) == {"watermark/once.jpg", "watermark/twin.jpg", "wrong_angle/twice.jpg"}
    assert images["watermark/once.jpg"] == images["watermark/twin.jpg"]

    again = shop.correct()
    assert (again["unchanged"], again["dropped"]) == (12, 0)
    # Some ids lose a row, and the remaining rows are judged alone. One id gets a row, and all are judged again.
    shop.write([*others[2:4], row("once", "clean", uri=places[0])], "others")
    shop.correct()
    statuses = {one["image_id"]: one["status"] for one in read_parquet(shop.output / "manifest")}
    assert statuses == {
        "once": "failed",
        "twin": "corrected",
        "twice": "corrected",
        "two": "failed",
        "unlike": "failed",
        "embedded": "corrected",
        "page": "corrected",
    }
    assert shop.correct()["unchanged"] == 10


def test_rows_of_one_id_that_name_one_sha256_are_one_row_wherever_they_are(
    shop: Shop, tmp_path: Path
) -> None:
    image, other = encode(picture(1), "PNG"), encode(picture(2), "PNG")
    (tmp_path / "a.png").write_bytes(image)
    (tmp_path / "b.png").write_bytes(image)
    digest = hashlib.sha256(image).hexdigest()
    schema = CATALOG.append(pa.field("sha256", pa.string()))
    one = row("a", "watermark", uri=str(tmp_path / "a.png"), sha256=digest)
    shop.write([one, {**one, "uri": str(tmp_path / "b.png"), "sha256": digest.upper()}], schema=schema)
    told = shop.correct()
    assert told["counts"]["corrected"] == 2
    assert len(tree(shop.output / "images")) == 1
    assert shop.correct()["unchanged"] == 2
    # The catalog states a wrong hash: the image that was read is corrected, and every run reads it again.
    (tmp_path / "a.png").write_bytes(other)
    shop.write([{**one, "image_id": name} for name in ("b", "b")], schema=schema)
    for _ in range(2):
        told = shop.correct("--no-fid", "--max-dropped", "1")
        assert (told["corrected_now"]["corrected"], told["unchanged"]) == (2, 0)
        assert {one["input_sha256"] for one in shop.manifest().values()} == {
            hashlib.sha256(other).hexdigest()
        }


def test_what_a_killed_run_had_finished_is_not_done_again(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twice.png").write_bytes(encode(picture(20), "PNG"))
    twice = row("twice", "watermark", uri=str(tmp_path / "twice.png"))
    catalog = rows(8)
    shop.write([*catalog[:4], twice], "a")
    shop.write([*catalog[4:], twice], "b")
    with monkeypatch.context() as patch:
        patch.setattr(stage, "check_conservation", killed)
        with pytest.raises(KilledError):
            shop.correct()
    assert not (shop.output / "manifest").exists()
    (record,) = (shop.output / "runs").iterdir()
    said = json.loads(record.read_text())
    assert (said["state"], said["exit_code"]) == ("failed", 1)
    assert said["corrected_now"]["corrected"] + said["corrected_now"]["passthrough"] == 10
    # One image changes before the second attempt, which is killed as well, and then it is the first image again.
    (shop.folder / "catalog" / "a.parquet").rename(shop.folder / "first.parquet")
    shop.write([{**catalog[0], "image": encode(picture(9))}, *catalog[1:4], twice], "a")
    with monkeypatch.context() as patch:
        patch.setattr(job, "publish", killed)
        with pytest.raises(KilledError):
            shop.correct()
    assert len(list((shop.output / ".run" / "journal").iterdir())) == 2
    (shop.folder / "first.parquet").rename(shop.folder / "catalog" / "a.parquet")
    told = shop.correct()
    assert (told["resumed"], told["unchanged"]) == (7, 0)
    assert sum(told["corrected_now"].values()) == 10
    now = published(shop.output)
    assert len(shop.manifest()) == 9
    shop.output = tmp_path / "undisturbed"
    shop.correct()
    assert published(shop.output) == now


def test_the_images_of_the_manifest_stay_as_they_are_while_a_later_run_works(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a new model is killed before it writes its first row; the next run has the old model."""

    shop.write(rows(5))
    shop.correct()
    images, before, old = published(shop.output), tree(shop.output / "images"), shop.bundle
    shop.bundle = write_bundle(tmp_path / "bundle", content=0.5, matte=1)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "check_conservation", killed)
        with pytest.raises(KilledError):
            shop.correct()
    shutil.rmtree(shop.output / ".run" / "journal")
    assert len(tree(shop.output / "images")) == 2 * len(images)
    assert before.items() <= tree(shop.output / "images").items()
    assert published(shop.output) == images
    shop.bundle = old
    assert shop.correct()["unchanged"] == 5
    assert published(shop.output) == images


def maintain(shop: Shop, verb: str, *flags: str) -> None:
    """Do maintenance of the output."""
    assert maintain_output.main([verb, "--output", str(shop.output), *flags, "--apply"]) == command.EXIT_OK


def test_after_a_rollback_the_next_run_goes_on_from_there(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = rows(6)
    shop.write(catalog)
    first = shop.correct()
    images, old = published(shop.output), shop.bundle
    shop.bundle = write_bundle(tmp_path / "bundle", content=0.5, matte=1)
    second = shop.correct()
    with monkeypatch.context() as patch:  # a third run is killed
        shop.write([*catalog, row("new", "watermark")])
        patch.setattr(stage, "check_conservation", killed)
        with pytest.raises(KilledError):
            shop.correct()
    maintain(shop, "rollback")
    assert published(shop.output) == images
    # With the model of the first run, only what is new since is corrected.
    shop.bundle = old
    third = shop.correct()
    assert (third["unchanged"], third["corrected_now"]["corrected"]) == (6, 1)
    assert published(shop.output).items() >= images.items()
    kept = [path.name for path in sorted((shop.output / "manifests").iterdir()) if path.is_dir()]
    assert kept == [one["run"] for one in (first, second, third)]
    maintain(shop, "clean", "--keep-runs", "1")
    assert len(tree(shop.output / "images")) == len(published(shop.output))
    # With that of the second run, all are corrected again.
    shop.bundle = tmp_path / "bundle"
    assert shop.correct()["unchanged"] == 0


def test_an_erased_id_fails_in_every_run_and_its_image_is_not_made_again(shop: Shop) -> None:
    shop.write(rows(6))
    shop.correct()
    images = published(shop.output)
    (gone,) = (name for name in images if name.endswith("/image-0.jpg"))
    maintain(shop, "erase", "--image-id", "image-0")
    left = {name: data for name, data in images.items() if name != gone}
    assert published(shop.output) == left
    for is_emptied, unchanged in ((False, 5), (False, 6), (True, 0)):
        if is_emptied:  # as --overwrite does
            remove_run(str(shop.output))
        told = shop.correct()
        assert (told["unchanged"], told["counts"]["failed"]) == (unchanged, 1)
        assert told["changes"]["changed"] == 0
        one = shop.manifest()["image-0"]
        assert (one["status"], one["error_code"], one["output_uri"]) == ("failed", "erased", None)
        assert published(shop.output) == left
        assert len(tree(shop.output / "images")) == len(left)


def test_rows_that_nothing_is_to_be_done_with_are_read_beside_a_detector_too(
    shop: Shop, tmp_path: Path
) -> None:
    """FID's reference are the clean images of the catalog, by the catalog's own labels."""
    detector = ["--detector", str(write_detector(tmp_path / "detector", {"watermark": 5.0}))]
    shop.write([*(row(f"clean {n}", "clean") for n in range(4)), row("unlabelled", labels=None)], "a")
    first = shop.correct("--no-fid", *detector)
    assert first["counts"]["corrected"] == 1
    shop.write([row(f"new {n}", labels=None) for n in range(2)], "b")
    assert shop.correct("--fid-samples", "10", *detector)["unchanged"] == 5
    assert {name: (one["n"], one["n_reference"]) for name, one in shop.fid().items()} == {"watermark": (2, 4)}
