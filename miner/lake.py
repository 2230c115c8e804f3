"""A lake in Python: the same verbs, names and defaults as the command `miner`."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import miner
from embeddings.encoder import Encoder
from embeddings.plugins import UnknownPlugin, load_plugin, plugin_names
from miner.clips import CutStage, choose_recipe
from miner.corpus import Corpus, choose_table
from miner.describe import describe, show
from miner.embed import EmbedStage
from miner.encoders import get_encoder
from miner.errors import NotFound, UnknownName, UsageError
from miner.executor import Executor, LocalExecutor, Report
from miner.hits import Hits
from miner.imported import ImportStage
from miner.index import KEYED, reductions
from miner.indexes import Index
from miner.ingest import IngestStage
from miner.lineage import Run
from miner.rare import rare
from miner.readers import Reader, find_reader
from miner.search import Query, search
from miner.store import Store, one_of
from miner.verify import Check, verify

Texts = str | Path | Sequence[str | Path]


@dataclass
class Lake:
    """One lake. `executor` runs what writes: threads of this process unless another is given.

    `settings` are recorded in the lineage of every run beside its own arguments.
    """

    store: Store
    executor: Executor = field(default_factory=LocalExecutor)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _corpora: dict[str, tuple[tuple[int, int], Corpus]] = field(default_factory=dict, repr=False)
    _encoders: dict[tuple[str, str], Encoder] = field(default_factory=dict, repr=False)

    @property
    def uri(self) -> str:
        """Where the lake is."""
        return self.store.uri

    # -- filling -----------------------------------------------------------------------------------------------------

    def ingest(self, source: Reader | str | Path, reader: str | None = None, dataset: str | None = None) -> Report:
        """Take in the metadata of a source: scenes, readings, annotations. No recording is opened.

        `source` is a folder, whose format is detected where `reader` does not name it, or a reader; `dataset` is the
        name its scenes get in the lake.
        """
        opened = open_source(str(source), reader, dataset) if isinstance(source, str | Path) else source
        config = {"source": opened.source, "reader": reader or opened.name, "dataset": opened.dataset}
        report = self.executor.map(IngestStage(opened), self.store, self._run("ingest", config))
        return replace(report, notes=_notes(self.store, opened)) if report.done_before else report

    def cut(self, window_s: float | None = None) -> Report:
        """Cut scenes into clips of `window_s` seconds (10 unless the lake has clips of another length)."""
        recipe = choose_recipe(self.store, window_s)
        return self.executor.map(CutStage(recipe), self.store, self._run("cut", {"recipe": str(recipe)}))

    def embed(self, encoders: Sequence[str] = (), views: str | None = None, num_gpus: float = 0.0) -> Report:
        """Read every camera frame and LiDAR sweep that lacks vectors of one of `encoders`, once, and write them.

        `encoders` are `lite` for cameras and `descriptor` for LiDAR unless given. `views` of a frame: whole, tiles or
        whole+tiles (the default, unless the lake has others); `num_gpus` per worker.
        """
        stage = EmbedStage.of(self.store, encoders, views, num_gpus)
        config = {"encoders": list(stage.encoders), "views": stage.views, "num_gpus": num_gpus}
        return self.executor.map(stage, self.store, self._run("embed", config))

    def embed_from(self, file: str | Path, encoder: str) -> Report:
        """Write vectors the user already has: see `miner.imported.ImportStage` for the files it takes."""
        stage = ImportStage(Path(file), encoder)
        run = self._run("embed", {"file": str(file), "encoder": encoder})
        report = self.executor.map(stage, self.store, run)
        return replace(report, notes=stage.notes(self.store, report.done_before))

    def index(self) -> list[Report]:
        """Bring key indexes, clip facts and index manifests up to the tables."""
        for table in (*KEYED, *self.store.vector_tables()):
            if self.store.exists(table):
                self.store.index_keys(table)
        for table in ("scenes", "sample_data", "annotations", "clips"):
            self.store.ensure(table)
        reports = [
            self.executor.reduce(each, self.store, self._run("index", {"kind": each.name}))
            for each in reductions(self.store)
        ]
        self.store.index_keys("clip_facts")  # last: its rows are new
        return reports

    # -- asking ------------------------------------------------------------------------------------------------------

    def search(
        self,
        text: Texts = (),
        k: int = 10,
        *,
        where: str | None = None,
        per: str = "clip",
        not_texts: Texts = (),
        images: Texts = (),
        lidar: Texts = (),
        like: Texts = (),
        encoder: str | None = None,
    ) -> Hits:
        """The k best clips (or frames, with `per="frame"`) for a text, among those that match `where`.

        `images` and `lidar` (sweeps) are paths, `like` ids of readings or clips; several are fused, but not images with
        sweeps. Vectors and encoder stay in memory for the next search. Raises UsageError and NotFound as
        `miner.search`.
        """
        lists = {"texts": text, "not_texts": not_texts, "images": images, "lidar": lidar, "like": like}
        query = Query(
            **{name: _tuple(values) for name, values in lists.items()}, k=k, where=where, per=per, encoder=encoder
        )
        corpus = self._corpus(query.encoder, query.modality(self.store))
        return search(self.store, query, self._encoder(corpus.index) if query.needs_encoder else None, corpus)

    def rare(self, k: int = 20, *, neighbours: int = 5, where: str | None = None, encoder: str | None = None) -> Hits:
        """The k clips that are least like the clips of other scenes, each with why. Raises as `miner.rare.rare`."""
        return rare(self.store, k, neighbours, where, self._corpus(encoder, None))

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

    def _run(self, job: str, config: Mapping[str, Any]) -> Run:
        return Run(job, {**self.settings, **config}, miner.__version__)

    def _encoder(self, index: Index) -> Encoder | None:
        """The encoder of an index, kept for the next search; None for an unknown one, of which search says more."""
        key = (index.encoder, index.encoder_version)
        if key not in self._encoders:
            try:
                self._encoders[key] = get_encoder(*key)
            except UnknownName:
                return None
        return self._encoders[key]

    def _corpus(self, encoder: str | None, modality: str | None) -> Corpus:
        """Vectors and clips as they are now, kept until a table they come from changes."""
        table = choose_table(self.store, encoder, modality)
        versions = self.store.version(table), self.store.version("clips")
        if table not in self._corpora or self._corpora[table][0] != versions:
            self._corpora.pop(table, None)  # memory for one of them is enough
            self._corpora[table] = (versions, Corpus.of(self.store, table))
        return self._corpora[table][1]


def open(uri: str | Path, executor: Executor | None = None, storage_options: Mapping[str, str] | None = None) -> Lake:
    """The lake at a path or URI. Raises NotFound if there is none; `create` makes one."""
    return Lake(Store.open(str(uri), storage_options), executor or LocalExecutor())


def create(uri: str | Path, executor: Executor | None = None, storage_options: Mapping[str, str] | None = None) -> Lake:
    """The lake at a path or URI, made if it is not there."""
    return Lake(Store.create(str(uri), storage_options), executor or LocalExecutor())


def open_source(source: str, reader: str | None = None, dataset: str | None = None) -> Reader:
    """The reader of a source: the named one, or the one that knows its format.

    A name may carry the reader's options: `video:rate=5` (frames a second), `mcap:/front/image,/lidar` (topics). Raises
    NotFound and UsageError.
    """
    if "://" not in source:
        source = os.path.abspath(os.path.expanduser(source))
        if not os.path.exists(source):
            raise NotFound(f"no such source: {source}", "Give a folder of recordings.")
    if reader is None:
        return find_reader(source)(source, dataset)
    kind, options = _reader_named(reader)
    if not options:
        return kind(source, dataset)
    if len(inspect.signature(kind).parameters) < 3:
        raise UsageError(f"reader {kind.name!r} takes no options, got {options!r}")
    return kind(source, dataset, options)  # type: ignore[call-arg]


def _reader_named(name: str) -> tuple[type[Reader], str]:
    """The reader class, and its options: what follows the colon in `video:keyframes`."""
    known = plugin_names("miner.readers")
    family, _, options = name.partition(":")
    if family not in known:  # a class of the user's own: module:attribute
        family, options = name, ""
    try:
        kind: type[Reader] = load_plugin("miner.readers", family)
    except UnknownPlugin as error:
        raise UnknownName.of("reader", name, known) from error
    return kind, options


def _notes(store: Store, reader: Reader) -> list[str]:
    """What to tell about scenes that were there already and so were not read: above all, whether they are others."""
    scene_ids = [scene.scene_id for scene in itertools.islice(reader.scenes(), 100)]
    found = store.dataset("sample_data").scanner(["uri"], filter=one_of("scene_id", scene_ids), limit=1).to_table()
    root = Path(reader.source).absolute().parent  # one up: the tables of a format may lie beside its recordings
    if "://" in reader.source or not len(found) or root in Path(found["uri"][0].as_py()).parents:
        return []
    known = f"Scenes of these names are in dataset {reader.dataset!r} already, from {found['uri'][0].as_py()}"
    return [f"{known}: they were not read again. For other recordings give another name: --dataset NAME."]


def _tuple(values: Texts) -> tuple[str, ...]:
    return (str(values),) if isinstance(values, str | Path) else tuple(str(value) for value in values)
