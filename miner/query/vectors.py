"""Parts of a query as vectors: texts, pictures and sweeps through the encoder, examples from the lake itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from embeddings.encoder import Encoder, TextEncoder, encode_all, encode_sweeps
from kernels.spans import Ints
from miner.corpus import Corpus, Vector
from miner.decode.files import read_bytes
from miner.decode.image import decode_image
from miner.decode.sweep import decode_sweep, sweep_format
from miner.decode.views import crop_views, min_side_for
from miner.embed import sweep_points
from miner.encoders import get_encoder
from miner.errors import BadInput, MinerError, NotFound, UnknownName, UsageError
from miner.indexes import Index
from miner.schema import IMPORTED


class Example(NamedTuple):
    """A reading or clip to look alike: its mean whole-frame vector (dim,), and the pairs that are it or its clip."""

    vector: Vector
    itself: Ints


def example(corpus: Corpus, name: str) -> Example:
    """The example of an id. Raises NotFound for one that has no vectors in the corpus."""
    pairs, itself = pairs_of(corpus, name)
    if not len(pairs):
        hint = "Ids are in the answers of search --json. Readings without a vector: miner verify LAKE."
        raise NotFound(f"no reading or clip with vectors of {corpus.index.encoder!r} has the id {name!r}", hint)
    chosen = np.unique(corpus.row[pairs])
    regions = corpus.index.rows["region"].take(chosen)
    whole = chosen[pc.is_null(regions).to_numpy().astype(np.bool_)]
    return Example(unit(corpus.index.vectors(whole if len(whole) else chosen).sum(axis=0)), itself)


def pairs_of(corpus: Corpus, name: str) -> tuple[Ints, Ints]:
    """The pairs of the reading or clip with an id, and those of its clips too; none for an unknown one."""
    rows = corpus.readings.find(name)
    pairs = corpus.pairs_of_rows(rows)[1] if len(rows) else corpus.pairs_of_clips(corpus.clip_ids.find(name))
    return pairs, np.union1d(pairs, corpus.pairs_of_clips(np.setdiff1d(corpus.clip[pairs], [-1])))


def encoder_of(index: Index, encoder: Encoder | None) -> Encoder:
    """The encoder whose vectors the table has. Raises UsageError if the one given, or the one here, is another."""
    try:
        encoder = encoder or get_encoder(index.encoder, index.encoder_version)
    except UnknownName as unknown:
        hint = "Search with --like ID, or install the encoder."
        raise UsageError(
            f"table {index.table!r} has vectors of {index.encoder!r}: {unknown.message}", hint
        ) from unknown
    has, uses = (index.encoder, index.encoder_version), (encoder.name, encoder.version)
    same = index.encoder == encoder.name and index.encoder_version in (encoder.version, IMPORTED)
    if not same or index.dim != encoder.dim:
        raise UsageError(
            f"table {index.table!r} has {' '.join(has)} ({index.dim}), query uses {' '.join(uses)} ({encoder.dim})",
            f"Choose the encoder of the table, or embed with this one: miner embed LAKE --encoder {encoder.name}",
        )
    return encoder


def text_vectors(encoder: Encoder, texts: Sequence[str]) -> Vector:
    """Texts to unit vectors (n, dim). Raises UsageError for an encoder that takes none."""
    if not isinstance(encoder, TextEncoder):
        raise UsageError(f"encoder {encoder.name!r} knows no text", "Search with --image FILE or --like ID.")
    return encoder.encode_text(list(texts))


def image_vector(encoder: Encoder, uri: str) -> Vector:
    """The vector of a whole picture. Raises NotFound for no such file, UsageError for no picture."""
    size = encoder.input.size
    try:
        frame = decode_image(read_bytes(uri), PurePath(uri).suffix.lstrip("."), uri, min_side_for(size))
    except BadInput as bad:
        raise _refused("image", bad) from bad
    vector: Vector = encode_all(encoder, crop_views(frame, [None], size))[0]
    return vector


def sweep_vector(encoder: Encoder, uri: str) -> Vector:
    """The vector of a LiDAR sweep. Raises NotFound for no such file, UsageError for no sweep."""
    try:
        data = read_bytes(uri)
        sweep = decode_sweep(data, sweep_format(PurePath(uri).name, data), uri)
    except BadInput as bad:
        raise _refused("sweep", bad) from bad
    vector: Vector = encode_sweeps(encoder, [sweep_points(sweep, encoder.input.size)])[0]
    return vector


def unit(vector: Vector) -> Vector:
    """The vector in length 1. Raises UsageError for one that has no direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length):
        raise UsageError("the query's vector is not finite: the encoder gave NaN or infinity")
    if length < 1e-6:
        raise UsageError("the parts of the query cancel each other out")
    of_length_1: Vector = (vector / length).astype(np.float32)
    return of_length_1


def _refused(what: str, bad: BadInput) -> MinerError:
    return (NotFound if bad.reason == "missing-file" else UsageError)(f"{what} {bad.detail} ({bad.reason})")
