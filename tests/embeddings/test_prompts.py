"""Texts are encoded once, together, and as they are alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.encoder import TextEncoder, load_encoder
from embeddings.hashing import HashingEncoder
from embeddings.prompts import Prompts


class Slow(HashingEncoder):
    """Waits in its first batch until it is told to go on, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []
        self.inside, self.go_on = threading.Event(), threading.Event()

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked.append(texts)
        self.inside.set()
        assert self.go_on.wait(30)
        if "bad" in texts:
            raise RuntimeError("no such text")
        return super().encode_text(texts)


def test_is_the_encoder_it_wraps() -> None:
    encoder = load_encoder("hashing")
    prompts = Prompts(encoder)  # type: ignore[arg-type]
    assert isinstance(prompts, TextEncoder) and (prompts.name, prompts.dim) == (encoder.name, encoder.dim)
    texts = ["night", "rain", "night", ""]
    np.testing.assert_array_equal(prompts.encode_text(texts), encoder.encode_text(texts))  # type: ignore[attr-defined]
    frames = np.random.default_rng(0).integers(0, 255, encoder.input.shape).astype(np.uint8)
    np.testing.assert_array_equal(prompts.encode(frames), encoder.encode(frames))
    assert prompts.encode_text([]).shape == (0, encoder.dim)


def test_keeps_the_last_ones() -> None:
    encoder = Slow()
    encoder.go_on.set()
    prompts = Prompts(encoder, keep=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        prompts.encode_text([text])
    assert encoder.asked == [["a"], ["b"], ["c"], ["b"]]
    assert (prompts.hits, prompts.misses, prompts.batches) == (2, 4, 4)


def test_what_is_kept_cannot_be_changed_from_outside() -> None:
    prompts = Prompts(load_encoder("hashing"))  # type: ignore[arg-type]
    prompts.encode_text(["night"])[:] = 0
    assert np.linalg.norm(prompts.encode_text(["night"])) == pytest.approx(1)


def test_texts_that_wait_go_together() -> None:
    encoder = Slow()
    prompts = Prompts(encoder)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(prompts.encode_text, ["first"])
        assert encoder.inside.wait(30)
        others = [pool.submit(prompts.encode_text, [text]) for text in ("a", "b", "a", "first")]
        while prompts.misses + prompts.hits < 5:
            pass
        encoder.go_on.set()
        found = [each.result(30) for each in (first, *others)]
    assert encoder.asked[0] == ["first"] and sorted(encoder.asked[1]) == ["a", "b"] and len(encoder.asked) == 2
    expected = load_encoder("hashing").encode_text(["first", "a", "b", "a", "first"])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_a_failure_is_told_and_not_kept() -> None:
    encoder = Slow()
    encoder.go_on.set()
    prompts = Prompts(encoder)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no such text"):
            prompts.encode_text(["bad"])
    assert len(encoder.asked) == 2 and prompts.encode_text(["good"]).shape == (1, encoder.dim)
