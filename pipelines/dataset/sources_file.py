"""The file of `--sources`: any mix of readers, as YAML.

    version: 1
    sources:
      - {reader: photos, uri: s3://shop/uploads}                  # a folder of images, or tables
      - {reader: clean, uri: studio, product_type: shoes}         # product images without defects
      - {reader: table, uri: pairs.csv, defect: watermark, columns: {source_uri: x, target_uri: y}}
      - {reader: paired, source: marked, target: plain, defect: watermark, unmatched: error}
      - {reader: unpaired, source: tilted, target: upright, defect: wrong_angle}
      - {reader: products, uri: products.parquet, defect: wrong_angle, main: front}
      - {reader: public, dataset: edges2shoes, root: datasets}

Every entry may have `id_prefix`, except public's; a relative URI is relative to this file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from yaml.nodes import MappingNode, Node

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.dataset.readers import tables
from pipelines.dataset.readers.base import Reader
from pipelines.dataset.readers.folders import ImageFolder, PairedFolders, Unmatched, UnpairedFolders
from pipelines.dataset.readers.products import IMAGES, TEXT, ProductFolders, ProductTable
from pipelines.dataset.readers.public import PublicReader
from pipelines.dataset.readers.public_facts import DATASETS, datasets_of
from pipelines.dataset.readers.table_files import Columns, holds_tables
from pipelines.dataset.readers.tables import Ids, TableReader
from pipelines.dataset.resolve import beside
from pipelines.label_map import is_name
from pipelines.yaml_reader import YamlReader

_Settings = dict[str, Any]
#: Settings of tables, which mean nothing for a folder of images.
_OF_TABLES = ("columns", "ids")


@dataclass(frozen=True)
class _Kind:
    """A reader by name: its keys, and what makes it of their values (`flag` among them)."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    make: Callable[[_Settings], Reader]
    columns: tuple[tuple[str, ...], tuple[str, ...]] = (tables.TEXT, tables.IMAGES)


def read_sources(uri: str) -> list[Reader]:
    """The readers that the file at `uri` names. Raises ConfigurationError with every complaint and its line."""
    with storage.as_configuration_error(uri, "--sources", "read"):
        text = storage.read_bytes(uri)
    reader = YamlReader(uri)
    top = reader.fields(reader.root(text), "", ("version", "sources"))
    if "version" in top and reader.integer(top["version"], "version") not in (None, 1):
        reader.complain(top["version"], "version", "this release reads version 1 only")
    empty = "must have at least one source"
    items = reader.items(top["sources"], "sources", empty) if "sources" in top else []
    found = [_Source(reader, uri, item, f"sources[{index}]").read() for index, item in enumerate(items)]
    reader.finish()
    return [kind.make(settings) for kind, settings in found if kind is not None]


class _Source:
    """One item of `sources` being read."""

    def __init__(self, reader: YamlReader, file: str, node: Node, key: str) -> None:
        self._reader, self._node, self._key = reader, node, key
        self._file = storage.absolute(file)
        self._flag = f"{file}, line {node.start_mark.line + 1}, {key}"

    def read(self) -> tuple[_Kind | None, _Settings]:
        """Its kind, None after a complaint that leaves it open, and the values of its keys."""
        key = f"{self._key}.reader"
        if not isinstance(self._node, MappingNode):
            self._reader.complain(self._node, self._key, "must be a mapping (key: value)")
            return None, {}
        entries = YamlReader(self._file).entries(self._node, self._key)  # complaints come with `fields` below
        if "reader" not in entries:
            self._reader.complain(self._node, key, f"is missing; one of {', '.join(_KINDS)}")
            return None, {}
        name = self._reader.text(entries["reader"], key)
        if name is None:
            return None, {}
        kind = _KINDS.get(name)
        if kind is None:
            self._reader.complain(
                entries["reader"], key, f"unknown reader {name!r}; one of {', '.join(_KINDS)}"
            )
            return None, {}
        fields = self._reader.fields(self._node, self._key, ("reader", *kind.required), kind.optional)
        settings = {
            field: self._value(field, node, kind) for field, node in fields.items() if field != "reader"
        }
        return kind, {"flag": self._flag, **settings}

    def _value(self, field: str, node: Node, kind: _Kind) -> Any:
        key = f"{self._key}.{field}"
        if field == "columns":
            return self._columns(node, key, kind)
        text = self._reader.text(node, key)
        if text is None:
            return None
        if field in ("uri", "source", "target", "root"):
            return text if text.startswith("~") else beside(self._file, text)
        if field == "defect" and not is_name(text):
            self._reader.complain(node, key, "a defect's name has 1 to 64 letters, digits, _ or -")
        choices = _CHOICES.get(field)
        if choices and text not in choices:
            self._reader.complain(node, key, f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    def _columns(self, node: Node, key: str, kind: _Kind) -> Mapping[str, str]:
        entries = self._reader.entries(node, key, empty="is empty; leave it out")
        names = {column: self._reader.text(value, f"{key}.{column}") for column, value in entries.items()}
        columns = {column: name for column, name in names.items() if name is not None}
        try:
            Columns(*kind.columns, columns)
        except ConfigurationError as error:
            self._reader.complain(node, key, str(error))
        return columns


def _photos(settings: _Settings, clean: bool = False) -> Reader:
    if holds_tables(settings["uri"], settings["flag"]):
        return TableReader(**settings, clean=clean)
    return ImageFolder(**_folder(settings), clean=clean)


def _products(settings: _Settings) -> Reader:
    if holds_tables(settings["uri"], settings["flag"]):
        return ProductTable(**settings)
    return ProductFolders(**_folder(settings))


def _folder(settings: _Settings) -> _Settings:
    """The settings for a folder of images. Raises ConfigurationError for those that only tables have."""
    for name in _OF_TABLES:
        if name in settings:
            raise ConfigurationError(
                f"{settings['flag']}: {settings['uri']} is a folder of images, and {name} is for tables; leave it out"
            )
    return {("root" if name == "uri" else name): value for name, value in settings.items()}


def _unpaired(settings: _Settings) -> Reader:
    return UnpairedFolders(**{"source": None, "target": None, **settings})


def _public(settings: _Settings) -> Reader:
    return PublicReader(settings["flag"], settings["root"], datasets_of(settings["dataset"]))


_ALL = ("product_type", "id_prefix")
_KINDS = {
    "photos": _Kind(("uri",), ("columns", "ids", *_ALL), _photos),
    "clean": _Kind(("uri",), ("columns", "ids", *_ALL), lambda settings: _photos(settings, clean=True)),
    "table": _Kind(("uri",), ("defect", "columns", "ids", *_ALL), lambda settings: TableReader(**settings)),
    "paired": _Kind(
        ("source", "target", "defect"), ("unmatched", *_ALL), lambda settings: PairedFolders(**settings)
    ),
    "unpaired": _Kind(("defect",), ("source", "target", *_ALL), _unpaired),
    "products": _Kind(("uri",), ("defect", "main", "columns", *_ALL), _products, (TEXT, IMAGES)),
    "public": _Kind(("dataset", "root"), (), _public),
}
_CHOICES = {
    "unmatched": get_args(Unmatched),
    "ids": get_args(Ids),
    "dataset": tuple(dataset.name for dataset in DATASETS),
}
