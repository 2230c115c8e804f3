"""A seeded scheduler of faults: a local ingest is run under one random fault after the other, then let through.

`python -m tests.faults.scheduler SEED` runs the round of a seed again and prints its faults;
`python -m tests.faults.scheduler commit:before=kill@2 SIGKILL@1.25` runs just these.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from miner.failpoints import NAMES, VARIABLE
from tests.faults.commands import Ingest, Running
from tests.recordings import write_drives
from tests.tables import Damage, damage

ACTIONS = ("kill", "error", "full")
SIGNALS = ("SIGKILL", "SIGSTOP")
OTHER_VERBS = ("compact:", "replace:", "migrate:")
MOST = 3
_LATEST_S = 1.0
_STOPPED_S = 0.3


@dataclass(frozen=True)
class Fault:
    """What befalls one run: an entry of MINER_FAILPOINT (`commit:before=kill@2`), or a signal after so many seconds of
    its work (`SIGKILL@0.53`; a SIGSTOP is followed by a SIGCONT)."""

    text: str

    @property
    def signal(self) -> str | None:
        """The signal's name; None for a failpoint."""
        name = self.text.partition("@")[0]
        return name if name in SIGNALS else None

    @property
    def codes(self) -> set[int]:
        """The exit codes a user may get. 0: the failpoint was not reached, or another try got over it."""
        if self.signal == "SIGSTOP":
            return {0}
        kills = self.signal is not None or "=kill" in self.text
        return {0, -signal.SIGKILL} if kills else {0, 1}


def draw(seed: int) -> list[Fault]:
    """The faults of a round: 1 to `MOST`, two thirds of them failpoints."""
    chance = random.Random(seed)
    points = [name for name in NAMES if not name.startswith(OTHER_VERBS)]
    faults = []
    for _ in range(chance.randint(1, MOST)):
        if chance.random() < 2 / 3:
            turn = chance.choice(["", "@1", "@2", "@3"])
            faults.append(Fault(f"{chance.choice(points)}={chance.choice(ACTIONS)}{turn}"))
        else:
            faults.append(Fault(f"{chance.choice(SIGNALS)}@{chance.uniform(0, _LATEST_S):.2f}"))
    return faults


def suffer(ingest: Ingest, fault: Fault) -> int:
    """Run the command under a fault; gives its exit code. Raises AssertionError if a user should not have got that."""
    with ingest.started(**({} if fault.signal else {VARIABLE: fault.text})) as running:
        if fault.signal:
            _send(running, fault)
        code, said = running.wait(), running.said()
    assert code in fault.codes, f"{fault.text}: exit code {code}, expected {sorted(fault.codes)}: {said}"
    assert "Traceback" not in said, f"{fault.text}: {said}"
    messages = [line for line in said.splitlines() if line.startswith("miner: ")]
    told = len(messages) == 1 if code == 1 else len(messages) <= (code < 0)  # a shell tells of a process that is killed
    assert told, f"{fault.text}: exit code {code} with {len(messages)} messages: {said}"
    return code


def _send(running: Running, fault: Fault) -> None:
    if not running.until(running.at_work):
        return
    time.sleep(float(fault.text.partition("@")[2]))
    if running.process.poll() is not None:
        return
    running.process.send_signal(getattr(signal, fault.signal or ""))
    if fault.signal == "SIGSTOP":
        time.sleep(_STOPPED_S)
        running.process.send_signal(signal.SIGCONT)


def endure(ingest: Ingest, faults: Sequence[Fault], undisturbed: Path) -> tuple[list[int], Damage]:
    """Run under each fault, then to the end, then once more; gives the exit codes and what is wrong with the lake."""
    codes = [suffer(ingest, fault) for fault in faults]
    ingest.finish()
    assert not ingest.changes_once_more(), "a run over a finished lake changed it"
    return codes, damage(ingest.lake, undisturbed)


def write_source(folder: Path) -> Path:
    """A small source: a second to ingest, more than one block for each worker, one picture broken."""
    source = write_drives(folder, scenes=9, frames=16)
    (source / "drive_03" / "frame_000007.jpg").write_bytes(b"")
    return source


def main(wanted: Sequence[str]) -> None:
    """Run a round by its seed, or some faults, and say what came of it."""
    faults = draw(int(wanted[0])) if wanted[0].isdigit() else [Fault(text) for text in wanted]
    sys.stdout.write(f"faults: {' '.join(fault.text for fault in faults)}\n")
    with tempfile.TemporaryDirectory() as folder:
        ingest = Ingest(write_source(Path(folder, "source")), Path(folder, "lake"))
        calm = replace(ingest, lake=Path(folder, "undisturbed"))
        calm.finish()
        codes, found = endure(ingest, faults, calm.lake)
    sys.stdout.write(f"exit codes: {codes}\n{found}\n")
    sys.exit(found != Damage())


if __name__ == "__main__":
    os.environ.pop(VARIABLE, None)
    main(sys.argv[1:])
