"""What recordings of a clip are byte for byte and at a glance: digests, perceptual hashes, sharpness, by clip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.spans import Ints, Spans, instants, overlaps
from kernels.thinning import Edges
from miner.footage import Bools, Floats, Footage
from miner.sound import Sound

RECODED_BITS = 3  # of 64: what another scale or compression changes in a perceptual hash
_BANDS = 4  # of 16 bits: of any two hashes that differ in 3 bits, one band is equal


@dataclass(frozen=True)
class Pictures:
    """Of the clips of a footage (n,): `digest` of all its readings' bytes, empty where one has not been read; `hashes`
    of its camera frames in order of channel and time; mean `sharpness` (NaN without frames); whether it has `flags`."""

    digest: Sequence[str]
    hashes: Sequence[tuple[int, ...]]
    sharpness: Floats
    flagged: Bools


def pictures_of(sound: Sound, footage: Footage) -> Pictures:
    """What `assets` says of the readings in each clip."""
    count = len(footage)
    empty = Pictures([""] * count, [()] * count, np.full(count, np.nan), np.zeros(count, np.bool_))
    if not sound.has("assets") or not sound.has("sample_data"):
        return empty
    columns = ["sample_data_id", "scene_id", "channel", "modality", "timestamp_ns"]
    rows = sound.scan("sample_data", columns, "modality IN ('camera', 'lidar')")
    rows = rows.sort_by([("channel", "ascending"), ("timestamp_ns", "ascending"), ("sample_data_id", "ascending")])
    facts = sound.scan("assets", ["sample_data_id", "sha256", "phash", "sharpness", "flags"])
    facts = facts.take(pc.index_in(rows["sample_data_id"], facts["sample_data_id"].combine_chunks()))
    own = pc.fill_null(pc.index_in(rows["scene_id"], footage.scene_ids), -1).to_numpy().astype(np.int64)
    windows = Spans(footage.start_ns, footage.end_ns, footage.scene)
    reading, clip = overlaps(instants(rows["timestamp_ns"].to_numpy(), own), windows)
    order = np.lexsort((reading, clip))
    return _by_clip(facts.take(pa.array(reading[order])), clip[order], count)


def _by_clip(facts: pa.Table, clip: Ints, count: int) -> Pictures:
    """Facts of readings (m,), by clip (m,) ascending, as one entry a clip."""
    sha, hashes = facts["sha256"].to_pylist(), facts["phash"].to_pylist()
    sharp = pc.fill_null(facts["sharpness"].cast(pa.float64()), float("nan")).to_numpy()
    flags = pc.fill_null(pc.greater(pc.list_value_length(facts["flags"]), 0), False).to_numpy()
    first = np.searchsorted(clip, np.arange(count + 1))
    digests, seen = [], []
    for start, end in pairwise(first):
        own = sha[start:end]
        whole = bool(own) and None not in own
        digests.append(hashlib.sha256("".join(sorted(own)).encode()).hexdigest() if whole else "")
        seen.append(tuple(each for each in hashes[start:end] if each is not None))
    known = np.isfinite(sharp)
    frames = np.bincount(clip[known], minlength=count)
    total = np.bincount(clip[known], sharp[known], count)
    sharpness = np.divide(total, frames, out=np.full(count, np.nan), where=frames > 0)
    return Pictures(digests, seen, sharpness, np.bincount(clip[flags], minlength=count) > 0)


def exact_pairs(pictures: Pictures) -> Edges:
    """Clips of the same bytes, each with the first of them."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(each, row), row) for row, each in enumerate(pictures.digest) if each]
    return _edges([(one, other) for one, other in pairs if one != other])


def recoded_pairs(pictures: Pictures) -> Edges:
    """Clips whose frames are the same pictures one by one, but for their coding: at most 3 of 64 bits each differ.

    Pictures without any texture (hash 0) say nothing. Time is that of the pairs that share 16 bits at one place in
    their first hash.
    """
    bands: dict[tuple[int, int, int], list[int]] = {}
    found = set()
    for row, hashes in enumerate(pictures.hashes):
        if not any(hashes):
            continue
        for band in range(_BANDS):
            key = (len(hashes), band, hashes[0] >> 16 * band & 0xFFFF)
            for other in bands.setdefault(key, []):
                if (other, row) not in found and _recoded(pictures.hashes[other], hashes):
                    found.add((other, row))
            bands[key].append(row)
    return _edges(sorted(found))


def _recoded(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(((a ^ b) & (2**64 - 1)).bit_count() <= RECODED_BITS for a, b in zip(one, other, strict=True))


def _edges(pairs: Sequence[tuple[int, int]]) -> Edges:
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return Edges(left, right)
