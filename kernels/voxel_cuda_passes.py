"""The device code of `kernels.voxel_cuda`: points to a hash table, slots to numbered voxels, voxels to sorted points.

Every kernel loops over its items with the stride of its grid, so results do not depend on the launch. Kernels over
points run with one row of blocks (y) per sweep where they need to know the sweep.

Arrays they share: spans i64 (sweeps + 1, 5), scales f32 (sweeps, 12) as `Grid.scale`, slots i32 (N,), table i32
(., 4), sums i64 (N + 1,), segments i32 (m, 2); `kernels.voxel_cuda` says what they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import cuda, float32, int32, int64

from kernels.voxel_passes import CHUNK

Array = Any  # of Numba, in device memory

SHORT = 32  # points of a voxel that one thread sorts
BEGIN, END, TABLE, MASK, ROW = range(5)  # columns of spans
KEY, FIRST, COUNT, VOXEL = range(4)  # columns of the table
FREE = 2**31 - 1  # no key: keys of 32 bits are stored less 2^31
LOW = 2**32 - 1


def _kernel(function: Callable[..., None]) -> Any:
    return cuda.jit(cache=True)(function)


def _device(function: Callable[..., Any]) -> Any:
    return cuda.jit(device=True, cache=True)(function)


@_kernel
def copy_rows(source: Array, target: Array, first: int) -> None:
    """All rows of an array to the rows of another from `first` on."""
    width = int64(source.shape[1])
    for item in range(cuda.grid(1), len(source) * width, cuda.gridsize(1)):
        target[first + item // width, item % width] = source[item // width, item % width]


@_kernel
def clear(table: Array, spans: Array, summary: Array) -> None:
    """Free slots, no points counted."""
    for slot in range(cuda.grid(1), spans[len(spans) - 1, TABLE], cuda.gridsize(1)):
        table[slot, KEY] = FREE
        table[slot, FIRST] = FREE
        table[slot, COUNT] = 0
    for sweep in range(cuda.grid(1), len(summary), cuda.gridsize(1)):
        summary[sweep, 1] = 0


@_device
def cell_key(x: float, y: float, z: float, s: Array) -> int:
    """The key of one point's cell or -1, as `kernels.voxel_passes.pack_key`. Bounds of cells are whole numbers, so what
    lies between them does so before it is rounded down."""
    i, j, k = (x - s[0]) / s[3], (y - s[1]) / s[4], (z - s[2]) / s[5]
    if s[6] <= i < s[9] and s[7] <= j < s[10] and s[8] <= k < s[11]:
        row = int64(s[9]) - int64(s[6])
        layer = row * (int64(s[10]) - int64(s[7]))
        upper = (int64(math.floor(k)) - int64(s[8])) * layer + (int64(math.floor(j)) - int64(s[7])) * row
        return upper + int64(math.floor(i)) - int64(s[6])  # type: ignore[no-any-return]
    return int64(-1)  # type: ignore[no-any-return]


@_device
def hashed(key: int) -> int:
    """32 bits to 32 bits, one to one (Wellons, Hash Prospector, 2018: multipliers by search); no product overflows."""
    key = ((key ^ (key >> 16)) * 0x21F0AAAD) & LOW
    key = ((key ^ (key >> 15)) * 0x735A2D97) & LOW
    return key ^ (key >> 15)


@_device
def find_slot(key: int, table: Array, first: int, mask: int) -> int:
    """The slot of a key among mask + 1 from `first`, which are at most half full; claimed if it was free."""
    wanted = int32(key - 2**31)
    home: int = hashed(key) & mask
    held = table[first + home, KEY]
    while held != wanted:
        if held == FREE:
            held = cuda.atomic.cas(table, (first + home, KEY), FREE, wanted)
            if held == FREE:
                break
        else:
            home = (home + 1) & mask
            held = table[first + home, KEY]
    return first + home


@_kernel
def insert(points: Array, spans: Array, scales: Array, table: Array, slots: Array, summary: Array) -> None:
    """The slot of each point or -1, and of each slot the first point and their number; counts points not finite."""
    for sweep in range(cuda.blockIdx.y, len(scales), cuda.gridDim.y):
        begin, end = spans[sweep, BEGIN], spans[sweep, END]
        for i in range(begin + cuda.grid(2)[0], end, cuda.gridsize(2)[0]):
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            key, slot = cell_key(x, y, z, scales[sweep]), int64(-1)
            if key >= 0:
                slot = find_slot(key, table, spans[sweep, TABLE], spans[sweep, MASK])
                if table[slot, FIRST] > i:
                    cuda.atomic.min(table, (slot, FIRST), int32(i))
                cuda.atomic.add(table, (slot, COUNT), 1)
            elif not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
                cuda.atomic.add(summary, (sweep, 1), 1)
            slots[i] = slot


@_kernel
def mark(slots: Array, table: Array, points: int, sums: Array) -> None:
    """At the first point of each voxel 1 << 32 + the number of its points, else 0."""
    for i in range(cuda.grid(1), points + 1, cuda.gridsize(1)):
        value = int64(0)
        if i < points and slots[i] >= 0 and table[slots[i], FIRST] == i:
            value = (int64(1) << 32) + table[slots[i], COUNT]
        sums[i] = value


@_kernel
def scan(values: Array, totals: Array, count: int, share: int) -> None:
    """Sums of all before, in place, of the first `count` values of each block, `share` a thread; totals of the blocks.

    Within a block by Hillis and Steele, Data Parallel Algorithms, CACM 1986. Takes 8 bytes of shared memory per thread.
    """
    sums = cuda.shared.array(0, int64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    begin = cuda.grid(1) * share
    end = begin + share if begin + share < count else count
    total = int64(0)
    for i in range(begin, end):
        total += values[i]
    sums[thread] = total
    cuda.syncthreads()
    apart = 1
    while apart < threads:
        left = sums[thread - apart] if thread >= apart else int64(0)
        cuda.syncthreads()
        sums[thread] += left
        cuda.syncthreads()
        apart *= 2
    before = sums[thread] - total
    for i in range(begin, end):
        value = values[i]
        values[i] = before
        before += value
    if thread == threads - 1:
        totals[cuda.blockIdx.x] = before


@_kernel
def add_totals(values: Array, totals: Array, count: int, stretch: int) -> None:
    """Finish `scan` of several blocks of `stretch` values, given the sums of all totals before."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        values[i] += totals[i // stretch]


