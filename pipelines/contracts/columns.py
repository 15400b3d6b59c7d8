"""Columns of images and of text, however a table stores them."""

import pyarrow as pa
import pyarrow.compute as pc


def image_columns(table: pa.Table) -> tuple[pa.ChunkedArray | pa.Array, pa.ChunkedArray | None]:
    """Column `image` as binary, and the paths where it is struct{bytes, path}."""
    if "image" not in table.column_names:
        return pa.nulls(table.num_rows, pa.binary()), None
    image = table.column("image")
    if not pa.types.is_struct(image.type):
        return image.cast(pa.binary()), None
    names = {field.name for field in image.type}
    path = pc.struct_field(image, "path").cast(pa.string()) if "path" in names else None
    return pc.struct_field(image, "bytes").cast(pa.binary()), path


def is_image(kind: pa.DataType) -> bool:
    """True for binary, and for struct with binary `bytes`."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def is_text(kind: pa.DataType) -> bool:
    """True for strings however they are stored, and for a column that is null throughout."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(value)
        or pa.types.is_large_string(value)
        or pa.types.is_string_view(value)
        or pa.types.is_null(value)
    )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_null(kind)
    )
