"""Queries as YAML and JSON: the way there and back, and what is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.errors import UsageError
from miner.query.document import from_document, from_yaml, to_document, to_yaml
from miner.query.text import parse_query
from miner.query.tree import Node
from tests.miner.query.trees import TREES

TEXT = '"a truck at night"^2 + lidar("sweep.bin") - (rain NOT night AND count(truck) >= 2)'
YAML = """
fuse:
  - text: a truck at night
    weight: 2
  - lidar: sweep.bin
  - and: [rain, {not: night}, {count: truck, ">=": 2}]
    weight: -1
"""


def test_yaml_and_text_say_the_same() -> None:
    assert from_yaml(YAML) == parse_query(TEXT)


@settings(max_examples=200)
@given(TREES)
def test_there_and_back(tree: Node) -> None:
    assert from_document(json.loads(json.dumps(to_document(tree)))) == tree
    assert from_yaml(to_yaml(tree)) == tree


REFUSED: dict[str, Any] = {
    "query, and[1].text: text: empty text": {"and": ["a", {"text": " "}]},
    "query, fuse[0].and[1]: expected the name of a concept or a map": {"fuse": [{"and": ["a", 3], "weight": 2}]},
    "query: expected exactly one of": {"text": "a", "image": "b"},
    "query, fuse: a sum stands outside of everything": None,
    "query: 'sensor' has no meaning beside 'text'": {"text": "a", "sensor": "camera"},
    "query, count: expected one of": {"count": "a"},
    "query, count: 2.5: expected a whole number": {"count": "a", ">": 2.5},
    "query, disagree: expected a map": {"disagree": "camera"},
    "query, not: lidar ranks but has no probability": {"not": {"lidar": "x"}},
    "query, fuse[0]: weight 'x': expected a number": {"fuse": [{"text": "a", "weight": "x"}]},
    "query, and: expected a list": {"and": "a"},
}


@pytest.mark.parametrize("said", [said for said, value in REFUSED.items() if value is not None])
def test_refused_with_its_place(said: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_document(REFUSED[said])
    assert refused.value.message.startswith(said)


def test_a_small_file_cannot_make_a_large_tree() -> None:
    doubled = [f"- &a{i} {{and: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 30)]
    bomb = "\n".join(["and:", "- &a0 x", *doubled])
    for text in (bomb, "&a {not: *a}", "{{{", "!!python/x y", "and: [a, b"):
        with pytest.raises(UsageError):
            from_yaml(text)


KEYS = "and or not text fuse weight count >= like sensor disagree frames".split()


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)


@settings(max_examples=100)
@given(st.recursive(st.sampled_from([None, 2, "", "x y", "a", "night"]), _nested, max_leaves=10))
def test_any_document_is_a_tree_or_refused(value: Any) -> None:
    try:
        tree = from_document(value)
    except UsageError:
        return
    assert from_document(to_document(tree)) == tree
