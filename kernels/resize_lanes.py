"""What LLVM does not find by itself in the loops of a resize: sums kept in one register, a transpose by shuffles.

Written in LLVM's own vector types, so it runs on any CPU (one AVX-512 register holds 16 float32; others take more of
theirs). Nothing is reassociated or fused: results equal those of scalar code bit for bit. Nothing checks bounds:
callers answer for the sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Lowering = tuple[Any, Callable[..., Any]]

LANES = 16

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOATS = ir.VectorType(_F32, LANES)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def sum_taps(
    context: Any, source: Any, at: Any, step: Any, weight: Any, start: Any, count: Any, out: Any, to: Any, vectors: Any
) -> Lowering:
    """out[to : to + n] = the sum of weight[start + t] * source[at + t * step : + n] over t < count; n = 16 * vectors.

    source: uint8 or float32; weight, out: float32; all contiguous (n,). at, step, start, count, to: int64, elements.
    """
    signature = types.void(
        source, types.int64, types.int64, weight, types.int64, types.int64, out, types.int64, vectors
    )
    element = _I8 if source.dtype == types.uint8 else _F32
    vector = ir.VectorType(element, LANES)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pixels, shares, sums = (_data(context, builder, signature, args, i) for i in (0, 3, 6))
        _, at, step, _, start, count, _, to, _ = args
        zeros = ir.Constant(_FLOATS, [0.0] * LANES)
        totals = [cgutils.alloca_once_value(builder, zeros) for _ in range(vectors.literal_value)]
        with cgutils.for_range(builder, count) as loop:
            place = builder.add(at, builder.mul(loop.index, step))
            share = _splat(builder, builder.load(builder.gep(shares, [builder.add(start, loop.index)])))
            for i, total in enumerate(totals):
                values = _load(builder, pixels, builder.add(place, ir.Constant(_I64, LANES * i)), vector)
                floats = values if element is _F32 else builder.uitofp(values, _FLOATS)
                builder.store(builder.fadd(builder.load(total), builder.fmul(floats, share)), total)
        for i, total in enumerate(totals):
            _store(builder, builder.load(total), sums, builder.add(to, ir.Constant(_I64, LANES * i)))
        return context.get_dummy_value()

    return signature, lower


@intrinsic  # type: ignore[untyped-decorator]
def transpose_16(context: Any, block: Any, at: Any, step: Any, out: Any, to: Any, out_step: Any) -> Lowering:
    """16 x 16 values with rows and columns swapped: row i of them is block[at + i * step : + 16], then out likewise.

    block, out: float32, contiguous (n,); at, step, to, out_step: int64, elements. Interleaving row i with row i + 8
    rotates the eight bits of an element's place by one; doing so four times swaps row and column.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (_data(context, builder, signature, args, i) for i in (0, 3))
        places = [builder.add(args[1], builder.mul(args[2], ir.Constant(_I64, i))) for i in range(LANES)]
        rows = [_load(builder, source, place, _FLOATS) for place in places]
        pairs = [lane // 2 + LANES * (lane % 2) for lane in range(2 * LANES)]
        halves = [ir.Constant(ir.VectorType(_I32, LANES), part) for part in (pairs[:LANES], pairs[LANES:])]
        for _ in range(4):
            rows = [builder.shuffle_vector(rows[i // 2], rows[i // 2 + 8], halves[i % 2]) for i in range(LANES)]
        for i, row in enumerate(rows):
            _store(builder, row, target, builder.add(args[4], builder.mul(args[5], ir.Constant(_I64, i))))
        return context.get_dummy_value()

    return types.void(block, types.int64, types.int64, out, types.int64, types.int64), lower


def _data(context: Any, builder: Any, signature: Any, args: Any, i: int) -> Any:
    return context.make_array(signature.args[i])(context, builder, args[i]).data


def _load(builder: Any, data: Any, at: Any, vector: Any) -> Any:
    place = builder.bitcast(builder.gep(data, [at]), vector.as_pointer())
    return builder.load(place, align=vector.element.width // 8 if vector.element != _F32 else 4)


def _store(builder: Any, value: Any, data: Any, at: Any) -> None:
    builder.store(value, builder.bitcast(builder.gep(data, [at]), _FLOATS.as_pointer()), align=4)


def _splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))
