"""Ranks of texts against Python's own order."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from miner.ranks import Ranks

IDS = st.lists(st.text("0123abc", min_size=20, max_size=20), max_size=30)
ANY = st.lists(st.text(max_size=12), max_size=30)


@given(st.one_of(IDS, ANY), st.integers(0, 3))
@example(["same start 1234", "same start 1233", "same start 1234"], 0)
@example(["a", "a\0", ""], 1)
def test_ranks_order_as_texts_do(texts: list[str], cut: int) -> None:
    column = pa.chunked_array([pa.array(texts[:cut], pa.string()), pa.array(texts[cut:], pa.string())])
    ranks = Ranks.of(column)
    distinct = sorted(set(texts))
    assert ranks.rank.tolist() == [distinct.index(text) for text in texts]
    assert [texts[place] for place in ranks.order] == sorted(texts)
    for text in [*texts, "nobody"]:
        assert ranks.find(text).tolist() == [place for place, each in enumerate(texts) if each == text]


def test_a_slice_of_a_column_is_ranked_as_it_is() -> None:
    column = pa.chunked_array([pa.array(["zzz", "bbb", "aaa", "ccc"]).slice(1, 2)])
    assert Ranks.of(column).rank.tolist() == [1, 0]
