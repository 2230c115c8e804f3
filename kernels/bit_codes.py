"""Inner products with vectors of which one bit a number is known: RaBitQ (Gao & Long 2024, arXiv:2405.12497).

A vector x in the list of a centre c is kept as the signs of x - c and a factor, |x - c|^2 / |x - c|_1. Times a query q
it is about <q, c> + factor * sum(+-q_i), without bias if a random rotation was applied to all. The numbers of a query
are rounded to 4 bits, once for all lists, so that the sum is a few counts of bits: popcount(code & plane).

The codes are read where they are, laid out as FAISS writes those of IndexIVFRaBitQ: ceil(d / 8) bytes of signs, four
bytes that an inner product does not need, and factor * sqrt(d) as float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import int64, types, uint64
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels._jit import jit

Lowering = tuple[Any, Callable[..., Any]]

_PLANES = 4  # bits of a number of the query
_LEVELS = np.float32((1 << _PLANES) - 1)
_ROOM = 4  # times what is wanted is gathered before the best of it are kept
_ALL = np.empty(0, np.uint8)
_I64, _F32 = ir.IntType(64), ir.FloatType()


class CodeLists(NamedTuple):
    """Where lists of codes are: addresses of the codes and of the ids (int64) of each, (lists,) uint64, and how many it
    has, (lists,) int64. Who made it keeps the memory alive."""

    codes: NDArray[np.uint64]
    ids: NDArray[np.uint64]
    sizes: NDArray[np.int64]


def code_size(dim: int) -> int:
    """Bytes of the code of a vector."""
    return -(-dim // 8) + 8


def best_coded(
    lists: CodeLists,
    queries: NDArray[np.float32],
    chosen: NDArray[np.int64],
    centre_scores: NDArray[np.float32],
    count: int,
    allowed: NDArray[np.uint8] = _ALL,
) -> NDArray[np.int64]:
    """The ids of about the `count` vectors with the largest inner products with each of some queries (q, d).

    `chosen` (q, m) are the lists to read for each, quickest where the best come first, `centre_scores` (q, m) the inner
    products with their centres. `allowed`: bit i of it, little-endian, says whether id i may be found; all may if it is
    empty. Gives int64 (q, count), best first, -1 where there are no more.
    """
    words = -(-queries.shape[1] // 64)
    found = np.full((len(queries), max(count, 1)), -1, np.int64)
    ones = np.packbits(np.arange(64 * words) < queries.shape[1], bitorder="little").view(np.uint64)
    _search(lists, np.ascontiguousarray(queries), chosen, centre_scores, allowed, ones, (0,) * words, found)
    return found[:, :count]


@intrinsic  # type: ignore[untyped-decorator]
def _counted(context: Any, code: Any, planes: Any, words: Any) -> Lowering:
    """Bits of a code: those that each plane has too, times 2^plane, and in the upper half those of the last plane.

    code, planes: addresses (uint64) of as many words of 64 bits as the tuple `words` has, and of 5 times as many. Loads
    are of whole words: up to 8 bytes behind the signs are read.
    """
    kind = ir.VectorType(_I64, words.count)

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        suffix = f"v{words.count}i64"
        pop = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), f"llvm.ctpop.{suffix}")
        add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_I64, [kind]), f"llvm.vector.reduce.add.{suffix}"
        )
        signs = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
        total = ir.Constant(kind, [0] * words.count)
        for place, shift in enumerate((*range(_PLANES), 32)):
            address = builder.add(args[1], ir.Constant(_I64, place * words.count * 8))
            plane = builder.load(builder.inttoptr(address, kind.as_pointer()), align=8)
            both = builder.call(pop, [builder.and_(signs, plane)])
            total = builder.add(total, builder.shl(both, ir.Constant(kind, [shift] * words.count)))
        return builder.call(add, [total])

    return types.int64(types.uint64, types.uint64, words), lower


def _load(kind: Any) -> Callable[..., Any]:
    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)

    return lower


@intrinsic  # type: ignore[untyped-decorator]
def _float_at(context: Any, address: Any) -> Lowering:
    """The float32 at an address (uint64), which may be odd."""
    return types.float32(types.uint64), _load(_F32)


@intrinsic  # type: ignore[untyped-decorator]
def _id_at(context: Any, address: Any) -> Lowering:
    """The int64 at an address (uint64), which may be odd."""
    return types.int64(types.uint64), _load(_I64)


@jit
def _search(
    lists: CodeLists,
    queries: NDArray[np.float32],
    chosen: NDArray[np.int64],
    centre_scores: NDArray[np.float32],
    allowed: NDArray[np.uint8],
    ones: NDArray[np.uint64],
    words: tuple[int, ...],
    found: NDArray[np.int64],
) -> None:
    d, count = queries.shape[1], found.shape[1]
    factor_at, size = uint64((d + 7) // 8 + 4), uint64((d + 7) // 8 + 8)
    per_bit = np.float32(2.0 / np.sqrt(d))
    planes = np.empty((_PLANES + 1, len(words)), np.uint64)
    planes[_PLANES] = ones
    scores, ids = np.empty(_ROOM * count, np.float32), np.empty(_ROOM * count, np.int64)
    for i in range(len(queries)):
        low, step, half = _split(queries[i], planes)
        least, have = np.float32(-np.inf), 0
        for j in range(chosen.shape[1]):
            number = chosen[i, j]
            code, id_ = lists.codes[number], lists.ids[number]
            for _ in range(lists.sizes[number]):
                bits = _counted(code, uint64(planes.ctypes.data), words)
                total = step * np.float32(bits & int64(0xFFFFFFFF)) + low * np.float32(bits >> int64(32))
                score = centre_scores[i, j] + _float_at(code + factor_at) * per_bit * (total - half)
                if score > least and (not len(allowed) or _has(allowed, _id_at(id_))):
                    scores[have], ids[have] = score, _id_at(id_)
                    have += 1
                    if have == len(scores):
                        least, have = _keep(scores, ids, have, count), count
                code += size
                id_ += uint64(8)
        if have > count:
            _keep(scores, ids, have, count)
            have = count
        order = np.argsort(-scores[:have], kind="mergesort")
        for place in range(have):
            found[i, place] = ids[order[place]]


@jit
def _split(query: NDArray[np.float32], planes: NDArray[np.uint64]) -> tuple[np.float32, np.float32, np.float32]:
    """The query rounded to low + step * integers of 4 bits, the bits of which fill `planes`; low, step and half its
    sum."""
    low = query.min()
    step = max((query.max() - low) / _LEVELS, np.finfo(np.float32).tiny)
    planes[:_PLANES] = 0
    for i in range(len(query)):
        level = uint64((query[i] - low) / step + np.float32(0.5))
        for plane in range(_PLANES):
            planes[plane, i >> 6] |= (level >> uint64(plane) & uint64(1)) << uint64(i & 63)
    return low, step, query.sum() / np.float32(2.0)


@jit
def _keep(scores: NDArray[np.float32], ids: NDArray[np.int64], have: int, count: int) -> np.float32:
    """Move the best `count` of the first `have` to the front, in the order they came in. Gives the least of them."""
    least: np.float32 = np.partition(scores[:have], have - count)[have - count]
    ties = count - np.sum(scores[:have] > least)
    kept = 0
    for i in range(have):
        if scores[i] > least or (scores[i] == least and ties > 0):
            ties -= scores[i] == least
            scores[kept], ids[kept] = scores[i], ids[i]
            kept += 1
    return least


@jit
def _has(bits: NDArray[np.uint8], number: int) -> bool:
    return number >> 3 < len(bits) and bits[number >> 3] >> (number & 7) & 1 == 1
