import dataclasses
from pathlib import Path
from typing import Any

import pytest

from model.detector.network import load_detector
from model.errors import BundleError, ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG
from pipelines.correction.plan import CorrectionConfig, Plan, resolve
from pipelines.storage import s3
from tests.catalogs import rows, write_bundle, write_catalog, write_detector
from tests.object_store import s3_environment


@pytest.fixture
def config(tmp_path: Path) -> CorrectionConfig:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(12))
    write_bundle(tmp_path / "bundle")
    return CorrectionConfig(
        (str(tmp_path / "catalog"),), str(tmp_path / "out"), model=str(tmp_path / "bundle"), fid=False
    )


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"fid_samples": 1}, "--fid-samples"),
        ({"fid_samples": 10_001}, "--fid-samples"),
        ({"batch_size": 0}, "--batch-size"),
        ({"canary_share": 0.0}, "--canary-share"),
        ({"canary_share": 1.5}, "--canary-share"),
        ({"limit": 0}, "--limit"),
        ({"score_scale": 0}, "--score-scale"),
        ({"score_scale": -1}, "--score-scale"),
        ({"score_scale": float("nan")}, "--score-scale"),
        ({"score_scale": float("inf")}, "--score-scale"),
        ({"max_failed": 1.5}, "--max-failed"),
        ({"max_failed": float("nan")}, "--max-failed"),
        ({"actors": (0, 2)}, "--actors"),
        ({"actors": (3, 2)}, "--actors"),
        ({"gpus_per_actor": -1.0}, "--gpus-per-actor"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor"),
        ({"device": "tpu"}, "--device"),
        ({"precision": "float16"}, "--precision"),
        ({"quality": 101}, "quality"),
        ({"format": "tiff"}, "format"),
        ({"retry_failed": ("missing", "lost")}, "--retry-failed is 'lost'; use one of all, no_image"),
    ],
)
def test_a_wrong_setting_is_named_at_construction(change: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigurationError, match=flag):
        CorrectionConfig(("a",), "b", **change)


def test_a_plan_knows_everything_and_has_written_nothing(config: CorrectionConfig, tmp_path: Path) -> None:
    plan = resolve(config)
    assert plan.listing.rows == 12
    assert plan.bundle.image_size == 32
    assert plan.label_map.conditions == {
        "wrong_angle": (1, 2),
        "watermark": (0, 1),
        "non_white_background": (0, 0),
    }
    assert plan.fid_missing is not None
    assert "--no-fid" in plan.fid_missing
    assert not (tmp_path / "out").exists()


def test_a_label_map_may_name_fewer_defects_than_the_bundle(config: CorrectionConfig, tmp_path: Path) -> None:
    text = LabelMap.default().to_yaml()
    (tmp_path / "map.yaml").write_text(
        "\n".join(line for line in text.splitlines() if "wrong_angle" not in line)
    )
    plan = resolve(dataclasses.replace(config, label_map=str(tmp_path / "map.yaml")))
    assert set(plan.label_map.conditions) == {"watermark", "non_white_background"}


def test_a_label_map_that_does_not_fit_the_bundle_is_refused(
    config: CorrectionConfig, tmp_path: Path
) -> None:
    text = LabelMap.default().to_yaml().replace("id: 1", "id: 7")
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(BundleError, match="'watermark' has id 7"):
        resolve(dataclasses.replace(config, label_map=str(tmp_path / "map.yaml")))


def test_an_altered_bundle_is_refused(config: CorrectionConfig, tmp_path: Path) -> None:
    weights = tmp_path / "bundle" / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(BundleError, match="does not match its hash"):
        resolve(config)


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ("model", "--model"),
        ("label_map", "--label-map"),
        ("reference", "--reference"),
        ("catalog", "--catalog"),
    ],
)
@pytest.mark.parametrize("fid", [True, False])
def test_what_is_not_there_is_named_by_its_flag(
    config: CorrectionConfig, tmp_path: Path, field: str, flag: str, fid: bool
) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=flag):
        resolve(dataclasses.replace(config, fid=fid, **{field: (gone,) if field == "catalog" else gone}))


