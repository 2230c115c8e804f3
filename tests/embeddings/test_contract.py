"""What every encoder must do, over every family that loads here."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embeddings.encoder import Encoder, InputSpec, TextEncoder, encode_all, load_encoder, slug
from embeddings.plugins import UnknownPlugin, plugin_names

WEIGHTS = os.environ.get("MINER_TEST_WEIGHTS")  # a folder as open_clip's local-dir: takes it
NAMES = ["hashing", "hashing:16", "lite", "lite:linear", "lite:conse", "descriptor"]
NAMES += [f"openclip:local-dir:{WEIGHTS}"] if WEIGHTS else []


@pytest.fixture(scope="module", params=NAMES, ids=slug)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return load_encoder(request.param)


@pytest.fixture(scope="module")
def frames(encoder: Encoder) -> np.ndarray:
    """Frames or sweeps that differ, two batches and one more, at most nine."""
    count = min(2 * encoder.input.batch + 1, 9)
    make = _sweeps if encoder.input.modality == "lidar" else _pictures
    return make(count, encoder.input)


def _pictures(count: int, spec: InputSpec) -> np.ndarray:
    """Black, white, a gradient and noise."""
    size = spec.size
    rng = np.random.default_rng(7)
    flat = [np.full((size, size, 3), value, np.uint8) for value in (0, 255)]
    ramp = np.broadcast_to(np.linspace(0, 255, size).astype(np.uint8)[:, None, None], (size, size, 3))
    noise = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count - 3)]
    return np.stack([*flat, ramp, *noise])


def _sweeps(count: int, spec: InputSpec) -> np.ndarray:
    """No point, every row a point, and clouds of different size, spread and height with rows of NaN after them."""
    rng = np.random.default_rng(7)
    sweeps = np.full((count, *spec.shape[1:]), np.nan, np.float32)
    for i in range(1, count):
        points = spec.size if i == 1 else spec.size // (20 * i)
        sweeps[i, :points, :3] = rng.normal([0, 0, i], [5 + 3 * i, 20, 1 + i / 4], (points, 3))
        sweeps[i, :points, 3] = rng.random(points)
    return sweeps


@pytest.fixture(scope="module")
def vectors(encoder: Encoder, frames: np.ndarray) -> np.ndarray:
    return encode_all(encoder, frames)


def test_every_registered_family_is_tested() -> None:
    assert {name.partition(":")[0] for name in NAMES} | {"openclip"} == set(plugin_names("miner.encoders"))


def test_describes_itself(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder) and isinstance(encoder.input, InputSpec)
    assert isinstance(encoder, TextEncoder) == (encoder.input.modality == "camera")
    assert encoder.input.modality in ("camera", "lidar")
    assert encoder.name in NAMES and encoder.version and encoder.dim > 0


def test_vectors_are_unit_rows(encoder: Encoder, frames: np.ndarray, vectors: np.ndarray) -> None:
    assert vectors.shape == (len(frames), encoder.dim) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_different_frames_differ(vectors: np.ndarray) -> None:
    assert len(np.unique(vectors, axis=0)) == len(vectors)


def test_same_bits_again(encoder: Encoder, frames: np.ndarray, vectors: np.ndarray) -> None:
    np.testing.assert_array_equal(encode_all(encoder, frames[:3]), vectors[:3])


@pytest.mark.parametrize("cuts", [(1,), (2, 3), (1, 2, 3, 4, 5), (4, 7)])
def test_same_bits_in_any_split(
    encoder: Encoder, frames: np.ndarray, vectors: np.ndarray, cuts: tuple[int, ...]
) -> None:
    parts = [encode_all(encoder, part) for part in np.split(frames, cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), vectors)


def test_same_bits_at_any_place_in_the_batch(encoder: Encoder, frames: np.ndarray, vectors: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(frames))
    np.testing.assert_array_equal(encode_all(encoder, frames[order]), vectors[order])
    np.testing.assert_array_equal(encode_all(encoder, frames[::-1]), vectors[::-1])


def test_same_bits_in_another_thread(encoder: Encoder, frames: np.ndarray, vectors: np.ndarray) -> None:
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda part: encode_all(encoder, part), [frames[:2], frames[2:4]]))
    np.testing.assert_array_equal(np.concatenate(parts), vectors[:4])


def test_takes_read_only_frames(encoder: Encoder, frames: np.ndarray, vectors: np.ndarray) -> None:
    locked = frames[: encoder.input.batch].copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(encode_all(encoder, locked), vectors[: len(locked)])


def test_no_frames(encoder: Encoder) -> None:
    none = np.zeros((0, *encoder.input.shape[1:]), encoder.input.dtype)
    assert encode_all(encoder, none).shape == (0, encoder.dim)


def test_texts(encoder: Encoder) -> None:
    if not isinstance(encoder, TextEncoder):
        pytest.skip(f"{encoder.name} has no texts")
    texts = ["driving at night", "", "naïve café 漢字 \U0001f6b2", "truck " * 2000, "driving at night"]
    found = encoder.encode_text(texts)
    assert found.shape == (len(texts), encoder.dim) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[4])
    np.testing.assert_array_equal(encoder.encode_text(texts[:1]), found[:1])
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[0], found[3])
    assert encoder.encode_text([]).shape == (0, encoder.dim)


def test_a_pickle_is_a_name(encoder: Encoder, frames: np.ndarray, vectors: np.ndarray) -> None:
    data = pickle.dumps(encoder)
    assert len(data) < 1_000
    again = pickle.loads(data)
    assert (again.name, again.version) == (encoder.name, encoder.version)
    np.testing.assert_array_equal(encode_all(again, frames[:1]), vectors[:1])


def test_unknown_family_lists_the_known() -> None:
    with pytest.raises(UnknownPlugin, match="descriptor, hashing, lite, openclip"):
        load_encoder("clip")


def test_slug_is_a_file_name() -> None:
    assert slug("openclip:ViT-B-32/laion") == "openclip-ViT-B-32-laion"
    assert "/" not in slug("openclip:local-dir:/a/b/../c")
