"""What a query means, as a typed tree. `miner.query.text` and `miner.query.document` write and read it.

Leaves that rank: `Text`, `Image`, `Lidar`, `Like`, `Disagree`. Leaves that are true with a probability: `Concept`, and
a `Text` below AND, OR, NOT, which is a concept without a name; `Count` and `Frames` are true or false. `And`, `Or`,
`Not` join probabilities, `Fuse` adds up weighted parts of any kind and therefore stands only at the root.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from miner.errors import UsageError

MAX_TEXT = 1_000
MAX_TERMS = 100
MAX_DEPTH = 16
MAX_NUMBER = 1_000_000
MIN_WEIGHT, MAX_WEIGHT = 0.001, 1_000.0

Sensor = Literal["camera", "lidar"]
Comparison = Literal["=", "<", "<=", ">", ">="]
SENSORS: tuple[str, ...] = get_args(Sensor)
COMPARISONS: tuple[str, ...] = get_args(Comparison)
RESERVED = frozenset(
    {"and", "or", "not", "image", "lidar", "like", "disagree", "count", "frames", "camera", "fuse", "text", "weight"}
)
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Text:
    """What is to be seen, in words."""

    text: str

    def __post_init__(self) -> None:
        check_string("text", self.text)


@dataclass(frozen=True)
class Image:
    """A picture that looks like it, by path or URI."""

    uri: str

    def __post_init__(self) -> None:
        check_string("image", self.uri)


@dataclass(frozen=True)
class Lidar:
    """A LiDAR sweep that looks like it, by path or URI."""

    uri: str

    def __post_init__(self) -> None:
        check_string("lidar", self.uri)


@dataclass(frozen=True)
class Like:
    """A reading or clip of the lake, by id. `sensor` says by which sensor a clip is compared; None leaves it open."""

    id: str
    sensor: Sensor | None = None

    def __post_init__(self) -> None:
        check_string("like", self.id)
        _check_one_of("sensor", self.sensor, (None, *SENSORS))


@dataclass(frozen=True)
class Disagree:
    """Clips whose nearest clips by the sensor `alike` are far from them by the sensor `unlike`."""

    alike: Sensor
    unlike: Sensor

    def __post_init__(self) -> None:
        for sensor in (self.alike, self.unlike):
            _check_one_of("sensor", sensor, SENSORS)
        if self.alike == self.unlike:
            raise UsageError(f"disagree({self.alike}, {self.unlike}): a sensor agrees with itself")


@dataclass(frozen=True)
class Concept:
    """A calibrated concept, by name."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True)
class Count:
    """How many annotated objects of a concept the clip has."""

    concept: str
    comparison: Comparison
    number: int

    def __post_init__(self) -> None:
        check_name(self.concept)
        _check_comparison(self.comparison, self.number)


@dataclass(frozen=True)
class Frames:
    """In how many camera frames of the clip a concept is likelier than not."""

    of: Concept | Text
    comparison: Comparison
    number: int

    def __post_init__(self) -> None:
        if not isinstance(self.of, Concept | Text):
            raise UsageError(f"frames of {self.of!r}: expected a concept or a text")
        _check_comparison(self.comparison, self.number)


@dataclass(frozen=True)
class And:
    """All parts, taken as independent."""

    parts: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_parts("AND", self.parts)


@dataclass(frozen=True)
class Or:
    """At least one of the parts, taken as independent."""

    parts: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_parts("OR", self.parts)


@dataclass(frozen=True)
class Not:
    """The part does not hold: the complement of its probability, never a sentence with a `not` in it."""

    part: Node

    def __post_init__(self) -> None:
        _check_operand("NOT", self.part)


@dataclass(frozen=True)
class Weighted:
    """A part of a sum. Below zero it is to be avoided."""

    part: Node
    weight: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.part, Fuse | Weighted) or not isinstance(self.part, NODES):
            raise UsageError("a part of a sum is a leaf, or AND, OR, NOT of leaves")
        weight = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise UsageError(f"weight {weight!r}: expected a number")
        if not MIN_WEIGHT <= abs(weight) <= MAX_WEIGHT:
            raise UsageError(f"weight {weight:g}: expected {MIN_WEIGHT:g} to {MAX_WEIGHT:,.0f}, or its negative")
        object.__setattr__(self, "weight", float(weight))


