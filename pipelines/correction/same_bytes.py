"""One image under several ids, or in several rows of one id: it is corrected once, and its correction is copied.

Who meets an image first claims it, in one small actor; the others wait as rows of FOLLOWER until everything is
corrected. The actor saves time and nothing hangs on it: what it forgets is corrected twice, to the same bytes. Only a
block that is made a second time after that could wait for a row that waits for it: hence the actor lives where the job
does, and no other node takes it along when it dies with its blocks.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from model.errors import RunError
from pipelines import storage
from pipelines.correction.keys import format_of, image_uri
from pipelines.correction.known import fetched, read_part
from pipelines.correction.parts import parquet_bytes, part_name, write_object
from pipelines.correction.row_keys import KeySet, key_of, to_keys
from pipelines.correction.rows import COPY, CORRECT, to_table
from pipelines.correction.run_folder import FOLLOWERS_FOLDER, RunFolder
from pipelines.correction.survey import route_name
from pipelines.correction.totals import summarise
from pipelines.parquet_units import StorageReadError
from pipelines.placement import Placement, tables
from pipelines.schemas import MANIFEST

if TYPE_CHECKING:  # it imports torch, and who only reads starts faster without
    from pipelines.correction.commit import CommitSettings

logger = logging.getLogger(__name__)

#: Images that are remembered, at some 200 bytes each.
_MOST = 5_000_000
#: Tasks that look for the corrected rows.
_TASKS = 64
#: What a row does not take over from the one with the same image.
_OWN = ("image_id", "source_uri", "product_type", "input_version", "row_key", "image_key")

#: Code of a row whose labels, not its image, are refused.
UNKNOWN_LABEL = "unknown_label"

_PART = pa.schema([("part", pa.string())])


def content_key(row: Mapping[str, Any], by_type: bool) -> bytes:
    """Of a row's image and what is to be done with it, whosever it is. by_type: a gate judges by the product's type."""
    product_type = row["product_type"] if by_type else None
    return key_of("content", row["input_sha256"] or "", product_type, *(row["defects"] or ()))


class Claims:
    """Which row was the first with an image. Runs in an actor."""

    def __init__(self, most: int = _MOST) -> None:
        """most: images to remember at least half of; beyond, the older half is forgotten."""
        self._first: dict[bytes, bytes] = {}
        self._older: dict[
            bytes, bytes
        ] = {}  # forgotten whole: one by one, each would be looked for among the gone
        self._half = max(1, most // 2)

    def claim(self, asked: list[tuple[bytes, bytes]]) -> list[bool]:
        """For each (`content_key`, row) whether that row is the first; it is again when it asks again."""
        answers = []
        for key, row in asked:
            first = self._older.get(key)
            answers.append((self._first.setdefault(key, row) if first is None else first) == row)
            if len(self._first) > self._half:
                self._older, self._first = self._first, {}
        return answers


def start_claims() -> "ActorHandle":
    """The actor of a run, on the driver's node; it ends when nobody refers to it any more."""
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3, scheduling_strategy=here)(Claims)
    handle: ActorHandle = actor.remote()
    return handle


def claim(claims: "ActorHandle | None", rows: Sequence[dict[str, Any]], by_type: bool) -> None:
    """Give rows of DECODED whose image another row has claimed the purpose COPY. by_type: see `content_key`."""
    asking = [
        row for row in rows if row["purpose"] == CORRECT and row["defects"] and row["error_code"] is None
    ]
    if claims is None or not asking:
        return
    questions = [(content_key(row, by_type), key_of(row["place"])) for row in asking]
    try:
        answers: list[bool] = ray.get(claims.claim.remote(questions))
    except RayError as error:
        logger.warning("images that occur twice are corrected twice: %s", error)
        return
    for row, is_first in zip(asking, answers, strict=True):
        if not is_first:
            row["purpose"] = COPY


