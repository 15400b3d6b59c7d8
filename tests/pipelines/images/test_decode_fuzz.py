"""A few hundred inputs of the fuzz run (`make fuzz` runs 20,000)."""

from pipelines.images.decode import DecodeLimits
from tests.fuzz import fuzz, inputs, seeds


def test_damaged_files_give_pixels_or_a_code_and_do_no_harm() -> None:
    files = seeds()
    outcome = fuzz(inputs(files, 400), DecodeLimits())
    assert not outcome.bad
    assert outcome.codes.total() == 400
    # The damage is neither so slight that all files pass nor so heavy that none does.
    assert outcome.codes["decoded"] > 40
    assert outcome.codes["corrupt"] > 40
    assert outcome.codes["truncated"] > 40


def test_an_input_is_the_same_in_every_run() -> None:
    files = seeds()
    assert list(inputs(files, 30)) == list(inputs(files, 30))
    assert list(inputs(files, 30)) != list(inputs(files, 30, seed=1))