@dataclass(frozen=True)
class Fuse:
    """Parts of any kind and sensor, added up on a common scale; at least one is sought."""

    parts: tuple[Weighted, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not all(isinstance(part, Weighted) for part in self.parts):
            raise UsageError("a sum is of weighted parts")
        if not any(part.weight > 0 for part in self.parts):
            raise UsageError("nothing to search for: all parts of the query are to be avoided")
        if len(self.parts) == 1 and self.parts[0].weight == 1:
            raise UsageError("a sum of one part is that part")


Leaf: TypeAlias = Text | Image | Lidar | Like | Disagree | Concept | Count | Frames
Node: TypeAlias = Leaf | And | Or | Not | Fuse
LEAVES = (Text, Image, Lidar, Like, Disagree, Concept, Count, Frames)
NODES = (*LEAVES, And, Or, Not, Fuse)
RANKING = (Text, Image, Lidar, Like)  # what becomes a vector, where it stands outside of AND, OR, NOT
LOGICAL = (And, Or, Not, Concept, Count, Frames)  # what has a probability, wherever it stands


def fuse(parts: tuple[Weighted, ...]) -> Node:
    """The sum of the parts; the part itself where there is one of weight 1."""
    return parts[0].part if len(parts) == 1 and parts[0].weight == 1 else Fuse(parts)


def children(node: Node | Weighted) -> tuple[Node, ...]:
    """The nodes right below a node."""
    if isinstance(node, And | Or):
        return node.parts
    if isinstance(node, Fuse):
        return tuple(part.part for part in node.parts)
    return (node.part,) if isinstance(node, Not | Weighted) else ()


def leaves(node: Node) -> Iterator[Leaf]:
    """All leaves, from left to right."""
    if isinstance(node, LEAVES):
        yield node
    for child in children(node):
        yield from leaves(child)


def check_size(node: Node) -> Node:
    """The tree itself. Raises UsageError for one too large or too deep."""
    terms, deepest = _size(node, 1)
    if terms > MAX_TERMS:
        raise UsageError(f"the query has {terms:,} terms, at most {MAX_TERMS} are allowed")
    if deepest > MAX_DEPTH:
        raise UsageError(f"the query is nested more than {MAX_DEPTH} deep")
    return node


def _size(node: Node, depth: int) -> tuple[int, int]:
    below = [_size(child, depth + 1) for child in children(node)] if depth <= MAX_DEPTH else []
    terms = sum(terms for terms, _ in below)
    return (terms or 1), max([depth, *(deep for _, deep in below)])


def check_string(name: str, value: Any) -> str:
    """A text, path or id as it may stand in a query. Raises UsageError saying what is wrong."""
    if not isinstance(value, str):
        raise UsageError(f"{name} = {value!r}: expected a string")
    if not value.strip():
        raise UsageError(f"{name}: empty text", f"Expected 1 to {MAX_TEXT:,} characters.")
    if len(value) > MAX_TEXT:
        raise UsageError(f"{name}: a text of {len(value):,} characters; at most {MAX_TEXT:,} are allowed")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"{name}: {value!r} is not valid Unicode")
    return value


def check_name(name: Any) -> str:
    """The name of a concept. Raises UsageError for one that cannot stand in a query."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        shown = name if not isinstance(name, str) or len(name) <= 64 else name[:64] + "..."
        raise UsageError(f"{shown!r} is no name of a concept", "Names are of a to z, 0 to 9 and _, from a letter on.")
    if name in RESERVED:
        raise UsageError(f"{name!r} is a word of the query language, not a concept")
    return name


def _check_one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} = {value!r}: expected {' or '.join(str(each) for each in allowed if each)}")


def _check_comparison(comparison: Any, number: Any) -> None:
    _check_one_of("comparison", comparison, COMPARISONS)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_NUMBER:
        raise UsageError(f"{number!r}: expected a whole number from 0 to {MAX_NUMBER:,}")


def _check_parts(word: str, parts: Any) -> None:
    if not isinstance(parts, tuple) or len(parts) < 2:
        raise UsageError(f"{word} joins two parts or more")
    for part in parts:
        _check_operand(word, part)


def _check_operand(word: str, part: Any) -> None:
    if isinstance(part, Text | And | Or | Not | Concept | Count | Frames):
        return
    if isinstance(part, Fuse):
        raise UsageError(f"a sum has no probability: it stands outside of {word}")
    name = type(part).__name__.lower()
    raise UsageError(f"{name} ranks but has no probability: add it with +, outside of {word}")
