"""Distorted copies: the same each time, unlike their originals, yet nearer to them than to other pictures."""

import cv2
import numpy as np

from retrieval.pixels.distort import distort


def pictures(num: int, side: int = 64) -> np.ndarray:
    """Coarse random colours, enlarged smoothly."""
    coarse = np.random.default_rng(0).integers(0, 256, (num, 5, 5, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC) for picture in coarse])


def test_the_same_for_the_same_seed_and_place():
    originals = pictures(6)
    copies = distort(originals, seed=3)
    assert copies.shape == originals.shape and copies.dtype == np.uint8
    np.testing.assert_array_equal(copies, distort(originals, seed=3))
    np.testing.assert_array_equal(copies[:4], distort(originals[:4], seed=3))
    assert all((copies[i] != distort(originals, seed=4)[i]).any() for i in range(6))
    twice = distort(np.repeat(originals[:1], 2, axis=0), seed=3)
    assert (twice[0] != twice[1]).any()


def test_originals_stay_as_they_are():
    originals = pictures(3)
    before = originals.copy()
    distort(originals)
    np.testing.assert_array_equal(originals, before)


def test_a_copy_is_changed_but_keeps_its_colours():
    hues = np.array([(200, 60, 60), (190, 190, 50), (60, 190, 60), (50, 180, 190), (60, 60, 200), (190, 60, 190)])
    texture = pictures(30).astype(float)[..., :1] - 128
    originals = (hues.repeat(5, axis=0)[:, None, None] + texture / 4).clip(0, 255).astype(np.uint8)
    copies = distort(originals)
    assert np.abs(copies.astype(float) - originals).mean(axis=(1, 2, 3)).min() > 3

    means = copies.mean(axis=(1, 2))
    chroma, chroma_of_hues = (colours - colours.mean(axis=1, keepdims=True) for colours in (means, hues))
    chroma_of_hues = chroma_of_hues / np.linalg.norm(chroma_of_hues, axis=1, keepdims=True)
    assert ((chroma @ chroma_of_hues.T).argmax(axis=1) == np.arange(6).repeat(5)).all()


def test_a_flat_grey_picture_changes_in_brightness_alone():
    copies = distort(np.full((60, 64, 64, 3), 128, dtype=np.uint8))
    assert copies.std(axis=(1, 2)).max() < 3  # nothing but JPEG's rounding
    levels = copies.mean(axis=(1, 2, 3))
    rounding = 5
    assert 128 * 0.7 - rounding < levels.min() < 105 and 150 < levels.max() < 128 * 1.3 + rounding


def test_every_second_copy_is_mirrored():
    # Dark on the left: however it is cropped, a copy shows which way round it is.
    ramp = np.broadcast_to(np.linspace(40, 210, 64)[None, :, None], (64, 64, 3)).astype(np.uint8)
    copies = distort(np.broadcast_to(ramp, (200, 64, 64, 3)))
    is_mirrored = copies[:, :, :20].mean(axis=(1, 2, 3)) > copies[:, :, -20:].mean(axis=(1, 2, 3))
    assert 70 <= is_mirrored.sum() <= 130
