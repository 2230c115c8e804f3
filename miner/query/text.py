"""Queries as text.

    truck AND night NOT rain
    (cyclist OR "somebody on a scooter") AND count(pedestrian) >= 2
    "a truck at night"^2 + image("seen.jpg") + lidar("sweep.bin") - "rain"
    like("CLIP", camera) - like("CLIP", lidar)

A bare word is a concept, text stands in double quotes (escapes as in JSON). AND binds tighter than OR, NOT tightest;
NOT after a part means AND NOT. A sum with + and - stands outside of everything; `^` is the weight of its part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, TypeVar, cast

from miner.errors import UsageError
from miner.query.tree import (
    COMPARISONS,
    MAX_DEPTH,
    MAX_TERMS,
    SENSORS,
    And,
    Comparison,
    Concept,
    Count,
    Disagree,
    Frames,
    Fuse,
    Image,
    Leaf,
    Lidar,
    Like,
    Node,
    Not,
    Or,
    Sensor,
    Text,
    Weighted,
    check_size,
    fuse,
)

MAX_CHARACTERS = 20_000
T = TypeVar("T")
_SAY = 'A query is concepts joined by AND, OR, NOT, or a sum such as "a truck at night"^2 + image("seen.jpg").'
_TOKENS = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r'|(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign><=|>=|[()^,+\-<>=]))',
    re.DOTALL,
)
_FUNCTIONS = ("image", "lidar", "like", "disagree", "count", "frames")
_FILES: dict[str, Callable[[str], Image | Lidar]] = {"image": Image, "lidar": Lidar}
_OPERATORS = ("and", "or", "not")


class _Token(NamedTuple):
    """A word (in lower case), a number, a string (without its quotes) or a sign, and where it starts."""

    kind: str
    value: str
    place: int


def parse_query(text: str) -> Node:
    """The tree that `text` is. Raises UsageError with a caret under the place."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError("the query is empty", _SAY)
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the query has {len(text):,} characters, at most {MAX_CHARACTERS:,} are allowed")
    return _Parser(text, _tokens(text)).query()


def query_text(node: Node) -> str:
    """A tree as text; `parse_query` makes the same tree of it."""
    if not isinstance(node, Fuse):
        return _shown(node)
    said = "".join(_signed(part) for part in node.parts)
    return said.removeprefix(" + ").lstrip()


# -- reading -----------------------------------------------------------------------------------------------------------


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKENS.match(text, place)
        if match is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            _refuse(text, start, _stray(text[start]))
        kind = str(match.lastgroup)
        value, start = match[kind], match.start(kind)
        found.append(_Token(kind, _unquoted(text, value, start) if kind == "string" else value, start))
        place = match.end()
    return [*found, _Token("end", "", len(text))]


def _stray(character: str) -> str:
    if character == '"':
        return "this quote is never closed"
    if character == "'":
        return "text stands in double quotes"
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    return f"{shown!r} is not allowed in a query"


def _unquoted(text: str, quoted: str, place: int) -> str:
    try:
        value = json.loads(quoted, strict=False)
    except ValueError:
        _refuse(text, place, "this text has an escape that JSON does not know; a backslash is written \\\\")
    return str(value)


