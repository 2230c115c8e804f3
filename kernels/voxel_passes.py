"""The compiled passes of `kernels.voxel`: points to cell keys, keys to runs, runs to voxels, chunk by chunk.

Neighbouring points of a scan line mostly share a cell, so the hash table is asked once per run of equal keys, not once
per point. Its slots hold `generation | voxel number`, 32 bits, and the key stands with the voxel: a slot of an older
generation counts as free, so the table is not cleared between sweeps. Voxels are numbered as first seen, which makes
results independent of the hash. Chunks are small enough that keys and runs stay in the cache between the passes.
"""

# Numba's scalar types are unknown to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float32, float64, int32, int64, uint32, uint64
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.voxel_lanes import add_4, copy_1, copy_4, pack_16_keys, prefetch_to_read, prefetch_to_write, sum_runs_of_4

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Keys = NDArray[np.uint32]
Words = NDArray[np.uint64]

CHUNK = 8192
AHEAD = 32  # runs: time enough for a line of the table to arrive from the third-level cache or from memory
NOWHERE = np.uint32(0xFFFFFFFF)
# 2^64 / golden ratio (Knuth, Sorting and Searching, section 6.4). Of 64 bits, so that keys a power of two apart spread.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Cells(NamedTuple):
    """A grid as the passes need it; axes in the order x, y, z.

    scale f32 (12,): lower corner m, cell size m, first cell, cell after the last; strides u32 (3,): keys per row, keys
    per layer, and the number that makes the key of the first cell 0 (modulo 2^32).
    """

    scale: Floats
    strides: Keys


class Table(NamedTuple):
    """Open addressing. slots u32 (2^bits,); stamp: this sweep's generation at the place it has in a slot."""

    slots: Keys
    bits: np.uint64
    stamp: np.uint32


class Runs(NamedTuple):
    """Scratch of one chunk: keys of its points u32 (CHUNK,); of its runs words u64 (CHUNK + AHEAD,), each key << 32 |
    length, and sums f32 (CHUNK, features)."""

    point_keys: Keys
    words: Words
    sums: Floats


class Found(NamedTuple):
    """Voxels in first-seen order, room for one per point: words u64, which are key << 32 | count; and what is made of
    them at the end: counts i32, coords i32 (., 3) as z, y, x."""

    words: Words
    counts: Ints
    coords: Ints


class Work(NamedTuple):
    """What the passes over one sweep share."""

    table: Table
    runs: Runs
    found: Found


@jit
def _address(array: NDArray[np.generic]) -> int:
    return uint64(array.ctypes.data)


@jit
def _scale(cells: Cells) -> tuple[float, ...]:
    s = cells.scale
    return (s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11])


@jit
def _strides(cells: Cells) -> tuple[int, int, int]:
    return (cells.strides[0], cells.strides[1], cells.strides[2])


@jit
def pack_key(x: float, y: float, z: float, s: tuple[float, ...], strides: tuple[int, int, int]) -> np.uint32:
    """The key of one point's cell, or NOWHERE. In float32, as spconv computes it: floor((x - lower) / size)."""
    i, j, k = np.floor((x - s[0]) / s[3]), np.floor((y - s[1]) / s[4]), np.floor((z - s[2]) / s[5])
    if s[6] <= i < s[9] and s[7] <= j < s[10] and s[8] <= k < s[11]:
        upper = uint32(int32(k)) * strides[1] + uint32(int32(j)) * strides[0]
        return uint32(upper + uint32(int32(i)) + strides[2])
    return NOWHERE


@jit
def span_cells(points: Floats, s: Floats) -> tuple[float, float, float, float, float, float]:
    """First and last cell on x, y, z of the finite points; inf and -inf where there is none. s: `Cells.scale`."""
    low_x, low_y, low_z = float32(np.inf), float32(np.inf), float32(np.inf)
    high_x, high_y, high_z = -low_x, -low_y, -low_z
    for i in range(uint64(len(points))):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if np.isfinite(x) and np.isfinite(y) and np.isfinite(z):
            x, y, z = (x - s[0]) / s[3], (y - s[1]) / s[4], (z - s[2]) / s[5]
            low_x, low_y, low_z = min(low_x, x), min(low_y, y), min(low_z, z)
            high_x, high_y, high_z = max(high_x, x), max(high_y, y), max(high_z, z)
    first = (np.floor(low_x), np.floor(low_y), np.floor(low_z))
    return (*first, np.floor(high_x), np.floor(high_y), np.floor(high_z))