def copy_followers(settings: "CommitSettings", placement: Placement) -> Iterator[dict[str, Any]]:
    """Rows of SUMMARY: writes images and journal of all followers. Raises what tasks raise."""
    followers = storage.list_files(RunFolder(settings.output).at(FOLLOWERS_FOLDER), ".parquet")
    if not followers:
        return
    journal = storage.list_files(settings.journal, ".parquet")
    step = -(-len(journal) // _TASKS)
    by_type = settings.by_type
    wanted: Any = _task(wanted_contents).remote(followers, by_type)
    found = [
        _task(find_first).remote(journal[at : at + step], wanted, by_type)
        for at in range(0, len(journal), step)
    ]
    first: Any = _task(merge_first).remote(by_type, *found)
    source = ray.data.from_arrow([pa.table({"part": [part]}, schema=_PART) for part in followers])
    for table in tables(placement.tasks(source, copy_parts, {"first": first, "settings": settings})):
        yield from table.to_pylist()


def wanted_contents(parts: Sequence[str], by_type: bool) -> KeySet:
    """Contents that rows of FOLLOWER wait for."""
    return KeySet(np.unique(np.concatenate([_contents(read_part(part), by_type) for part in parts])))


def find_first(parts: Sequence[str], wanted: KeySet, by_type: bool) -> pa.Table:
    """Manifest rows of the journal's parts that have one of the contents, and have claimed it."""
    found = [MANIFEST.empty_table()]
    for part in parts:
        rows = read_part(part)
        claimed = np.asarray(rows.column("error_code").fill_null("").to_numpy() != UNKNOWN_LABEL)
        found.append(rows.filter(pa.array(claimed & wanted.has(_contents(rows, by_type)))))
    return pa.concat_tables(found)


def merge_first(by_type: bool, *tables: pa.Table) -> tuple[KeySet, pa.Table]:
    """One row of each content, in the order of the keys."""
    rows = pa.concat_tables(tables)
    keys, places = np.unique(_contents(rows, by_type), return_index=True)
    return KeySet(keys), rows.take(pa.array(places))


def copy_parts(table: pa.Table, first: Any, settings: "CommitSettings") -> Iterator[pa.Table]:
    """Finish the rows of FOLLOWER parts: images, a part of the journal, and one row of SUMMARY each.

    Raises StorageReadError and StorageWriteError, and RunError where nobody has corrected an image.
    """
    keys, rows = fetched(first)
    for part in table.column("part").to_pylist():
        started = time.perf_counter()
        followers = read_part(part).to_pylist()
        finished = [_finish(follower, keys, rows, settings) for follower in followers]
        name = "copies-" + part_name(follower["place"] for follower in followers)
        write_object(storage.join(settings.journal, name), parquet_bytes(to_table(finished, MANIFEST)))
        seconds = {"commit_seconds": time.perf_counter() - started}
        routes = [route_name(tuple(row["defects"]), ()) for row in finished]
        yield summarise(finished, routes, seconds, copied=len(finished))


def _finish(
    follower: dict[str, Any], keys: KeySet, rows: pa.Table, settings: "CommitSettings"
) -> dict[str, Any]:
    key = to_keys([content_key(follower, settings.by_type)])
    if not keys.has(key)[0]:
        raise RunError(
            f"the image of {follower['image_id']!r} ({follower['place']}) was left to another row, and none has it; "
            "run again"
        )
    (found,) = rows.slice(int(np.searchsorted(keys.keys, key)[0]), 1).to_pylist()
    done: dict[str, Any] = {**found, **{name: follower[name] for name in _OWN}}
    if found["output_uri"] is not None:
        format = format_of(found["output_uri"])  # not the setting: PNG where JPEG would not stay white
        done["output_uri"] = image_uri(settings.output, done["defect"], done["image_id"], format)
        if done["output_uri"] != found["output_uri"]:
            try:
                data = storage.read_bytes(found["output_uri"])
            except storage.STORAGE_ERRORS as error:
                raise StorageReadError(f"cannot read {found['output_uri']}: {error}") from error
            write_object(done["output_uri"], data, settings.output)
    return done


def _contents(rows: pa.Table, by_type: bool) -> np.ndarray:
    told = rows.select(["input_sha256", "defects", "product_type"]).to_pylist()
    return to_keys([content_key(row, by_type) for row in told])


def _task(function: Any) -> Any:
    return ray.remote(num_cpus=0.5, retry_exceptions=True)(function)
