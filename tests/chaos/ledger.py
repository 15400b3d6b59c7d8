"""The ledger compares every row of the catalog with an output, and the output with that of an undisturbed run."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.command import FLAGS_FILE
from pipelines import storage
from pipelines.contracts.schemas import CHANGES, STATUSES
from pipelines.images.decode import decode_image
from pipelines.published.erased import FILE as ERASED_FILE
from pipelines.published.layout import (
    CHANGES_FOLDER,
    MANIFEST,
    MANIFESTS_FOLDER,
    REPORT,
    RUN,
    RUNS_FOLDER,
    SUCCESS,
    RunFolder,
)
from pipelines.published.object_names import IMAGES
from tests.chaos.catalog import DrawnRow

#: Columns with times and locations, which may differ from an undisturbed run's. The keys depend on the output.
NOT_COMPARED = ("corrected_at", "row_key", "image_key")
#: Further such columns if catalog and output are on another storage than the undisturbed run's.
OF_STORAGE = ("error_message", "input_version")
#: Number of discrepancies of one kind that are named.
NAMED = 5
#: The parts of an output.
RESULTS = (
    IMAGES,
    MANIFEST,
    MANIFESTS_FOLDER,
    CHANGES_FOLDER,
    REPORT,
    RUN,
    RUNS_FOLDER,
    FLAGS_FILE,
    ERASED_FILE,
    SUCCESS,
)
#: Objects read at once, because each waits for storage.
_THREADS = 8


@dataclass
class Entry:
    """A scenario's line. Counts of discrepancies must be 0; otherwise there is a complaint. events: what was done."""

    scenario: str
    rows_in: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    files: int = 0  # that exist, decode, and have the manifest's hash
    duplicates: int = 0  # rows beyond the catalog's, by id
    lost: int = 0  # rows of the catalog that the manifest lacks
    wrong: int = 0  # rows whose outcome differs from the drawn one
    different: int = 0  # rows that differ from an undisturbed run's, hashes included
    bad_files: int = 0
    superseded: int = 0  # images that only a kept manifest names
    orphans: int = 0  # images that no manifest names
    leftovers: int = 0  # neither a result nor a record of the run
    complaints: list[str] = field(default_factory=list)  # the discrepancies, some of each kind by name
    events: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """True if there is no discrepancy."""
        return not self.complaints

    def complain(self, kind: str, names: Sequence[object]) -> int:
        """Note discrepancies and return their number."""
        if names:
            examples = "; ".join(str(name)[:300] for name in names[:NAMED])
            self.complaints.append(f"{len(names)} {kind}: {examples}")
        return len(names)


@dataclass(frozen=True)
class Content:
    """The content of an output: manifest rows, in order, normalised by `_comparable`."""

    rows: list[dict[str, Any]]


def audit(
    entry: Entry,
    drawn: Sequence[DrawnRow],
    root: str,
    output: str,
    undisturbed: Content | None = None,
    ignored: Sequence[str] = (),
    apart: Collection[str] = (),
) -> Content:
    """Fill the entry from the output; every discrepancy becomes one of its complaints.

    drawn: the catalog. root: URI above catalog and output. undisturbed: the expected content, or None for the
    undisturbed run itself. ignored: columns that may differ. apart: ids of rows that may differ.
    """
    manifest = read_manifest(output)
    entry.rows_in = len(drawn)
    entry.statuses = {status: sum(row["status"] == status for row in manifest) for status in STATUSES}
    _count(entry, drawn, manifest)
    entry.files = _check_files(entry, manifest)
    kept = _check_kept(entry, manifest, output)
    _check_locations(entry, {row["output_uri"] for row in manifest}, kept, output)
    _check_run(entry, output)
    _check_changes(entry, manifest, output)
    content = Content(sorted((_comparable(row, output, root) for row in manifest), key=_text))
    if undisturbed is not None:
        _compare(entry, *(_without(one, apart) for one in (content, undisturbed)), ignored)
    return content


def read_manifest(output: str, *kept: str) -> list[dict[str, Any]]:
    """Return all rows of the manifest, or of the one that was kept of a run."""
    rows: list[dict[str, Any]] = []
    folder = storage.join(output, MANIFESTS_FOLDER, *kept) if kept else storage.join(output, MANIFEST)
    for uri in storage.list_files(folder, ".parquet"):
        rows += pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist()
    return rows


