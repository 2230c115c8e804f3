"""What LLVM does not find by itself in the voxel loops: strided loads by shuffles, run sums in one register, prefetch.

Everything is written in LLVM's own vector types, so it runs on any CPU (AVX-512 does 16 points an instruction, SSE and
NEON take four). Nothing is reassociated or fused: results equal those of scalar code bit for bit. Memory is passed as
addresses (uint64); callers answer for the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Lowering = tuple[Any, Callable[..., Any]]

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_F32X4 = ir.VectorType(_F32, 4)
_F32X16, _I32X16 = ir.VectorType(_F32, 16), ir.VectorType(_I32, 16)


def _lanes(lanes: Iterable[int]) -> Any:
    chosen = list(lanes)
    return ir.Constant(ir.VectorType(_I32, len(chosen)), chosen)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, empty, _lanes([0] * lanes))


def _columns(builder: Any, address: Any) -> list[Any]:
    """x, y, z of 16 points of 4 float32 each, one vector per column."""
    rows = builder.inttoptr(address, _F32X16.as_pointer())
    quarters = [builder.load(builder.gep(rows, [ir.Constant(_I32, j)]), align=4) for j in range(4)]
    columns = []
    for column in range(3):
        every_fourth = _lanes(range(column, 32, 4))
        low = builder.shuffle_vector(quarters[0], quarters[1], every_fourth)
        high = builder.shuffle_vector(quarters[2], quarters[3], every_fourth)
        columns.append(builder.shuffle_vector(low, high, _lanes(range(16))))
    return columns


def _count(builder: Any, mask: Any) -> Any:
    return builder.zext(builder.ctpop(builder.bitcast(mask, _I16)), _I64)


@intrinsic  # type: ignore[untyped-decorator]
def pack_16_keys(context: Any, points: Any, keys: Any, scale: Any, strides: Any) -> Lowering:
    """Cell keys of 16 points of 4 float32; the same arithmetic as `kernels.voxel_passes.pack_key`.

    points, keys: addresses to read and to write; scale and strides: the fields of `Cells` as tuples. Gives int64:
    points inside + points that are not finite << 32.
    """

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        points, keys, scale, strides = args
        floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_F32X16, [_F32X16]), "llvm.floor.v16f32")
        limits = [_splat(builder, builder.extract_value(scale, j), 16) for j in range(12)]
        row, layer, bias = (_splat(builder, builder.extract_value(strides, j), 16) for j in range(3))
        cells, inside, trace = [], [], []
        for axis, column in enumerate(_columns(builder, points)):
            offset = builder.fsub(column, limits[axis])
            cell = builder.call(floor, [builder.fdiv(offset, limits[3 + axis])])
            inside.append(builder.fcmp_ordered(">=", cell, limits[6 + axis]))
            inside.append(builder.fcmp_ordered("<", cell, limits[9 + axis]))
            trace.append(builder.fmul(column, ir.Constant(_F32X16, [0.0] * 16)))
            cells.append(builder.fptosi(cell, _I32X16))
        kept = inside[0]
        for mask in inside[1:]:
            kept = builder.and_(kept, mask)
        zero_or_nan = builder.fadd(builder.fadd(trace[0], trace[1]), trace[2])
        not_finite = builder.fcmp_unordered("uno", zero_or_nan, zero_or_nan)
        upper = builder.add(builder.mul(cells[2], layer), builder.mul(cells[1], row))
        key = builder.add(builder.add(upper, cells[0]), bias)
        key = builder.select(kept, key, ir.Constant(_I32X16, [-1] * 16))
        builder.store(key, builder.inttoptr(keys, _I32X16.as_pointer()), align=4)
        high = builder.shl(_count(builder, not_finite), ir.Constant(_I64, 32))
        return builder.add(_count(builder, kept), high)

    return types.int64(types.uint64, types.uint64, scale, strides), lower


@intrinsic  # type: ignore[untyped-decorator]
def sum_runs_of_4(context: Any, points: Any, keys: Any, count: Any, words: Any, sums: Any) -> Lowering:
    """Sums of 4 float32 over runs of equal neighbouring keys, without a branch: sum + point if the key is the same.

    points, keys: addresses of `count` >= 1 rows of 4 float32 and uint32; words, sums: addresses with room for as many
    runs, uint64 (key << 32 | length) and 4 float32. Gives the number of runs, int64.
    """
    signature = types.int64(types.uint64, types.uint64, types.int64, types.uint64, types.uint64)

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        kinds = {0: _F32X4, 1: _I32, 3: _I64, 4: _F32X4}
        pointers = {place: builder.inttoptr(args[place], kind.as_pointer()) for place, kind in kinds.items()}
        unlike_first = builder.not_(builder.load(pointers[1]))
        before, loop = builder.block, builder.append_basic_block("loop")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i, run, last, length, total = (builder.phi(kind) for kind in (_I64, _I64, _I32, _I64, _F32X4))
        key = builder.load(builder.gep(pointers[1], [i]))
        same = builder.icmp_unsigned("==", key, last)
        point = builder.load(builder.gep(pointers[0], [i]), align=4)
        new_total = builder.select(_splat(builder, same, 4), builder.fadd(total, point), point)
        new_length = builder.add(builder.and_(length, builder.sext(same, _I64)), ir.Constant(_I64, 1))
        new_run = builder.add(run, builder.zext(builder.not_(same), _I64))
        word = builder.or_(builder.shl(builder.zext(key, _I64), ir.Constant(_I64, 32)), new_length)
        builder.store(new_total, builder.gep(pointers[4], [new_run]), align=4)
        builder.store(word, builder.gep(pointers[3], [new_run]))
        after = builder.add(i, ir.Constant(_I64, 1))
        builder.cbranch(builder.icmp_signed("<", after, args[2]), loop, done)
        starts = [ir.Constant(_I64, 0), ir.Constant(_I64, -1), unlike_first, ir.Constant(_I64, 0)]
        starts.append(ir.Constant(_F32X4, [0.0] * 4))
        nexts = [after, new_run, key, new_length, new_total]
        for phi, start, following in zip((i, run, last, length, total), starts, nexts, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(following, loop)
        builder.position_at_end(done)
        return builder.add(new_run, ir.Constant(_I64, 1))

    return signature, lower


def _copy(kind: Any) -> Lowering:
    def lower(machine: Any, builder: Any, __: Any, args: Any) -> Any:
        target, source = (builder.inttoptr(address, kind.as_pointer()) for address in args)
        builder.store(builder.load(source, align=4), target, align=4)
        return machine.get_dummy_value()

    return types.void(types.uint64, types.uint64), lower


@intrinsic  # type: ignore[untyped-decorator]
def copy_4(context: Any, target: Any, source: Any) -> Lowering:
    """4 float32 from one address to another."""
    return _copy(_F32X4)


@intrinsic  # type: ignore[untyped-decorator]
def add_4(context: Any, target: Any, source: Any) -> Lowering:
    """4 float32 at one address added to those at another."""

    def lower(machine: Any, builder: Any, __: Any, args: Any) -> Any:
        target, source = (builder.inttoptr(address, _F32X4.as_pointer()) for address in args)
        total = builder.fadd(builder.load(target, align=4), builder.load(source, align=4))
        builder.store(total, target, align=4)
        return machine.get_dummy_value()

    return types.void(types.uint64, types.uint64), lower


@intrinsic  # type: ignore[untyped-decorator]
def copy_1(context: Any, target: Any, source: Any) -> Lowering:
    """1 float32 from one address to another."""
    return _copy(_F32)


def _prefetch(to_write: bool) -> Lowering:
    def lower(target: Any, builder: Any, __: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        write, keep_in_all_levels, data = (ir.Constant(_I32, value) for value in (int(to_write), 3, 1))
        builder.call(function, [builder.inttoptr(args[0], pointer), write, keep_in_all_levels, data])
        return target.get_dummy_value()

    return types.void(types.uint64), lower


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_to_write(context: Any, address: Any) -> Lowering:
    """Ask for the cache line of an address, which will be written soon."""
    return _prefetch(True)


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_to_read(context: Any, address: Any) -> Lowering:
    """Ask for the cache line of an address, which will be read soon. One that is not mapped is ignored."""
    return _prefetch(False)
