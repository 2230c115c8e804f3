"""Trees of queries, any that are allowed."""

from __future__ import annotations

from hypothesis import strategies as st

from miner.query.tree import (
    COMPARISONS,
    MAX_NUMBER,
    RESERVED,
    SENSORS,
    And,
    Concept,
    Count,
    Disagree,
    Frames,
    Image,
    Lidar,
    Like,
    Node,
    Not,
    Or,
    Text,
    Weighted,
    fuse,
)

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())
_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True).filter(lambda name: name not in RESERVED)
_CONCEPTS = st.builds(Concept, _NAMES)
_COMPARED = (st.sampled_from(COMPARISONS), st.integers(0, MAX_NUMBER))
_TRUE = st.one_of(
    _CONCEPTS,
    st.builds(Text, _TEXTS),
    st.builds(Count, _NAMES, *_COMPARED),
    st.builds(Frames, st.one_of(_CONCEPTS, st.builds(Text, _TEXTS)), *_COMPARED),
)


def _joined(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(inner.map(Not), parts.map(And), parts.map(Or))


LOGICAL: st.SearchStrategy[Node] = st.recursive(_TRUE, _joined, max_leaves=12)
_RANKING = st.one_of(
    st.builds(Text, _TEXTS),
    st.builds(Image, _TEXTS),
    st.builds(Lidar, _TEXTS),
    st.builds(Like, _TEXTS, st.sampled_from([None, *SENSORS])),
    st.sampled_from([Disagree("camera", "lidar"), Disagree("lidar", "camera")]),
)
_WEIGHTS = st.one_of(st.sampled_from([1.0, 2.0, 0.5]), st.floats(0.001, 1000))
_SOUGHT = st.builds(Weighted, st.one_of(_RANKING, LOGICAL), _WEIGHTS)
_ANY = st.builds(lambda part, sign: Weighted(part.part, sign * part.weight), _SOUGHT, st.sampled_from([1, -1]))
TREES: st.SearchStrategy[Node] = st.one_of(
    LOGICAL,
    st.builds(lambda before, first, after: fuse((*before, first, *after)), st.lists(_ANY, max_size=3), _SOUGHT,
              st.lists(_ANY, max_size=3)),
)  # fmt: skip