@jit
def _pack_keys(points: Floats, cells: Cells, keys: Keys) -> int:
    """Keys of a chunk's points. Gives points inside + points that are not finite << 32."""
    scale, strides = _scale(cells), _strides(cells)
    seen, done = int64(0), 0
    if points.shape[1] == 4:
        source, target = _address(points), _address(keys)
        for block in range(len(points) // 16):
            seen += pack_16_keys(source + uint64(256 * block), target + uint64(64 * block), scale, strides)
        done = len(points) // 16 * 16
    for i in range(done, len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        keys[i] = pack_key(x, y, z, scale, strides)
        finite = np.isfinite(x) and np.isfinite(y) and np.isfinite(z)
        seen += int64(keys[i] != NOWHERE) + (int64(0) if finite else int64(1) << int64(32))
    return seen


@jit
def _key(word: np.uint64) -> np.uint32:
    return uint32(word >> uint64(32))


@jit
def _count(word: np.uint64) -> np.uint64:
    return word & uint64(0xFFFFFFFF)


@jit
def _find_runs(count: int, runs: Runs) -> int:
    """Runs of equal keys among the first `count` >= 1 points of the chunk; without a branch."""
    run, length, last = uint64(0) - uint64(1), uint64(0), ~runs.point_keys[0]
    for i in range(uint64(count)):
        key = runs.point_keys[i]
        same = uint64(key == last)
        run += uint64(1) - same
        length = length * same + uint64(1)
        runs.words[run], last = (uint64(key) << uint64(32)) | length, key
    return int64(run) + 1


@jit
def _sum_runs(points: Floats, runs: Runs) -> int:
    """As `_find_runs`, and the sums of the points of each run."""
    if points.shape[1] == 4:
        keys, words, sums = _address(runs.point_keys), _address(runs.words), _address(runs.sums)
        return sum_runs_of_4(_address(points), keys, int64(len(points)), words, sums)
    count = _find_runs(len(points), runs)
    i = uint64(0)
    for run in range(uint64(count)):
        for feature in range(uint64(points.shape[1])):
            runs.sums[run, feature] = points[i, feature]
        for _ in range(uint64(1), _count(runs.words[run])):
            i += uint64(1)
            for feature in range(uint64(points.shape[1])):
                runs.sums[run, feature] += points[i, feature]
        i += uint64(1)
    return count


@jit
def _home(key: np.uint32, table: Table) -> int:
    return (uint64(key) * GOLDEN) >> (uint64(64) - table.bits)


@jit
def _fetch_ahead(run: int, work: Work, chunk: Floats) -> None:
    """Ask for the slot of a later run, and for a line of the points behind the chunk: they arrive while these are
    looked up, which leaves memory idle."""
    slot = _home(_key(work.runs.words[run + AHEAD]), work.table)
    prefetch_to_write(_address(work.table.slots) + (slot << uint64(2)))
    size, at = uint64(4 * chunk.size), run << uint64(6)
    if at < size:
        prefetch_to_read(_address(chunk) + size + at)


@jit
def _find(key: np.uint32, work: Work) -> tuple[int, bool]:
    """The slot of the key's voxel, or the free one where it belongs; and whether it is free."""
    table, found = work.table, work.found
    slot = _home(key, table)
    while True:
        held = uint64(table.slots[slot] ^ table.stamp)
        if held >> table.bits:
            return slot, True
        if _key(found.words[held]) == key:
            return slot, False
        slot = (slot + uint64(1)) & uint64(len(table.slots) - 1)


@jit
def _claim(slot: int, voxel: int, table: Table) -> None:
    table.slots[slot] = table.stamp | uint32(voxel)


@jit
def _voxel_at(slot: int, table: Table) -> int:
    return uint64(table.slots[slot] ^ table.stamp)


@jit
def _unpack(count: int, cells: Cells, found: Found) -> None:
    """Counts and coordinates of the first `count` voxels.

    Products instead of divisions, exact: (key + 1/2) / stride is at least 1/2 / stride away from a whole number, and
    the two roundings move it by less than key / stride * 2^-51, where key < 2^32.
    """
    keys = found.counts.view(np.uint32)  # for a while: narrow loops are vectorized, mixed ones are not
    for voxel in range(uint64(count)):
        keys[voxel] = _key(found.words[voxel])
    row, layer = uint32(cells.strides[0]), uint32(cells.strides[1])
    per_row, per_layer = 1.0 / float64(row), 1.0 / float64(layer)
    first_x, first_y, first_z = int32(cells.scale[6]), int32(cells.scale[7]), int32(cells.scale[8])
    flat = found.coords.reshape(-1)
    for voxel in range(uint64(count)):
        key = keys[voxel]
        z = int32((float64(key) + 0.5) * per_layer)
        rest = uint32(key - uint32(z) * layer)
        y = int32((float64(rest) + 0.5) * per_row)
        x = int32(uint32(rest - uint32(y) * row))
        flat[3 * voxel] = int32(z + first_z)
        flat[3 * voxel + 1] = int32(y + first_y)
        flat[3 * voxel + 2] = int32(x + first_x)
    for voxel in range(uint64(count)):
        found.counts[voxel] = int32(_count(found.words[voxel]))


@jit
def _merge_sums_of_4(count: int, chunk: Floats, work: Work, sums: Floats, known: int) -> int:
    (table, runs, found), new = work, uint64(known)
    total, added = _address(sums), _address(runs.sums)
    for run in range(uint64(count)):
        _fetch_ahead(run, work, chunk)
        word = runs.words[run]
        if _key(word) == NOWHERE:
            continue
        slot, free = _find(_key(word), work)
        if free:
            _claim(slot, new, table)
            found.words[new] = word
            copy_4(total + (new << uint64(4)), added + (run << uint64(4)))
            new += uint64(1)
        else:
            voxel = _voxel_at(slot, table)
            found.words[voxel] += _count(word)
            add_4(total + (voxel << uint64(4)), added + (run << uint64(4)))
    return int64(new)


@jit
def _merge_sums(count: int, chunk: Floats, work: Work, sums: Floats, known: int) -> int:
    (table, runs, found), new = work, uint64(known)
    for run in range(uint64(count)):
        _fetch_ahead(run, work, chunk)
        word = runs.words[run]
        if _key(word) == NOWHERE:
            continue
        slot, free = _find(_key(word), work)
        if free:
            _claim(slot, new, table)
            found.words[new] = word
            for feature in range(uint64(sums.shape[1])):
                sums[new, feature] = runs.sums[run, feature]
            new += uint64(1)
        else:
            voxel = _voxel_at(slot, table)
            found.words[voxel] += _count(word)
            for feature in range(uint64(sums.shape[1])):
                sums[voxel, feature] += runs.sums[run, feature]
    return int64(new)


@jit
def _divide(count: int, sums: Floats, counts: Ints) -> None:
    if sums.shape[1] == 4:
        for voxel in range(uint64(count)):
            share = float32(1) / float32(counts[voxel])
            sums[voxel, 0] *= share
            sums[voxel, 1] *= share
            sums[voxel, 2] *= share
            sums[voxel, 3] *= share
    else:
        for voxel in range(uint64(count)):
            share = float32(1) / float32(counts[voxel])
            for feature in range(uint64(sums.shape[1])):
                sums[voxel, feature] *= share


@jit
def mean_voxels(points: Floats, cells: Cells, work: Work, means: Floats) -> tuple[int, int]:
    """Means f32 (., features) of the points of each voxel. Gives the number of voxels and what `_pack_keys` counts."""
    voxels, seen = 0, int64(0)
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK]
        seen += _pack_keys(chunk, cells, work.runs.point_keys)
        count = _sum_runs(chunk, work.runs)
        if points.shape[1] == 4:
            voxels = _merge_sums_of_4(count, chunk, work, means, voxels)
        else:
            voxels = _merge_sums(count, chunk, work, means, voxels)
    _unpack(voxels, cells, work.found)
    _divide(voxels, means, work.found.counts)
    return voxels, seen


@jit
def _number_runs(count: int, chunk: Floats, work: Work, voxel_of_point: Ints, known: int) -> int:
    (table, runs, found), new, i = work, uint64(known), uint64(0)
    for run in range(uint64(count)):
        _fetch_ahead(run, work, chunk)
        number, word = int32(-1), runs.words[run]
        if _key(word) != NOWHERE:
            slot, free = _find(_key(word), work)
            if free:
                _claim(slot, new, table)
                found.words[new] = word
                number = int32(new)
                new += uint64(1)
            else:
                voxel = _voxel_at(slot, table)
                found.words[voxel] += _count(word)
                number = int32(voxel)
        for _ in range(_count(word)):
            voxel_of_point[i] = number
            i += uint64(1)
    return int64(new)


@jit
def number_voxels(points: Floats, cells: Cells, work: Work, voxel_of_point: Ints) -> tuple[int, int]:
    """The voxel of each point i32 (n,), -1 for none. Gives the number of voxels and what `_pack_keys` counts."""
    voxels, seen = 0, int64(0)
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK]
        seen += _pack_keys(chunk, cells, work.runs.point_keys)
        count = _find_runs(len(chunk), work.runs)
        voxels = _number_runs(count, chunk, work, voxel_of_point[start : start + CHUNK], voxels)
    _unpack(voxels, cells, work.found)
    return voxels, seen


