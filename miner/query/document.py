"""Queries as YAML or JSON: the tree of `miner.query.tree` in maps and lists, for files and for HTTP.

    fuse:
      - text: a truck at night
        weight: 2
      - lidar: sweep.bin
      - and: [rain, {not: night}, {count: truck, ">=": 2}]
        weight: -1

A concept is its name; everything else is a map with one key that says what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from miner.errors import UsageError
from miner.query.text import MAX_CHARACTERS
from miner.query.tree import (
    COMPARISONS,
    MAX_DEPTH,
    MAX_TERMS,
    And,
    Concept,
    Count,
    Disagree,
    Frames,
    Fuse,
    Image,
    Lidar,
    Like,
    Node,
    Not,
    Or,
    Text,
    Weighted,
    check_size,
    fuse,
)

KINDS = ("text", "image", "lidar", "like", "disagree", "count", "frames", "and", "or", "not", "fuse")
T = TypeVar("T")
_DEEPEST = 2 * MAX_DEPTH


def to_document(node: Node) -> Any:
    """A tree as JSON values; `from_document` makes the same tree of them."""
    if isinstance(node, Fuse):
        return {"fuse": [_weighted_document(part) for part in node.parts]}
    if isinstance(node, And | Or):
        return {"and" if isinstance(node, And) else "or": [to_document(part) for part in node.parts]}
    if isinstance(node, Not):
        return {"not": to_document(node.part)}
    if isinstance(node, Concept):
        return node.name
    if isinstance(node, Text):
        return {"text": node.text}
    if isinstance(node, Image | Lidar):
        return {"image" if isinstance(node, Image) else "lidar": node.uri}
    if isinstance(node, Like):
        return {"like": node.id} | ({"sensor": node.sensor} if node.sensor else {})
    if isinstance(node, Disagree):
        return {"disagree": {"alike": node.alike, "unlike": node.unlike}}
    if isinstance(node, Count):
        return {"count": node.concept, node.comparison: node.number}
    return {"frames": to_document(node.of), node.comparison: node.number}


def from_document(value: Any) -> Node:
    """The tree that JSON values are. Raises UsageError naming the place, such as `fuse[1].and[0]`."""
    return check_size(_Reader().node(value, ""))


def to_yaml(node: Node) -> str:
    """A tree as YAML."""
    import yaml

    return str(yaml.safe_dump(to_document(node), sort_keys=False, width=100))


def from_yaml(text: str) -> Node:
    """The tree that a YAML document is. Raises UsageError with the line, or the place in the tree."""
    import yaml

    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the query has {len(text):,} characters, at most {MAX_CHARACTERS:,} are allowed")
    try:
        return from_document(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', error)}" if mark else str(error).partition("\n")[0]
        raise UsageError(f"the query is no YAML: {where}") from error


def _weighted_document(part: Weighted) -> Any:
    document = to_document(part.part)
    if part.weight == 1:
        return document
    weight = int(part.weight) if part.weight == int(part.weight) else part.weight
    if isinstance(document, str):
        return {"concept": document, "weight": weight}
    return {**document, "weight": weight}


class _Reader:
    """Reads values; counts them, as aliases of YAML make a large tree of a small file."""

    def __init__(self) -> None:
        self._seen = 0

    def node(self, value: Any, place: str, depth: int = 0) -> Node:
        self._seen += 1
        if self._seen > 4 * MAX_TERMS or depth > _DEEPEST:
            _refuse(place, f"more than {MAX_TERMS} terms, or nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            return _checked(place, Concept, value)
        if not isinstance(value, Mapping):
            _refuse(place, f"expected the name of a concept or a map, got {value!r:.60}")
        kinds = [key for key in value if key in KINDS]
        if len(kinds) != 1:
            _refuse(place, f"expected exactly one of {', '.join(KINDS)} in {sorted(map(str, value))!r:.100}")
        kind = kinds[0]
        rest = {key: each for key, each in value.items() if key != kind}
        node = self._of(kind, value[kind], rest, f"{place}.{kind}".lstrip("."), depth)
        if rest:
            _refuse(place, f"{next(iter(rest))!r} has no meaning beside {kind!r}")
        return node

    def _of(self, kind: str, value: Any, rest: dict[Any, Any], place: str, depth: int) -> Node:
        if kind in ("and", "or"):
            parts = tuple(self.node(each, f"{place}[{i}]", depth + 1) for i, each in enumerate(_listed(value, place)))
            joined: Callable[..., Node] = And if kind == "and" else Or
            return _checked(place, joined, parts)
        if kind == "fuse":
            if depth:
                _refuse(place, "a sum stands outside of everything")
            listed = enumerate(_listed(value, place))
            return _checked(place, fuse, tuple(self._weighted(each, f"{place}[{i}]") for i, each in listed))
        if kind == "not":
            return _checked(place, Not, self.node(value, place, depth + 1))
        if kind in ("count", "frames"):
            signs = [key for key in rest if key in COMPARISONS]
            if len(signs) != 1:
                _refuse(place, f"expected one of {' '.join(COMPARISONS)} with a number beside it")
            comparison = signs[0], rest.pop(signs[0])
            if kind == "count":
                return _checked(place, Count, value, *comparison)
            return _checked(place, Frames, self.node(value, place, depth + 1), *comparison)
        if kind == "disagree":
            if not isinstance(value, Mapping) or set(value) != {"alike", "unlike"}:
                _refuse(place, "expected a map of alike and unlike")
            return _checked(place, Disagree, value["alike"], value["unlike"])
        if kind == "like":
            return _checked(place, Like, value, rest.pop("sensor", None))
        single: dict[str, Callable[[str], Node]] = {"text": Text, "image": Image, "lidar": Lidar}
        return _checked(place, single[kind], value)

    def _weighted(self, value: Any, place: str) -> Weighted:
        if not isinstance(value, Mapping):
            return _checked(place, Weighted, self.node(value, place, 1))
        rest = dict(value)
        weight = rest.pop("weight", 1)
        named = rest["concept"] if set(rest) == {"concept"} else rest
        return _checked(place, Weighted, self.node(named, place, 1), weight)


def _listed(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(place, f"expected a list, got {value!r:.60}")
    return value


def _checked(place: str, kind: Callable[..., T], *values: Any) -> T:
    try:
        return kind(*values)
    except UsageError as error:
        _refuse(place, error.message, error.hint)


def _refuse(place: str, what: str, hint: str = "") -> NoReturn:
    raise UsageError(f"query{f', {place}' if place else ''}: {what}", hint)
