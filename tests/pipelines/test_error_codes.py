import ast
from pathlib import Path

from pipelines import decode, decode_process
from pipelines.allowed_uris import NOT_ALLOWED
from pipelines.correction import gates
from pipelines.correction.commit import UNEXPECTED
from pipelines.correction.correct import NOT_FINITE
from pipelines.correction.decode_rows import UNKNOWN_LABEL
from pipelines.correction.repeated import DUPLICATE_ID
from pipelines.dataset.listing import NAMELESS
from pipelines.error_codes import FAILED, REJECTED
from pipelines.storage_errors import error_code


def codes_in(source: Path) -> set[str]:
    """First arguments of ImageError(…) that are written out."""
    return {
        str(node.args[0].value)
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ImageError" and node.args
        if isinstance(node.args[0], ast.Constant)
    }


def test_the_table_has_every_code_that_is_raised(repository: Path) -> None:
    raised = {code for path in (repository / "pipelines").rglob("*.py") for code in codes_in(path)}
    raised |= {decode.OUT_OF_MEMORY, decode_process.CRASHED, decode_process.TIMEOUT, NOT_ALLOWED, UNEXPECTED}
    raised |= {NOT_FINITE, DUPLICATE_ID, UNKNOWN_LABEL, NAMELESS}
    raised |= {error_code(error) for error in (FileNotFoundError(), PermissionError(), OSError())}
    assert raised <= set(FAILED)
    assert set(REJECTED) == {
        gates.NEARLY_CONSTANT,
        gates.EMPTY_PRODUCT,
        gates.LOST,
        gates.HOLES,
        gates.NOT_WHITE,
        gates.CHANGED,
        gates.WEAK_OUTLINE,
        gates.REMAINS,
    }
