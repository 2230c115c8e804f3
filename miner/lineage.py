"""Which run wrote what, from what: one event per run and output table, in OpenLineage's words.

Every commit carries its run's stamp in the Lance transaction, so the events of a run that died are rebuilt from the
table.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from miner.failpoints import failpoint
from miner.ids import make_id
from miner.schema import LINEAGE
from miner.store import Store
from miner.transactions import RUN


@dataclass(frozen=True)
class Run:
    """One execution of one job: the stamp of its commits. `config` is the resolved configuration, without secrets."""

    job: str
    config: Mapping[str, Any] = field(default_factory=dict)
    code_version: str = ""
    seed: int | None = None
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def stamp(self, **more: str | int) -> dict[str, str]:
        """Transaction properties: what `recover` needs to rebuild the event of this run."""
        own = {"run_id": self.run_id, "job": self.job, "code_version": self.code_version, "seed": json.dumps(self.seed)}
        config = json.dumps(self.config, sort_keys=True, default=str)
        return {f"miner.{key}": str(value) for key, value in {**own, "config": config, **more}.items()}


@dataclass(frozen=True)
class Span:
    """The versions of a table a run read or wrote, both inclusive."""

    table: str
    first: int
    last: int


def record(store: Store, run: Run, inputs: Sequence[Span], outputs: Sequence[Span], cost: Mapping[str, Any]) -> None:
    """Write the events of a finished run, one per output table, and tag the last version it wrote."""
    failpoint("lineage:before")
    stamp = run.stamp(inputs=_spans(inputs))
    _append(store, [_event(stamp, "complete", output, cost) for output in outputs])
    failpoint("lineage:after")


def unrecorded(store: Store, table: str) -> list[tuple[dict[str, str], Span]]:
    """Stamp and versions of the runs that changed `table` and have no event: alive, or dead before they could."""
    spans: dict[str, tuple[dict[str, str], Span]] = {}
    for commit in store.commits(table, _last_recorded(store, table)):
        run_id = commit.properties.get(RUN)
        if run_id is not None:
            first = spans[run_id][1].first if run_id in spans else commit.version
            spans[run_id] = (dict(commit.properties), Span(table, first, commit.version))
    return list(spans.values())


def recover(store: Store, table: str) -> None:
    """Write the events of runs that died before they could, with what they had used by their last commit. Only for
    the holder of the table's lease."""
    dead = unrecorded(store, table)
    costs = [json.loads(stamp.get("miner.cost", "{}")) for stamp, _ in dead]
    _append(store, [_event(stamp, "interrupted", span, cost) for (stamp, span), cost in zip(dead, costs, strict=True)])


def _last_recorded(store: Store, table: str) -> int:
    columns = store.scan("lineage", ["outputs"])["outputs"].to_pylist()
    return max((span["last"] for spans in columns for span in spans if span["table"] == table), default=0)


def _event(stamp: Mapping[str, str], status: str, output: Span, cost: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event_id": make_id("lineage", stamp["miner.run_id"], output.table),
        "run_id": stamp["miner.run_id"],
        "job": stamp["miner.job"],
        "status": status,
        "event_time_ns": time.time_ns(),
        "inputs": json.loads(stamp.get("miner.inputs", "[]")),
        "outputs": [vars(output)],
        "config": stamp["miner.config"],
        "code_version": stamp["miner.code_version"],
        "seed": json.loads(stamp["miner.seed"]),
        "cost": json.dumps(cost, sort_keys=True),
    }


def _append(store: Store, events: list[dict[str, Any]]) -> None:
    if not events:
        return
    for event in events:
        for output in event["outputs"]:
            store.tag(output["table"], f"run-{event['run_id']}", output["last"])
    store.append("lineage", pa.Table.from_pylist(events, schema=LINEAGE))


def _spans(spans: Sequence[Span]) -> str:
    return json.dumps([vars(span) for span in spans])
