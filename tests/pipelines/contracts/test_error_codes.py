import ast
from pathlib import Path

from pipelines.contracts.error_codes import FAILED, REJECTED
from pipelines.correction.deliver import gates
from pipelines.correction.inspect.repeated import DUPLICATE_ID
from pipelines.correction.stream.commit import UNEXPECTED
from pipelines.correction.stream.decode import UNKNOWN_LABEL
from pipelines.correction.stream.generate import NOT_FINITE
from pipelines.images import decode
from pipelines.images import decode_apart as apart
from pipelines.images.allowed_uris import NOT_ALLOWED
from pipelines.preparation.plan.listing import NAMELESS
from pipelines.storage.errors import error_code


def codes_in(source: Path) -> set[str]:
    """Return the literal first arguments of ImageError(…) in a file."""
    return {
        str(node.args[0].value)
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ImageError" and node.args
        if isinstance(node.args[0], ast.Constant)
    }


def test_the_table_has_every_code_that_is_raised(repository: Path) -> None:
    raised = {code for path in (repository / "pipelines").rglob("*.py") for code in codes_in(path)}
    raised |= {decode.OUT_OF_MEMORY, apart.CRASHED, apart.TIMEOUT, NOT_ALLOWED, UNEXPECTED}
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