def test_without_weights_there_is_a_reason_and_no_fid(
    config: CorrectionConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipelines.metrics.fid.weights.PACKAGE", "no-such-package")
    plan = resolve(dataclasses.replace(config, fid=True))
    assert plan.fid_weights is None
    assert plan.fid_missing is not None
    assert "--fid-weights" in plan.fid_missing
    assert "--fid-weights" in caplog.text


def test_the_configs_hash_follows_what_decides_the_outputs_bytes(config: CorrectionConfig) -> None:
    plan = resolve(config)

    def hashed(**changes: Any) -> str:
        return resolve(dataclasses.replace(config, **changes)).models("float32").current.config_hash

    base = hashed()
    assert base == hashed(batch_size=9, output="elsewhere", limit=3, actors=(1, 2), fid=True)
    assert base == hashed(score_scale=2)  # the meaning of a row's scores is in its own key
    others = [hashed(**change) for change in ({"quality": 80}, {"format": "webp"}, {"gates": "off"})]
    others += [
        hashed(profile="amazon"),
        hashed(profile="google"),
        plan.models("bfloat16").current.config_hash,
    ]
    assert len({base, *others}) == 7
    assert hashed(format="png", quality=80) == hashed(format="png", quality=90)
    fewer = dataclasses.replace(plan.label_map, rules=plan.label_map.rules[:1])
    assert dataclasses.replace(plan, label_map=fewer).models("float32").current.config_hash != base
    # A setting that only trainings read must not cause new corrections.
    trained = dataclasses.replace(plan.label_map, cycle_groups=())
    assert dataclasses.replace(plan, label_map=trained).models("float32").current.config_hash == base


def test_the_description_is_for_people_and_json(config: CorrectionConfig) -> None:
    described = resolve(config).describe()
    assert described["catalog"] == list(config.catalog)
    assert described["defects"] == ["wrong_angle", "watermark", "non_white_background"]
    assert isinstance(resolve(config), Plan)


def test_a_detector_decides_outputs_and_must_speak_the_label_map_s_language(
    config: CorrectionConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without = resolve(config).models("float32").current.config_hash
    hashes = set()
    for name, labels in (("a", {"watermark": 1.0}), ("b", {"watermark": 2.0, "crease": 0.0})):
        detector = write_detector(tmp_path / name, labels)
        plan = resolve(dataclasses.replace(config, detector=str(detector)))
        hashes.add(plan.models("float32").current.config_hash)
        assert plan.describe()["detector_version"] == load_detector(detector).version
    assert len(hashes | {without}) == 3
    assert "names the detector's crease" in caplog.text
    strict = tmp_path / "strict.yaml"
    strict.write_text(LabelMap.default().to_yaml().replace("passthrough", "fail"))
    with pytest.raises(ConfigurationError, match=r"crease.*unknown_labels"):
        resolve(dataclasses.replace(config, detector=str(tmp_path / "b"), label_map=str(strict)))
    with pytest.raises(BundleError, match="--detector"):
        resolve(dataclasses.replace(config, detector=str(tmp_path / "bundle")))


def test_a_catalog_without_labels_needs_a_detector(config: CorrectionConfig, tmp_path: Path) -> None:
    schema = CATALOG.remove(CATALOG.get_field_index("labels"))
    write_catalog(tmp_path / "bare" / "a.parquet", rows(3), schema=schema)
    bare = dataclasses.replace(config, catalog=(str(tmp_path / "bare"),))
    with pytest.raises(ConfigurationError, match="--detector finds them"):
        resolve(bare)
    detector = write_detector(tmp_path / "detector", {"watermark": 1.0})
    assert resolve(dataclasses.replace(bare, detector=str(detector))).listing.rows == 3


def test_a_gate_that_would_never_be_asked_is_told(
    config: CorrectionConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ask.yaml").write_text("{version: 1, defect_remains: {watermark: 0.9}}")
    asking = dataclasses.replace(config, gates=str(tmp_path / "ask.yaml"))
    resolve(asking)
    assert "defect_remains needs --gate-detector" in caplog.text
    detector = str(write_detector(tmp_path / "detector", {"watermark": 1.0}))
    assert resolve(dataclasses.replace(asking, gate_detector=detector)).delivery.detector is not None
    assert "used for no defect" not in caplog.text
    assert resolve(dataclasses.replace(config, gate_detector=detector)).delivery.detector is None
    assert "used for no defect" in caplog.text


def test_format_and_quality_are_the_flags_or_the_profiles_or_ours(config: CorrectionConfig) -> None:
    def chosen(**changes: Any) -> tuple[str, int]:
        delivery = resolve(dataclasses.replace(config, **changes)).delivery
        return delivery.format, delivery.quality

    assert chosen() == ("jpeg", 92)
    assert chosen(profile="amazon") == ("jpeg", 95)
    assert chosen(profile="google", format="webp", quality=70) == ("webp", 70)
    with pytest.raises(ConfigurationError, match="--format webp: --profile amazon accepts jpeg, png"):
        chosen(profile="amazon", format="webp")
    with pytest.raises(ConfigurationError, match="--profile"):
        chosen(profile="nowhere")


def test_the_gates_detector_is_its_own_or_the_labelling_one(config: CorrectionConfig, tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text("{version: 1, defect_remains: {watermark: 0.9}}")
    first, second = (write_detector(tmp_path / name, {"watermark": score}) for score, name in enumerate("ab"))

    def gate(**changes: Any) -> tuple[str, str] | None:
        detector = resolve(dataclasses.replace(config, **changes)).delivery.detector
        return None if detector is None else (detector.uri, detector.version)

    asked = {"gates": str(tmp_path / "gates.yaml")}
    assert gate(**asked) is None
    assert gate(**asked, detector=str(first)) == (str(first), load_detector(first).version)
    assert gate(**asked, detector=str(first), gate_detector=str(second)) == (
        str(second),
        load_detector(second).version,
    )
    assert gate(detector=str(first)) is None  # its bundle has no figures of clean images
    with pytest.raises(ConfigurationError, match="--gate-detector"):
        gate(gate_detector=str(first), gates="off")
    with pytest.raises(ConfigurationError, match="--gate-detector"):
        gate(**asked, gate_detector=str(tmp_path / "gone"))


@pytest.mark.parametrize("setting", ["catalog", "output", "model", "label_map", "detector", "reference"])
@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_storage_that_refuses_is_named_with_its_flag_before_any_work(
    config: CorrectionConfig,
    s3_folder: str,
    setting: str,
    variables: dict[str, str | None],
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(s3, "IMPATIENCE", 0.3)
    uri = (s3_folder,) if setting == "catalog" else s3_folder
    wrong = dataclasses.replace(config, **{setting: uri})  # type: ignore[arg-type]
    with s3_environment(**variables), storage.impatient(), pytest.raises(ConfigurationError) as caught:
        resolve(wrong)
    assert str(caught.value).startswith(f"--{setting.replace('_', '-')}")
    assert remedy in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_canary_must_be_able_to_take_the_current_bundles_place(
    config: CorrectionConfig, tmp_path: Path
) -> None:
    def with_canary(folder: str, **changes: Any) -> Plan:
        return resolve(dataclasses.replace(config, canary=str(tmp_path / folder), **changes))

    write_bundle(tmp_path / "new", seed=1, side=48)
    models = with_canary("new").models("float32")
    promoted = resolve(dataclasses.replace(config, model=str(tmp_path / "new"))).models("float32").current
    assert models.canary == dataclasses.replace(promoted, flag="--canary")
    assert models.current == resolve(config).models("float32").current

    with pytest.raises(ConfigurationError, match=r"--canary .* is the bundle of --model"):
        with_canary("bundle")
    text = LabelMap.default().to_yaml()
    write_bundle(tmp_path / "other", seed=2, label_map=text.replace("min_score: 0.5", "min_score: 0.4"))
    with pytest.raises(ConfigurationError, match=r"--canary .* another label map .* --label-map"):
        with_canary("other")
    (tmp_path / "map.yaml").write_text(text)
    assert with_canary("other", label_map=str(tmp_path / "map.yaml")).models("float32").canary is not None
    write_bundle(tmp_path / "renumbered", seed=3, label_map=text.replace("id: 2", "id: 7"))
    with pytest.raises(ConfigurationError, match=r"was trained with id 7 .*\(--canary\)"):
        with_canary("renumbered", label_map=str(tmp_path / "map.yaml"))
