"""The projection's correction: plain pictures in few numbers, and everything else where it was."""

import re

import pytest
import torch
import torch.nn.functional as F

from retrieval.errors import TrainingError, UsageError
from retrieval.nested_projection import NestedProjection
from retrieval.projection import fit_projection
from retrieval.training.concentrate import ConcentrateConfig, concentrate
from retrieval.training.nuisance import Copies

NUM_CHANNELS, TAIL_FROM = 24, 6
CONFIG = ConcentrateConfig(
    num_hidden=32,
    steps=150,
    batch_size=128,
    learning_rate=3e-3,
    lengths=(12.0, 24.0),
    plain_lengths=(4.0, 8.0),
    tail_from=TAIL_FROM,
)


def copies(kind: str, num: int, *, seed: int) -> Copies:
    """Crowded ones vary in every channel; plain ones in 5 directions that touch all. The last channel tells which."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "crowded":
        pooled = torch.randn(num, NUM_CHANNELS, generator=generator)
    else:
        directions = torch.randn(5, NUM_CHANNELS, generator=torch.Generator().manual_seed(99))
        pooled = torch.randn(num, 5, generator=generator) @ directions / 5**0.5
    pooled[:, -1] = (0.5 if kind == "crowded" else -0.5) + 0.3 * pooled[:, -1]
    return Copies(pooled, pooled + 0.3 * torch.randn(2, num, NUM_CHANNELS, generator=generator))


CROWDED, PLAIN = copies("crowded", 300, seed=0), copies("plain", 200, seed=1)


def fitted() -> NestedProjection:
    torch.manual_seed(0)
    projection = NestedProjection(NUM_CHANNELS, NUM_CHANNELS, num_hidden=CONFIG.num_hidden)
    fit_projection(projection, CROWDED.pooled)
    return projection


def embedded(projection: NestedProjection, pooled: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.normalize(projection(pooled), dim=-1)


def found(projection: NestedProjection, some: Copies, num_dims: int) -> float:
    """Share of distorted copies whose original is the nearest by the first numbers."""
    documents = F.normalize(embedded(projection, some.pooled)[:, :num_dims], dim=-1)
    nearest = (embedded(projection, some.distorted[0])[:, :num_dims] @ documents.T).argmax(1)
    return (nearest == torch.arange(len(nearest))).float().mean().item()


def test_plain_pictures_do_with_few_numbers_and_crowded_ones_stay():
    before, after = fitted(), fitted()
    concentrate(after, CROWDED, PLAIN, CONFIG)
    held_out = copies("plain", 200, seed=2)
    energy_before, energy_after = (
        embedded(projection, held_out.pooled)[:, :TAIL_FROM].square().sum(1).mean() for projection in (before, after)
    )
    assert energy_after > 2 * energy_before
    assert found(after, held_out, TAIL_FROM) > found(before, held_out, TAIL_FROM) + 0.1
    # Who is near whom among the crowded ones is what the linear map says.
    crowded_before, crowded_after = (embedded(projection, CROWDED.pooled) for projection in (before, after))
    agreement = torch.corrcoef(torch.stack([(e @ e.T).flatten() for e in (crowded_before, crowded_after)]))[0, 1]
    assert agreement > 0.8


def test_the_linear_map_stays_and_the_same_seed_teaches_the_same():
    before, first, second = fitted(), fitted(), fitted()
    for projection in (first, second):
        concentrate(projection, CROWDED, PLAIN, CONFIG, seed=3)
    assert torch.equal(first.weight, before.weight) and torch.equal(first.bias, before.bias)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_no_steps_leave_the_projection_as_it_was():
    projection = fitted()
    concentrate(projection, CROWDED, PLAIN, ConcentrateConfig(num_hidden=CONFIG.num_hidden, steps=0))
    assert torch.equal(embedded(projection, PLAIN.pooled), embedded(fitted(), PLAIN.pooled))


def test_a_loss_that_is_no_number_ends_the_stage():
    broken = Copies(PLAIN.pooled.clone(), PLAIN.distorted)
    broken.pooled[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="finite loss of the projection's correction, got nan at step 0; lower"):
        concentrate(fitted(), CROWDED, broken, CONFIG)


def test_fitting_axes_forgets_the_correction():
    projection = fitted()
    concentrate(projection, CROWDED, PLAIN, CONFIG)
    assert not torch.equal(embedded(projection, PLAIN.pooled), embedded(fitted(), PLAIN.pooled))
    fit_projection(projection, CROWDED.pooled)
    assert torch.equal(embedded(projection, PLAIN.pooled), embedded(fitted(), PLAIN.pooled))


def test_no_other_training_moves_the_correction():
    assert not any(parameter.requires_grad for parameter in fitted().correction.parameters())


@pytest.mark.parametrize(("num_plain", "num"), [(1, 48), (2_000, 48), (2_001, 47), (24_000, 4), (96_001, 2)])
def test_many_plain_pictures_are_copied_less_often(num_plain, num):
    assert ConcentrateConfig().num_copies_of_plain(num_plain) == num


def test_plain_pictures_are_never_copied_more_often_than_asked():
    assert ConcentrateConfig(num_copies=(4, 2)).num_copies_of_plain(24_000) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden": 0}, "expected num_hidden ≥ 1, steps ≥ 0"),
        ({"num_copies": (0, 1)}, "num_copies of at least 1, got 512, 1000, 1024, (0, 1)"),
        ({"temperature": 0.0}, "expected a learning_rate and a temperature above 0, got 0.001, 0.0"),
        ({"dropout": 1.0}, "expected a dropout of 0 or more and below 1, got 1.0"),
        ({"plain_lengths": (64.0, 32.0)}, "expected plain_lengths that rise from above 0, got 64.0, 32.0"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        ConcentrateConfig(**change)
