"""Going on from what was found: the same question within a filter, more like some hits, some hits accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from miner.accepted import Accepted
from miner.errors import UsageError
from miner.query.filters import parse_filter

if TYPE_CHECKING:
    from miner.hits import Hit, Hits
    from miner.lake import Lake


def narrowed(hits: Hits, expression: str) -> Hits:
    """The question of `hits` asked again, of what matches `expression` too."""
    parse_filter(expression)  # by itself: within brackets `a) or (b` would pass
    asked = _asked(hits)
    asked["where"] = f"({asked['where']}) and ({expression})" if asked.get("where") else expression
    return _again(hits, asked)


def alike(hits: Hits, like: Sequence[int], not_like: Sequence[int]) -> Hits:
    """The question of `hits` with some of them as examples of what is sought, and of what is not (Rocchio 1971).

    Of rare clips, which were found by no question, the examples alone are it. What is an example is not found again.
    """
    asked = _asked(hits)
    if asked.pop("verb", "search") != "search":
        asked = {name: asked[name] for name in ("k", "where")}
    for name, places in (("like", like), ("not_like", not_like)):
        asked[name] = [*asked.get(name, ()), *(hit.sample_data_id for hit in _at(hits, places))]
    return _again(hits, asked)


def accepted(hits: Hits, places: Sequence[int]) -> Accepted:
    """The clips of some hits, in the order of the hits. Raises UsageError for a hit in no clip."""
    chosen = _at(hits, places)
    outside = [hit.rank for hit in chosen if hit.clip_id is None]
    if outside:
        raise UsageError(f"hit {outside[0]} is in no clip", "Make clips with: miner cut LAKE, or leave it out.")
    first = {hit.clip_id: hit for hit in reversed(chosen)}  # of frames of one clip the best
    kept = sorted(first.values(), key=lambda hit: hit.rank)
    return Accepted(
        lake=hits.lake,
        clip_ids=tuple(hit.clip_id or "" for hit in kept),
        scene_ids=tuple(hit.scene_id for hit in kept),
        scores=tuple(hit.score for hit in kept),
        query=dict(hits.query),
        encoder=hits.encoder,
        table_version=hits.table_version,
        opened=hits.opened,
    )


def _at(hits: Hits, places: Sequence[int]) -> list[Hit]:
    """The hits at some places, counted from 0 as in `hits[0]`, each once and by rank. Raises UsageError."""
    for place in places:
        if isinstance(place, bool) or not isinstance(place, int) or not -len(hits) <= place < len(hits):
            raise UsageError(f"there is no hit {place!r}: {len(hits)} were found", "hits[0] is the first.")
    return [hits[place] for place in sorted({place % len(hits) for place in places})]


def _asked(hits: Hits) -> dict[str, Any]:
    """What was asked, with the encoder that answered: its vectors are those to go on with."""
    return {**hits.query, "encoder": hits.encoder}


def _again(hits: Hits, asked: dict[str, Any]) -> Hits:
    """Ask the lake once more, by the verb that found the hits."""
    verb = asked.pop("verb", "search")
    lake = opened(hits)
    if verb != "search":
        told_only = ("per", "scorer")
        found: Hits = getattr(lake, verb)(**{name: each for name, each in asked.items() if name not in told_only})
        return found
    return lake.search(asked.pop("texts", ()), **asked)


def opened(hits: Hits) -> Lake:
    """The lake that hits came from. Raises UsageError for hits that came from none."""
    if hits.opened is None:
        raise UsageError("these hits are of no lake that is open", "Take them from lake.search(...).")
    return hits.opened


def of_lake(hits: Hits, lake: Lake) -> Hits:
    """The same hits, which now know whom to ask."""
    return replace(hits, opened=lake)