@dataclass
class _Parser:
    """Recursive descent over the tokens, one method per level of binding, loosest first."""

    text: str
    tokens: list[_Token]
    place: int = 0
    depth: int = 0
    terms: int = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def query(self) -> Node:
        parts = [self.weighted(-1.0 if self.taken("-") else 1.0)]
        while self.next.value in ("+", "-") and self.next.kind == "sign":
            parts.append(self.weighted(1.0 if self.take().value == "+" else -1.0))
        if self.next.kind != "end":
            self.refuse(self.next, self.unexpected())
        return check_size(self.checked(self.tokens[0], fuse, tuple(parts)))

    def weighted(self, sign: float) -> Weighted:
        first = self.next
        part = self.either()
        weight = 1.0
        if self.next.value == "^" and self.next.kind == "sign":
            caret = self.take()
            if isinstance(part, And | Or | Not) and self.tokens[self.place - 2].value != ")":
                self.refuse(caret, "whose weight is this? Put the part in parentheses, a weight is of a part of a sum")
            number = self.take()
            if number.kind != "number":
                self.refuse(number, "expected a weight such as 2 or 0.5")
            weight = float(number.value)
            if self.next.value.lower() in _OPERATORS and self.next.kind == "word":
                self.refuse(self.next, "a weight is of a part of a sum, not of a part of AND, OR, NOT")
        return self.checked(first, Weighted, part, sign * weight)

    def either(self) -> Node:
        first, parts = self.next, [self.both()]
        while self.taken("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else self.checked(first, Or, tuple(parts))

    def both(self) -> Node:
        first, parts = self.next, [self.negated()]
        while self.next.kind == "word" and self.next.value.lower() in ("and", "not"):
            self.taken("and")
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else self.checked(first, And, tuple(parts))

    def negated(self) -> Node:
        first = self.next
        if not self.taken("not"):
            return self.primary()
        self.deeper(first)
        part = self.negated()
        self.depth -= 1
        return self.checked(first, Not, part)

    def primary(self) -> Node:
        token = self.take()
        if token.kind == "sign" and token.value == "(":
            self.deeper(token)
            inner = self.either()
            if self.next.value in ("+", "-", "^") and self.next.kind == "sign":
                self.refuse(self.next, "a sum stands outside of AND, OR, NOT and parentheses")
            self.expect(")")
            self.depth -= 1
            return inner
        self.terms += 1
        if self.terms > MAX_TERMS:
            self.refuse(token, f"more than {MAX_TERMS} terms")
        if token.kind == "string":
            return self.checked(token, Text, token.value)
        word = token.value.lower()
        if token.kind != "word" or word in _OPERATORS:
            self.place -= token.kind != "end"
            self.refuse(token, self.unexpected())
        if self.next.value == "(" and self.next.kind == "sign":
            return self.function(token, word)
        return self.checked(token, Concept, word)

    def function(self, token: _Token, word: str) -> Leaf:
        if word not in _FUNCTIONS:
            self.refuse(token, f"unknown function {token.value!r}; known: {', '.join(_FUNCTIONS)}")
        self.expect("(")
        leaf: Leaf
        if word in ("count", "frames"):
            return self.counted(token, word)
        if word == "disagree":
            alike = self.sensor()
            self.expect(",")
            leaf = self.checked(token, Disagree, alike, self.sensor())
        elif word == "like":
            name = self.string()
            leaf = self.checked(token, Like, name, self.sensor() if self.taken(",") else None)
        else:
            leaf = self.checked(token, _FILES[word], self.string())
        self.expect(")")
        return leaf

    def counted(self, token: _Token, word: str) -> Count | Frames:
        inner = self.take()
        if inner.kind != "word" and not (inner.kind == "string" and word == "frames"):
            self.refuse(inner, f"{word} takes a concept" + (" or a text in double quotes" if word == "frames" else ""))
        of = self.checked(inner, Text if inner.kind == "string" else Concept, _name(inner))
        self.expect(")")
        comparison = self.take()
        if comparison.value not in COMPARISONS or comparison.kind != "sign":
            self.refuse(comparison, f"expected one of {' '.join(COMPARISONS)} and a whole number")
        number = self.take()
        if number.kind != "number" or not number.value.isdigit() or len(number.value) > 12:
            self.refuse(number, "expected a whole number")
        value = cast(Comparison, comparison.value), int(number.value)
        if isinstance(of, Concept) and word == "count":
            return self.checked(token, Count, of.name, *value)
        return self.checked(token, Frames, of, *value)

    def sensor(self) -> Sensor:
        token = self.take()
        if token.value.lower() not in SENSORS or token.kind != "word":
            self.refuse(token, f"expected {' or '.join(SENSORS)}")
        return cast(Sensor, token.value.lower())

    def string(self) -> str:
        token = self.take()
        if token.kind != "string":
            self.refuse(token, "expected a text in double quotes")
        return token.value

    def take(self) -> _Token:
        token = self.next
        self.place += token.kind != "end"
        return token

    def taken(self, value: str) -> bool:
        """Whether the next token is this sign or word; it is taken then."""
        found = self.next.kind in ("sign", "word") and self.next.value.lower() == value
        self.place += found
        return found

    def expect(self, value: str) -> None:
        if not self.taken(value):
            self.refuse(self.next, f"expected {value!r}")

    def deeper(self, token: _Token) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse(token, f"nested more than {MAX_DEPTH} deep")

    def unexpected(self) -> str:
        token = self.next
        if token.kind == "end":
            return "the query ends where a part was expected"
        if (token.kind == "word" and token.value.lower() not in _OPERATORS) or token.kind == "string":
            return "expected AND, OR, NOT, + or - before this; text of several words stands in double quotes"
        return f"{token.value!r} makes no sense here"

    def checked(self, token: _Token, kind: Callable[..., T], *values: object) -> T:
        """A node of these values; what is wrong with it, told with the place."""
        try:
            return kind(*values)
        except UsageError as error:
            self.refuse(token, error.message, error.hint)

    def refuse(self, token: _Token, what: str, hint: str = _SAY) -> NoReturn:
        _refuse(self.text, token.place, what, hint)


def _name(token: _Token) -> str:
    return token.value if token.kind == "string" else token.value.lower()


def _refuse(text: str, place: int, what: str, hint: str = _SAY) -> NoReturn:
    """UsageError with the line of the query around `place`, on one line of printable characters, and a caret below."""
    first = max(0, place - 40)
    window = "".join(c if c.isprintable() else "?" for c in text[first : place + 40])
    raise UsageError(f"query, column {place + 1}: {what}\n  {window}\n  {' ' * (place - first)}^", hint)


# -- writing -----------------------------------------------------------------------------------------------------------


def _signed(part: Weighted) -> str:
    inner = _shown(part.part)
    if isinstance(part.part, And | Or | Not):
        inner = f"({inner})"
    size = abs(part.weight)
    weight = "" if size == 1 else f"^{size:.17g}" if size == int(size) else f"^{size!r}"
    return f"{' + ' if part.weight > 0 else ' - '}{inner}{weight}"


def _shown(node: Node) -> str:
    if isinstance(node, And | Or):
        word = " AND " if isinstance(node, And) else " OR "
        return word.join(_operand(part) for part in node.parts)
    if isinstance(node, Not):
        return f"NOT {_operand(node.part)}"
    return _leaf(cast(Leaf, node))


def _operand(node: Node) -> str:
    return f"({_shown(node)})" if isinstance(node, And | Or) else _shown(node)


def _leaf(leaf: Leaf) -> str:
    if isinstance(leaf, Concept):
        return leaf.name
    if isinstance(leaf, Text):
        return _quoted(leaf.text)
    if isinstance(leaf, Like):
        return f"like({_quoted(leaf.id)}{f', {leaf.sensor}' if leaf.sensor else ''})"
    if isinstance(leaf, Disagree):
        return f"disagree({leaf.alike}, {leaf.unlike})"
    if isinstance(leaf, Count):
        return f"count({leaf.concept}) {leaf.comparison} {leaf.number}"
    if isinstance(leaf, Frames):
        return f"frames({_leaf(leaf.of)}) {leaf.comparison} {leaf.number}"
    return f"{'image' if isinstance(leaf, Image) else 'lidar'}({_quoted(leaf.uri)})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
