"""The file of `--sources`: YAML that lists any mix of readers.

    version: 1
    sources:
      - {reader: photos, uri: s3://shop/uploads}                  # a folder of images, or tables
      - {reader: clean, uri: studio, product_type: shoes}         # product images without defects
      - {reader: table, uri: pairs.csv, defect: watermark, columns: {source_uri: x, target_uri: y}}
      - {reader: paired, source: marked, target: plain, defect: watermark, unmatched: error}
      - {reader: unpaired, source: tilted, target: upright, defect: wrong_angle}
      - {reader: products, uri: products.parquet, defect: wrong_angle, main: front}
      - {reader: public, dataset: edges2shoes, root: datasets}

Every item may have `id_prefix`, except public; a relative URI is relative to this file.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import Name
from pipelines.contracts.yaml_reader import StrictModel, Text, VersionedFile, YamlFile, context_of
from pipelines.preparation.readers import tables
from pipelines.preparation.readers.base import Reader
from pipelines.preparation.readers.folders import ImageFolder, PairedFolders, Unmatched, UnpairedFolders
from pipelines.preparation.readers.products import (
    IMAGES,
    MAIN,
    TEXT,
    WRONG_ANGLE,
    ProductFolders,
    ProductTable,
)
from pipelines.preparation.readers.public import PublicReader
from pipelines.preparation.readers.public_facts import DATASETS, datasets_of
from pipelines.preparation.readers.table_files import Columns, holds_tables
from pipelines.preparation.readers.tables import Ids, TableReader
from pipelines.preparation.unit.resolve import beside

_Settings = dict[str, Any]
#: Settings that only tables have.
_OF_TABLES = ("columns", "ids")


def read_sources(uri: str) -> list[Reader]:
    """Return the readers that the file at `uri` lists. Raises ConfigurationError with every complaint and its line."""
    with storage.as_configuration_error(uri, "--sources", "read"):
        text = storage.read_bytes(uri)
    file = YamlFile(text, uri)
    sources = file.parse(_File, {"file": storage.absolute(uri)}).sources
    flags = [f"{uri}, line {file.line('sources', index)}, sources[{index}]" for index in range(len(sources))]
    return [source.open(flag) for source, flag in zip(sources, flags, strict=True)]


def _absolute(uri: str, info: ValidationInfo) -> str:
    return uri if uri.startswith("~") else beside(context_of(info, "file"), uri)


def _known_columns(text: tuple[str, ...], images: tuple[str, ...]) -> AfterValidator:
    """Return a validator that refuses columns unknown to a reader."""

    def check(names: dict[str, str]) -> dict[str, str]:
        try:
            Columns(text, images, names)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return names

    return AfterValidator(check)


def _check_dataset(name: str) -> str:
    known = [dataset.name for dataset in DATASETS]
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}, not {name!r}")
    return name


_Uri = Annotated[Text, AfterValidator(_absolute)]
_Names = Annotated[dict[str, Text], Field(min_length=1)]
_TableColumns = Annotated[_Names, _known_columns(tables.TEXT, tables.IMAGES)]


class _Source(StrictModel):
    """One item of `sources`. Settings that are left out get the reader's defaults."""

    product_type: Text | None = None
    id_prefix: Text = ""

    @property
    def given(self) -> _Settings:
        """The settings that the file gives."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude={"reader"})


class _Photos(_Source):
    reader: Literal["photos", "clean"]
    uri: _Uri
    columns: _TableColumns | None = None
    ids: Ids = "auto"

    def open(self, flag: str) -> Reader:
        clean = self.reader == "clean"
        if holds_tables(self.uri, flag):
            return TableReader(flag, **self.given, clean=clean)
        return ImageFolder(flag, **_of_folder(self.given, flag), clean=clean)


class _Table(_Source):
    reader: Literal["table"]
    uri: _Uri
    defect: Name | None = None
    columns: _TableColumns | None = None
    ids: Ids = "auto"

    def open(self, flag: str) -> Reader:
        return TableReader(flag, **self.given)


class _Paired(_Source):
    reader: Literal["paired"]
    source: _Uri
    target: _Uri
    defect: Name
    unmatched: Unmatched = "unpaired"

    def open(self, flag: str) -> Reader:
        return PairedFolders(flag, **self.given)


class _Unpaired(_Source):
    reader: Literal["unpaired"]
    defect: Name
    source: _Uri | None = None
    target: _Uri | None = None

    def open(self, flag: str) -> Reader:
        return UnpairedFolders(flag, **{"source": None, "target": None, **self.given})


class _Products(_Source):
    reader: Literal["products"]
    uri: _Uri
    defect: Name = WRONG_ANGLE
    main: Text = MAIN
    columns: Annotated[_Names, _known_columns(TEXT, IMAGES)] | None = None

    def open(self, flag: str) -> Reader:
        if holds_tables(self.uri, flag):
            return ProductTable(flag, **self.given)
        return ProductFolders(flag, **_of_folder(self.given, flag))


class _Public(StrictModel):
    reader: Literal["public"]
    dataset: Annotated[Text, AfterValidator(_check_dataset)]
    root: _Uri

    def open(self, flag: str) -> Reader:
        return PublicReader(flag, self.root, datasets_of(self.dataset))


_AnySource = Annotated[
    _Photos | _Table | _Paired | _Unpaired | _Products | _Public, Field(discriminator="reader")
]


class _File(VersionedFile):
    sources: Annotated[tuple[_AnySource, ...], Field(min_length=1)]


def _of_folder(given: _Settings, flag: str) -> _Settings:
    """Return the settings for a folder of images. Raises ConfigurationError for those that only tables have."""
    for name in _OF_TABLES:
        if name in given:
            raise ConfigurationError(
                f"{flag}: {given['uri']} is a folder of images, and {name} is for tables; leave it out"
            )
    return {("root" if name == "uri" else name): value for name, value in given.items()}
