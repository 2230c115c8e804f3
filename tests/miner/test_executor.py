"""What the engine makes of units that hang, raise or cannot be written: what a user is told, what the tables hold."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.interrupts import interruptible
from miner.disk import DiskError
from miner.errors import BadInput, Conflict, MinerError
from miner.executor import MAX_ATTEMPTS, LocalExecutor
from miner.lease import holder, lease
from miner.limits import limited
from miner.lineage import Run
from miner.reporting import Progress, cost_of
from miner.schema import TABLES
from miner.stage import Outcome, Output, Part, Prepare, Reduction, Stage
from miner.store import Store
from miner.worker import Receipt
from tests.jobs.stages import OneClipStage, write_scenes
from tests.miner.test_store import clips
from tests.tables import contents, read

SECRET = "wJalrXUtnFEMI-canary-0123456789"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(str(tmp_path / "lake"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [("hang", ".bin: not done after 0.3 s"), ("hang-in-c", ".bin: not done after 0.3 s, nor to be interrupted")],
)
def test_a_unit_that_hangs_is_quarantined_and_the_run_goes_on(store: Store, fault: str, told: str) -> None:
    ids = write_scenes(store, 24)
    executor = LocalExecutor(threads=2, unit_timeout_s=0.3)
    report = executor.map(OneClipStage((ids[5],), fault), store, Run("test"))
    [row] = read(store.uri, "quarantine").to_pylist()
    assert (row["key"], row["reason"], row["detail"]) == (ids[5], "timed-out", ids[5] + told)
    assert (report.written, report.quarantined) == (23, 1)
    assert sorted(read(store.uri, "clips")["scene_id"].to_pylist()) == [*ids[:5], *ids[6:]]
    assert executor.map(OneClipStage((ids[5],), fault), store, Run("test")).changed is False


def test_a_thread_that_comes_back_too_late_shares_nothing_and_writes_nothing(store: Store) -> None:
    ids = write_scenes(store, 4)
    decoded: dict[int, list[str]] = {}
    applied: list[str] = []

    class Late(OneClipStage):
        def prepare(self, store: Store) -> Prepare:
            own = decoded[len(decoded)] = []

            def decode(units: pa.Table) -> pa.Table:
                for key in units["key"].to_pylist():
                    linger_us = 1_800_000 if key == ids[3] else 0
                    with contextlib.suppress(BadInput):  # as a reader that goes on whatever happens
                        limited(key, key, partial(ctypes.CDLL(None).usleep, linger_us))
                    own.append(key)
                return units

            return decode

        def _clips(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
            applied.extend(units["key"].to_pylist())
            return super()._clips(units, wanted)

    report = LocalExecutor(threads=1, unit_timeout_s=0.2).map(Late(), store, Run("test"))
    for thread in threading.enumerate():
        if thread.name == "hand":
            thread.join(20)
    assert (report.written, report.quarantined) == (3, 1)
    assert applied == ids[:3]
    assert decoded == {0: ids[:3], 1: ids[:3]} or decoded == {0: ids, 1: ids[:3]}


def test_the_trace_of_a_bad_unit_is_in_the_log_of_the_run(store: Store) -> None:
    ids = write_scenes(store, 8)
    run = Run("test")
    LocalExecutor(threads=2).map(OneClipStage((ids[3],), "raise"), store, run)
    [row] = read(store.uri, "quarantine").to_pylist()
    log = Path(store.uri, "_logs", f"{run.run_id}.log")
    assert row["detail"] == f"ValueError: cannot digest it. Full trace: {log}"
    assert (row["reason"], row["attempts"]) == ("error", MAX_ATTEMPTS)
    assert f"stage one-clip, unit {ids[3]}" in log.read_text() and "Traceback" in log.read_text()
    assert "clips" in store.tables() and not any("_logs" in table for table in store.tables())


class Leaking(OneClipStage):
    """Raises with a secret in the message, as a client of a store might."""

    def _clips(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        raise ValueError(f"cannot read s3://u:{SECRET}@bucket/a?X-Amz-Signature={SECRET} with key {SECRET}")


def test_no_secret_is_in_message_or_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    write_scenes(store, 3)
    run = Run("test")
    with pytest.raises(MinerError, match=r"not one of 3 units got through, e\.g\. ValueError: cannot read") as raised:
        LocalExecutor(threads=1).map(Leaking(), store, run)
    log = Path(store.uri, "_logs", f"{run.run_id}.log")
    assert raised.value.hint == f"Full trace: {log}" and "Traceback" in log.read_text()
    assert SECRET not in str(raised.value) and SECRET not in log.read_text()


def test_no_secret_is_in_quarantine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    ids = write_scenes(store, 1)
    assert LocalExecutor(threads=1).map(Leaking(), store, Run("test")).quarantined == 1
    [row] = read(store.uri, "quarantine").to_pylist()
    assert row["key"] == ids[0] and row["detail"].startswith("ValueError: cannot read s3://***@bucket/a?***")
    assert SECRET not in row["detail"]


def test_an_exception_nobody_foresaw_is_one_line_and_a_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(store, 3)
    run = Run("test")

    def damaged(*_: object) -> int:
        raise IndexError("fragment 7\nof a manifest")

    monkeypatch.setattr(Store, "commit", damaged)
    with pytest.raises(MinerError) as raised:
        LocalExecutor().map(OneClipStage(), store, run)
    assert raised.value.message == "stage one-clip: IndexError: fragment 7"
    assert "in damaged" in Path(raised.value.hint.removeprefix("Full trace: ")).read_text()


@pytest.mark.parametrize("where", ["worker:block", "worker:written"])
def test_a_full_disk_in_a_worker_is_no_units_fault(store: Store, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    write_scenes(store, 600)
    monkeypatch.setenv("MINER_FAILPOINT", f"{where}=full@3")
    monkeypatch.setattr("miner.failpoints._seen", Counter())
    with pytest.raises(DiskError, match=rf"no space left for {store.uri} \([\d,.]+ MB free of") as raised:
        LocalExecutor(threads=1).map(OneClipStage(), store, Run("test"))
    assert "same command again goes on" in raised.value.hint
    monkeypatch.delenv("MINER_FAILPOINT")
    kept = read(store.uri, "clips").num_rows
    assert 0 < kept < 600 and read(store.uri, "quarantine").num_rows == 0
    assert LocalExecutor(threads=1).map(OneClipStage(), store, Run("test")).written == 600 - kept
    assert len(contents(store.uri)["clips"]) == 600


def test_no_right_to_a_table_names_file_and_user(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(store, 4)

    def denied(*_: object) -> list[str]:
        raise OSError('LanceError(IO): Permission denied (os error 13) at path "/lake/clips.lance/data/.tmp1", x.rs:1')

    monkeypatch.setattr(Store, "write", denied)
    monkeypatch.setenv("LOGNAME", "mary")
    with pytest.raises(DiskError) as raised:
        LocalExecutor().map(OneClipStage(), store, Run("test"))
    assert raised.value.message == "/lake/clips.lance/data/.tmp1: permission denied (this is user mary)"


def test_other_errors_of_a_disk_stay_what_they_are(store: Store) -> None:
    from miner.disk import explained

    assert explained(OSError(errno.EIO, "Input/output error"), store.uri) is None
    assert explained(ValueError("k = 28"), store.uri) is None


class OneClip(Reduction):
    """Into an empty table; while `overtaken` another run takes the table over and is done first."""

    name, reads, output, overtaken = "one clip", ("scenes",), Output("clips", TABLES["clips"], None), False

    def compute(self, store: Store) -> pa.Table:
        if self.overtaken:
            store.fence("clips")
            store.replace("clips", clips(0, 1), self.owned, Run("test").stamp())
        return clips(0, 1)


def test_a_reduction_that_stalled_while_another_run_took_over_doubles_nothing(store: Store) -> None:
    late = OneClip()
    late.overtaken = True
    with pytest.raises(Conflict, match="taken over"):
        LocalExecutor().reduce(late, store, Run("test"))
    assert store.count("clips") == 1
    LocalExecutor().reduce(OneClip(), store, Run("test"))
    assert store.count("clips") == 1


def test_waiting_for_another_run_is_told_apart(store: Store) -> None:
    write_scenes(store, 4)
    asked, other = threading.Event(), threading.Thread(target=lambda: held_until(store, asked))
    other.start()
    while holder(store, "clips") is None:
        time.sleep(0.01)
    began_s = time.perf_counter()
    report = LocalExecutor(threads=1, notify=lambda line: asked.set()).map(OneClipStage(), store, Run("test"))
    assert report.seconds + report.waited_s <= time.perf_counter() - began_s
    other.join()
    assert (report.written, len(store.scan("clips"))) == (4, 4)
    assert report.waited_s >= 0.5 and cost_of(report)["waited_s"] == round(report.waited_s, 3)
    with lease(store, ["clips"], "another") as held:
        assert held.waited_s == 0


def held_until(store: Store, asked: threading.Event) -> None:
    """Another run, which holds `clips` until somebody waits for it."""
    with lease(store, ["clips"], "another"):
        asked.wait(60)


def test_blocks_are_enough_for_those_who_prepare_for_gpus(store: Store) -> None:
    write_scenes(store, 64)
    sizes: list[int] = []

    class Apart(LocalExecutor):
        @property
        def decoders(self) -> int:
            return 8

        def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Generator[Receipt, None, None]:
            sizes.extend(map(len, blocks))
            yield from super().run_blocks(stage, store, blocks)

    assert Apart(threads=1).map(OneClipStage(num_gpus=1.0), store, Run("test")).written == 64
    assert sizes == [8] * 8


class Divided(OneClip):
    """Many parts, the first of which fails; `ended` tells that its files were removed."""

    divided, ended, fails = True, False, True

    def __init__(self) -> None:
        self.done: list[int] = []

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        self.divided = False
        return self, [partial(self.part, number) for number in range(40 if self.fails else 1)]

    def part(self, number: int) -> None:
        if number == 0 and self.fails:
            raise MinerError("broken")
        time.sleep(0.02)
        self.done.append(number)

    def end(self, store: Store) -> None:
        self.ended = True


def test_a_part_that_fails_ends_a_reduction_at_once(store: Store) -> None:
    reduction = Divided()
    with pytest.raises(MinerError, match="broken"):
        LocalExecutor(threads=1).reduce(reduction, store, Run("test"))
    assert len(reduction.done) < 20 and reduction.ended


def test_who_lost_the_lease_leaves_the_files_of_who_took_over(store: Store) -> None:
    with ExitStack() as other:

        class Overtaken(Divided):
            fails = False

            def compute(self, store: Store) -> pa.Table:
                store.delete("leases", "true")
                other.enter_context(lease(store, ["clips"], "another"))
                raise MinerError("its files are gone")

        reduction = Overtaken()
        with pytest.raises(MinerError, match="gone"):
            LocalExecutor(threads=1).reduce(reduction, store, Run("test"))
        assert not reduction.ended


def test_ctrl_c_finishes_the_blocks_that_have_begun(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    write_scenes(store, 400)

    def press(progress: Progress) -> None:
        if progress.done == 100:
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background deaf to it
    executor, stage = LocalExecutor(threads=1, on_progress=press), OneClipStage(pause_s=0.008)
    with pytest.raises(KeyboardInterrupt), interruptible():
        executor.map(stage, store, Run("test"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert "the group at work is finished and kept" in capfd.readouterr().err
    assert read(store.uri, "clips").num_rows == 200
    assert LocalExecutor().map(OneClipStage(), store, Run("test")).written == 200


def test_interruptible_leaves_the_handler_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        pass
    assert signal.getsignal(signal.SIGINT) is before
