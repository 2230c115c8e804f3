"""A lake in Python: the same verbs, names and defaults as the command `miner`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import miner
from embeddings.encoder import Encoder
from embeddings.plugins import UnknownPlugin, load_plugin, plugin_names
from miner.clips import CutStage, choose_recipe
from miner.corpus import Corpus
from miner.describe import describe, show
from miner.embed import DEFAULT_ENCODER, DEFAULT_VIEWS, EmbedStage
from miner.encoders import get_encoder
from miner.errors import NotFound, UnknownName
from miner.executor import Executor, LocalExecutor, Report
from miner.hits import Hits
from miner.imported import ImportStage
from miner.index import KEYED, FactsReduction, FlatReduction
from miner.ingest import IngestStage
from miner.lineage import Run
from miner.readers import Reader, find_reader
from miner.search import Query, search
from miner.store import Store
from miner.verify import Check, verify


@dataclass
class Lake:
    """One lake. `executor` runs what writes: threads of this process unless another is given."""

    store: Store
    executor: Executor = field(default_factory=LocalExecutor)
    _corpora: dict[tuple[Any, ...], Corpus] = field(default_factory=dict, repr=False)
    _encoders: dict[str, Encoder] = field(default_factory=dict, repr=False)

    @property
    def uri(self) -> str:
        """Where the lake is."""
        return self.store.uri

    # -- filling -----------------------------------------------------------------------------------------------------

    def ingest(self, source: Reader | str | Path) -> Report:
        """Take in the metadata of a source: scenes, readings, annotations. No recording is opened.

        `source` is a folder whose format is detected, or a reader made by `open_source`.
        """
        reader = open_source(str(source)) if isinstance(source, str | Path) else source
        config = {"source": reader.source, "reader": reader.name, "dataset": reader.dataset}
        return self.executor.map(IngestStage(reader), self.store, _run("ingest", config))

    def cut(self, window_s: float | None = None) -> Report:
        """Cut scenes into clips of `window_s` seconds (10 unless the lake has clips of another length)."""
        recipe = choose_recipe(self.store, window_s)
        return self.executor.map(CutStage(recipe), self.store, _run("cut", {"recipe": str(recipe)}))

    def embed(self, encoders: Sequence[str] = (DEFAULT_ENCODER,), views: str = DEFAULT_VIEWS) -> Report:
        """Read every camera frame that lacks vectors of one of `encoders`, once, and write them."""
        config = {"encoders": list(encoders), "views": views}
        stage = EmbedStage(tuple(encoders), views)
        stage.check()
        return self.executor.map(stage, self.store, _run("embed", config))

    def embed_from(self, file: str | Path, encoder: str) -> Report:
        """Write vectors the user already has: see `miner.imported.ImportStage` for the files it takes."""
        stage = ImportStage(Path(file), encoder)
        return self.executor.map(stage, self.store, _run("embed", {"file": str(file), "encoder": encoder}))

    def index(self) -> list[Report]:
        """Bring key indexes, clip facts and index manifests up to the tables."""
        for table in KEYED:
            if self.store.exists(table):
                self.store.index_keys(table)
        vectors = [table for table in self.store.tables() if table.startswith("embeddings/")]
        for table in ("scenes", "sample_data", "annotations", "clips"):
            self.store.ensure(table)
        reductions = [FactsReduction(), *(FlatReduction(table) for table in vectors)]
        reports = [self.executor.reduce(each, self.store, _run("index", {"kind": each.name})) for each in reductions]
        self.store.index_keys("clip_facts")  # last: its rows are new
        return reports

    # -- asking ------------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | Sequence[str] = (),
        k: int = 10,
        *,
        where: str | None = None,
        per: str = "clip",
        **more: Any,
    ) -> Hits:
        """The k best clips (or frames, with `per="frame"`) for a text, among those that match `where`.

        More: `not_texts`, `images` (paths), `like` (ids of readings or clips), `encoder`. Vectors stay in memory for
        the next search. Raises UsageError and NotFound as `miner.search`.
        """
        texts = (text,) if isinstance(text, str) else tuple(text)
        lists: dict[str, Any] = {
            name: (value,) if isinstance(value, str) and name != "encoder" else value for name, value in more.items()
        }
        query = Query(texts, k=k, where=where, per=per, **lists)
        corpus = self._corpus(query.encoder)
        name = corpus.index.encoder
        if query.needs_encoder and name not in self._encoders:
            self._encoders[name] = get_encoder(name)
        return search(self.store, query, self._encoders.get(name), corpus)

    def verify(self) -> list[Check]:
        """Whether the lake holds what it says."""
        return verify(self.store)

    def describe(self) -> dict[str, Any]:
        """What is in the lake: tables, scenes, hours, readings by channel, clips, encoders, quarantine."""
        return describe(self.store)

    def show(self, name: str) -> dict[str, Any]:
        """All that is known of one scene, clip or reading."""
        return show(self.store, name)

    def __repr__(self) -> str:
        facts = self.describe()
        encoders = ", ".join(f"{each['encoder']} ({each['vectors']:,} vectors)" for each in facts["encoders"]) or "none"
        channels = ", ".join(facts["channels"]) or "none"
        return (
            f"Lake {self.uri}: {facts['scenes']:,} scenes, {facts['hours']:.2f} h, {facts['readings']:,} readings, "
            f"{facts['clips']:,} clips\n  sensors: {channels}\n  encoders: {encoders}"
        )

    def _corpus(self, encoder: str | None) -> Corpus:
        tables = [table for table in self.store.tables() if table.startswith("embeddings/") or table == "clips"]
        key = (encoder, *((table, self.store.version(table)) for table in tables))
        if key not in self._corpora:
            self._corpora.clear()
            self._corpora[key] = Corpus.load(self.store, encoder)
        return self._corpora[key]


def open(uri: str | Path, executor: Executor | None = None, storage_options: Mapping[str, str] | None = None) -> Lake:
    """The lake at a path or URI. Raises NotFound if there is none; `create` makes one."""
    return Lake(Store.open(str(uri), storage_options), executor or LocalExecutor())


def create(uri: str | Path, executor: Executor | None = None, storage_options: Mapping[str, str] | None = None) -> Lake:
    """The lake at a path or URI, made if it is not there."""
    return Lake(Store.create(str(uri), storage_options), executor or LocalExecutor())


def open_source(source: str, reader: str | None = None, dataset: str | None = None) -> Reader:
    """The reader of a source: the named one, or the one that knows its format. Raises NotFound and UsageError."""
    if "://" not in source:
        source = os.path.abspath(os.path.expanduser(source))
        if not os.path.exists(source):
            raise NotFound(f"no such source: {source}", "Give a folder of recordings.")
    kind = find_reader(source) if reader is None else _reader_named(reader)
    return kind(source, dataset)


def _reader_named(name: str) -> type[Reader]:
    try:
        kind: type[Reader] = load_plugin("miner.readers", name)
    except UnknownPlugin as error:
        raise UnknownName.of("reader", name, plugin_names("miner.readers")) from error
    return kind


def _run(job: str, config: Mapping[str, Any]) -> Run:
    return Run(job, config, miner.__version__)
