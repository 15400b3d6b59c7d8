"""Reads columns of images and text, in any of the ways in which tables store them."""

import pyarrow as pa
import pyarrow.compute as pc


def image_columns(table: pa.Table) -> tuple[pa.ChunkedArray | pa.Array, pa.ChunkedArray | None]:
    """Return the column `image` as binary, and its paths if it is struct{bytes, path}, else None."""
    if "image" not in table.column_names:
        return pa.nulls(table.num_rows, pa.binary()), None
    image = table.column("image")
    if not pa.types.is_struct(image.type):
        return image.cast(pa.binary()), None
    names = {field.name for field in image.type}
    path = pc.struct_field(image, "path").cast(pa.string()) if "path" in names else None
    return pc.struct_field(image, "bytes").cast(pa.binary()), path


def is_image(kind: pa.DataType) -> bool:
    """Return True for binary, and for struct with binary `bytes`."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return True for every type of strings, and for a column of nulls only."""
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
