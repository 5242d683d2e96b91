"""Augmentation: pictures stay pictures, and each way of changing complexity does what it says."""

import pytest
import torch
from torch import nn

from retrieval.augment import (
    Augment,
    AugmentConfig,
    blur,
    clutter,
    flatten_colours,
    mosaic,
    paste_pieces,
    plain_background,
)
from retrieval.errors import UsageError

WAYS = (clutter, mosaic, paste_pieces, blur, flatten_colours, plain_background)
SIDE = 48
SEEDS = range(8)


def noise(num: int = 3) -> torch.Tensor:
    return torch.rand(num, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def grey(level: float, num: int = 3) -> torch.Tensor:
    return torch.full((num, 3, SIDE, SIDE), level)


def others_of(levels: tuple[float, ...], num: int = 3) -> torch.Tensor:
    """(num, 4, 3, SIDE, SIDE): four flat pictures for each."""
    return torch.stack([grey(level, num) for level in levels], dim=1)


def roughness(pictures: torch.Tensor) -> float:
    """Energy of the differences between neighbours."""
    return float(pictures.diff(dim=2).square().mean() + pictures.diff(dim=3).square().mean())


def share_of(pictures: torch.Tensor, level: float) -> float:
    return float(((pictures - level).abs() < 1e-4).float().mean())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_way_gives_pictures_and_leaves_its_input_alone(way, seed):
    torch.manual_seed(seed)
    pictures, others = noise(), torch.rand(3, 4, 3, SIDE, SIDE)
    before = pictures.clone(), others.clone()
    changed = way(pictures, others)
    assert changed.shape == pictures.shape and changed.min() >= 0 and changed.max() <= 1 + 1e-6
    assert not torch.equal(changed, pictures)
    assert torch.equal(pictures, before[0]) and torch.equal(others, before[1])


@pytest.mark.parametrize("way", (clutter, mosaic, paste_pieces), ids=lambda way: way.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_richer_pictures_keep_the_main_one_the_largest(way, seed):
    torch.manual_seed(seed)
    levels = (0.1, 0.2, 0.3, 0.4)
    changed = way(grey(0.9), others_of(levels))
    shares = [share_of(changed, level) for level in levels]
    main = share_of(changed, 0.9)
    assert main > 0.4 and 0 < max(shares) < main
    assert main + sum(shares) == pytest.approx(1, abs=0.02)
    assert roughness(changed) > roughness(grey(0.9))


def test_clutter_puts_four_small_pictures_into_the_corners():
    changed = clutter(grey(0.9), others_of((0.1, 0.2, 0.3, 0.4)))
    corners = [changed[0, 0, row, column].item() for row in (0, -1) for column in (0, -1)]
    assert corners == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert share_of(changed, 0.9) == pytest.approx(1 - 4 * (SIDE // 5) ** 2 / SIDE**2)
    # A corner holds the whole of the other picture, and each picture gets its own others.
    others = others_of((0.1, 0.2, 0.3, 0.4))
    others[1, 0, :, :, SIDE // 2 :] = 0.7
    own = clutter(grey(0.9), others)
    assert share_of(own[1], 0.7) > 0 and share_of(own[0], 0.7) == 0


def test_mosaic_has_the_whole_picture_at_two_thirds():
    ramp = torch.linspace(0.5, 1, SIDE).expand(1, 3, SIDE, SIDE)
    changed = mosaic(ramp, others_of((0.1, 0.2, 0.3, 0.4), 1))
    main = changed[0, :, : SIDE * 2 // 3, : SIDE * 2 // 3]
    assert main[..., 0].mean() == pytest.approx(0.5, abs=0.02) and main[..., -1].mean() == pytest.approx(1, abs=0.02)
    assert (changed[0, :, SIDE * 2 // 3 :] < 0.45).all() and (changed[0, :, :, SIDE * 2 // 3 :] < 0.45).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pasted_strip_covers_a_fifth_to_a_third(seed):
    torch.manual_seed(seed)
    changed = paste_pieces(grey(0.9), others_of((0.1, 0.2, 0.3, 0.4)))
    assert SIDE // 5 / SIDE - 1e-6 <= share_of(changed, 0.1) <= 1 / 3 + 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_blur_takes_fine_detail_and_leaves_the_mean(seed):
    torch.manual_seed(seed)
    blurred = blur(noise(), noise()[:, None])
    assert roughness(blurred) < 0.75 * roughness(noise())
    torch.testing.assert_close(blurred.mean((2, 3)), noise().mean((2, 3)), rtol=0, atol=0.02)
    torch.testing.assert_close(blur(grey(0.3), grey(0.3)[:, None]), grey(0.3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_flat_colours_have_few_levels(seed):
    torch.manual_seed(seed)
    ramp = torch.linspace(0, 1, SIDE).expand(2, 3, SIDE, SIDE)
    flat = flatten_colours(ramp, ramp[:, None])
    assert 4 <= len(flat.unique()) <= 6 and len(ramp.unique()) == SIDE
    torch.testing.assert_close(flat, ramp, rtol=0, atol=0.5 / 3 + 0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plain_background_is_one_flat_colour_of_its_own(seed):
    torch.manual_seed(seed)
    changed = plain_background(noise(), noise()[:, None])
    colours = []
    for picture in changed:
        # Wherever the picture was put, one of the corners is background; the picture is noise and has no such colour.
        corners = [picture[:, row, column] for row in (0, -1) for column in (0, -1)]
        shares = [float((picture == corner[:, None, None]).all(0).float().mean()) for corner in corners]
        assert 1 - 0.8**2 - 1e-6 <= max(shares) <= 1 - 0.47**2
        colours.append(corners[shares.index(max(shares))])
    assert not torch.equal(colours[0], colours[1])
    assert roughness(changed) < roughness(noise())


@pytest.mark.parametrize("vary_complexity", [0.0, 0.5, 1.0])
def test_pictures_in_pictures_out(vary_complexity):
    augment = Augment(SIDE, AugmentConfig(vary_complexity=vary_complexity))
    torch.manual_seed(0)
    pictures = torch.rand(24, 3, 70, 60)
    before = pictures.clone()
    views = augment(pictures)
    assert views.shape == (24, 3, SIDE, SIDE) and views.dtype == torch.float32
    assert views.min() >= 0 and views.max() <= 1 and views.isfinite().all() and not views.requires_grad
    assert torch.equal(pictures, before)
    assert views.flatten(1).unique(dim=0).shape[0] == 24


def test_the_seed_decides():
    augment, pictures = Augment(SIDE, AugmentConfig(vary_complexity=0.5)), torch.rand(16, 3, 64, 64)
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(augment(pictures))
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


def test_without_varied_complexity_only_the_standard_changes_are_made(monkeypatch):
    calls = []
    spies = tuple(
        lambda pictures, others, way=way: calls.append((way, len(pictures), others.shape[1])) or pictures
        for way in WAYS
    )
    monkeypatch.setattr("retrieval.augment.RICHER", spies[:3])
    monkeypatch.setattr("retrieval.augment.PLAINER", spies[3:])
    plain = Augment(SIDE, AugmentConfig(vary_complexity=0.0))
    plain(noise(64))
    assert not calls
    plain.standard = nn.Identity()
    assert torch.equal(plain(noise(64)), noise(64))
    torch.manual_seed(0)
    Augment(SIDE, AugmentConfig(vary_complexity=1.0))(noise(64))
    assert {way for way, _, _ in calls} == set(WAYS) and sum(num for _, num, _ in calls) == 64
    assert {num_others for _, _, num_others in calls} == {4}


def test_the_share_of_changed_pictures():
    augment = Augment(SIDE, AugmentConfig(vary_complexity=0.3))
    augment.standard = nn.Identity()
    torch.manual_seed(0)
    pictures = noise(400)
    changed = (augment(pictures) != pictures).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_area": 0.0}, r"^expected min_area in \(0, 1\], got 0.0$"),
        ({"min_area": 1.2}, r"^expected min_area in \(0, 1\], got 1.2$"),
        ({"vary_complexity": 1.5}, r"^expected vary_complexity in \[0, 1\], got 1.5$"),
        ({"vary_complexity": -0.1}, r"^expected vary_complexity in \[0, 1\], got -0.1$"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UsageError, match=message):
        AugmentConfig(**settings)
