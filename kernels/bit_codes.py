"""Inner products with vectors of which one bit a number is known: RaBitQ (Gao & Long 2024, arXiv:2405.12497).

A vector x in the list of a centre c is kept as the signs of r = x - c and two numbers: factor = |r|^2 / |r|_1, and what
gives <c, r>. If a random rotation was applied to all, <v, r> is about factor * sum(+-v_i) for any v, with an error as
large as |v|. So of a query q only v = q - t c is guessed, with t = <q, c> / |c|^2, the part of it that is not along c;
<q, x> = <q, c> + t <c, r> + <v, r>. Then v is rounded to 4 bits a number, and the sum is a few counts of bits:
popcount(code & plane).

The codes are read where they are, laid out as FAISS writes those of IndexIVFRaBitQ: ceil(d / 8) bytes of signs, then
-|c|^2 - 2 <c, r> and factor * sqrt(d) as float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import int64, types, uint64
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels._jit import jit

Lowering = tuple[Any, Callable[..., Any]]

# v is rounded to the best 16 even levels for numbers that are spread normally (Max 1960, "Quantizing for minimum
# distortion"), as they are after a rotation: steps of so many deviations, the lowest so many steps below 0.
_PLANES, _STEP, _LOWEST = 4, 0.3352, -7.5
_ROOM = 4  # times what is wanted is gathered before the best of it are kept
_ANY = np.empty(0, np.uint8)
_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_F32X64, _I8X64, _I32X64 = (ir.VectorType(kind, 64) for kind in (_F32, _I8, _I32))


class CodeLists(NamedTuple):
    """Lists of codes: addresses of the codes and of the ids (int64) of each, (lists,) uint64, how many it has, (lists,)
    int64, and its centre, (lists, d in whole 64s) float32, with the sum and the sum of squares of that, (lists,).

    Who made it keeps the memory at the addresses alive.
    """

    codes: NDArray[np.uint64]
    ids: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    centres: NDArray[np.float32]
    sums: NDArray[np.float32]
    squares: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        codes: NDArray[np.uint64],
        ids: NDArray[np.uint64],
        sizes: NDArray[np.int64],
        centres: NDArray[np.float32],
    ) -> CodeLists:
        """With the sums of the centres (lists, d)."""
        squares = np.einsum("ij,ij->i", centres, centres)
        return cls(codes, ids, sizes, _whole(centres), centres.sum(axis=1), squares)


def code_size(dim: int) -> int:
    """Bytes of the code of a vector."""
    return -(-dim // 8) + 8


def best_coded(
    lists: CodeLists,
    queries: NDArray[np.float32],
    chosen: NDArray[np.int64],
    centre_scores: NDArray[np.float32],
    count: int,
    allowed: NDArray[np.uint8] | None = None,
) -> NDArray[np.int64]:
    """The ids of about the `count` vectors with the largest inner products with each of some queries (q, d).

    `chosen` (q, m) are the lists to read for each, quickest where the best come first, `centre_scores` (q, m) the inner
    products with their centres. `allowed`: bit i of it, little-endian, says whether id i may be found; all may if it is
    None. Gives int64 (q, count), best first, -1 where there are no more.
    """
    found, used = np.full((len(queries), max(count, 1)), -1, np.int64), _used(queries.shape[1])
    asked, may = (_whole(queries), chosen, centre_scores), (_ANY if allowed is None else allowed, allowed is None)
    _search(lists, asked, may, used, (0,) * len(used), queries.shape[1], found)
    return found[:, :count]


@lru_cache
def _used(dim: int) -> NDArray[np.uint64]:
    """The bits of a code that are signs."""
    return np.packbits(np.arange(dim + -dim % 64) < dim, bitorder="little").view(np.uint64)


def _whole(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (n, d), filled up with 0 to whole words of 64."""
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -rows.shape[1] % 64))) if rows.shape[1] % 64 else rows)


@intrinsic  # type: ignore[untyped-decorator]
def _counted(context: Any, code: Any, planes: Any, words: Any) -> Lowering:
    """Bits of a code: those that each plane has too, times 2^plane, and in the upper half those of the last plane.

    code, planes: addresses (uint64) of as many words of 64 bits as the tuple `words` has, and of 5 times as many. Loads
    are of whole words: up to 8 bytes behind the signs are read.
    """
    kind = ir.VectorType(_I64, words.count)

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        pop = _function(builder, f"llvm.ctpop.v{words.count}i64", kind, kind)
        add = _function(builder, f"llvm.vector.reduce.add.v{words.count}i64", _I64, kind)
        signs = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
        total = ir.Constant(kind, [0] * words.count)
        for place, shift in enumerate((*range(_PLANES), 32)):
            address = builder.add(args[1], ir.Constant(_I64, place * words.count * 8))
            plane = builder.load(builder.inttoptr(address, kind.as_pointer()), align=8)
            both = builder.call(pop, [builder.and_(signs, plane)])
            total = builder.add(total, builder.shl(both, ir.Constant(kind, [shift] * words.count)))
        return builder.call(add, [total])

    return types.int64(types.uint64, types.uint64, words), lower


