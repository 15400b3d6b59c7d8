"""Everything that one preparation reads, as one stream of entries."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.errors import ConfigurationError
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
from pipelines.storage import objects as storage


@dataclass(frozen=True)
class Sources:
    """What to read; made by `open_sources`."""

    readers: tuple[Reader, ...]
    #: The benchmarks' own; None: the defects are the caller's to number.
    label_map: LabelMap | None = None
    _notes: Notes = field(default_factory=Notes)

    def entries(self) -> Iterator[Entry]:
        """All entries, reader by reader, in an order that depends on the data alone.

        An id that comes twice is listed twice: the plan counts it. Memory: the names of one folder; for the public
        datasets an id and a hash per image. Raises ConfigurationError for what is found to be wrong on the way.
        """
        for reader in self.readers:
            yield from reader.entries(self._notes)

    def check_defects(self, known: Collection[str]) -> None:
        """Raise ConfigurationError for a defect that a reader's settings name and that is not among `known`.

        Those that rows name are looked at where they are listed.
        """
        for reader in self.readers:
            for name in _named_defects(reader):
                if name not in known:
                    raise ConfigurationError(
                        f"{reader.name}: {not_in_label_map('defect', name, known)}; mend the name, or add it there "
                        "(--label-map)"
                    )

    def describe(self) -> dict[str, Any]:
        """What is read, for --dry-run, with counts where they are cheap."""
        return {"sources": [reader.describe() for reader in self.readers]}

    def notes(self) -> list[str]:
        """Discrepancies found by `entries` so far; they are logged too."""
        return self._notes.all()


def open_sources(photos: Sequence[str], benchmark: tuple[str, str] | None, sources: str | None) -> Sources:
    """The sources that a command line names, looked at as far as that is cheap.

    photos: URIs of tables or of folders with images, of `--photos`. benchmark: name and root folder, of `--benchmark`
    and `--root`. sources: a YAML file of `--sources` (see `sources_file`). Raises ConfigurationError for anything that
    is absent, empty or unfit, and for a benchmark beside other sources, since it numbers its defects itself.
    """
    if benchmark is not None and (photos or sources):
        raise ConfigurationError(
            "--benchmark brings its own label map and stands alone; leave out --photos and --sources, or add the "
            "dataset to a file of --sources as reader: public"
        )
    if benchmark is not None:
        return _open_benchmark(*benchmark)
    if len({storage.absolute(uri).rstrip("/") for uri in photos}) < len(photos):
        raise ConfigurationError("--photos: the same place is named twice; name each once")
    readers = [_photos_reader(uri) for uri in photos]
    if sources is not None:
        readers += read_sources(sources)
    if not readers:
        raise ConfigurationError("nothing to read; give --photos, --benchmark or --sources")
    for reader in readers:
        reader.check()
    return Sources(tuple(readers))


def _named_defects(reader: Reader) -> tuple[str, ...]:
    """The defects that a reader's settings name."""
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
