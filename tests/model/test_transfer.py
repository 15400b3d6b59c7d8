from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.bundle import STARTER, load_bundle
from model.errors import ConfigurationError
from model.generator import Generator, build_generator
from model.transfer import transfer_generator
from tests.model.builders import HEADS, images, labels, small_config, unsettle

SAME = {0: 0, 1: 1}
#: A label map with a group and two defects inserted before the others.
GROUPS, TYPES = {0: 1, 1: 2}, {0: 2, 1: 3, 2: 4}


def transferred(old: Generator, groups: dict[int, int], types: dict[int, int], **changes: Any) -> Generator:
    new = Generator(small_config(**changes))
    transfer_generator(old.state_dict(), old.config, new, groups, types)
    return new


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_old_labels_keep_their_answers_under_new_ids(head: str) -> None:
    old = unsettle(Generator(small_config(**HEADS[head])))
    changes = dict(HEADS[head])
    if "geometric_groups" in changes:
        changes["geometric_groups"] = (GROUPS[1],)
    new = transferred(old, GROUPS, TYPES, n_groups=3, n_types=5, **changes)
    batch, groups, types = images(4, 32), (0, 0, 1, 1), (0, 1, 2, 0)
    expected = old(batch, labels(*groups), labels(*types))
    actual = new(batch, labels(*(GROUPS[g] for g in groups)), labels(*(TYPES[t] for t in types)))
    assert torch.equal(actual, expected)


@torch.no_grad()
def test_new_labels_start_with_embeddings_of_their_own() -> None:
    old, fresh = Generator(small_config()), Generator(small_config(n_groups=3, n_types=5))
    initial: dict[str, Tensor] = {name: value.clone() for name, value in fresh.state_dict().items()}
    transfer_generator(old.state_dict(), old.config, fresh, GROUPS, TYPES)
    name = "inject_type.embedding.weight"
    weight = fresh.state_dict()[name]
    assert torch.equal(weight[:, :2], initial[name][:, :2])
    assert torch.equal(weight[:, 2:], old.state_dict()[name])
    assert torch.equal(fresh.encoder[0].weight, old.encoder[0].weight)


@torch.no_grad()
def test_an_added_geometry_head_starts_as_the_identity() -> None:
    """If a geometric defect is added later, nothing moves before training."""
    old = Generator(small_config(head="blend"))
    new = transferred(old, SAME, TYPES, n_types=5, **HEADS["geometry"])
    arguments = (images(2, 32), labels(0, 1))
    actual, expected = new(*arguments, labels(2, 3)), old(*arguments, labels(0, 1))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 8}, "width 4, this training 8"),
        ({"n_blocks": 3}, "n_blocks 2, this training 3"),
        ({"head": "blend"}, "head 'direct', this training 'blend'"),
        ({"reduce": "mean"}, "reduce 'sum'"),
        ({"n_groups": 0}, "group labels"),
        ({"n_types": 0}, "type labels"),
    ],
)
def test_a_differing_setting_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        transferred(Generator(small_config()), SAME, SAME, **changes)


def test_a_geometry_head_is_not_dropped() -> None:
    with pytest.raises(ConfigurationError, match="geometry head"):
        transferred(Generator(small_config(**HEADS["direct geometry"])), SAME, SAME)


@pytest.mark.parametrize("types", [{0: 3}, {3: 0}, {0: 1, 1: 1}, {-1: 0}])
def test_ids_outside_the_maps_or_twice_are_refused(types: dict[int, int]) -> None:
    with pytest.raises(ConfigurationError, match="type ids"):
        transferred(Generator(small_config()), SAME, types)


@torch.no_grad()
def test_the_starter_takes_a_fourth_defect_and_keeps_its_answers() -> None:
    old = load_bundle(STARTER).generator
    new = build_generator(replace(old.config, n_types=old.config.n_types + 1))
    kept = {index: index for index in range(old.config.n_types)}
    transfer_generator(old.state_dict(), old.config, new, {0: 0, 1: 1}, kept)
    arguments = (images(1, 64), labels(0), labels(1))
    assert torch.equal(new.eval()(*arguments), old(*arguments))