@intrinsic  # type: ignore[untyped-decorator]
def _split_64(context: Any, query: Any, centre: Any, along: Any, low: Any, per_step: Any, planes: Any) -> Lowering:
    """Round 64 numbers of query - along * centre to levels of 4 bits, (number - low) * per_step, and take their bits.

    query, centre: addresses of 64 float32; planes: of a uint64 for each bit, one behind the other.
    """
    signature = types.void(types.uint64, types.uint64, types.float32, types.float32, types.float32, types.uint64)

    def lower(target: Any, builder: Any, __: Any, args: Any) -> Any:
        pointers = (builder.inttoptr(args[place], _F32X64.as_pointer()) for place in (0, 1))
        numbers, centres = (builder.load(pointer, align=4) for pointer in pointers)
        along, low, per_step = (_splat(builder, args[place]) for place in (2, 3, 4))
        level = builder.fmul(builder.fsub(builder.fsub(numbers, builder.fmul(along, centres)), low), per_step)
        level = builder.fadd(level, ir.Constant(_F32X64, [0.5] * 64))
        for name, limit in (("maxnum", 0.0), ("minnum", 15.5)):  # of NaN, the limit
            function = _function(builder, f"llvm.{name}.v64f32", _F32X64, _F32X64, _F32X64)
            level = builder.call(function, [level, ir.Constant(_F32X64, [limit] * 64)])
        levels = builder.trunc(builder.fptosi(level, _I32X64), _I8X64)
        to = builder.inttoptr(args[5], _I64.as_pointer())
        for plane in range(_PLANES):
            bits = builder.and_(levels, ir.Constant(_I8X64, [1 << plane] * 64))
            mask = builder.icmp_unsigned("!=", bits, ir.Constant(_I8X64, [0] * 64))
            builder.store(builder.bitcast(mask, _I64), builder.gep(to, [ir.Constant(_I32, plane)]))
        return target.get_dummy_value()

    return signature, lower


def _function(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_F32X64, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(_I32X64, [0] * 64))


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
    asked: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]],
    allowed: tuple[NDArray[np.uint8], bool],
    used: NDArray[np.uint64],
    words: tuple[int, ...],
    dim: int,
    found: NDArray[np.int64],
) -> None:
    queries, chosen, centre_scores = asked
    marked, all_may = allowed
    tail, count, per_bit = uint64((dim + 7) // 8), found.shape[1], np.float32(2 / np.sqrt(dim))
    planes = np.empty((_PLANES + 1, len(words)), np.uint64)
    planes[_PLANES] = used
    scores, ids = np.empty(_ROOM * count, np.float32), np.empty(_ROOM * count, np.int64)
    for i in range(len(queries)):
        least, have = np.float32(-np.inf), 0
        total_of_query, square = queries[i].sum(), np.dot(queries[i], queries[i])
        for j in range(chosen.shape[1]):
            number, score_of_centre = chosen[i, j], centre_scores[i, j]
            along = score_of_centre / max(lists.squares[number], np.finfo(np.float32).tiny)
            step = _split(queries[i], square - along * score_of_centre, lists.centres[number], along, dim, planes)
            low, half = np.float32(_LOWEST) * step, (total_of_query - along * lists.sums[number]) / np.float32(2)
            base = score_of_centre - along * lists.squares[number] / np.float32(2)
            code, id_ = lists.codes[number], lists.ids[number]
            for _ in range(lists.sizes[number]):
                bits = _counted(code, uint64(planes.ctypes.data), words)
                total = step * np.float32(bits & int64(0xFFFFFFFF)) + low * np.float32(bits >> int64(32))
                score = base - along * _float_at(code + tail) / np.float32(2)
                score += _float_at(code + tail + uint64(4)) * per_bit * (total - half)
                if score > least and (all_may or _has(marked, _id_at(id_))):
                    scores[have], ids[have] = score, _id_at(id_)
                    have += 1
                    if have == len(scores):
                        least, have = _keep(scores, ids, have, count), count
                code += tail + uint64(8)
                id_ += uint64(8)
        if have > count:
            _keep(scores, ids, have, count)
            have = count
        order = np.argsort(-scores[:have], kind="mergesort")
        for place in range(have):
            found[i, place] = ids[order[place]]


@jit
def _split(
    query: NDArray[np.float32],
    square: np.float32,
    centre: NDArray[np.float32],
    along: np.float32,
    dim: int,
    planes: NDArray[np.uint64],
) -> np.float32:
    """Fill `planes` with the bits of v = query - along * centre, which has the norm sqrt(`square`). Gives the step of
    the levels."""
    step = max(np.float32(_STEP * np.sqrt(max(square, np.float32(0)) / dim)), np.finfo(np.float32).tiny)
    bits = np.empty(_PLANES, np.uint64)
    for word in range(planes.shape[1]):
        place = uint64(256 * word)
        numbers, centres = uint64(query.ctypes.data) + place, uint64(centre.ctypes.data) + place
        per_step = np.float32(1) / step
        _split_64(numbers, centres, along, np.float32(_LOWEST) * step, per_step, uint64(bits.ctypes.data))
        for plane in range(_PLANES):
            planes[plane, word] = bits[plane] & planes[_PLANES, word]
    return step


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