@jit
def _copy_rows(count: int, row_bytes: int, source: int, target: int) -> None:
    """Rows of float32 from one address to another: few and short ones, for which memcpy would be slow."""
    if row_bytes == uint64(16):
        for row in range(uint64(count)):
            copy_4(target + (row << uint64(4)), source + (row << uint64(4)))
    else:
        for at in range(uint64(0), uint64(count) * row_bytes, uint64(4)):
            copy_1(target + at, source + at)


@jit
def _gather_runs(count: int, chunk: Floats, work: Work, voxels: Floats, known: int) -> int:
    """Copy the runs of a chunk's points; the inner loop is one of addresses, as rows are few and short."""
    (table, runs, found), new, begin = work, uint64(known), uint64(0)
    limit, most, row_bytes = uint64(voxels.shape[0]), uint64(voxels.shape[1]), uint64(4 * chunk.shape[1])
    for run in range(uint64(count)):
        _fetch_ahead(run, work, chunk)
        key, length = _key(runs.words[run]), _count(runs.words[run])
        source = _address(chunk) + begin * row_bytes
        begin += length
        if key == NOWHERE:
            continue
        slot, free = _find(key, work)
        if free:
            if new == limit:
                continue
            _claim(slot, new, table)
            voxel, held = new, uint64(0)
            found.words[new] = uint64(key) << uint64(32)
            new += uint64(1)
        else:
            voxel = _voxel_at(slot, table)
            held = _count(found.words[voxel])
        kept = min(length, most - held)
        found.words[voxel] += kept
        target = _address(voxels) + (voxel * most + held) * row_bytes
        _copy_rows(kept, row_bytes, source, target)
    return int64(new)


