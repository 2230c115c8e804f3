"""Queries as text: what they mean, the way there and back, and what is refused with a caret."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.errors import UsageError
from miner.query.text import MAX_CHARACTERS, parse_query, query_text
from miner.query.tree import (
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
)
from tests.miner.query.trees import TREES

A, B, C = (Concept(name) for name in "abc")
MEANT = {
    "truck AND night NOT rain": And((Concept("truck"), Concept("night"), Not(Concept("rain")))),
    "a or b and c": Or((A, And((B, C)))),
    "(a or b) and c": And((Or((A, B)), C)),
    "not a or b": Or((Not(A), B)),
    "not not A": Not(Not(A)),
    "a and (b and c)": And((A, And((B, C)))),
    'a AND "two words"': And((A, Text("two words"))),
    '"a truck"': Text("a truck"),
    '"a truck"^2': Fuse((Weighted(Text("a truck"), 2),)),
    '"a"^2 + image("x.jpg") - "b"^0.5': Fuse(
        (Weighted(Text("a"), 2), Weighted(Image("x.jpg")), Weighted(Text("b"), -0.5))
    ),
    '- "b" + lidar("s.bin")': Fuse((Weighted(Text("b"), -1), Weighted(Lidar("s.bin")))),
    'like("id", camera) - like("id", lidar)': Fuse((Weighted(Like("id", "camera")), Weighted(Like("id", "lidar"), -1))),
    "disagree(camera, lidar)": Disagree("camera", "lidar"),
    "a and b + c": Fuse((Weighted(And((A, B))), Weighted(C))),
    "(a and b)^3 + c": Fuse((Weighted(And((A, B)), 3), Weighted(C))),
    "COUNT(a) >= 2": Count("a", ">=", 2),
    'frames("a b") < 3 and a': And((Frames(Text("a b"), "<", 3), A)),
    r'"say \"no\" \u00e9 \\"': Text('say "no" é \\'),
}


@pytest.mark.parametrize("text", MEANT)
def test_means(text: str) -> None:
    assert parse_query(text) == MEANT[text]
    assert parse_query(query_text(MEANT[text])) == MEANT[text]


@settings(max_examples=300)
@given(TREES)
def test_there_and_back(tree: Node) -> None:
    assert parse_query(query_text(tree)) == tree


REFUSED = [
    ("a b", 3, "text of several words stands in double quotes"),
    ("a AND", 6, "ends where a part was expected"),
    ("AND a", 1, "makes no sense here"),
    ("'a'", 1, "text stands in double quotes"),
    ('a and "b', 7, "never closed"),
    ("a AND b^2", 8, "whose weight"),
    ("a^2 AND b", 5, "a weight is of a part of a sum"),
    ('("a" + "b") and c', 6, "a sum stands outside"),
    ('lidar("x") and c', 1, "ranks but has no probability"),
    ("nearby(a)", 1, "unknown function 'nearby'"),
    ("count(a) > 2.5", 12, "whole number"),
    ("count(a) 3", 10, "expected one of"),
    ('count("a") > 3', 7, "count takes a concept"),
    ("image(x)", 7, "double quotes"),
    ('like("x", radar)', 11, "camera or lidar"),
    ("disagree(lidar, lidar)", 1, "agrees with itself"),
    ("- a", 1, "to be avoided"),
    ('"a"^0', 1, "weight 0"),
    ('"a"^1001', 1, "weight 1001"),
    ("a and image", 7, "word of the query language"),
    ('a and "\\q"', 7, "escape"),
    ("a § b", 3, "'§' is not allowed"),
    ("(" * (MAX_DEPTH + 1) + "a", MAX_DEPTH + 1, "deep"),
    ("a or " * MAX_TERMS + "a", 5 * MAX_TERMS + 1, "more than"),
]


@pytest.mark.parametrize(("text", "column", "what"), REFUSED)
def test_refused_with_a_caret(text: str, column: int, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_query(text)
    first, window, caret = refused.value.message.split("\n")
    assert first.startswith(f"query, column {column}: ") and what in first
    place = len(caret) - 3
    assert caret.strip() == "^" and (column > len(text) or window[2:][place] == text[column - 1])


@pytest.mark.parametrize("text", ["", "  \n", "a" * (MAX_CHARACTERS + 1), '"' + "x" * 1001 + '"', '"  "', '"\\ud800"'])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_query(text)


WORDS = '"x" a and or not ( ) ^ + - 2 count frames like image disagree camera , >= lidar'.split()


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)))
def test_any_text_is_a_tree_or_refused(text: str) -> None:
    try:
        tree = parse_query(text)
    except UsageError as refused:
        assert str(refused).count("\n") <= 4
    else:
        assert parse_query(query_text(tree)) == tree
