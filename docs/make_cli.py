"""Write the generated parts of the documentation: docs/cli.md, and the table of error codes in docs/correct.md.

    python docs/make_cli.py            # write them
    python docs/make_cli.py --check    # exit code 1 where they are out of date

The text comes from the jobs' own parsers, so that the pages cannot differ from `--help`.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # `python docs/make_cli.py` has docs/ there, and not the project

JOBS = (
    "correct_catalog",
    "maintain_output",
    "prepare_dataset",
    "check_dataset",
    "train",
    "train_detector",
    "evaluate",
    "make_sample_catalog",
)
#: Width of the help texts in columns: that of the jobs' own descriptions.
COLUMNS = 120
COMMAND = "python docs/make_cli.py"
BEGIN = f"<!-- error codes: written by `{COMMAND}` -->"
END = "<!-- end of error codes -->"


def cli_page() -> str:
    """Return the text of docs/cli.md."""
    contents = "\n".join(f"- [`jobs/{job}.py`](#{job}py)" for job in JOBS)
    sections = "\n\n".join(f"## {job}.py\n\n```text\n{help_of(job)}\n```" for job in JOBS)
    return (
        "# Command line\n\n"
        f"The `--help` of every job. Written by `{COMMAND}`: change the parsers in `jobs/`, then run it again.\n\n"
        f"{contents}\n\n{sections}\n"
    )


def help_of(job: str) -> str:
    """Return a job's `--help` without its first paragraph, the usage, which Python's releases wrap differently."""
    os.environ["COLUMNS"] = str(COLUMNS)
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        importlib.import_module(f"jobs.{job}").main(["--help"])
    _, _, text = written.getvalue().partition("\n\n")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def code_tables() -> str:
    """Return the error codes of failed and of rejected rows as Markdown tables."""
    from pipelines.contracts.error_codes import FAILED, REJECTED

    return f"Rows that `failed`:\n\n{_table(FAILED)}\n\nRows that a gate `rejected`:\n\n{_table(REJECTED)}"


def with_codes(page: str) -> str:
    """Return the text of a page with the tables of error codes between its markers."""
    block = f"{BEGIN}\n\n{code_tables()}\n\n{END}"
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"the page must have {BEGIN!r} and {END!r} once")
    return pattern.sub(lambda _: block, page)


def _table(codes: Mapping[str, str]) -> str:
    rows = [f"| `{code}` | {meaning.replace('|', chr(92) + '|')} |" for code, meaning in codes.items()]
    return "\n".join(["| code | what is the matter |", "| --- | --- |", *rows])


def main() -> int:
    """Write the pages, or with --check compare them; returns the exit code."""
    correct = DOCS / "correct.md"
    pages = {DOCS / "cli.md": cli_page(), correct: with_codes(correct.read_text(encoding="utf-8"))}
    old = [
        path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        names = ", ".join(path.name for path in old)
        sys.stderr.write(f"out of date in docs/: {names}; run {COMMAND}\n" if old else "")
        return 1 if old else 0
    for path in old:
        path.write_text(pages[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