@_kernel
def summarize(spans: Array, sums: Array, summary: Array) -> None:
    """Voxels and their points before each sweep, and of all, to the first column of summary i64 (sweeps + 1, 2)."""
    for sweep in range(cuda.grid(1), len(spans), cuda.gridsize(1)):
        summary[sweep, 0] = sums[spans[sweep, BEGIN]]


@_kernel
def measure(points: Array, spans: Array, scales: Array, edges: Array) -> None:
    """Least and largest x, y, z of each sweep's finite points in cells, to edges f32 (sweeps, 6) of inf and -inf."""
    for sweep in range(cuda.blockIdx.y, len(scales), cuda.gridDim.y):
        s = scales[sweep]
        begin, end = spans[sweep, BEGIN], spans[sweep, END]
        for i in range(begin + cuda.grid(2)[0], end, cuda.gridsize(2)[0]):
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            if math.isfinite(x) and math.isfinite(y) and math.isfinite(z):
                for axis in range(3):
                    cell = (points[i, axis] - s[axis]) / s[3 + axis]
                    if cell < edges[sweep, axis]:
                        cuda.atomic.min(edges, (sweep, axis), cell)
                    if cell > edges[sweep, 3 + axis]:
                        cuda.atomic.max(edges, (sweep, 3 + axis), cell)


