"""The kill loop: SIGKILL to a driver or to a Ray worker at seeded random moments of an ingest, and the same again.

A lake is killed some times, then its ingest is let through to the end, and what it holds is compared with what an
undisturbed run left behind.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from tests.faults.commands import STAGES, Ingest, Running, may_begin
from tests.tables import Damage, damage, read

PER_LAKE = 10
VICTIMS = {  # encoders with weights work in actors, all else in tasks
    "task": re.compile(r"ray::(MapBatches\(whole\)|replace_rows)"),
    "actor": re.compile(r"ray::MapWorker\("),
}
_LEASED = {"scenes": "ingest", "clips": "cut", "assets": "embed", "clip_facts": "index", "indexes": "index"}
_PATIENCE_S = 0.4
_LINGER_S = 60.0  # a Ray worker that was still starting when its driver died needs some time to find out


@dataclass(frozen=True)
class Hit:
    """One SIGKILL that found a live process: what it was, and in which stage."""

    kind: str
    stage: str


@dataclass
class Toll:
    """What a kill loop did and found."""

    hits: list[Hit] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)  # messages of runs that ended with 1 after a worker was killed
    complaints: list[str] = field(default_factory=list)  # what a user should not have got


@dataclass(frozen=True)
class Loop:
    """Kills ingests of one source, lake after lake below `folder`. `undisturbed` is the lake to compare with.

    `seconds` are the durations of the stages in an undisturbed run.
    """

    ingest: Ingest
    undisturbed: Path
    seconds: dict[str, float]
    chance: random.Random
    per_lake: int = PER_LAKE
    tell: Callable[[str], None] = lambda text: None

    def run(self, kinds: Sequence[str]) -> Toll:
        """Kill a `driver`, a Ray `task` or a Ray `actor` for each of `kinds`, in this order, all of them alive."""
        toll, deck, number = Toll(), list(kinds)[::-1], 0
        while deck:
            lake = self.ingest.lake.with_name(f"{self.ingest.lake.name}_{number}")
            self._kill_and_finish(replace(self.ingest, lake=lake), deck, toll)
            self.tell(f"{len(toll.hits)} of {len(kinds)} kills, {toll.damages[-1]}")
            shutil.rmtree(lake)
            number += 1
        return toll

    def _kill_and_finish(self, ingest: Ingest, deck: list[str], toll: Toll) -> None:
        most = min(self.per_lake, len(deck))
        hits: list[Hit] = []
        left_behind: list[psutil.Process] = []
        while len(hits) < most:
            before = len(hits)
            with ingest.started() as running:
                while len(hits) < most and running.process.poll() is None:
                    if (hit := self._strike(ingest, running, deck[-1], len(hits) / most)) is not None:
                        hits.append(hit)
                        deck.pop()
                code = running.wait()
                assert code == 0 or len(hits) > before, f"exit code {code} by itself: {running.said()}"
                self._judge(code, running.said(), toll)
                left_behind += running.left_behind
            if code == 0:
                break
        else:
            ingest.finish()
        if ingest.changes_once_more():
            toll.complaints.append("a run over a finished lake changed it")
        for process in psutil.wait_procs(left_behind, _LINGER_S)[1]:
            toll.complaints.append(f"a process outlives its driver by {_LINGER_S:g} s: {process}")
        toll.hits += hits
        toll.damages.append(damage(ingest.lake, self.undisturbed))

    def _strike(self, ingest: Ingest, running: Running, kind: str, share: float) -> Hit | None:
        """One kill at a random moment; None if the command ends first."""
        aim = "embed" if kind == "actor" else self._aim(ingest, share)
        begun = running.until(running.at_work) and running.until(lambda: self._may_begin(aim, ingest.lake))
        if kind == "driver" and begun:
            time.sleep(self.chance.uniform(0, self.seconds[aim]))
        done = running.kill() if kind == "driver" else self._kill_worker(running, VICTIMS[kind])
        return Hit(kind, self._landed(ingest.lake, running.process.pid)) if done else None

    def _aim(self, ingest: Ingest, share: float) -> str:
        """A stage that is not done: the kills of one lake go from its first stage to its last."""
        stages = [*STAGES]
        reached = sum(self._may_begin(stage, ingest.lake) for stage in stages) - 1
        wanted = int(len(stages) * min(share + self.chance.uniform(0, 1 / self.per_lake), 0.999))
        return stages[max(reached, wanted)]

    def _may_begin(self, stage: str, lake: Path) -> bool:
        return may_begin(stage, lake, self.undisturbed)

    def _kill_worker(self, running: Running, title: re.Pattern[str]) -> bool:
        """SIGKILL to one of the driver's workers that are at work on something, a little after they are seen."""
        if not running.until(lambda: bool(_at_work(running, title))):
            return False
        time.sleep(self.chance.uniform(0, _PATIENCE_S))
        victims = _at_work(running, title)
        if not victims:
            return False
        victim = self.chance.choice(victims)
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return False
        return True

    def _judge(self, code: int, said: str, toll: Toll) -> None:
        if "Traceback" in said or code not in (0, 1, -signal.SIGKILL):
            toll.complaints.append(f"exit code {code}: {said}")
        elif code == 1:
            toll.gave_up.append(said)

    def _landed(self, lake: Path, pid: int) -> str:
        """The stage whose tables a process has leased when it is killed, or whose work needs no lease."""
        rows = read(lake, "leases").to_pylist()
        leased = [row["table"] for row in rows if row["owner"].split("|")[1:2] == [str(pid)]]
        elsewhere = "index" if self._may_begin("index", lake) else "between stages"
        return next((_LEASED[table] for table in leased if table in _LEASED), elsewhere)


def _at_work(running: Running, title: re.Pattern[str]) -> list[psutil.Process]:
    found = []
    for process in running.offspring():
        try:
            if title.match(" ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.pid)
