import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.images import decode_apart as apart
from pipelines.images.decode import DecodeLimits, ImageError, decode_upload
from pipelines.images.decode_apart import DecoderStartError, decode_apart, decode_image_apart
from tests.hostile_images import drawing, encode, hostile_images, odd_images
from tests.poison import CODES, POISONOUS, poison

QUICK = DecodeLimits(max_seconds=0.3, max_pixels=1_000_000)
PATIENT = DecodeLimits(max_pixels=1_000_000)
PICTURE = encode(drawing(), "PNG")

# Test runners restore the warning filters after import.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Use no child of another test, whose environment may differ."""
    apart.end_children()
    yield
    apart.end_children()


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in POISONOUS.items():
        monkeypatch.setenv(name, value)


def _child() -> int:
    (child,) = apart._idle
    return child.pid


def code(data: bytes, limits: DecodeLimits) -> str:
    with pytest.raises(ImageError) as caught:
        decode_apart(data, limits)
    assert str(caught.value)
    return caught.value.code


def test_a_child_gives_the_same_results_and_is_reused() -> None:
    decode_image_apart(PICTURE)
    first = _child()
    for name, (data, _, _) in odd_images().items():
        for max_side in (None, 20):
            pixels, *rest = decode_apart(data, max_side=max_side)
            here, *rest_here = decode_upload(data, max_side=max_side)
            np.testing.assert_array_equal(pixels, here, err_msg=name)
            assert rest == rest_here
            assert pixels.flags.writeable
    assert {name: code(data, DecodeLimits()) for name, (data, _) in hostile_images().items()} == {
        name: expected for name, (_, expected) in hostile_images().items()
    }
    assert _child() == first


@pytest.mark.parametrize("kind", CODES)
def test_a_poison_image_fails_alone(kind: str, poisonous: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "asleep":  # only the clock detects this one
        monkeypatch.setattr(apart, "_CLOCK_GRACE", 0.2)
        monkeypatch.setattr(apart, "_CLOCK_FACTOR", 1.0)
    limits = QUICK if CODES[kind] == "decode_timeout" else PATIENT
    assert code(poison(kind), limits) == CODES[kind]
    monkeypatch.undo()
    np.testing.assert_array_equal(decode_image_apart(PICTURE), drawing())


def test_poison_is_a_normal_picture_without_the_test_hook() -> None:
    for kind in CODES:
        np.testing.assert_array_equal(decode_image_apart(poison(kind)), drawing())


def test_a_child_that_was_killed_while_it_waited_costs_nothing() -> None:
    decode_image_apart(PICTURE)
    os.kill(_child(), signal.SIGKILL)
    np.testing.assert_array_equal(decode_image_apart(PICTURE), drawing())


def test_threads_have_a_child_each() -> None:
    wrong = []
    pictures = [(drawing(40 + n, 30), encode(drawing(40 + n, 30), "PNG")) for n in range(8)]

    def work(part: int) -> None:
        for expected, data in pictures[part::2] * 5:
            if not np.array_equal(decode_image_apart(data), expected):
                wrong.append(part)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(apart._idle) <= 2


def test_the_child_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    decode_image_apart(PICTURE)
    environment = Path(f"/proc/{_child()}/environ")
    if not environment.exists():
        pytest.skip("no /proc on this system")
    assert b"very-secret" not in environment.read_bytes()


def test_a_machine_that_starts_no_process_is_not_an_images_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DecoderStartError):
        decode_image_apart(PICTURE)
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    with pytest.raises(DecoderStartError):
        decode_image_apart(PICTURE)


def test_the_output_of_a_child_that_does_not_start_is_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\nyes 'long before' | head -c 100000 >&2\necho no module named PIL >&2\nexit 3\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DecoderStartError) as caught:
        decode_image_apart(PICTURE)
    message = str(caught.value)
    assert platform.node() in message
    assert message.endswith("no module named PIL")
    assert "exit code 3" in message
    assert len(message) < 2048 + 200


def test_a_lower_memory_limit_of_the_parent_is_kept() -> None:
    script = (
        "import resource\n"
        "from pipelines.images.decode_apart import decode_apart\n"
        "from pipelines.images.decode import DecodeLimits\n"
        "from tests.hostile_images import drawing, encode\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "decode_apart(encode(drawing(), 'PNG'), DecodeLimits(max_pixels=1 << 30))\n"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)


@pytest.mark.parametrize("kind", ["idle", "endless"])
def test_a_child_ends_when_its_parent_is_killed(kind: str) -> None:
    """It ends both while it waits for work and while it is stuck in an image."""
    script = (
        "import sys, threading\n"
        "from pipelines.images import decode_apart as apart\n"
        "from pipelines.images.decode import DecodeLimits\n"
        "from tests.hostile_images import *\n"
        "from tests.poison import poison\n"
        "apart.decode_apart(encode(drawing(), 'PNG'))\n"
        "print(apart._idle[0].pid, flush=True)\n"
        "if sys.argv[1] == 'endless':\n"
        "    apart.decode_apart(poison('endless'), DecodeLimits(max_seconds=1))\n"
        "sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, kind],
        cwd=root,
        env={**os.environ, **POISONOUS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    """Return True if a process runs. A zombie, which only waits to be reaped, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
