"""A lake in Python: the same verbs, names and defaults as the command `miner`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any

import pyarrow as pa

import miner
from embeddings.encoder import Encoder, TextEncoder
from embeddings.plugins import UnknownPlugin, load_plugin, plugin_names
from embeddings.prompts import Prompts
from miner.clips import CutStage, choose_recipe
from miner.compact import RETAIN, Compacted, Compaction, advice, compact, seconds_of
from miner.compact import foresee as foresee_compaction
from miner.concepts.verbs import listing, to_fit
from miner.concepts.vocabulary import user_concept
from miner.conflicts import OnConflict, first_look
from miner.corpus import Corpus
from miner.dedup import DedupReduction, Keep, Rule, Thinned, thinned
from miner.describe import describe, show
from miner.digests import seal
from miner.embed import EmbedStage, Sizes
from miner.encoders import get_encoder
from miner.errors import NotFound, UnknownName, UsageError
from miner.executor import Executor, LocalExecutor
from miner.failpoints import failpoint
from miner.feedback import of_lake
from miner.footage import mined_tables
from miner.hits import Hits
from miner.ids import check_label, check_name
from miner.imported import ImportStage
from miner.index import KEYED, reductions, table_task
from miner.indexes import RECALL, Index
from miner.indexes.choose import AUTO, Wanted
from miner.indexes.files import litter, sweep
from miner.ingest import IngestStage
from miner.key_indexes import index_keys, keys_damaged, keys_lag
from miner.lease import lease
from miner.lineage import Run
from miner.migrate import Migration, foresee, migrate
from miner.mining import Mine, clips_of_version
from miner.object_store import check_uri, is_remote, local_path
from miner.pinned import pinned
from miner.quarantine import CHOICES, choose, records
from miner.query.explain import Plan
from miner.query.sources import Sources, table_for
from miner.query.text import query_text
from miner.query.tree import Node
from miner.rare import Scored, rare
from miner.rarity import ReferenceReduction, Relative, whole_footage
from miner.readers import Reader, find_reader
from miner.readers.places import place_of
from miner.replacement import IngestReport, settle
from miner.report.measure import Asked, measure
from miner.reporting import Report
from miner.rerun_log import write_rrd
from miner.restore import Known, Restoration, Restored, known_versions, restore
from miner.restore import foresee as foresee_restore
from miner.schema import SCHEMA_VERSION
from miner.search import Query, search
from miner.selection.run import Selected, freezing, select
from miner.selection.spec import Spec
from miner.sound import readable
from miner.store import Store
from miner.tail import Tail, check_by
from miner.training_sets import Dataset, dataset, datasets, remove
from miner.verify import Check, verify, verify_deep

Texts = str | Path | Sequence[str | Path]


@dataclass
class Lake:
    """One lake. `executor` runs what writes: threads of this process unless another is given.

    `settings` are recorded in the lineage of every run beside its own arguments.
    """

    store: Store
    executor: Executor = field(default_factory=LocalExecutor)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _chosen: dict[tuple[str | None, str | None, bool, tuple[str, ...]], tuple[str, int]] = field(
        default_factory=dict, repr=False
    )
    _corpora: dict[str, tuple[tuple[int, ...], Corpus]] = field(default_factory=dict, repr=False)
    _encoders: dict[tuple[str, str], Encoder] = field(default_factory=dict, repr=False)
    _lock: RLock = field(default_factory=RLock, repr=False, compare=False)

    @property
    def uri(self) -> str:
        """Where the lake is."""
        return self.store.uri

    # -- filling -----------------------------------------------------------------------------------------------------

    def ingest(
        self,
        source: Reader | str | Path,
        reader: str | None = None,
        dataset: str | None = None,
        on_conflict: OnConflict = "keep",
    ) -> IngestReport:
        """Take in the metadata of a source: scenes, readings, annotations. No recording is opened.

        `source` is a folder, whose format is detected where `reader` does not name it, or a reader; `dataset` is the
        name its scenes get in the lake. `on_conflict` is about scenes that are in the lake: `keep` does not read them
        again; `check` compares them, recordings that embed has read included, and puts those with other content into
        quarantine; `replace` takes such a scene out of all tables and in anew.
        """
        opened = open_source(str(source), reader, dataset) if isinstance(source, str | Path) else source
        config = {"source": opened.source, "reader": reader or opened.name, "dataset": opened.dataset}
        config["on_conflict"] = on_conflict
        settled = settle(self.store, opened, on_conflict, self.executor, self._run("replace", config))
        report = settled.report(self.executor.map(IngestStage(opened), self.store, self._run("ingest", config)))
        notes = [*report.notes, *first_look(self.store, opened)] if report.scenes["kept"] else report.notes
        return replace(report, notes=notes)

    def cut(self, window_s: float | None = None) -> Report:
        """Cut scenes into clips of `window_s` seconds (10 unless the lake has clips of another length)."""
        recipe = choose_recipe(self.store, window_s)
        return self.executor.map(CutStage(recipe), self.store, self._run("cut", {"recipe": str(recipe)}))

    def embed(
        self,
        encoders: Sequence[str] = (),
        views: str | None = None,
        num_gpus: float = 0.0,
        batch_size: int | None = None,
        block_size: int | None = None,
        compiled: bool = False,
    ) -> Report:
        """Read every camera frame and LiDAR sweep that lacks vectors of one of `encoders`, once, and write them.

        `encoders` are `lite` for cameras and `descriptor` for LiDAR unless given. `views` of a frame: whole, tiles or
        whole+tiles (the default, unless the lake has others); `num_gpus` per worker. `batch_size` is readings in the
        memory of a worker, `block_size` readings of a task and a data file: speed alone depends on them. `compiled`
        runs encoders that can by torch.compile.
        """
        sizes = Sizes(num_gpus, batch_size, block_size, compiled)
        stage = EmbedStage.of(self.store, encoders, views, sizes, self.executor.in_process)
        config = {"encoders": list(stage.encoders), "views": stage.views, "num_gpus": num_gpus}
        return self.executor.map(stage, self.store, self._run("embed", config))

    def embed_from(self, file: str | Path, encoder: str) -> Report:
        """Write vectors the user already has: see `miner.imported.ImportStage` for the files it takes."""
        stage = ImportStage(Path(file), check_name("encoder", encoder))
        run = self._run("embed", {"file": str(file), "encoder": encoder})
        report = self.executor.map(stage, self.store, run)
        return replace(report, notes=stage.notes(self.store, report.done_before))

    def index(
        self, kind: str = AUTO, target_recall: float = RECALL, memory_gb: float | None = None, mend: bool = True
    ) -> list[Report]:
        """Bring key indexes, clip facts and the indexes of vectors up to the tables.

        `kind` of the indexes of vectors: flat, faiss:IVF-RaBitQ, lance:IVF_RQ, ...; auto compares all vectors of a
        small table, keeps what a large one has, else builds what fits into `memory_gb` and finds `target_recall`. With
        `mend` the files of indexes are read, and made anew where they are damaged.
        """
        wanted = Wanted(kind, target_recall, memory_gb, mend)
        for table in (*KEYED, *self.store.vector_tables()):
            self._index_keys(table, mend)
            failpoint("index:between-tables")
        for table in self.store.vector_tables():
            if task := table_task(self.store, table, wanted):
                self._leased([table], task)
        for table in ("scenes", "sample_data", "annotations", "clips"):
            self.store.ensure(table)
        reports = [
            self.executor.reduce(each, self.store, self._run("index", {"kind": each.name}))
            for each in reductions(self.store, wanted)
        ]
        self._index_keys("clip_facts", mend)  # last: its rows are new
        if litter(self.store):
            self._leased(["indexes"], lambda: sweep(self.store))
        seal(self.store)
        notes = advice(self.store, (*KEYED, "digests", *self.store.vector_tables()))
        return [replace(reports[0], notes=[*reports[0].notes, *notes]), *reports[1:]]

    # -- keeping -----------------------------------------------------------------------------------------------------

    def compact(self, retain: str | float = RETAIN, table: str | None = None, dry_run: bool = False) -> list[Compacted]:
        """Merge small fragments, remove old versions and files that no version has; what the lake says stays the same.

        `retain` is how long a version is kept after another followed: 7d, 36h, 0. Versions with a tag of yours stay.
        """
        run = self._run("compact", {"retain": retain})
        how = Compaction(run, seconds_of(retain), self.executor.wait, self.executor.notify)
        return (foresee_compaction if dry_run else compact)(self.store, how, table)

    def versions(self, table: str) -> list[Known]:
        """The versions of a table that can be gone back to, newest first."""
        return known_versions(self.store, table)

    def restore(self, table: str, version: int, dry_run: bool = False) -> Restored:
        """Make the rows of an older version the present ones: see `miner.restore`."""
        if dry_run:
            return foresee_restore(self.store, table, version)
        run = self._run("restore", {"table": table, "version": version})
        return restore(self.store, Restoration(run, self.executor.wait, self.executor.notify), table, version)

    # -- asking ------------------------------------------------------------------------------------------------------

    def search(
        self,
        text: Texts = (),
        k: int = 10,
        *,
        query: str | Node | None = None,
        where: str | None = None,
        per: str = "clip",
        not_texts: Texts = (),
        images: Texts = (),
        lidar: Texts = (),
        like: Texts = (),
        not_like: Texts = (),
        encoder: str | None = None,
        explain: bool = False,
    ) -> Hits:
        """The k best clips (or frames, with `per="frame"`) for a text, among those that match `where`.

        `images` and `lidar` (sweeps) are paths, `like` ids of readings or clips, `query` is concepts joined by AND, OR,
        NOT or a weighted sum: `truck AND night NOT rain` (`miner.query.text`). All that is given is added up; what is
        of several sensors, per clip. Vectors and encoders stay in memory for the next search. What is in damaged files
        is left out, which the answer's `notes` tell; with `explain` its `plan` tells how it was found. Raises
        UsageError and NotFound as `miner.search`, Damaged where nothing is left to ask.
        """
        lists = {"texts": text, "not_texts": not_texts, "images": images, "lidar": lidar}
        lists |= {"like": like, "not_like": not_like}
        asked = Query(
            **{name: _tuple(values) for name, values in lists.items()},
            query=query if query is None or isinstance(query, str) else query_text(query),
            k=k,
            where=where,
            per=per,
            encoder=encoder,
        )
        with readable(self.store):
            alone = len(asked.sensors(self.store)) < 2
            sources = Sources(self.store, lambda sensor: self._corpus(encoder, sensor, alone), self._encoder)
            found = search(self.store, asked, plan=Plan() if explain else None, sources=sources)
            return of_lake(found, self)

    def pinned(self, previous: Lake | None = None) -> Lake:
        """The lake as it is now, and stays, to search it from several threads: no question looks at the tables again.

        What `previous`, which was pinned before, has loaded is taken over as far as it still holds; where nothing
        changed since it is the answer itself.
        """
        return pinned(self, previous)

    def rare(
        self,
        k: int = 20,
        *,
        by: str = "event",
        where: str | None = None,
        encoder: Texts = (),
        reference: str | None = None,
        versus: str | None = None,
    ) -> Hits:
        """The k rarest events, or clips with `by="clip"`, of those that match `where`, each with its rarity, 0 to 1,
        and why; the scores are kept in the table `scores`. See `miner.scarcity` for the method.

        Of all sensors unless `encoder` names some. `reference` is a stored one (see `fix_reference`), or LAKE#NAME;
        `versus` a dataset version, of which what is told should have none. Raises as `miner.rare.rare`.
        """
        with readable(self.store):
            found = rare(self.store, self._scored(encoder, reference, versus), k, by, where)
        asked = {"encoder": [str(each) for each in _tuple(encoder)], "reference": reference, "versus": versus}
        return of_lake(replace(found, query=dict(found.query) | asked), self)

    def tail(self, by: str = "cluster") -> Tail:
        """The long tail: scenarios (kept in the tables `members` and `clusters`), or labels with `by="label"`; the
        fewest events first. See `miner.taxonomy`."""
        check_by(by)
        with readable(self.store):
            return self._mine.tail(self._scored(), by)

    def dedup(self, eps: float | None = None, keep: Keep = "quality", dry_run: bool = False) -> Thinned:
        """Which clips stand for which, kept in the table `duplicates`; no clip is deleted. See `miner.dedup`.

        `eps` is the cosine distance within which clips are duplicates (what is near to each encoder, if not given); of
        duplicates the sharpest is kept, or with `keep` the one with most `labels`, or the `first`.
        """
        tables, rule = tuple(mined_tables(self.store)), Rule(eps, keep)
        with readable(self.store):
            if dry_run:
                return thinned(self.store, whole_footage(self.store, tables), rule)
            return self._mine.dedup(DedupReduction(tables, rule))

    def fix_reference(self, name: str) -> Report:
        """Store the lake's events as they are now as the reference `name`; one that is there stays as it is."""
        tables = tuple(mined_tables(self.store))
        reduction = ReferenceReduction(tables, check_name("reference", name))
        return self._mine.reduce("rare", reduction)[0]

    def concepts(self) -> list[dict[str, Any]]:
        """The concepts a query can name: what each means, and for which encoders it is fitted, from which labels."""
        return listing(self.store)

    def fit_concepts(
        self,
        *names: str,
        encoder: str | None = None,
        prompts: Sequence[str] = (),
        opposites: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> Report:
        """Fit concepts (all, if none is named) to the lake's vectors and labels, and keep that in table `concepts`.

        With `prompts` the one named becomes a concept of the lake's own: sentences that say it, `opposites` that say
        what is there instead, `labels` by which annotations go (patterns such as `vehicle.truck*`, `weather: rain`).
        """
        own = user_concept(names, tuple(prompts), tuple(opposites), tuple(labels))
        reduction = to_fit(self.store, names, encoder, own)
        run = self._run("concepts", {"names": [each.name for each in reduction.definitions]})
        return self.executor.reduce(reduction, self.store, run)

    # -- training sets -----------------------------------------------------------------------------------------------

    def select(
        self, spec: Spec | Mapping[str, Any] | str | Path, name: str | None = None, *, note: str | None = None
    ) -> Selected:
        """Choose clips by a spec (a mapping, or a YAML file: see `miner.selection.spec`); kept as the next version of
        dataset `name`, or only shown. Raises Infeasible where they are to be kept and the lake has too few."""
        return select(self, spec, name, note)

    def dataset(self, name: str) -> Dataset:
        """A dataset version by NAME@N, or the newest of NAME. Raises NotFound."""
        return dataset(self.store, name)

    def datasets(self) -> list[Dataset]:
        """All dataset versions, by name and number."""
        return datasets(self.store)

    def report(self, asked: Asked | str | None = None) -> dict[str, Any]:
        """How varied, representative, rare, complete and clean a dataset version is, or the whole lake: the numbers;
        `miner.report.page.write_page` makes a page of them."""
        with readable(self.store):
            return measure(self.store, asked if isinstance(asked, Asked) else Asked(asked))

    def forget_dataset(self, name: str) -> str:
        """Remove a dataset version, and let go of the table versions it pins; gives NAME@N. Raises NotFound."""
        return remove(self.store, name, freezing(self, "dataset rm", {"dataset": name}))

    def verify(self, deep: bool = False) -> list[Check]:
        """Whether the lake holds what it says; `deep` reads every file and recording again: see `miner.verify`."""
        return [*verify_deep(self.store).checks] if deep else verify(self.store)

    def describe(self) -> dict[str, Any]:
        """What is in the lake: tables, scenes, hours, readings by channel, clips, encoders, quarantine."""
        return describe(self.store)

    def show(self, name: str) -> dict[str, Any]:
        """All that is known of one scene, clip or reading."""
        return show(self.store, name)

    def to_rerun(self, name: str, path: str | Path) -> Path:
        """A clip (or the one around a reading, or a scene) as a recording of Rerun: see `miner.rerun_log`."""
        return write_rrd(self.store, {"": name}, path)

    # -- mending -----------------------------------------------------------------------------------------------------

    def quarantine(self, **chosen: str) -> pa.Table:
        """The units that failed, newest first; all, or those that `reason`, `stage`, `reader`, `scene` (name or id),
        `key` and `since` (`2d`, `2026-11-20`) choose together. `miner.quarantine` has `retry` and `drop`.

        Raises UnknownName for anything else.
        """
        for name in chosen:
            if name not in CHOICES:
                raise UnknownName.of("choice", name, CHOICES)
        return records(self.store, choose(**chosen))

    def migrate(self, dry_run: bool = False) -> Migration:
        """Bring a lake of an older schema version up to this release's; with `dry_run` only say what would change."""
        if dry_run:
            return foresee(self.store)
        run = self._run("migrate", {"schema_version": SCHEMA_VERSION})
        done = migrate(self.store, run, self.executor.wait, self.executor.notify)
        self.store = replace(self.store, schema_version=SCHEMA_VERSION)
        return done

    def __repr__(self) -> str:
        facts = self.describe()
        encoders = ", ".join(f"{each['encoder']} ({each['vectors']:,} vectors)" for each in facts["encoders"]) or "none"
        channels = ", ".join(facts["channels"]) or "none"
        return (
            f"Lake {self.uri}: {facts['scenes']:,} scenes, {facts['hours']:.2f} h, {facts['readings']:,} readings, "
            f"{facts['clips']:,} clips\n  sensors: {channels}\n  encoders: {encoders}"
        )

    @property
    def _mine(self) -> Mine:
        return Mine(self.store, self.executor, self._run)

    def _scored(self, encoder: Texts = (), reference: str | None = None, versus: str | None = None) -> Scored:
        """Events and rarity of the clips, kept up to date."""
        chosen = tuple(str(each) for each in _tuple(encoder))
        relative = Relative(reference)
        if versus is not None:
            relative = Relative(reference, *clips_of_version(self.store, versus))
        corpora = {}
        for table in mined_tables(self.store, chosen):
            corpus = self._loaded(table)
            corpora[corpus.index.encoder] = corpus
        return self._mine.scored(corpora, chosen, relative)

    def _index_keys(self, table: str, mend: bool) -> None:
        """Under the lease, as `compact` deletes what no version has, and that are the files of an index being built."""
        store = self.store
        if store.exists(table) and (keys_lag(store, table) or (mend and keys_damaged(store, table))):
            self._leased([table], lambda: index_keys(store, table))

    def _leased(self, tables: Sequence[str], task: Callable[[], object]) -> None:
        with lease(self.store, tables, self._run("index", {}).run_id, self.executor.wait, self.executor.notify):
            task()

    def _run(self, job: str, config: Mapping[str, Any]) -> Run:
        return Run(job, {**self.settings, **config}, miner.__version__)

    def _encoder(self, index: Index) -> Encoder | None:
        """The encoder of an index, kept for the next search; None for an unknown one, of which search says more."""
        key = (index.encoder, index.encoder_version)
        with self._lock:
            if key not in self._encoders:
                self.executor.notify(f"loading encoder {index.encoder}")
                try:
                    encoder = get_encoder(*key)
                except UnknownName:
                    return None
                self._encoders[key] = Prompts(encoder) if isinstance(encoder, TextEncoder) else encoder
            return self._encoders[key]

    def _corpus(self, encoder: str | None, modality: str | None, alone: bool = True) -> Corpus:
        """Vectors and clips as they are now, kept until a table they come from changes."""
        return self._loaded(self._vectors(encoder, modality, alone))

    def _loaded(self, table: str) -> Corpus:
        versions = tuple(self.store.version(name) for name in (table, "clips", "indexes"))
        with self._lock:
            if table not in self._corpora or self._corpora[table][0] != versions:
                self._corpora.pop(table, None)  # memory for one of them is enough
                self._corpora[table] = (versions, Corpus.of(self.store, table, self.executor.notify))
            return self._corpora[table][1]

    def _vectors(self, encoder: str | None, modality: str | None, alone: bool) -> str:
        """The table that `table_for` chooses, which is asked again when the lake has other tables or that one
        changed."""
        there = tuple(self.store.listed())
        key = encoder, modality, alone, there
        table, before = self._chosen.get(key, ("", 0))
        if not table or self.store.version(table) != before:
            table = table_for(self.store, encoder, modality, alone)
            kept = {known: each for known, each in self._chosen.items() if known[-1] == there}
            self._chosen = kept | {key: (table, self.store.version(table))}
        return table


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
    if dataset is not None:
        check_label("dataset", dataset)
    check_uri(source)
    source = source.rstrip("/") if is_remote(source) else os.path.abspath(os.path.expanduser(local_path(source)))
    if not place_of(source).exists():
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


def _tuple(values: Texts) -> tuple[str, ...]:
    return (str(values),) if isinstance(values, str | Path) else tuple(str(value) for value in values)