@_kernel
def list_voxels(
    spans: Array,
    scales: Array,
    slots: Array,
    table: Array,
    sums: Array,
    coords: Array,
    counts: Array,
    segments: Array,
    most: int,
) -> None:
    """Number the voxels by their first points, as many of each sweep as spans have room for, -1 to the others.

    counts: of the points up to `most`.
    """
    for sweep in range(cuda.blockIdx.y, len(scales), cuda.gridDim.y):
        begin, end = spans[sweep, BEGIN], spans[sweep, END]
        for i in range(begin + cuda.grid(2)[0], end, cuda.gridsize(2)[0]):
            slot = slots[i]
            if slot >= 0 and table[slot, FIRST] == i:
                row = spans[sweep, ROW] + (sums[i] >> 32) - (sums[begin] >> 32)
                if row < spans[sweep + 1, ROW]:
                    segments[row, 0], segments[row, 1] = sums[i] & LOW, table[slot, COUNT]
                    counts[row] = table[slot, COUNT] if table[slot, COUNT] < most else most
                    unpack_key(int64(table[slot, KEY]) + 2**31, scales[sweep], coords[row])
                else:
                    row = int64(-1)
                table[slot, VOXEL] = row


@_device
def unpack_key(key: int, s: Array, coords: Array) -> None:
    """The coordinates z, y, x of a cell."""
    row = int64(s[9]) - int64(s[6])
    layer = row * (int64(s[10]) - int64(s[7]))
    z, rest = key // layer, key % layer
    coords[0], coords[1], coords[2] = z + int64(s[8]), rest // row + int64(s[7]), rest % row + int64(s[6])


@_kernel
def number(slots: Array, table: Array, points: int, numbers: Array) -> None:
    """The voxel of each point, -1 for none."""
    for i in range(cuda.grid(1), points, cuda.gridsize(1)):
        numbers[i] = table[slots[i], VOXEL] if slots[i] >= 0 else int32(-1)


@_kernel
def scatter(slots: Array, table: Array, points: int, segments: Array, order: Array, long: Array) -> None:
    """Points to their voxels' segments, as the race has it; moves the first column of segments on to their ends."""
    if cuda.grid(1) == 0:
        long[0] = 0
    for i in range(cuda.grid(1), points, cuda.gridsize(1)):
        if slots[i] >= 0 and table[slots[i], VOXEL] >= 0:
            order[cuda.atomic.add(segments, (table[slots[i], VOXEL], 0), 1)] = i


@_kernel
def sort_short(order: Array, segments: Array, voxels: int, long: Array) -> None:
    """Sort segments of up to SHORT points by insertion, a thread each; list the others in long i32, their number first.

    Leaves the begin of each segment in its first column again.
    """
    for row in range(cuda.grid(1), voxels, cuda.gridsize(1)):
        end, length = segments[row, 0], segments[row, 1]
        begin = end - length
        segments[row, 0] = begin
        if length > SHORT:
            long[1 + cuda.atomic.add(long, 0, 1)] = row
            continue
        for unsorted in range(begin + 1, end):
            at, point = unsorted, order[unsorted]
            while at > begin and order[at - 1] > point:
                order[at] = order[at - 1]
                at -= 1
            order[at] = point


@_device
def exchange(order: Array, begin: int, length: int, width: int, mirrored: bool) -> None:
    """One step of a sorting network over blocks of `width`: each pair across the middle, equally far from it or half a
    width apart."""
    half = width >> 1
    pair = int64(cuda.threadIdx.x)
    low = pair // half * width + pair % half
    while low < length:
        high = low + half
        if mirrored:
            high = low + width - 1 - 2 * (pair % half)
        if high < length and order[begin + low] > order[begin + high]:
            order[begin + low], order[begin + high] = order[begin + high], order[begin + low]
        pair += cuda.blockDim.x
        low = pair // half * width + pair % half
    cuda.syncthreads()


