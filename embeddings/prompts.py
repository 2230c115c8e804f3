"""Texts encoded once: their vectors are kept, and texts that wait for the encoder go through it together."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import TextEncoder

KEPT_TEXTS = 4096

Floats = NDArray[np.float32]


class Prompts:
    """A text encoder for several threads at once, with the vectors of the `keep` texts that were asked for last.

    It is a `TextEncoder` with the vectors of the one it wraps. One thread at a time is in the encoder; those that come
    meanwhile form the next batch, which whoever is first to get in encodes for all. `hits`, `misses` and `batches`
    count texts that were kept, texts that were not, and calls of the encoder.
    """

    def __init__(self, encoder: TextEncoder, keep: int = KEPT_TEXTS) -> None:
        self.name, self.version, self.dim, self.input = encoder.name, encoder.version, encoder.dim, encoder.input
        self.hits = self.misses = self.batches = 0
        self._encoder, self._keep = encoder, keep
        self._vectors: OrderedDict[str, Future[Floats]] = OrderedDict()
        self._waiting: list[tuple[str, Future[Floats]]] = []
        self._books, self._busy = Lock(), Lock()

    def encode(self, batch: NDArray[Any]) -> Floats:
        """Frames, as the encoder does it."""
        with self._busy:
            return self._encoder.encode(batch)

    def encode_text(self, texts: list[str]) -> Floats:
        """Texts to unit float32 (len(texts), dim). Raises what the encoder raises; nothing is kept of that."""
        wanted = [self._vector_of(text) for text in texts]
        if not all(each.done() for each in wanted):
            with self._busy:
                self._encode_waiting()
        return np.stack([each.result() for each in wanted]) if wanted else np.empty((0, self.dim), np.float32)

    def _vector_of(self, text: str) -> Future[Floats]:
        with self._books:
            found = self._vectors.get(text)
            if found is not None:
                self.hits += 1
                self._vectors.move_to_end(text)
                return found
            self.misses += 1
            made: Future[Floats] = Future()
            self._vectors[text] = made
            self._waiting.append((text, made))
            while len(self._vectors) > self._keep:
                self._vectors.popitem(last=False)
            return made

    def _encode_waiting(self) -> None:
        """Encode all that waits by now; nothing, where another thread has done it. By the holder of `_busy`."""
        with self._books:
            waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self.batches += 1
        try:
            vectors = self._encoder.encode_text([text for text, _ in waiting])
        except BaseException as error:
            self._give_up(waiting, error)
            return
        vectors.setflags(write=False)
        for (_, future), vector in zip(waiting, vectors, strict=True):
            future.set_result(vector)

    def _give_up(self, waiting: list[tuple[str, Future[Floats]]], error: BaseException) -> None:
        with self._books:
            for text, future in waiting:
                if self._vectors.get(text) is future:
                    del self._vectors[text]
        for _, future in waiting:
            future.set_exception(error)