def files_below(uri: str) -> list[str]:
    """Return the URIs of all files below `uri`, including hidden ones."""
    fs, path = storage.resolve(uri)
    return [storage.join(uri, name[len(path) :]) for name in fs.find(path)] if fs.exists(path) else []


def _count(entry: Entry, drawn: Sequence[DrawnRow], manifest: Sequence[Mapping[str, Any]]) -> None:
    wanted = Counter(one.row["image_id"] for one in drawn)
    actual = Counter(row["image_id"] for row in manifest)
    entry.duplicates = entry.complain("rows too many", [repr(name) for name in (actual - wanted).elements()])
    entry.lost = entry.complain("rows lost", [repr(name) for name in (wanted - actual).elements()])
    expected = Counter((one.row["image_id"], one.status, one.code) for one in drawn)
    became = Counter((row["image_id"], *_verdict(row)) for row in manifest)
    known = [key for key in (became - expected).elements() if key[0] in wanted]
    entry.wrong = entry.complain("rows with another status or code than drawn", known)


def _verdict(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return status and code as in a drawing, where rejected counts as corrected: only the generator decides that."""
    return ("corrected", None) if row["status"] == "rejected" else (row["status"], row["error_code"])


def _check_files(entry: Entry, manifest: Sequence[Mapping[str, Any]]) -> int:
    """Check that every corrected row's file exists, decodes and has the right hash; return how many do."""

    def fault(row: Mapping[str, Any]) -> str | None:
        try:
            data = storage.read_bytes(row["output_uri"])
            decode_image(data)
        except Exception as error:  # noqa: BLE001 (any fault of a file is reported)
            return f"{row['output_uri']}: {type(error).__name__}: {error}"
        if hashlib.sha256(data).hexdigest() != row["output_sha256"]:
            return f"{row['output_uri']}: not the manifest's hash"
        return None

    corrected = [row for row in manifest if row["status"] == "corrected"]
    with ThreadPoolExecutor(_THREADS) as pool:
        faults = [message for message in pool.map(fault, corrected) if message]
    entry.bad_files += entry.complain("files that are missing, broken or another image's", faults)
    named = [row for row in manifest if row["status"] != "corrected" and row["output_uri"] is not None]
    entry.complain("rows that name a file, and are not corrected", [row["image_id"] for row in named])
    return len(corrected) - len(faults)


def _check_kept(entry: Entry, manifest: Sequence[Mapping[str, Any]], output: str) -> set[str]:
    """Check that every kept manifest is true, and that the current one is among them; return the images they name."""
    run = json.loads(storage.read_bytes(storage.join(output, RUN)))["manifest_run"]
    kept = {name: read_manifest(output, name) for name in RunFolder(output).kept_manifests()}
    if sorted(map(_text, kept.get(run, ()))) != sorted(map(_text, manifest)):
        entry.complain("manifests that are not kept", [run])
    named: dict[str, Mapping[str, Any]] = {}
    for row in (row for name in kept for row in kept[name] if name != run):
        # One image, one content: a later manifest that names it must mean the same one.
        if row["output_uri"] is not None:
            named.setdefault(f"{row['output_uri']} {row['output_sha256']}", row)
    _check_files(entry, [*named.values()])
    return {row["output_uri"] for row in named.values()}


def _check_locations(entry: Entry, named: set[str], kept: set[str], output: str) -> None:
    """Check that the output contains nothing but results. kept: images that earlier manifests name."""
    images, folders = (
        storage.join(output, IMAGES) + "/",
        tuple(storage.join(output, name) for name in RESULTS),
    )
    hidden, orphans = [], []
    for uri in files_below(output):
        inside = uri[len(output) :].strip("/")
        parts = inside.split("/")
        if any(part.startswith(".") for part in parts) or inside.endswith(".part"):
            hidden.append(inside)
        elif uri.startswith(images) and uri not in named:
            if uri in kept:
                entry.superseded += 1
            else:
                orphans.append(inside)
        elif not any(uri == folder or uri.startswith(folder + "/") for folder in folders):
            hidden.append(inside)
    entry.orphans = entry.complain("images that no manifest names", orphans)
    entry.leftovers = entry.complain("files left over", hidden)


def _check_run(entry: Entry, output: str) -> None:
    """Check that `_SUCCESS` and run.json agree with the manifest."""
    if not storage.exists(storage.join(output, SUCCESS)):
        entry.complain("markers missing", [SUCCESS])
    run = json.loads(storage.read_bytes(storage.join(output, RUN)))
    if run["state"] != "complete" or run["rows_in"] != entry.rows_in:
        entry.complain("records of the run that are wrong", [f"{run['state']}, {run['rows_in']} rows"])
    records = [
        json.loads(storage.read_bytes(uri)) for uri in storage.list_files(storage.join(output, RUNS_FOLDER))
    ]
    at_work = [record["run"] for record in records if record["state"] == "running"]
    entry.complain("records of runs that are said to work, and ended", at_work)


def _check_changes(entry: Entry, manifest: Sequence[Mapping[str, Any]], output: str) -> None:
    """Check that the changes of the last run agree with the manifest."""
    run = json.loads(storage.read_bytes(storage.join(output, RUN)))
    uri = storage.join(output, CHANGES_FOLDER, f"{run['run']}.parquet")
    if not storage.exists(uri):
        entry.complain("changes missing", [uri])
        return
    changes = pq.read_table(pa.BufferReader(storage.read_bytes(uri))).to_pylist()
    rows = {_text({name: row[name] for name in CHANGES.names if name != "change"}) for row in manifest}
    ids = {row["image_id"] for row in manifest}
    wrong = []
    for change in changes:
        kind = change.pop("change")
        if (change["image_id"] in ids) if kind == "removed" else (_text(change) not in rows):
            wrong.append(f"{kind} {change['image_id']!r}")
    entry.complain("changes that are not the manifest's", wrong)


def _comparable(row: Mapping[str, Any], output: str, root: str) -> dict[str, Any]:
    """Return a row without times, and with URIs relative to `output` and `root`."""
    return {
        name: value.replace(output, "OUTPUT").replace(root, "ROOT") if isinstance(value, str) else value
        for name, value in row.items()
        if name not in NOT_COMPARED
    }


def _text(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, default=str)


def _without(content: Content, ids: Collection[str]) -> Content:
    return Content([row for row in content.rows if row["image_id"] not in ids])


def _compare(entry: Entry, content: Content, undisturbed: Content, without: Sequence[str]) -> None:
    def texts(rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
        return Counter(_text({name: row[name] for name in row if name not in without}) for row in rows)

    other = [json.loads(text) for text in (texts(content.rows) - texts(undisturbed.rows)).elements()]
    expected = {row["image_id"]: row for row in undisturbed.rows}
    entry.different = entry.complain(
        "rows that are not the undisturbed run's",
        [f"{row['image_id']!r}: {_difference(row, expected.get(row['image_id'], {}))}" for row in other],
    )


def _difference(row: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value!r} for {expected.get(name)!r}"
        for name, value in row.items()
        if value != expected.get(name)
    )


def table(entries: Sequence[Entry]) -> str:
    """Return the ledger as text: a line per scenario, the sums, and the discrepancies."""
    header = ("scenario", "rows in", *STATUSES, "duplicates", "lost", "wrong", "different", "files verified")
    header += ("bad", "superseded", "orphans", "left over", "seconds")
    lines = [
        (
            *(entry.scenario, entry.rows_in, *(entry.statuses.get(status, 0) for status in STATUSES)),
            *(entry.duplicates, entry.lost, entry.wrong, entry.different, entry.files, entry.bad_files),
            *(entry.superseded, entry.orphans, entry.leftovers, round(entry.seconds)),
        )
        for entry in entries
    ]
    sums = ("total", *(sum(line[column] for line in lines) for column in range(1, len(header))))  # type: ignore[misc]
    cells = [[str(cell) for cell in line] for line in (header, *lines, sums)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    text = ["  ".join([c[0].ljust(widths[0]), *map(str.rjust, c[1:], widths[1:])]) for c in cells]
    text.insert(-1, "")
    for entry in entries:
        text += [f"{entry.scenario}: {complaint}" for complaint in entry.complaints]
    return "\n".join(text) + "\n"


def as_json(entries: Sequence[Entry]) -> str:
    """Return the ledger for programs, with the events of each scenario."""
    return json.dumps([{**asdict(entry), "clean": entry.clean} for entry in entries], indent=2) + "\n"
