"""Clips that a person accepted become a dataset version: as they are, or the most varied of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.candidates import Candidates
from miner.errors import NotFound, UsageError
from miner.schema import SELECTIONS
from miner.selection.build import Selection
from miner.selection.run import freezing
from miner.snapshot import Snapshot
from miner.training_sets import Dataset, check_dataset_name
from miner.training_sets import freeze as freeze_selection

if TYPE_CHECKING:
    from miner.accepted import Accepted
    from miner.lake import Lake


def frozen(accepted: Accepted, name: str, note: str | None) -> Dataset:
    """The next version of dataset `name`, with the accepted clips in their order and where they come from.

    Raises UsageError for a name, or clips of no lake; NotFound for a clip that is not in the lake any more.
    """
    check_dataset_name(name)
    lake = _lake(accepted)
    lake.store.assert_current()
    snapshot = Snapshot.now(lake.store)
    clips = snapshot.scan("clips", ["clip_id"])["clip_id"].combine_chunks()
    lost = [clip for clip in accepted.clip_ids if not pc.is_in(pa.scalar(clip), clips).as_py()]
    if lost:
        raise NotFound(f"{len(lost)} of the accepted clips are not in the lake any more, e.g. {lost[0]}")
    spec: dict[str, Any] = {"accepted": accepted.provenance()}
    whole = json.dumps([spec, accepted.clip_ids], sort_keys=True, default=str)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    report = {"budget": len(accepted), "chosen": len(accepted), "cells": []}
    selection = Selection(snapshot, _rows(accepted), json.loads(json.dumps(spec, default=str)), report, None, digest)
    made, _ = freeze_selection(name, selection, freezing(lake, "freeze", {"dataset": name, "note": note}, note))
    return made


def diversified(accepted: Accepted, n: int, strategy: str, seed: int) -> Accepted:
    """At most `n` of the accepted clips, the most varied by `strategy`, in the order it takes them.

    Raises UsageError for n < 1 and clips of no lake, UnknownName for the strategy, NotFound for clips without vectors.
    """
    from miner.selection.pick import load
    from miner.selection.pool import Pool
    from miner.selection.spec import Spec

    if n < 1:
        raise UsageError(f"n = {n}: expected 1 or more")
    pool = Pool(Snapshot.now(_lake(accepted).store), Spec(budget=n, encoder=accepted.encoder))
    rows = pc.index_in(pa.array(accepted.clip_ids, pa.string()), pool.facts["clip_id"].combine_chunks())
    if rows.null_count:
        raise NotFound(f"{rows.null_count} of the accepted clips are not in the lake's facts", "Run: miner index LAKE")
    vectors = pool.vectors[rows.to_numpy()]
    there = np.flatnonzero(vectors.any(axis=1))
    if not len(there):
        raise NotFound(f"no accepted clip has vectors of {accepted.encoder!r}", "Run: miner embed LAKE")
    places = there[load(strategy).select(Candidates(), vectors[there], min(n, len(there)), seed).rows]
    return replace(
        accepted,
        clip_ids=tuple(accepted.clip_ids[place] for place in places),
        scene_ids=tuple(accepted.scene_ids[place] for place in places),
        scores=tuple(accepted.scores[place] for place in places),
    )


def _lake(accepted: Accepted) -> Lake:
    if accepted.opened is None:
        raise UsageError("these clips are of no open lake", "Take them from lake.search(...).accept([...]).")
    return accepted.opened


def _rows(accepted: Accepted) -> pa.Table:
    asked = accepted.query.get("texts") or [accepted.query.get("verb", "a search")]
    reasons = [f"accepted; {score:.3f} for {', '.join(map(str, asked))}" for score in accepted.scores]
    schema = pa.schema([SELECTIONS.field(name) for name in ("clip_id", "rank", "strategy", "reason", "gain")])
    columns = [accepted.clip_ids, range(1, len(accepted) + 1), ["accepted"] * len(accepted), reasons, accepted.scores]
    arrays = [pa.array(list(values), each.type) for values, each in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
