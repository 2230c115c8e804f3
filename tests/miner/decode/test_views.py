"""What encoders see of a frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from miner.decode.image import decode_image
from miner.decode.views import MAX_TILES, Region, crop_views, min_side_for, regions
from miner.errors import BadInput, UnknownName
from tests.pictures import jpg, noise


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [(1600, 900, 2), (1242, 375, 4), (640, 480, 2), (2000, 1000, 2), (2001, 1000, 3), (900, 1600, 2), (1600, 100, 16)],
)
def test_number_of_tiles(width: int, height: int, tiles: int) -> None:
    assert len(regions(width, height, "tiles")) == tiles
    assert regions(width, height, "whole") == [None]
    assert regions(width, height, "whole+tiles") == [None, *regions(width, height, "tiles")]


@pytest.mark.parametrize(("width", "height"), [(500, 500), (550, 500), (500, 550), (1, 1)])
@pytest.mark.parametrize("views", ["whole", "tiles", "whole+tiles"])
def test_nearly_square_frames_are_one_view(width: int, height: int, views: str) -> None:
    assert regions(width, height, views) == [None]


@given(st.integers(1, 4000), st.integers(1, 4000))
@settings(deadline=None)
def test_tiles_cover_the_frame_with_squares(width: int, height: int) -> None:
    if max(width, height) > MAX_TILES * min(width, height):
        with pytest.raises(BadInput, match="not-a-frame"):
            regions(width, height, "tiles")
        assert regions(width, height, "whole") == [None]
        return
    tiles = regions(width, height, "tiles")
    if tiles == [None]:
        assert max(width, height) <= 1.1 * min(width, height)
        return
    boxes = [np.array(tile) * [width, height, width, height] for tile in tiles if tile is not None]
    starts = np.array([box[0 if width >= height else 1] for box in boxes])
    short, long = min(width, height), max(width, height)
    for box in boxes:
        np.testing.assert_allclose([box[2] - box[0], box[3] - box[1]], short, atol=1e-6)
    assert starts[0] == 0 and abs(starts[-1] + short - long) < 1e-6
    assert (np.diff(starts) <= short + 1e-6).all() and (np.diff(starts) > 0).all()
    assert np.ptp(np.diff(starts)) <= 1 + 1e-6 and len(tiles) == -(-long // short)


@pytest.mark.parametrize("views", ["whole", "tiles", "whole+tiles"])
@pytest.mark.parametrize(("width", "height"), [(65_536, 1), (1, 64_000_000), (65_536, 60_000)])
def test_no_camera_has_such_sides(views: str, width: int, height: int) -> None:
    with pytest.raises(BadInput, match="not-a-frame"):
        regions(width, height, views)


def test_unknown_views() -> None:
    with pytest.raises(UnknownName, match="whole"):
        regions(10, 10, "center")


def test_whole_at_its_own_size_is_the_frame() -> None:
    frame = noise(64, 64)
    np.testing.assert_array_equal(crop_views(frame, [None], 64)[0], frame)


def test_a_tile_at_its_own_size_is_the_crop() -> None:
    frame = noise(64, 128)
    views = crop_views(frame, regions(128, 64, "tiles"), 64)
    np.testing.assert_array_equal(views, [frame[:, :64], frame[:, 64:]])


def test_close_to_plain_antialiased_bicubic() -> None:
    frame = np.asarray(Image.fromarray(noise(90, 160)).resize((1600, 900), Image.Resampling.BICUBIC))
    found = crop_views(frame, [None], 224)[0].astype(float)
    plain = np.asarray(Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC)).astype(float)
    assert 10 * np.log10(255**2 / np.mean((found - plain) ** 2)) > 45


def test_a_view_does_not_depend_on_the_others() -> None:
    data = jpg(np.asarray(Image.fromarray(noise(90, 160)).resize((1600, 900))))
    frame = decode_image(data, "jpg", "x", min_side_for(224))
    parts = regions(1600, 900, "whole+tiles")
    together = crop_views(frame, parts, 224)
    assert together.shape == (3, 224, 224, 3) and together.dtype == np.uint8
    for part, view in zip(parts, together, strict=True):
        np.testing.assert_array_equal(crop_views(frame, [part], 224)[0], view)


def test_scaled_decode_gives_nearly_the_same_views() -> None:
    data = jpg(np.asarray(Image.fromarray(noise(45, 80)).resize((1600, 900), Image.Resampling.BICUBIC)))
    parts = regions(1600, 900, "whole+tiles")
    small = crop_views(decode_image(data, "jpg", "x", min_side_for(260)), parts, 260).astype(float)
    full = crop_views(decode_image(data, "jpg", "x"), parts, 260).astype(float)
    assert 10 * np.log10(255**2 / np.mean((small - full) ** 2)) > 40


def test_no_views() -> None:
    assert crop_views(noise(), [], 32).shape == (0, 32, 32, 3)
    assert crop_views(noise(), [Region(0.5, 0.5, 1.0, 1.0)], 8).shape == (1, 8, 8, 3)
