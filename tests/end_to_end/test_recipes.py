"""Every recipe trains 200 steps at 64 pixels on real photos, and behaves as its method demands.

Real photos where they are on this machine, else drawn ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jobs import train
from model.recipes import RECIPES
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.images.encode import encode_image
from pipelines.preparation.entries import Entry, Record
from pipelines.preparation.unit.rows import RowSettings, read_sample, training_rows
from pipelines.synthesis.products.scene import draw_scene
from pipelines.training.feed.batches import load_here
from pipelines.training.generator.loop import Training
from tests.conftest import REPOSITORY
from tests.pipelines.training.builders import Recorder

STEPS, SIZE, PHOTOS = 200, 64, 48
#: A U-Net has no residual blocks; transport between 256 patches takes most of MoNCE's time.
FEWER = {
    "pix2pix": [],
    "monce": ["--blocks", "2", "--set", "objective.n_patches=32", "objective.detach_weights=true"],
}
REAL = REPOSITORY.parent / "shared" / "data" / "photos.parquet"


def photos() -> list[dict[str, Any]]:
    """Return rows with image_id, image, mask and product_type."""
    columns = ["image_id", "image", "mask", "product_type"]
    if REAL.exists():
        batches = pq.ParquetFile(REAL).iter_batches(PHOTOS, columns=columns)
        return list(next(batches).to_pylist())
    found = []
    for number in range(PHOTOS):
        scene = draw_scene(f"photo-{number}", 0)
        mask = np.repeat(np.uint8(scene.mask * 255)[..., None], 3, axis=2)
        images = (encode_image(scene.photo, "png"), encode_image(mask, "png"))
        found.append(dict(zip(columns, (f"photo-{number}", *images, scene.product_type), strict=True)))
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prepared shards with all kinds of rows: a quarter of the background pairs lose their target."""
    torch.set_num_threads(1)
    folder, label_map = tmp_path_factory.mktemp("photos"), LabelMap.default()
    groups = {name: defect.group for name, defect in label_map.defects.items()}
    config = RowSettings(groups, {name: name for name in groups}, max_side=96, draws=1)
    records = [
        Record(Entry(row["image_id"], product_type=row["product_type"]), row["image"], mask=row["mask"])
        for row in photos()
    ]
    rows = [row for record in records for row in training_rows(read_sample(record, config), config)]
    for row in islice((row for row in rows if row["defect"] == "non_white_background"), 0, None, 4):
        row.update(target=None, pairing="unpaired")
    (folder / "shards").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, SHARD), folder / "shards" / "part-0.parquet", row_group_size=32)
    (folder / "label_map.yaml").write_text(label_map.to_yaml())
    (folder / "dataset.json").write_text('{"fingerprint": "0123"}')
    return str(folder)


@dataclass(frozen=True)
class Trained:
    training: Training
    records: list[dict[str, float]]
    start: float  # mean of the loss that the method minimises, over the first steps
    end: float

    def output(self, group: int, type_: int) -> torch.Tensor:
        """Return the generator's output for one fixed image under the labels."""
        image = torch.linspace(-1, 1, 3 * SIZE * SIZE).reshape(1, 3, SIZE, SIZE)
        with torch.inference_mode():
            return self.training.generator.eval()(image, torch.tensor([group]), torch.tensor([type_]))


def trained(recipe: str, data: str, folder: Path, watched: str) -> Trained:
    line = ["--data", data, "--output", str(folder), "--recipe", recipe, "--workers", "0", "--device", "cpu"]
    line += [
        "--image-size",
        str(SIZE),
        "--steps",
        str(STEPS),
        "--width",
        "8",
        "--log-every",
        "1",
        "--seed",
        "1",
    ]
    line += ["--rate", "1e-3", "--validate-every", "0", *FEWER.get(recipe, ["--blocks", "2"])]
    _, plan = train.resolve(line)
    plan = replace(plan, settings=replace(plan.settings, checkpoint_every=STEPS, grid_every=STEPS))
    training, follower = Training(plan.settings, plan.source.label_map), Recorder()
    training.run(plan.index, partial(load_here, decode=plan.settings.decoding), follower)
    # A batch without a pair has no reconstruction loss.
    values = [record[watched] for record in follower.records if record[watched]]
    return Trained(training, follower.records, float(np.mean(values[:10])), float(np.mean(values[-40:])))


def is_conditional(run: Trained, group: bool, type_: bool) -> None:
    """The output depends on exactly the labels that the method has."""
    same = run.output(0, 0)
    assert torch.equal(run.output(1, 0), same) != group
    assert torch.equal(run.output(0, 1), same) != type_


def semi_paired(run: Trained) -> None:
    for name in ("adversarial", "cycle", "identity", "reconstruction"):
        assert any(record[name] > 0 for record in run.records), name
    # Backgrounds without a target are used, too: some batches have a reconstruction loss, some have none.
    assert any(record["reconstruction"] == 0 for record in run.records)


def proposed(run: Trained) -> None:
    semi_paired(run)
    is_conditional(run, group=True, type_=True)


def no_group(run: Trained) -> None:
    semi_paired(run)
    is_conditional(run, group=False, type_=True)


def no_labels(run: Trained) -> None:
    semi_paired(run)
    is_conditional(run, group=False, type_=False)


def paired_only(run: Trained) -> None:
    is_conditional(run, group=True, type_=True)
    for record in run.records:
        assert record["cycle"] == record["identity"] == 0
        assert record["reconstruction"] > 0  # every batch has a pair


def pix2pix(run: Trained) -> None:
    is_conditional(run, group=False, type_=False)
    assert all(record["reconstruction"] > 0 for record in run.records)
    assert run.training.method.discriminator.state_dict()["features.0.weight"].shape[1] == 6


def cyclegan(run: Trained) -> None:
    is_conditional(run, group=False, type_=False)
    assert all(record["cycle"] > 0 and record["identity"] > 0 for record in run.records)
    assert "reconstruction" not in run.records[0]  # pairs are never compared


def monce(run: Trained) -> None:
    is_conditional(run, group=False, type_=False)
    assert "reconstruction" not in run.records[0]


#: For each recipe the loss that must fall, to which share of its start, and further conditions.
DEMANDS: dict[str, tuple[str, float, Callable[[Trained], None]]] = {
    "proposed": ("reconstruction", 0.75, proposed),
    "no_group": ("reconstruction", 0.75, no_group),
    "no_labels": ("reconstruction", 0.75, no_labels),
    "paired_only": ("reconstruction", 0.75, paired_only),
    "pix2pix": ("reconstruction", 0.75, pix2pix),
    "cyclegan": ("cycle", 0.75, cyclegan),
    "monce": ("total", 0.8, monce),
}


def test_every_recipe_is_asked() -> None:
    assert set(DEMANDS) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_as_its_method_demands(recipe: str, data: str, tmp_path: Path) -> None:
    watched, share, demands = DEMANDS[recipe]
    run = trained(recipe, data, tmp_path, watched)
    assert [record["step"] for record in run.records] == list(range(1, STEPS + 1))
    assert run.end < share * run.start
    assert all(record["discriminator"] > 0 for record in run.records)
    assert run.output(0, 0).abs().max() <= 1
    demands(run)
