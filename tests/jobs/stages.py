"""Stages that misbehave on purpose, in a module that Ray's workers can import."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from miner.clips import CutStage
from miner.errors import BadInput, MinerError
from miner.limits import limited
from miner.schema import CLIPS
from miner.stage import Apply, Failure, Outcome, Output, Part, Prepare, Reduction, Stage, with_failures
from miner.store import Store

FOR_EVER_S = 10_000


def loop_in_python() -> None:
    while True:
        pass


HANGS: dict[str, Callable[[], Any]] = {
    "hang": loop_in_python,
    "hang-in-c": lambda: ctypes.CDLL(None).sleep(FOR_EVER_S),
    "hang-with-the-lock": lambda: ctypes.PyDLL(None).sleep(FOR_EVER_S),
}


@dataclass(frozen=True)
class OneClipStage(Stage):
    """One clip per scene, but on each of the `victims` it does what `fault` says: raise, die, forget, fail, ...

    `flag` is a file that is there once a worker has died of `die-once`; `pause_s` is what each unit takes. With `early`
    it misbehaves while it prepares.
    """

    victims: tuple[str, ...] = ()
    fault: str = ""
    flag: str = ""
    pause_s: float = 0.0
    block_size: int = 1000
    loads: bool = False
    num_gpus: float = 0.0
    early: bool = False
    name = "one-clip"
    unit = "scene_id"
    outputs = (Output("clips", CLIPS, "scene_id"),)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["fault"] == "not-to-be-unpickled":
            raise RuntimeError("of this process alone")
        self.__dict__.update(state)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("scenes",)

    def counts(self, store: Store) -> pa.Table:
        return CutStage().counts(store)

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        return CutStage().units(store, scene_filter, scene_ids)

    def prepare(self, store: Store) -> Prepare:
        return self._prepared if self.early else lambda units: units

    def _prepared(self, units: pa.Table) -> pa.Table:
        bad = {each.key: BadInput(each.reason, each.detail) for each in self._act(units["key"].to_pylist())}
        return with_failures(units, [bad.get(key) for key in units["key"].to_pylist()])

    def apply(self, store: Store) -> Apply:
        if self.fault == "no-weights":
            raise MinerError("the weights of 'one' are missing: no file one.pt", "Put it there.")
        if self.fault == "broken":
            raise KeyError("no such layer")
        return self._clips

    def _clips(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        keys = units["key"].to_pylist()
        time.sleep(self.pause_s * len(keys))
        failures = [] if self.early else self._act(keys)
        if self.fault == "empty" and set(self.victims) & set(keys):
            return Outcome({})
        keys = [key for key in keys if self.early or self.fault == "die-once" or key not in self.victims]
        rows = [{"clip_id": key, "scene_id": key, "start_ns": 0, "end_ns": 1, "recipe": "one"} for key in keys]
        return Outcome({"clips": pa.Table.from_pylist(rows, schema=CLIPS)}, failures)

    def _act(self, keys: list[str]) -> list[Failure]:
        """What becomes of the victims among some units."""
        failures = []
        for victim in sorted(set(self.victims) & set(keys)):
            if self.fault == "die" or (self.fault == "die-once" and _first(self.flag)):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault in HANGS:
                try:
                    limited(victim, f"{victim}.bin", HANGS[self.fault])
                except BadInput as bad:
                    failures.append(Failure(victim, victim, bad.reason, bad.detail))
            if self.fault == "raise":
                raise ValueError("cannot digest it")
            if self.fault == "bad-input":
                raise BadInput("bad-taste", f"{victim} is bad")
            if self.fault in ("fail", "missing-file"):
                failures.append(Failure(victim, victim, self.fault, "it is bad"))
        return failures


@dataclass(frozen=True)
class OnePartFails(Reduction):
    """Two parts: one never ends, and leaves the id of its process in the file `flag`; then the other fails."""

    flag: str
    begun: bool = False
    name = "one-part-fails"
    reads = ()
    output = Output("clips", CLIPS, None)

    @property
    def divided(self) -> bool:  # type: ignore[override]
        return not self.begun

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        return replace(self, begun=True), [self.never_ends, self.fails]

    def never_ends(self) -> None:
        beside = Path(f"{self.flag}.part")
        beside.write_text(str(os.getpid()))
        beside.rename(self.flag)
        HANGS["hang-in-c"]()

    def fails(self) -> None:
        while not Path(self.flag).exists():
            time.sleep(0.02)
        raise MinerError("broken")

    def compute(self, store: Store) -> pa.Table:
        return CLIPS.empty_table()


@dataclass(frozen=True)
class DiesWithoutLease(Reduction):
    """Its worker dies the first time, and its lease is gone by then: the run was stalled for too long."""

    flag: str
    name = "dies-without-lease"
    reads = ()
    output = Output("clips", CLIPS, None)

    def compute(self, store: Store) -> pa.Table:
        if _first(self.flag):
            store.delete("leases", "`table` = 'clips'")
            os.kill(os.getpid(), signal.SIGKILL)
        return CLIPS.empty_table()


def _first(flag: str) -> bool:
    """Whether nobody made the file before."""
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def write_scenes(store: Store, count: int) -> list[str]:
    """`count` rows in `scenes`; gives their ids."""
    store.ensure("scenes")
    ids = [f"{number:032x}" for number in range(count)]
    row = {"dataset": "d", "log_id": "l", "name": "n", "start_ns": 0, "end_ns": 1}
    store.append("scenes", pa.Table.from_pylist([{"scene_id": each, **row} for each in ids]))
    return ids