@jit
def gather_voxels(points: Floats, cells: Cells, work: Work, voxels: Floats) -> tuple[int, int]:
    """The first points of the first voxels, f32 (max voxels, max points, features); other rows stay as they are.

    Gives the number of voxels and what `_pack_keys` counts.
    """
    known, seen = 0, int64(0)
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK]
        seen += _pack_keys(chunk, cells, work.runs.point_keys)
        known = _gather_runs(_find_runs(len(chunk), work.runs), chunk, work, voxels, known)
    _unpack(known, cells, work.found)
    return known, seen


@jit
def clear_rows(rows: Floats, counts: Ints, held: Ints, before: int) -> None:
    """Zero the rows f32 (., max points, features) that the sweep before filled and this one did not.

    counts i32 (m,) of this sweep; held i32 (.,), the counts of the sweep before, of `before` voxels; it takes the new.
    """
    for voxel in range(uint64(max(before, len(counts)))):
        count = counts[voxel] if voxel < uint64(len(counts)) else int32(0)
        if rows.shape[2] == 4:
            for row in range(uint64(count), uint64(held[voxel])):
                rows[voxel, row, 0] = 0
                rows[voxel, row, 1] = 0
                rows[voxel, row, 2] = 0
                rows[voxel, row, 3] = 0
        else:
            for row in range(uint64(count), uint64(held[voxel])):
                for feature in range(uint64(rows.shape[2])):
                    rows[voxel, row, feature] = 0
        held[voxel] = count


@jit
def decorate_pillars(voxels: Floats, counts: Ints, coords: Ints, scale: Floats, features: Floats) -> None:
    """The points' own features, then offsets of x, y, z from the pillar's mean and of x, y from its centre, in m.

    voxels f32 (m, max points, F) to features f32 (., max points, F + 5).
    """
    width = uint64(voxels.shape[2])
    for pillar in range(uint64(len(counts))):
        x, y, z = float32(0), float32(0), float32(0)
        for row in range(uint64(counts[pillar])):
            x += voxels[pillar, row, 0]
            y += voxels[pillar, row, 1]
            z += voxels[pillar, row, 2]
        share = float32(1) / float32(counts[pillar])
        middle_x = scale[0] + (float32(coords[pillar, 2]) + float32(0.5)) * scale[3]
        middle_y = scale[1] + (float32(coords[pillar, 1]) + float32(0.5)) * scale[4]
        for row in range(uint64(counts[pillar])):
            for feature in range(width):
                features[pillar, row, feature] = voxels[pillar, row, feature]
            features[pillar, row, width] = voxels[pillar, row, 0] - x * share
            features[pillar, row, width + uint64(1)] = voxels[pillar, row, 1] - y * share
            features[pillar, row, width + uint64(2)] = voxels[pillar, row, 2] - z * share
            features[pillar, row, width + uint64(3)] = voxels[pillar, row, 0] - middle_x
            features[pillar, row, width + uint64(4)] = voxels[pillar, row, 1] - middle_y