@_kernel
def sort_long(order: Array, segments: Array, long: Array) -> None:
    """Sort the listed segments, a block each (Batcher, Sorting Networks, AFIPS 1968: the bitonic sorter with all
    comparisons one way, so that the places behind the last point may be left out)."""
    for listed in range(cuda.blockIdx.x, long[0], cuda.gridDim.x):
        row = long[1 + listed]
        begin, length = int64(segments[row, 0]), int64(segments[row, 1])
        merged = int64(2)
        while merged < 2 * length:
            exchange(order, begin, length, merged, True)
            width = merged >> 1
            while width > 1:
                exchange(order, begin, length, width, False)
                width >>= 1
            merged *= 2


@_kernel
def average(points: Array, order: Array, segments: Array, spans: Array, means: Array) -> None:
    """Means of all features, summed as on the CPU: first runs of neighbouring points within a chunk, then those."""
    features = int64(points.shape[1])
    for sweep in range(cuda.blockIdx.y, len(spans) - 1, cuda.gridDim.y):
        begin = spans[sweep, ROW] * features + cuda.grid(2)[0]
        for item in range(begin, spans[sweep + 1, ROW] * features, cuda.gridsize(2)[0]):
            row, feature = item // features, item % features
            first, length = segments[row, 0], segments[row, 1]
            total, run, before = float32(0), float32(0), int64(-2)
            for at in range(first, first + length):
                i = int64(order[at])
                if i != before + 1 or (i - spans[sweep, BEGIN]) % CHUNK == 0:
                    total += run
                    run = float32(0)
                run += points[i, feature]
                before = i
            means[row, feature] = (total + run) * (float32(1) / float32(length))


@_kernel
def gather(points: Array, order: Array, segments: Array, counts: Array, rows: int, voxels: Array) -> None:
    """The kept points of each voxel and zeros behind them."""
    most = int64(voxels.shape[1])
    for item in range(cuda.grid(1), rows * most, cuda.gridsize(1)):
        row, place = item // most, item % most
        at = segments[row, 0] + place
        for feature in range(points.shape[1]):
            voxels[row, place, feature] = points[order[at], feature] if place < counts[row] else float32(0)


@_kernel
def find_middles(
    points: Array, order: Array, segments: Array, counts: Array, rows: int, coords: Array, scales: Array, middles: Array
) -> None:
    """Mean x, y, z of each pillar's kept points, and x, y of its centre from the grid's corner, in m: f32 (rows, 5).

    A pass of its own, as products and sums in one place would be fused, and round otherwise than the CPU's.
    """
    for row in range(cuda.grid(1), rows, cuda.gridsize(1)):
        share = float32(1) / float32(counts[row])
        for axis in range(3):
            total = float32(0)
            for at in range(segments[row, 0], segments[row, 0] + counts[row]):
                total += points[order[at], axis]
            middles[row, axis] = total * share
        for axis in range(2):
            middles[row, 3 + axis] = (float32(coords[row, 2 - axis]) + float32(0.5)) * scales[0, 3 + axis]


@_kernel
def decorate(
    points: Array,
    order: Array,
    segments: Array,
    counts: Array,
    rows: int,
    scales: Array,
    middles: Array,
    features: Array,
) -> None:
    """Each kept point's own features, its offsets from the pillar's mean and from its centre; zeros behind the last."""
    most, width = int64(features.shape[1]), points.shape[1]
    for item in range(cuda.grid(1), rows * most, cuda.gridsize(1)):
        row, place = item // most, item % most
        if place < counts[row]:
            point = order[segments[row, 0] + place]
            for feature in range(width):
                features[row, place, feature] = points[point, feature]
            for axis in range(3):
                features[row, place, width + axis] = points[point, axis] - middles[row, axis]
            for axis in range(2):
                middle = scales[0, axis] + middles[row, 3 + axis]
                features[row, place, width + 3 + axis] = points[point, axis] - middle
        else:
            for feature in range(width + 5):
                features[row, place, feature] = 0
