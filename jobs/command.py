"""What every job's command line shares: logging, exit codes, and errors without a traceback."""

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from jobs import config_file
from model.errors import CatalogRepairError, ConfigurationError, TooManyFailedError
from pipelines.cluster import logs, submission, termination
from pipelines.storage import lock
from pipelines.storage import objects as storage

EXIT_OK = 0
EXIT_BROKEN_OFF = CatalogRepairError.exit_code
EXIT_USAGE = ConfigurationError.exit_code  # wrong command line or configuration; argparse uses the same code
EXIT_TOO_MANY_FAILED = TooManyFailedError.exit_code  # outputs are kept
EXIT_INTERRUPTED = 130  # by Ctrl-C, as shells count it
EXIT_TERMINATED = 143  # by SIGTERM

#: What a job keeps of its command line in its output.
FLAGS_FILE = "flags.yaml"

#: Schemes that no job can write to, and why.
_NO_DESTINATIONS = {
    **dict.fromkeys(("http", "https"), "it can only be read"),
    "memory": "no other process would see it",
}

logger = logging.getLogger("jobs")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the description's examples as written and appends each flag's default, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line that ends with where to look next, that guesses no flag, and that
    takes flags from a file, too (`config_file`).
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.allow_abbrev = False
        config_file.add(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of the command line behind those of --config; as `ArgumentParser` has it."""
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(config_file.expand(self, words), namespace)

    def error(self, message: str) -> NoReturn:
        """Print `message` and exit with code 2."""
        self.exit(EXIT_USAGE, f"error: {message} (see {self.prog} --help)\n")


def add_data(p: argparse.ArgumentParser, several: str) -> None:
    """--data, the prepared datasets that a job reads; several: what becomes of more than one."""
    p.add_argument(
        "--data",
        nargs="+",
        action="extend",
        required=True,
        type=location,
        metavar="URI",
        help=f"what jobs/prepare_dataset.py wrote; several are {several}",
    )


def add_output(p: Any, content: str) -> None:
    """--output, the folder that a job writes; content: what it will hold."""
    p.add_argument("--output", required=True, type=destination, metavar="URI", help=f"folder for {content}")


def add_fid_weights(p: Any) -> None:
    """--fid-weights of a job that measures FID."""
    p.add_argument(
        "--fid-weights",
        type=location,
        metavar="PATH",
        help="Inception weights (default: those of the extra 'fid')",
    )


def add_dry_run(p: Any) -> None:
    """--dry-run of a job that checks all it can before it begins."""
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, print the resolved configuration and the plan, and do nothing",
    )


def add_lock(group: Any) -> None:
    """--wait-for-lock and --break-lock of a job that holds the lock of its output."""
    group.add_argument(
        "--wait-for-lock",
        type=not_negative,
        default=0,
        metavar="SECONDS",
        help="wait where another run is at work in OUTPUT: up to SECONDS for one that is alive, five minutes for one "
        "that gives no sign of life, whose lock is then taken over; 0 ends with exit code 2 at once",
    )
    group.add_argument(
        "--break-lock",
        action="store_true",
        help="take OUTPUT from a run that still seems to be at work there, when you know that it has ended; without it "
        "a dead run's lock is taken over at once on the same machine, elsewhere after five minutes",
    )


def positive(text: str) -> int:
    """An argument type: a whole number from 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """An argument type: a whole number from 0."""
    return _at_least(0, text)


def location(uri: str) -> str:
    """An argument type: a URI, not of a place that goes with a job that was submitted to a cluster."""
    if submission.goes_with_the_job(uri):
        raise argparse.ArgumentTypeError(
            f"{uri!r} lies in the copy of --working-dir that Ray unpacked for this job and removes after it; give an "
            "absolute path that all machines of the cluster share, or an s3:// URI"
        )
    return uri


def location_unless(is_name: Callable[[str], bool]) -> Callable[[str], str]:
    """An argument type: `location`, or one of the names that the flag takes as well."""
    return lambda text: text if is_name(text) else location(text)


def destination(uri: str) -> str:
    """An argument type: the URI of a folder for outputs, not in a place that is only read or that one process has."""
    scheme, separator, place = uri.partition("://")
    why = _NO_DESTINATIONS.get(scheme.lower()) if separator else None
    if why is not None:
        raise argparse.ArgumentTypeError(f"{uri!r}: {why}; give a local folder or an s3:// URI")
    if separator and not place.strip("/"):
        raise argparse.ArgumentTypeError(f"{uri!r} names no place; give a local folder or s3://BUCKET/FOLDER")
    return location(uri)


def _at_least(smallest: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = smallest - 1
    if value < smallest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {smallest} or more")
    return value


def run(main: Callable[[Sequence[str] | None], int], go_on: str = "give the same command again") -> NoReturn:
    """Run a job's `main(argv) -> exit code` as a process: our own errors become one line.

    Exit code 2 for ConfigurationError, 3 for TooManyFailedError, 1 for the others. An error that nobody foresaw is
    one line and exit code 1 too; LOG_LEVEL=DEBUG adds its traceback. Exit code 130 after Ctrl-C, 143 after SIGTERM.

    go_on: how to continue after Ctrl-C or SIGTERM, for the last line.
    """
    logging.basicConfig(
        level=os.environ.get("LOG_LEVEL", "INFO"),
        format="%(asctime)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    termination.end_at_sigterm(partial(_terminate, go_on))
    try:
        code = main(None)
        termination.too_late()
    except BaseException as error:
        termination.leave_to_it()  # an error may be what Ray's own end looks like from here
        if isinstance(error, KeyboardInterrupt):
            _leave(EXIT_INTERRUPTED, f"interrupted; {go_on}")
        if not isinstance(error, Exception):
            raise
        sys.stderr.write(logs.last_words(logging.ERROR, f"error: {explain(error)}") + "\n")
        code = exit_code(error)
    sys.exit(code)


def explain(error: Exception) -> str:
    """Return an error as one line for the person who reads the log."""
    if isinstance(error, CatalogRepairError):
        return str(error)
    # The last resort: a person reads this, not a program.
    logger.debug("unexpected", exc_info=error)
    # The last line: an error of a Ray task carries the worker's whole traceback before it.
    last = (str(error).strip().splitlines() or ["no message"])[-1]
    return f"unexpected {type(error).__name__}: {last}; run again with LOG_LEVEL=DEBUG for the traceback"


def _leave(code: int, words: str, act: Callable[[], object] = lambda: None) -> NoReturn:
    """End this process at once with a last line. act: called after the line.

    While Python tidies up, Ray's threads report errors of all kinds, and one starts Ray anew. Ray's own processes end
    with this one.
    """
    with contextlib.suppress(OSError, AttributeError):  # nobody listens any more, or ever did
        sys.stderr.write(logs.last_words(logging.WARNING, words) + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
    act()
    os._exit(code)


def _terminate(go_on: str) -> NoReturn:
    """Give back what this process holds, and end it, beside a main thread that is at work."""
    logging.disable()  # what the main thread says from here on misleads
    try:
        termination.act(last=False)
        left = lock.release_all()
        _leave(
            EXIT_TERMINATED,
            "\n".join([*left, f"terminated; {go_on}"]),
            partial(termination.act, last=True),
        )
    finally:
        os._exit(EXIT_TERMINATED)


def exit_code(error: Exception) -> int:
    """The code that a job ends with."""
    return error.exit_code if isinstance(error, CatalogRepairError) else EXIT_BROKEN_OFF


def show_configuration(
    p: argparse.ArgumentParser, arguments: argparse.Namespace, configuration: Mapping[str, Any]
) -> None:
    """Write the resolved configuration as JSON to standard output: for people, for scripts, and for --config, which
    reads its `flags`.
    """
    shown = {config_file.PART: config_file.flags(p, arguments), **configuration}
    sys.stdout.write(json.dumps(shown, indent=2, default=str, sort_keys=True) + "\n")
    sys.stdout.flush()


def keep_flags(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Write the flags to OUTPUT/flags.yaml, which --config reads.

    A file of that name that no job wrote stays. A storage that fails is logged: the flags are a convenience.
    """
    uri = storage.join(storage.absolute(arguments.output), FLAGS_FILE)
    try:
        with storage.impatient():
            if storage.exists(uri) and not storage.read_bytes(uri).startswith(
                config_file.FIRST_WORDS.encode()
            ):
                logger.warning("%s was not written by a job, and stays as it is", uri)
                return
            storage.write_bytes(uri, config_file.to_yaml(p, arguments).encode())
    except storage.STORAGE_ERRORS as error:
        logger.warning("the flags could not be kept in %s: %s", uri, error)
