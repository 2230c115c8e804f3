"""Seeded damage to bytes: what disks, networks, writers and enemies do to files."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

_WIDTHS = "BHIQ"
_HEADER = 512
_TELLING = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def mutated(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """`content` after one to four kinds of damage; `others` are files that parts may come from."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        chance.choice(_DAMAGES)(data, others, chance)
    return bytes(data)


def _flip(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 64)) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 2, 4, 16, 100, 5000))]


def _insert(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    start, length = chance.randrange(len(data) + 1), chance.choice((1, 2, 4, 16, 100, 5000))
    fill = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    data[start:start] = fill


def _splice(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    start, length = chance.randrange(len(other) + 1), chance.choice((4, 64, 1000, 10_000))
    at = chance.randrange(len(data) + 1)
    data[at : at + chance.choice((0, length))] = other[start : start + length]


def _number(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    """A number of 1, 2, 4 or 8 bytes, mostly of the header, becomes another."""
    code = chance.choice(_WIDTHS)
    size = struct.calcsize(f"<{code}")
    end = min(len(data), _HEADER) if chance.random() < 0.7 else len(data)
    if end > size:
        at = chance.randrange(end - size)
        [before] = struct.unpack_from(f"<{code}", data, at)
        value = chance.choice((chance.choice(_TELLING), before + 1, before - 1, before * 2, chance.getrandbits(64)))
        struct.pack_into(chance.choice("<>") + code, data, at, value % (1 << 8 * size))


def _digits(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    """A number written as text becomes another."""
    places = [at for at in range(min(len(data), _HEADER)) if 48 <= data[at] <= 57]
    if places:
        at = chance.choice(places)
        data[at : at + 1] = chance.choice((b"-1", b"0", b"9999999999999", b"1e308", b"nan", b"\xd9\xa3", b"7"))


_DAMAGES: list[Callable[[bytearray, Sequence[bytes], random.Random], None]] = [
    _flip,
    _flip,
    _cut,
    _remove,
    _insert,
    _splice,
    _number,
    _number,
    _digits,
]
