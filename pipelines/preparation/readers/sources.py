"""All sources of a preparation, as one stream of entries."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.names import choices, not_in_label_map
from pipelines.preparation.entries import Entry
from pipelines.preparation.readers.base import Notes, Reader
from pipelines.preparation.readers.folders import ImageFolder
from pipelines.preparation.readers.public import PublicReader
from pipelines.preparation.readers.public_facts import BENCHMARKS, datasets_of
from pipelines.preparation.readers.public_facts import label_map as label_map_of
from pipelines.preparation.readers.sources_file import read_sources
from pipelines.preparation.readers.table_files import holds_tables
from pipelines.preparation.readers.tables import TableReader


@dataclass(frozen=True)
class Sources:
    """The sources to read; made by `open_sources`."""

    readers: tuple[Reader, ...]
    #: The benchmark's own label map; None if the caller numbers the defects.
    label_map: LabelMap | None = None
    _notes: Notes = field(default_factory=Notes)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, reader by reader, in an order that depends on the data alone.

        Repeated ids are yielded again; the plan counts them. In memory are the names of one folder or, for the public
        datasets, an id and a hash per image. Raises ConfigurationError for faults in the sources.
        """
        for reader in self.readers:
            yield from reader.entries(self._notes)

    def check_defects(self, known: Collection[str]) -> None:
        """Raise ConfigurationError if a reader's settings name a defect that is not among `known`.

        Defects that rows name are checked when they are listed.
        """
        for reader in self.readers:
            for name in _named_defects(reader):
                if name not in known:
                    raise ConfigurationError(
                        f"{reader.name}: {not_in_label_map('defect', name, known)}; correct it, or add it there "
                        "(--label-map)"
                    )

    def describe(self) -> dict[str, Any]:
        """Describe the sources for --dry-run, with counts if they are cheap."""
        return {"sources": [reader.describe() for reader in self.readers]}

    def notes(self) -> list[str]:
        """Return the discrepancies that `entries` has noted so far; they are logged too."""
        return self._notes.all()


def open_sources(photos: Sequence[str], benchmark: tuple[str, str] | None, sources: str | None) -> Sources:
    """Return the sources that a command line names, after cheap checks.

    photos: URIs of tables or of image folders, from `--photos`. benchmark: name and root folder, from `--benchmark` and
    `--root`. sources: a YAML file, from `--sources` (see `sources_file`). Raises ConfigurationError if a source is
    absent, empty or unfit, and for a benchmark beside other sources, since it numbers its defects itself.
    """
    if benchmark is not None and (photos or sources):
        raise ConfigurationError(
            "--benchmark has its own label map and cannot be combined; leave out --photos and --sources, or add the "
            "dataset to a file of --sources as reader: public"
        )
    if benchmark is not None:
        return _open_benchmark(*benchmark)
    if len({storage.absolute(uri).rstrip("/") for uri in photos}) < len(photos):
        raise ConfigurationError("--photos: the same URI is given twice; give each once")
    readers = [_photos_reader(uri) for uri in photos]
    if sources is not None:
        readers += read_sources(sources)
    if not readers:
        raise ConfigurationError("nothing to read; give --photos, --benchmark or --sources")
    for reader in readers:
        reader.check()
    return Sources(tuple(readers))


def _named_defects(reader: Reader) -> tuple[str, ...]:
    """Return the defects that a reader's settings name."""
    if isinstance(reader, PublicReader):
        return tuple(dataset.name for dataset in reader.datasets)
    defect: str | None = getattr(reader, "defect", None)
    return () if defect is None else (defect,)


def _photos_reader(uri: str) -> Reader:
    flag = "--photos"
    return TableReader(flag, uri) if holds_tables(uri, flag) else ImageFolder(flag, uri)


def _open_benchmark(name: str, root: str) -> Sources:
    datasets = datasets_of(name)
    if not datasets:
        raise ConfigurationError(
            f"--benchmark: unknown benchmark {name!r}; {choices(name, BENCHMARKS, 'choose one of')}"
        )
    reader = PublicReader("--root", root, datasets)
    reader.check()
    return Sources((reader,), label_map_of(datasets))
