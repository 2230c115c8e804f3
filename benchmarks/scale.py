"""Claim: how long a run takes on a fleet is known beforehand: from one node, to 10 % of what eight nodes take.

The real engine on 1, 2, 4 and 8 nodes, which are raylets of this machine with one worker each, whose units wait as long
as embedding one frame takes (`benchmarks.waiting`). The simulated engine (`jobs.scale`) knows the run of one node alone
and tells the others. Then it tells what nobody has at hand: 16 to 1,000 nodes, 100 million and a billion frames. What a
frame costs is measured here, on simulated drives; what a store answers and what machines cost is stated below.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Row, run
from benchmarks.waiting import commit_cost, growing_cluster
from benchmarks.waiting import run as run_waiting
from jobs.scale.engine import CommitCost, Costs, Fleet, Forecast, ObjectStore, foresee
from miner.executor import LocalExecutor
from miner.lake import create
from miner.prices import Cost, Prices
from miner.simulation import Spec, record

# Assumptions, to be replaced by your own: what AWS publishes for us-east-1.
GETS_PER_S, PUTS_PER_S = 5500.0, 3500.0  # of S3, for each prefix; every table is one, recordings are taken for one
REQUEST_S = 0.03  # of S3, to the first byte
STORE_MB_S = 90.0  # of one connection to S3
REQUESTS_PER_COMMIT = 6.0
NODE_CPUS, NODE_HOUR = 16, 0.68  # c5.4xlarge, USD, on demand
GB_MONTH, PER_GET, PER_PUT = 0.023, 0.4e-6, 5e-6  # S3 standard, USD
TABLES = 2  # of vectors, and assets
BLOCK = 2048  # frames, block_size of the config
ENCODER = "lite"
START_S = 60.0  # until nodes that run have loaded weights: more than measured on any here
FRAMES = (100_000_000, 1_000_000_000)
NODES = (16, 64, 250, 1000)
_SHORT_S = 0.15
_EMPTY = (20, 120)  # blocks of two runs that do nothing: what the driver spends for one more


@dataclass(frozen=True)
class Frame:
    """What one frame costs a worker: seconds of a worker by phase, CPU-seconds, and bytes read and written."""

    prepare_s: float
    apply_s: float
    write_s: float
    cpu_s: float
    bytes_read: float
    bytes_written: float

    @property
    def seconds(self) -> float:
        """Of a worker with a core of its own: CPU time, which does not depend on who else was on this machine."""
        return self.cpu_s


def measure(options: argparse.Namespace) -> list[Row]:
    """Costs, runs beside their forecasts, and forecasts alone."""
    with tempfile.TemporaryDirectory() as folder:
        frame = frame_costs(Path(folder), 8 if options.quick else 48)
        commit, listed_bytes = commit_cost(f"{folder}/commits", 2000 if options.quick else 20_000)
        rows = [*assumed(), *_frame_rows(frame), *_commit_rows(commit, listed_bytes)]
        costs, measured = engine(folder, commit, frame, options.quick)
    return [*rows, *measured, *predictions(costs, frame, listed_bytes, FRAMES[:1] if options.quick else FRAMES)]


def assumed() -> list[Row]:
    """What is stated, not measured."""
    case = "assumed"
    return [
        Row(case, "vCPUs of a node (c5.4xlarge)", "vCPUs", NODE_CPUS),
        Row(case, "a node on demand for an hour", "USD", NODE_HOUR),
        Row(case, "frames in a block (block_size)", "frames", BLOCK),
        Row(case, "read requests that S3 takes for one prefix", "1/s", GETS_PER_S),
    ]


def frame_costs(folder: Path, frames: int) -> Frame:
    """Embed simulated frames of 1600 x 900 on one thread."""
    spec = Spec(1, frames / 2, 2.0, 0.0, ("CAM_FRONT",), 1600, 900)
    record(spec, folder / "drives", threads=2)
    lake = create(folder / "frames", LocalExecutor(threads=1))
    lake.ingest(folder / "drives")
    usage = lake.embed([ENCODER]).usage
    parts = (usage.prepare_s, usage.apply_s, usage.write_s, usage.cpu_s, usage.bytes_read, usage.bytes_written)
    return Frame(*(part / usage.units for part in parts))


def engine(folder: str, commit: CommitCost, frame: Frame, quick: bool) -> tuple[Costs, list[Row]]:
    """Runs of the real engine; its costs on one node, and every run beside what these foretell."""
    blocks, units = (24, 4) if quick else (96, 12)
    pause_s = min(frame.seconds, (0.8 if quick else 2.4) / units)
    rows: list[Row] = []
    with growing_cluster() as grow:
        address = grow(1)
        few, many = (run_waiting(address, f"{folder}/empty-{count}", count, 1, 0.0) for count in _EMPTY)
        block_cpu_s = max(many.driver_cpu_s - few.driver_cpu_s, 0.0) / (_EMPTY[1] - _EMPTY[0])
        one = run_waiting(address, f"{folder}/1", max(blocks // 4, 8), units, pause_s)
        costs = one.costs(block_cpu_s, commit)
        for nodes in (4,) if quick else (2, 4, 8):
            address = grow(nodes)
            found = run_waiting(address, f"{folder}/{nodes}", blocks, units, pause_s)
            at_work = Costs(**{**vars(costs), "start_s": 0.0, "end_s": 0.0})
            rows.append(_beside(nodes, found.paced_s, foresee(at_work, blocks, 1, Fleet(nodes)), blocks, units))
        if not quick:
            rows.append(_short(address, folder, costs, pause_s * units, nodes))
    return costs, [*_engine_rows(costs), *rows]


def _short(address: str, folder: str, costs: Costs, waited_s: float, nodes: int) -> Row:
    """Blocks so short that what the driver does for each of them shows."""
    blocks = nodes * 40
    found = run_waiting(address, f"{folder}/short", blocks, 1, _SHORT_S)
    block_s = costs.block_s - waited_s + _SHORT_S
    at_work = Costs(**{**vars(costs), "start_s": 0.0, "end_s": 0.0, "block_s": block_s})
    told = foresee(at_work, blocks, 1, Fleet(nodes))
    case = f"{nodes} nodes, {blocks} blocks of {_SHORT_S:g} s"
    return Row(case, "time, workers started", "s", told.seconds, found.paced_s, "the engine")


def _beside(nodes: int, seconds: float, told: Forecast, blocks: int, units: int) -> Row:
    judged = nodes == 8
    near = abs(told.seconds / seconds - 1) <= 0.1
    case = f"{nodes} nodes, {blocks} blocks of {units} waiting units"
    target, holds = ("within 10 %", near) if judged else (None, None)
    return Row(case, "time, workers started", "s", told.seconds, seconds, "the engine", None, target, holds)


def predictions(costs: Costs, frame: Frame, listed_bytes: float, sizes: Sequence[int]) -> list[Row]:
    """Hours on fleets, what limits them, bytes and money."""
    at_work = Costs(
        **{
            **vars(costs),
            "start_s": START_S,
            "block_s": BLOCK * frame.seconds,
            "commit": _in_store(costs.commit, listed_bytes),
            "spread": 0.1,
        }
    )
    rows: list[Row] = []
    for frames in sizes:
        rows += _of_frames(frames, frame)
        for nodes in NODES:
            rows += _forecast(at_work, frames, nodes, NODE_CPUS)
    return rows


def _in_store(commit: CommitCost, listed_bytes: float) -> CommitCost:
    """The cost of commits in an object store: requests wait, and the list of all fragments is read and written."""
    moved_s = 2 * listed_bytes / (STORE_MB_S * 1e6)
    return CommitCost(
        commit.fixed_s + REQUESTS_PER_COMMIT * REQUEST_S, commit.new_s, commit.fragment_s + moved_s, commit.version_s
    )


def _forecast(costs: Costs, frames: int, nodes: int, workers: int) -> list[Row]:
    store = ObjectStore(BLOCK + 10.0, float(TABLES), GETS_PER_S, PUTS_PER_S * TABLES)
    blocks = -(-frames // BLOCK)
    told = foresee(costs, blocks, TABLES, Fleet(nodes, workers), store)
    case = f"{_named(frames)} frames, {nodes:,} nodes"
    ideal_h = blocks * costs.block_s / (nodes * workers) / 3600
    return [
        Row(case, "time", "h", told.seconds / 3600, ideal_h, "workers that never wait"),
        Row(case, f"limit: {told.limit}", "busy share", told.busy[told.limit]),
        Row(case, "nodes", "USD", told.seconds / 3600 * nodes * NODE_HOUR),
    ]


def _of_frames(frames: int, frame: Frame) -> list[Row]:
    case = f"{_named(frames)} frames"
    blocks = -(-frames // BLOCK)
    requests = frames * PER_GET + blocks * TABLES * PER_PUT
    bill = Prices(cpu_hour=NODE_HOUR / NODE_CPUS).bill(Cost(cpu_s=frame.seconds * frames))
    assert bill is not None
    return [
        Row(case, "recordings read", "TB", frames * frame.bytes_read / 1e12),
        Row(case, "written to the lake", "TB", frames * frame.bytes_written / 1e12),
        Row(case, "CPU", "core-hours", frames * frame.seconds / 3600),
        Row(case, "CPU, if none waits", "USD", bill.total),
        Row(case, "requests", "USD", requests),
        Row(case, "lake kept a month", "USD", frames * frame.bytes_written / 1e9 * GB_MONTH),
    ]


def _named(frames: int) -> str:
    return f"{frames // 1_000_000}M" if frames < 1_000_000_000 else f"{frames // 1_000_000_000}B"


def _frame_rows(frame: Frame) -> list[Row]:
    case = f"a frame of 1600 x 900, {ENCODER}"
    seconds = {"read and decode": frame.prepare_s, "encode": frame.apply_s, "write": frame.write_s}
    rows = [Row(case, name, "ms", each * 1e3) for name, each in seconds.items()]
    return [
        *rows,
        Row(case, "CPU", "ms", frame.cpu_s * 1e3),
        Row(case, "read", "bytes", frame.bytes_read),
        Row(case, "written", "bytes", frame.bytes_written),
    ]


def _commit_rows(commit: CommitCost, listed_bytes: float) -> list[Row]:
    case = "a commit to one table"
    return [
        Row(case, "to an empty table", "ms", commit.fixed_s * 1e3),
        Row(case, "more for 1,000 fragments it has", "ms", commit.fragment_s * 1e6),
        Row(case, "more for 1,000 versions it has", "ms", commit.version_s * 1e6),
        Row(case, "a fragment in its list", "bytes", listed_bytes),
    ]


def _engine_rows(costs: Costs) -> list[Row]:
    case = "one node"
    seconds: Sequence[tuple[str, float]] = (
        ("before the first block", costs.start_s),
        ("after the last", costs.end_s),
        ("the driver, for a block", costs.dispatch_s + costs.receive_s),
        ("between two blocks", costs.gap_s),
        ("a block", costs.block_s),
    )
    return [Row(case, name, "ms", each * 1e3) for name, each in seconds]


if __name__ == "__main__":
    run("scale", measure)
