"""Leases: one run at a time may append to a table.

A lease is a row of the `leases` table, taken by an atomic upsert and renewed by a heartbeat. It ends when it is given
back, when its last heartbeat is older than `EXPIRY_S`, or at once when the process that held it on this machine is
gone.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from miner.errors import Conflict, Damaged, MinerError
from miner.fragments import trim
from miner.schema import LEASES
from miner.store import Store

EXPIRY_S = 60.0
_BEAT_S = 10.0
_KEPT_VERSIONS = 20


@dataclass
class Held:
    """Tables that are held: calling it raises Conflict if a lease was lost meanwhile. `waited_s` is for how long others
    had them first."""

    lost: threading.Event
    waited_s: float = 0.0

    def __call__(self) -> None:
        if self.lost.is_set():
            raise Conflict(
                "the lease on the lake's tables was lost (this process was stalled too long)", "Run it again."
            )


@contextmanager
def lease(
    store: Store,
    tables: Sequence[str],
    run_id: str,
    wait: bool = True,
    notify: Callable[[str], None] = lambda message: None,
) -> Iterator[Held]:
    """Hold `tables` while the block runs. Gives what raises Conflict, when it is called, if a lease was lost meanwhile.

    With `wait` it polls until the present holder is done, after telling `notify` once; else it raises Conflict at once.
    """
    store.ensure("leases")
    held: list[str] = []
    stop, lost = threading.Event(), threading.Event()
    found = Held(lost)
    heart = threading.Thread(target=_beat, args=(store, held, run_id, stop, lost), daemon=True)
    heart.start()  # before the first table: waiting for the second may take long
    try:
        for table in sorted(tables):  # one order for everybody: no two runs wait for each other
            found.waited_s += _acquire(store, table, run_id, wait, notify)
            held.append(table)
        yield found
    finally:
        stop.set()
        heart.join()
        for table in held:
            store.delete("leases", f"`table` = '{table}' AND run_id = '{run_id}'")
        trim(store, "leases", _KEPT_VERSIONS)


def holder(store: Store, table: str) -> dict[str, str] | None:
    """Who holds `table` now (run_id, owner), or None."""
    rows = store.scan("leases", filter=f"`table` = '{table}'").to_pylist() if store.exists("leases") else []
    return rows[0] if rows and not _is_over(rows[0]) else None


def is_holder(store: Store, table: str, run_id: str) -> bool:
    """Whether the run still holds `table`: it may have been stalled, and another one taken over."""
    present = holder(store, table)
    return present is not None and present["run_id"] == run_id


def assert_holder(store: Store, table: str, run_id: str) -> None:
    """Raises Conflict unless the run still holds `table`."""
    if not is_holder(store, table, run_id):
        raise Conflict(f"the lease on table {table!r} was lost (this run was stalled too long)", "Run it again.")


def _acquire(store: Store, table: str, run_id: str, wait: bool, notify: Callable[[str], None]) -> float:
    """Seconds another run had the table first."""
    began_s, told = time.perf_counter(), False
    while not _try(store, table, run_id):
        present = holder(store, table)
        if present is None:
            continue
        message = f"table {table!r} is held by run {present['run_id']} ({present['owner'].split('|')[0]})"
        if not wait:
            raise Conflict(message, "Wait for it to end, or leave out --no-wait.")
        if not told:
            notify(f"{message}; waiting for it to end")
            told = True
        time.sleep(0.5)
    return time.perf_counter() - began_s if told else 0.0


def _try(store: Store, table: str, run_id: str) -> bool:
    rows = store.scan("leases", filter=f"`table` = '{table}'").to_pylist()
    if rows and not _is_over(rows[0]):
        return False
    if rows:
        with suppress(Damaged):  # a table that cannot be opened takes no commit, and `restore` needs its lease
            store.fence(table)  # the holder may be stalled just before a commit; where it died, a Ray worker of it may
    # Compare and swap: only the holder seen a moment ago may be replaced.
    seen = (
        f"target.run_id = '{rows[0]['run_id']}' AND target.heartbeat_ns = {rows[0]['heartbeat_ns']}"
        if rows
        else "false"
    )
    return store.upsert("leases", _row(table, run_id), seen) == 1


def _beat(store: Store, held: list[str], run_id: str, stop: threading.Event, lost: threading.Event) -> None:
    last = time.monotonic()
    try:
        while not stop.wait(_BEAT_S):
            try:
                alive = all(_renew(store, table, run_id) for table in tuple(held))
            except (MinerError, OSError, RuntimeError, ValueError):
                # The store is briefly out of reach (see `told` for its kinds): the lease lives until it expires.
                alive = time.monotonic() - last < EXPIRY_S
            else:
                last = time.monotonic()
            if not alive:
                return
    finally:
        if not stop.is_set():  # the heart stopped by itself, for whatever reason
            lost.set()


def _renew(store: Store, table: str, run_id: str) -> bool:
    return store.upsert("leases", _row(table, run_id), f"target.run_id = '{run_id}'", insert=False) == 1


def _row(table: str, run_id: str) -> pa.Table:
    values = [[table], [run_id], [_owner()], [time.time_ns()]]
    return pa.Table.from_arrays(
        [pa.array(value, field.type) for value, field in zip(values, LEASES, strict=True)], schema=LEASES
    )


def _is_over(row: dict[str, str]) -> bool:
    return time.time_ns() - int(row["heartbeat_ns"]) > EXPIRY_S * 1e9 or _is_gone(row)


def _is_gone(row: dict[str, str]) -> bool:
    """Whether the process that holds the lease was of this machine and has ended."""
    host, _, process = row["owner"].partition("|")
    pid, _, started = process.partition("|")
    return host == _host() and _started(int(pid)) != started


def _owner() -> str:
    return f"{_host()}|{os.getpid()}|{_started(os.getpid())}"


def _host() -> str:
    """This machine as far as process ids go: containers of one host have their own pid namespaces."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{namespace.stat().st_ino if namespace.exists() else 0}"


def _started(pid: int) -> str:
    """When the process was started, in the kernel's ticks; "" if it is gone (always "?" where there is no /proc)."""
    if not Path("/proc/self/stat").exists():
        return "?"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
