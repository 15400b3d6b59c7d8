"""Provide what the command lines of all jobs share: flags, logging, exit codes, and errors without a traceback."""

import argparse
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from jobs import config_file
from model.errors import CatalogRepairError, ConfigurationError, TooManyFailedError
from pipelines import storage
from pipelines.cluster import autoscaling, logs, submission, termination
from pipelines.storage import lock

EXIT_OK = 0
EXIT_BROKEN_OFF = CatalogRepairError.exit_code
EXIT_USAGE = ConfigurationError.exit_code  # wrong command line or configuration; argparse uses the same code
EXIT_TOO_MANY_FAILED = TooManyFailedError.exit_code  # outputs are kept
EXIT_INTERRUPTED = 130  # by Ctrl-C, as shells count it
EXIT_TERMINATED = 143  # by SIGTERM
#: Seconds for what a job does at last after SIGTERM, when another run may have its lock already.
LAST_SECONDS = 5.0
#: How to continue a run that keeps what it has finished, for `run`.
CONTINUES = "the same command continues this run; leave out --overwrite once it has removed the earlier one"

#: Name of the file in a job's output that keeps its flags.
FLAGS_FILE = "flags.yaml"

#: Schemes that no job can write to, and why.
_NO_DESTINATIONS = {
    **dict.fromkeys(("http", "https"), "it can only be read"),
    "memory": "other processes cannot see it",
}

