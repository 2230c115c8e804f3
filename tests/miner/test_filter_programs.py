"""Random filter programs over a lake give exactly the rows that brute force in pandas gives."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from miner.corpus import Corpus
from miner.facts import clip_facts
from miner.ids import make_id
from miner.indexes import Ask
from miner.query.columns import COLUMNS, OF_READING, OF_SCENE, SOURCES, VECTOR_ROWS
from miner.query.explain import Plan
from miner.query.filters import parse_filter
from miner.query.matching import matching
from miner.query.plan import best
from miner.schema import (
    ANNOTATIONS,
    ASSETS,
    CLIP_FACTS,
    CLIPS,
    SAMPLE_DATA,
    SCENES,
    check,
    embeddings_schema,
    schema_of,
)
from miner.store import Store
from tests.miner.filter_programs import COUNTS, DTYPES, SCORES, TEXTS, program

DIM = 8
SCHEMAS = {"scenes": SCENES, "sample_data": SAMPLE_DATA, "annotations": ANNOTATIONS, "clips": CLIPS, "assets": ASSETS}
SCHEMAS["scores"] = schema_of("scores")
Rows = dict[str, list[dict[str, Any]]]


def filled(schema: pa.Schema, chance: random.Random, **known: Any) -> dict[str, Any]:
    """A row with `known` values, the other columns at random: small numbers, a few texts, nulls where they may be."""
    row = {}
    for column in schema:
        make = {
            pa.string(): lambda: chance.choice(TEXTS),
            pa.bool_(): lambda: chance.random() < 0.5,
            pa.float32(): lambda: round(chance.uniform(0, 40), 1),
            pa.list_(pa.string()): lambda: chance.sample(["boston", "x"], chance.randrange(3)),
        }.get(column.type, lambda: chance.randrange(0, 100))
        nothing = column.nullable and chance.random() < 0.3
        nested = pa.types.is_struct(column.type) or (pa.types.is_list(column.type) and column.name != "flags")
        nested = nested or pa.types.is_fixed_size_list(column.type)
        row[column.name] = known.get(column.name, None if nothing or nested else make())
    return row


def rows_of_lake(seed: int = 0) -> Rows:
    """Four scenes; clips that overlap, leave frames out and lack scores; readings that lack assets."""
    chance, rows = random.Random(seed), {name: [] for name in (*SCHEMAS, "vectors")}
    random_vectors = np.random.default_rng(seed)
    for number in range(4):
        scene = make_id("scene", number)
        rows["scenes"].append(filled(SCENES, chance, scene_id=scene))
        for start in range(0, 30, 8):
            clip = make_id("clip", scene, start)
            rows["clips"].append(filled(CLIPS, chance, clip_id=clip, scene_id=scene, start_ns=start, end_ns=start + 10))
            if chance.random() < 0.7:
                known = {"clip_id": clip, "scorer": "rarity", "value": chance.uniform(0, 3)}
                rows["scores"].append(filled(schema_of("scores"), chance, **known))
        for time in range(0, 40, 3):
            reading = make_id("sample_data", scene, time)
            known = {"sample_data_id": reading, "scene_id": scene, "channel": chance.choice(("boston", "CAM_BACK"))}
            known |= {"timestamp_ns": time, "modality": "camera"}
            rows["sample_data"].append(filled(SAMPLE_DATA, chance, **known))
            if chance.random() < 0.8:
                rows["assets"].append(filled(ASSETS, chance, **known))
            for part in range(2):
                vector = random_vectors.normal(size=DIM)
                view = {"embedding_id": make_id("embedding", reading, part), "part": part}
                rows["vectors"].append({**known, **view, "vector": (vector / np.linalg.norm(vector)).tolist()})
            label = {"category": chance.choice(("car", "bus")), "scene_id": scene, "timestamp_ns": time}
            note = filled(ANNOTATIONS, chance, annotation_id=make_id("note", reading), **label, attributes="{}")
            rows["annotations"].append(note | {"bbox_xyxy": [0.0, 0.0, 1.0, 1.0], "track_id": None})
    return rows


def store_of(folder: Path, rows: Rows) -> Store:
    store = Store.create(str(folder / "lake"))
    vectors = embeddings_schema("hashing", "1", DIM)
    tables = {}
    for name, schema in {**SCHEMAS, "embeddings/hashing": vectors}.items():
        own = rows["vectors" if name.startswith("embeddings") else name]
        known = [{key: row.get(key) for key in schema.names} for row in own]
        tables[name] = check(pa.Table.from_pylist(known, schema), schema)
        store.ensure(name, schema)
        store.append(name, tables[name])
    store.ensure("clip_facts", CLIP_FACTS)
    store.append("clip_facts", clip_facts(*(tables[name] for name in list(SCHEMAS)[:4])))
    return store


def frame_of(rows: Rows, facts: list[dict[str, Any]]) -> pd.DataFrame:
    """All pairs of a vector and a clip, or no clip, with every column of the language, by brute force."""
    by = {name: {row["sample_data_id"]: row for row in rows[name]} for name in OF_READING}
    by |= {"scenes": {row["scene_id"]: row for row in rows["scenes"]}}
    by |= {
        name: {row["clip_id"]: row for row in own} for name, own in (("clips", rows["clips"]), ("clip_facts", facts))
    }
    scores = {row["clip_id"]: row["value"] for row in rows["scores"]}
    records = []
    for row in rows["vectors"]:
        inside = [clip for clip in rows["clips"] if clip["scene_id"] == row["scene_id"]]
        inside = [clip for clip in inside if clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]]
        for clip in inside or [{}]:
            clip_id = clip.get("clip_id")
            keys = {"clip_facts": clip_id, "clips": clip_id, "scenes": clip.get("scene_id")}
            keys |= dict.fromkeys(OF_READING, row["sample_data_id"])
            found = {table: by[table].get(key, {}) for table, key in keys.items()}
            record = {name: found[source.table].get(source.field) for name, source in SOURCES.items()}
            record |= {name: row[name] for name in VECTOR_ROWS}
            record = {name: ",".join(value) if isinstance(value, list) else value for name, value in record.items()}
            counts = {each["name"]: each["count"] for each in found["clip_facts"].get("categories", [])}
            record |= {name: counts.get(category, 0) if clip else None for name, category in COUNTS.items()}
            record |= {name: scores.get(clip_id) if scorer == "rarity" else None for name, scorer in SCORES.items()}
            records.append({"row": row["embedding_id"], "clip": clip_id, **record})
    frame = pd.DataFrame(records)
    kinds = {"row": "string", "clip": "string", **{name: DTYPES.get(kind, "Float64") for name, kind in COLUMNS.items()}}
    return frame.astype({name: kinds.get(name, "Float64") for name in frame.columns})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, pd.DataFrame]:
    rows = rows_of_lake()
    store = store_of(tmp_path_factory.mktemp("programs"), rows)
    frame = frame_of(rows, store.scan("clip_facts").to_pylist())
    assert set(COLUMNS) <= set(frame.columns) and not set(OF_SCENE) - {"scenes"}
    return Corpus.load(store), frame


def found(corpus: Corpus, text: str, per: str, plan: Plan | None = None) -> set[tuple[str, str | None]]:
    """The pairs that pass, by their ids."""
    pairs = matching(corpus, parse_filter(text), per, plan).passing.pairs
    chosen = np.arange(len(corpus.row)) if pairs is None else np.flatnonzero(pairs)
    rows = corpus.index.rows["embedding_id"].take(corpus.row[chosen]).to_pylist()
    clip = corpus.clip[chosen]
    clips = corpus.clips["clip_id"].take(pa.array(clip, mask=clip < 0)).to_pylist()
    return set(zip(rows, clips, strict=True))


def expected(frame: pd.DataFrame, passes: pd.Series[Any], per: str) -> set[tuple[str, str | None]]:
    chosen = frame[passes.fillna(False).astype(bool) & (frame["clip"].notna() | (per == "frame"))]
    clips = [None if clip is pd.NA else clip for clip in chosen["clip"]]
    return set(zip(chosen["row"], clips, strict=True))


def agrees(lake: tuple[Corpus, pd.DataFrame], seed: int) -> bool:
    """Whether one program gives the rows that pandas gives; whether it let some through and held some back."""
    corpus, frame = lake
    chance = random.Random(seed)
    text, evaluate = program(chance)
    passes = evaluate(frame)
    for per in ("clip", "frame"):
        wanted = expected(frame, passes, per)
        assert found(corpus, text, per, Plan() if seed % 2 else None) == wanted, text
        vector, k = np.eye(DIM, dtype=np.float32)[seed % DIM], chance.choice((1, 5, 1000))
        ranked = best(matching(corpus, parse_filter(text), per), vector, k, Ask())
        groups = {clip for _, clip in wanted} if per == "clip" else {row for row, _ in wanted}
        readings = len(groups) if per == "clip" else len(groups) // 2  # both views of a reading pass, or neither
        assert len(ranked.row) == min(k, readings), text
        assert (np.diff(ranked.score) <= 0).all()
    return 0 < len(expected(frame, passes, "frame")) < len(frame)


def test_programs_give_the_rows_that_pandas_gives(lake: tuple[Corpus, pd.DataFrame]) -> None:
    assert sum(agrees(lake, seed) for seed in range(60)) > 20


@pytest.mark.slow
def test_a_thousand_programs_give_the_rows_that_pandas_gives(lake: tuple[Corpus, pd.DataFrame]) -> None:
    assert sum(agrees(lake, seed) for seed in range(1000, 2000)) > 400
