from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from embeddings.hashing import HashingEncoder

FRAMES = np.arange(16 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 32, 32, 3)


def digest(vectors: np.ndarray) -> str:
    return hashlib.sha256(vectors.tobytes()).hexdigest()


def test_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "import hashlib, numpy as np; from embeddings.hashing import HashingEncoder as H;"
        "f = np.arange(16*32*32*3, dtype=np.uint32).astype(np.uint8).reshape(16, 32, 32, 3); e = H();"
        "print(hashlib.sha256(e.encode(f).tobytes() + e.encode_text(['red truck']).tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "5"}, capture_output=True, text=True)
    encoder = HashingEncoder()
    here = hashlib.sha256(encoder.encode(FRAMES).tobytes() + encoder.encode_text(["red truck"]).tobytes()).hexdigest()
    assert out.stdout.strip() == here, out.stderr


def test_alike_frames_are_near() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(40, 200, (1, 32, 32, 3), dtype=np.uint8)
    other = rng.integers(40, 200, (1, 8, 8, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    a, b, c = HashingEncoder().encode(np.concatenate([frame, frame + 3, other]))
    assert a @ b > 0.99 and a @ b > a @ c


def test_projection_keeps_angles() -> None:
    """Johnson-Lindenstrauss: with many dimensions cosines of the projected vectors approach those of the cells."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    cells = np.concatenate([frames[:, ::4, ::4].reshape(16, -1).astype(float) * 16, np.ones((16, 1))], axis=1)
    cells /= np.linalg.norm(cells, axis=1, keepdims=True)
    vectors = HashingEncoder("4096").encode(frames)
    np.testing.assert_allclose(vectors @ vectors.T, cells @ cells.T, atol=0.06)


def test_words_not_their_order_nor_case() -> None:
    a, b, c = HashingEncoder().encode_text(["Red truck", "truck red", "red bus"])
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize("dim", ["0", "-3", "x", "1.5"])
def test_bad_dim(dim: str) -> None:
    with pytest.raises(ValueError, match="positive number"):
        HashingEncoder(dim)