logger = logging.getLogger("jobs")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Print the description as written, and append its default to each flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Parse a command line and a file of flags (`config_file`).

    An error is one line that refers to --help. Abbreviated flags are refused.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.allow_abbrev = False
        config_file.add(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the flags of --config and then those of the command line, which win; see `ArgumentParser`."""
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(config_file.expand(self, words), namespace)

    def error(self, message: str) -> NoReturn:
        """Print `message` and exit with code 2."""
        self.exit(EXIT_USAGE, f"error: {message} (see {self.prog} --help)\n")


def add_data(p: argparse.ArgumentParser, several: str) -> None:
    """Add --data, the prepared datasets that a job reads. several: how the job uses more than one, for the help."""
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
    """Add --output, the folder that a job writes. content: what it will hold, for the help."""
    p.add_argument("--output", required=True, type=destination, metavar="URI", help=f"folder for {content}")


def add_fid_weights(p: Any) -> None:
    """Add --fid-weights, for a job that measures FID."""
    p.add_argument(
        "--fid-weights",
        type=location,
        metavar="URI",
        help="file with Inception weights (default: the one in the extra 'fid')",
    )


def add_dry_run(p: Any) -> None:
    """Add --dry-run, for a job that checks its inputs before it begins."""
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, print the resolved configuration and the plan, and do nothing",
    )


def add_autoscaling(group: Any) -> None:
    """Add --autoscaling, for a job whose work may need nodes that the cluster does not have yet."""
    group.add_argument(
        "--autoscaling",
        choices=autoscaling.CHOICES,
        default=autoscaling.AUTO,
        help="whether nodes are added to the cluster while work waits: yes waits for them, no refuses flags that ask "
        "for more than the cluster has; auto asks the cluster's head",
    )


def add_lock(group: Any) -> None:
    """Add --wait-for-lock and --break-lock, for a job that holds the lock of its output."""
    group.add_argument(
        "--wait-for-lock",
        type=not_negative,
        default=0,
        metavar="SECONDS",
        help="wait if another run is at work in OUTPUT: up to SECONDS for one that is alive, five minutes for one "
        "without heartbeats, whose lock is then taken over; 0 ends with exit code 2 at once",
    )
    group.add_argument(
        "--break-lock",
        action="store_true",
        help="take the lock of OUTPUT from a run that still seems active, if you know that it has ended; without this "
        "flag a dead run's lock is taken over at once on the same machine, and after five minutes on another",
    )


def positive(text: str) -> int:
    """Parse an argument: a whole number, at least 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """Parse an argument: a whole number, at least 0."""
    return _at_least(0, text)


def location(uri: str) -> str:
    """Parse an argument: a URI, but none in the working directory of a submitted job, which Ray removes afterwards."""
    if submission.goes_with_the_job(uri):
        raise argparse.ArgumentTypeError(
            f"{uri!r} lies in the copy of --working-dir that Ray unpacked for this job and removes afterwards; give an "
            "absolute path that all machines of the cluster share, or an s3:// URI"
        )
    return uri


def location_unless(is_name: Callable[[str], bool]) -> Callable[[str], str]:
    """Return an argument type: `location`, or one of the names that the flag also accepts."""
    return lambda text: text if is_name(text) else location(text)


def destination(uri: str) -> str:
    """Parse an argument: the URI of a folder for outputs, in a storage that can be written and shared."""
    scheme, separator, path = uri.partition("://")
    why = _NO_DESTINATIONS.get(scheme.lower()) if separator else None
    if why is not None:
        raise argparse.ArgumentTypeError(f"{uri!r}: {why}; give a local folder or an s3:// URI")
    if separator and not path.strip("/"):
        raise argparse.ArgumentTypeError(
            f"{uri!r} names no folder; give a local folder or s3://BUCKET/FOLDER"
        )
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
    """Run a job's `main(argv) -> exit code` as a process, and print errors as one line each.

    Exit code 2 for ConfigurationError, 3 for TooManyFailedError, 1 for all other errors, 130 after Ctrl-C, 143 after
    SIGTERM. LOG_LEVEL=DEBUG adds the traceback of an unexpected error.

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
        termination.leave_to_it()  # the error may only be an effect of Ray's shutdown after SIGTERM
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
    logger.debug("unexpected", exc_info=error)
    # Only the last line: an error of a Ray task begins with the worker's whole traceback.
    last = (str(error).strip().splitlines() or ["no message"])[-1]
    return f"unexpected {type(error).__name__}: {last}; run again with LOG_LEVEL=DEBUG for the traceback"


def _leave(code: int, words: str, act: Callable[[], object] = lambda: None) -> NoReturn:
    """Print a last line, call `act`, and end this process at once.

    A normal exit of Python would make Ray's threads report errors, and one of them would start Ray again. Ray's own
    processes end with this one.
    """
    with contextlib.suppress(OSError, AttributeError):  # the streams may be closed, or missing
        sys.stderr.write(logs.last_words(logging.WARNING, words) + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
    act()
    os._exit(code)


def _terminate(go_on: str) -> NoReturn:
    """Release the locks that this process holds, and end it while the main thread still works."""
    logging.disable()  # messages of the main thread from here on would mislead
    try:
        termination.act(last=False)
        failures = lock.release_all()
        _leave(
            EXIT_TERMINATED,
            "\n".join([*failures, f"terminated; {go_on}"]),
            partial(_bounded, partial(termination.act, last=True)),
        )
    finally:
        os._exit(EXIT_TERMINATED)


def _bounded(act: Callable[[], object]) -> None:
    """Call `act`, and wait for LAST_SECONDS at most: looking up a name has no limit of its own."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(LAST_SECONDS)


def exit_code(error: Exception) -> int:
    """Return the exit code of a job that ends with `error`."""
    return error.exit_code if isinstance(error, CatalogRepairError) else EXIT_BROKEN_OFF


def show_configuration(
    p: argparse.ArgumentParser, arguments: argparse.Namespace, configuration: Mapping[str, Any]
) -> None:
    """Write the resolved configuration as JSON to standard output. --config can read its key `flags`."""
    shown = {config_file.PART: config_file.flags(p, arguments), **configuration}
    sys.stdout.write(json.dumps(shown, indent=2, default=str, sort_keys=True) + "\n")
    sys.stdout.flush()


def keep_flags(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Write the flags to OUTPUT/flags.yaml, which --config reads.

    A file of that name that was not written by a job stays. A failure of the storage is only logged, because the job
    does not need the file.
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
        logger.warning("cannot write the flags to %s: %s", uri, error)
