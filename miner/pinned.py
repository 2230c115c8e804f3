"""A lake whose tables stay at one version each, for whoever asks often and must not mix versions in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from miner.errors import Damaged
from miner.store import Store

if TYPE_CHECKING:
    from miner.lake import Lake

BOOKS = {"digests", "leases", "lineage", "quarantine"}  # they change with every step of a run, and no answer with them


@dataclass(frozen=True)
class PinnedStore(Store):
    """A store to read from: `handles` are its tables as they were when it was made, `names` those that were there.

    Tables are opened once, which a look-up of a few rows costs more than reading them.
    """

    names: frozenset[str] = frozenset()
    handles: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, store: Store) -> PinnedStore:
        """The tables of a store as they are now. One that does not open is left to whoever asks for it."""
        given = {each.name: getattr(store, each.name) for each in fields(Store)}
        plain = Store(**given)
        names, handles = plain.listed(), {}
        for name in names:
            try:
                handles[name] = plain._open(name)
            except Damaged:
                continue
        return cls(**given, names=frozenset(names), handles=handles)

    @property
    def present(self) -> dict[str, int]:
        """The version of each table that answers come from."""
        there = {name: handle for name, handle in self.handles.items() if handle is not None and name not in BOOKS}
        return {name: int(handle.version) for name, handle in there.items()}

    @cached_property
    def stamps(self) -> dict[str, tuple[int, str]]:
        """The same with the first of the files: a lake that is made again at this place counts versions again."""
        stamps = {}
        for name, version in self.present.items():
            first = next(iter(self.handles[name].get_fragments()), None)
            stamps[name] = version, str(first.metadata.files[0].path) if first is not None else ""
        return stamps

    def listed(self) -> list[str]:
        """Names of all that looked like tables, sorted."""
        return sorted(self.names)

    def _open(self, table: str, version: int | None = None) -> Any:
        handle = self.handles.get(table)
        if handle is not None and version in (None, handle.version):
            return handle
        return super()._open(table, version) if table in self.names else None


def pinned(lake: Lake, previous: Lake | None = None) -> Lake:
    """A lake as it is now: see `Lake.pinned`."""
    store = PinnedStore.of(lake.store)
    before = previous.store.stamps if previous is not None and isinstance(previous.store, PinnedStore) else {}
    if previous is not None and before == store.stamps:
        return previous
    made = type(lake)(store, lake.executor, lake.settings, _encoders=(previous or lake)._encoders)
    for table, (versions, corpus) in dict(previous._corpora if previous else {}).items():
        if all(before.get(name) == store.stamps.get(name) for name in (table, "clips")):
            made._corpora[table] = versions, corpus.beside(store)
        if table in store.present:
            made._loaded(table)  # now, not with the next question
    return made
