"""What can be done with the concepts of a lake: list them, show one, fit them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miner.concepts.kept import TABLE, ConceptsReduction, definition_of
from miner.concepts.vocabulary import Definition, load_vocabulary
from miner.corpus import choose_table
from miner.errors import UnknownName
from miner.schema import CONCEPTS
from miner.sound import Sound
from miner.store import Store

_FITTED = (
    "encoder",
    "encoder_version",
    "method",
    "positives",
    "negatives",
    "brier",
    "slope",
    "offset",
    "table_version",
)


def listing(store: Store) -> list[dict[str, Any]]:
    """Every concept that can be asked for, by name: what it means, and for which encoders it is fitted and how.

    A fit is `stale` where the words have changed since: such a one is made anew for each query.
    """
    rows = _rows(store)
    vocabulary = load_vocabulary()
    found = []
    for name in sorted({*vocabulary, *(row["name"] for row in rows)}):
        kept = [row for row in rows if row["name"] == name]
        own = [row for row in kept if row["origin"] == "lake"]
        definition = definition_of(own[0]) if own else vocabulary.get(name)
        if definition is None:  # fitted by a release whose vocabulary had it
            continue
        about: dict[str, Any] = {"name": name, "origin": "lake" if own else "vocabulary"}
        about |= {key: list(getattr(definition, key)) for key in ("prompts", "opposites", "labels")}
        fits = [{key: row[key] for key in _FITTED} | {"stale": definition_of(row) != definition} for row in kept]
        found.append(about | {"fitted": fits})
    return found


def show(store: Store, name: str) -> dict[str, Any]:
    """One concept of the listing. Raises UnknownName."""
    known = {each["name"]: each for each in listing(store)}
    if name not in known:
        raise UnknownName.of("concept", name, known)
    return known[name]


def to_fit(
    store: Store, names: Sequence[str] = (), encoder: str | None = None, own: Definition | None = None
) -> ConceptsReduction:
    """What fits some concepts (all of them, if none is named) or one of the lake's `own` to an encoder's vectors.

    Raises UnknownName, and as `choose_table`.
    """
    table = choose_table(store, encoder, "camera")
    said = store.schema(table).metadata[b"encoder"].decode()
    of_lake = {row["name"]: definition_of(row) for row in _rows(store) if row["origin"] == "lake"}
    if own is not None:
        return ConceptsReduction(table, said, (own,), frozenset({own.name}))
    known = {**load_vocabulary(), **of_lake}
    for name in names:
        if name not in known:
            raise UnknownName.of("concept", name, known)
    chosen = tuple(known[name] for name in sorted(set(names) or known))
    return ConceptsReduction(table, said, chosen, frozenset(of_lake))


def _rows(store: Store) -> list[dict[str, Any]]:
    sound = Sound(store)
    if not sound.has(TABLE):
        return []
    rows: list[dict[str, Any]] = sound.scan(TABLE, CONCEPTS.names).to_pylist()
    return sorted(rows, key=lambda row: (row["name"], row["encoder"]))
