"""Leases between threads, processes and the dead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from miner import lance_errors
from miner import lease as leases
from miner.errors import Conflict, MinerError
from miner.lance_errors import retried
from miner.lease import holder, lease
from miner.store import Store
from tests.miner.test_store import clips

HOLD = """
import sys, time
from miner.lease import lease
from miner.store import Store
with lease(Store.open(sys.argv[1]), ["clips"], "child"):
    print("held", flush=True)
    time.sleep(60)
"""


CONTEND = """
import os, sys
from miner.lease import lease
from miner.store import Store
store, mark = Store.open(sys.argv[1]), os.path.join(sys.argv[1], "inside")
sys.stdin.readline()
for turn in range(int(sys.argv[3])):
    with lease(store, ["clips", sys.argv[2]], f"{sys.argv[2]}-{turn}"):
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        os.remove(mark)
print("done", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(str(tmp_path / "lake"))


def test_one_holder_at_a_time(store: Store) -> None:
    with lease(store, ["clips", "scenes"], "first"):
        assert (holder(store, "clips") or {})["run_id"] == "first"
        with pytest.raises(Conflict, match="held by run first"), lease(store, ["scenes"], "second", wait=False):
            pass
    assert holder(store, "clips") is None
    with lease(store, ["scenes"], "second", wait=False):
        pass


def test_a_lost_race_gives_back_what_it_took(store: Store) -> None:
    with lease(store, ["b"], "first"):
        with pytest.raises(Conflict), lease(store, ["a", "b"], "second", wait=False):
            pass
        assert holder(store, "a") is None


def test_waiting_is_told_once_and_ends(store: Store) -> None:
    messages: list[str] = []
    order: list[str] = []

    def second() -> None:
        with lease(store, ["clips"], "second", notify=messages.append):
            order.append("second")

    with lease(store, ["clips"], "first"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert len(messages) == 1 and "held by run first" in messages[0]


def test_many_at_once_are_one_after_the_other(store: Store) -> None:
    inside, most = [0], [0]
    done: list[str] = []

    def work(name: str) -> None:
        with lease(store, ["clips"], name, notify=lambda _: None):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1
            done.append(name)

    threads = [threading.Thread(target=work, args=(f"run{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, len(done)) == ([1], 5)


@pytest.mark.fault
def test_a_killed_holder_holds_nothing(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, store.uri], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(Conflict), lease(store, ["clips"], "mine", wait=False):
        pass
    store.ensure("clips")
    fragments, seen = store.write("clips", clips(0, 3)), store.version("clips")  # as a worker of it may still commit
    child.kill()
    child.wait()
    with lease(store, ["clips"], "mine", wait=False):
        assert (holder(store, "clips") or {})["run_id"] == "mine"
        with pytest.raises(Conflict, match="taken over"):
            store._at("clips").append(store._sealed(fragments), seen, {})


def test_a_held_table_is_kept_while_waiting_for_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_BEAT_S", 0.1)
    monkeypatch.setattr(leases, "EXPIRY_S", 1.0)
    got: list[str] = []

    def second() -> None:
        with lease(store, ["a", "b"], "second", notify=lambda _: None) as assert_held:
            assert_held()
            got.append("both")

    with lease(store, ["b"], "first"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(2.5)
        with pytest.raises(Conflict, match="held by run second"), lease(store, ["a"], "third", wait=False):
            pass
    thread.join(30)
    assert got == ["both"]


def test_an_old_heartbeat_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease(store, ["clips"], "stalled") as assert_held:
        monkeypatch.setattr(leases, "EXPIRY_S", 0.0)
        with lease(store, ["clips"], "eager", wait=False):
            monkeypatch.undo()
            assert (holder(store, "clips") or {})["run_id"] == "eager"
        assert_held()  # not yet noticed: the heartbeat, or the check before each commit, will


def test_a_lost_lease_is_noticed_by_the_heartbeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_BEAT_S", 0.1)
    with lease(store, ["clips"], "stalled") as assert_held:
        assert_held()
        store.delete("leases", "run_id = 'stalled'")
        time.sleep(1.0)
        with pytest.raises(Conflict, match="was lost"):
            assert_held()


def test_a_store_out_of_reach_for_a_moment_costs_no_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_BEAT_S", 0.1)
    beats: list[str] = []

    def renew(store: Store, table: str, run_id: str) -> bool:
        beats.append(table)
        if len(beats) == 1:
            raise MinerError("the store does not answer as it should")
        return True

    monkeypatch.setattr(leases, "_renew", renew)
    with lease(store, ["clips"], "mine") as assert_held:
        time.sleep(0.6)
        assert_held()
    assert len(beats) > 1


def contend(store: Store, processes: int, turns: int) -> list[str]:
    """Processes that take and give back one lease all at once, each with one of its own beside it; what they said."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CONTEND, store.uri, f"own{number}", str(turns)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=240) for process in started]
    return [answer or errors for answer, errors in ended]


@pytest.mark.fault
def test_processes_that_contend_all_get_their_turn(store: Store) -> None:
    """Conflicting changes of the leases are begun anew until they are through; two never hold one table."""
    assert contend(store, processes=3, turns=3) == ["done\n"] * 3
    assert store.count("leases") == 0


@pytest.mark.fault
@pytest.mark.slow
def test_many_processes_that_contend_for_long(store: Store) -> None:
    assert contend(store, processes=8, turns=10) == ["done\n"] * 8
    assert store.count("leases") == 0


def test_a_change_is_tried_again_only_where_it_makes_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance_errors, "_FIRST_PAUSE_S", 0.002)
    tries: list[float] = []

    def refused(text: str) -> None:
        tries.append(time.monotonic())
        raise OSError(text)

    with pytest.raises(OSError, match="disk on fire"):
        retried(lambda: refused("disk on fire"))
    assert len(tries) == 1
    tries.clear()
    with pytest.raises(OSError, match="Retryable commit conflict"):
        retried(lambda: refused("Retryable commit conflict for version 7"))
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert 5 < len(tries) <= 20 and sum(pauses[-3:]) > 3 * sum(pauses[:3]), "a cap, and pauses that grow"
