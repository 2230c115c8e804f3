"""Crash windows that can be hit on purpose: `MINER_FAILPOINT=commit:before=kill` ends the process right there.

For tests of recovery and for operators who want to see it. The variable holds `NAME=ACTION[@N]`, several separated by
commas; with `@N` only the N-th time this process comes by. Without the variable a failpoint costs one look at the
environment.

Actions: `kill` (SIGKILL to this process), `error` (OSError), `full` (OSError ENOSPC: no space left), `wait:SECONDS`.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter

from miner.errors import UsageError

VARIABLE = "MINER_FAILPOINT"
NAMES = {
    "worker:block": "a worker has a block and has not begun",
    "worker:written": "a worker has written its data files and not told anybody",
    "commit:before": "a group is about to be committed",
    "commit:checked": "nobody else changed the table, the rows are not in it yet",
    "commit:between-tables": "one output table of a group is committed, the next is not",
    "commit:after": "a group is committed, the run does not know yet",
    "quarantine:before": "the rows of a group are committed, its quarantine records are not",
    "lineage:before": "a run is done, its lineage event is not written",
    "lineage:after": "the event is written, the lease is held",
    "reduce:before": "a reduction is computed and not committed",
    "reduce:committed": "a reduction is committed, whoever did it has told nobody",
    "reduce:after": "a reduction is committed, its lineage event is not written",
    "index:part": "a part of a vector index is about to be filled",
    "index:sealed": "the files of a vector index are written, no manifest names them",
    "index:between-tables": "the key index of one table is built, the next is not",
    "digests:before": "a table is changed, its new files have no digests",
    "compact:between-tables": "one table is compacted, the next is not",
    "restore:between-tables": "the scenes that lose rows are out of `scenes`, the table is as it was",
    "compact:before-cleanup": "a table is compacted, its old files are there",
    "replace:between-tables": "a conflicting scene is out of one table and not of the next",
    "dataset:between-tables": "the clips of a dataset version are there, its row in `versions` is not",
    "export:before-rename": "a file of an export is written under a temporary name",
    "export:between-parts": "a file of an export is there, the manifest does not list it",
    "migrate:between-tables": "one table has the new columns, the next has not",
}
_seen: Counter[str] = Counter()  # how often this process came by: a failpoint is of the process, as its environment is


def failpoint(name: str) -> None:
    """Do what the environment asks for at this point. Raises UsageError for names and actions that are not known."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    _seen[name] += 1
    for entry in asked.split(","):
        point, _, action = entry.strip().partition("=")
        if point not in NAMES:
            raise UsageError(f"{VARIABLE}: no failpoint {point!r}", f"Known: {', '.join(NAMES)}")
        action, _, turn = action.partition("@")
        if point == name and (not turn or int(turn) == _seen[name]):
            _act(name, action)


def _act(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "error":
        raise OSError(errno.EIO, f"failpoint {name}")
    elif action == "full":
        raise OSError(errno.ENOSPC, f"failpoint {name}: no space left on device")
    elif action.startswith("wait:"):
        time.sleep(float(action.removeprefix("wait:")))
    else:
        raise UsageError(f"{VARIABLE}: no action {action!r}", "Actions: kill, error, full, wait:SECONDS")
