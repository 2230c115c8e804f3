"""Claim: rare events are found however many clips each fills, tail groups are found, and dedup keeps its promise.

Events are planted in mixtures of von Mises-Fisher-like modes, and by the simulator. Each is stored as a burst: as many
near-identical clips of one drive, or of many. A score is judged clip by clip (AUROC), and by the share of planted
events among the first 2 % of all events as one walks down its list. Rivals score the same clips.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.process_tree import peak_gb
from benchmarks.rarity_rivals import RIVALS
from benchmarks.report import Parts, Row, run_parts
from kernels.density_clusters import density_clusters
from kernels.independent_set import Kept
from kernels.knn_graph import knn_graph
from kernels.thinning import NO_EDGES, Space, faults, thin
from miner.events import collapse, near_distances
from miner.footage import Footage
from miner.scarcity import Estimate, reference_of
from miner.semdedup import semdedup
from miner.simulation import Spec
from miner.simulation.spec import scene_names
from miner.simulation.vectors import vectors as simulated
from miner.simulation.world import event_span_ns, make_world, timestamps_ns
from tests.footages import around, footage, mixture, unit

BURSTS = (1, 3, 10, 30, 100)
TOP = 0.02
SEEDS = (7, 8, 9)  # of simulated drives: one of them has 15 planted events
DIM = 32


@dataclass(frozen=True)
class Planted:
    """Clips with the number of the event of each, and which are rare."""

    clips: Footage
    event: NDArray[np.int64]
    rare: NDArray[np.bool_]


def rarity(clips: Footage) -> Estimate:
    """What `miner rare` keeps of each clip."""
    near = near_distances(clips)
    leader = collapse(clips, near)
    heads = np.unique(leader)
    events = clips.take(heads)
    found = reference_of(events, near, clips.seconds, clips.metres).rarity(events, events.scene)
    return Estimate(*(each[np.searchsorted(heads, leader)] for each in found))


def bursts(common: int, share: float, burst: int, kind: str, seed: int = 0) -> Planted:
    """`share` of the events are rare, each `burst` clips: unlike anything (`distinct`), all of one kind (`one kind`),
    or distinct and copied into as many drives (`copied`)."""
    rng = np.random.default_rng(seed)
    usual = mixture(common, 30, rng, DIM)
    count = max(1, round(share * common))
    centres = unit(rng.normal(size=(1 if kind == "one kind" else count, DIM)))
    seeds = around(np.repeat(centres, count // len(centres), axis=0), 0.6 if kind == "one kind" else 0.0, rng)
    rare = around(np.repeat(seeds, burst, axis=0), 0.02 if kind == "copied" else 0.1, rng)
    event = np.concatenate([np.repeat(np.arange(count), burst), count + np.arange(common)])
    drive = event + (np.concatenate([np.tile(np.arange(burst), count) * (common + count), np.zeros(common, int)])
                     if kind == "copied" else 0)  # fmt: skip
    at = np.concatenate([np.tile(0.1 * np.arange(burst), count), np.zeros(common)])
    return _planted(np.concatenate([rare, usual]), event, drive, at, len(rare))


def _planted(
    vectors: NDArray[np.float32],
    event: NDArray[np.int64],
    drive: NDArray[np.int64],
    at_s: NDArray[np.float64],
    rare: int,
) -> Planted:
    """The first `rare` clips are rare. Rows are given back in the order of `Footage`."""
    starts = 3600.0 * drive + at_s
    made = footage(vectors, drive, starts, length_s=0.1)
    order = np.argsort(made.start_ns, kind="stable")
    place = np.argsort(starts, kind="stable")
    assert (order == np.arange(len(order))).all() and np.array_equal(made.vectors["camera"], vectors[place])
    return Planted(made, event[place], place < rare)


def simulated_drives(scenes: int, burst: int, seed: int) -> Planted:
    """Drives of the simulator, a clip a frame, 1 % with a planted event, one frame of which is stored `burst` times."""
    cameras = ("CAM_FRONT",)
    spec = Spec(scenes, 6.0, camera_hz=1, lidar_hz=0, cameras=cameras, seed=seed, rare_rate=0.01, pixels=False)
    rng = np.random.default_rng(seed)
    rare, usual = [], []
    for number, name in enumerate(scene_names(spec)):
        world = make_world(spec, name)
        rows, times = simulated(spec, name, 64), timestamps_ns(world, "CAM_FRONT")
        span = event_span_ns(world)
        seen = times >= span[0] if span else np.zeros(len(times), np.bool_)
        usual += [(number, 0.1 * place, rows[place]) for place in np.flatnonzero(~seen)]
        if seen.any():
            copies = around(np.repeat(rows[seen][-1:], burst, axis=0), 0.05, rng)
            rare += [(number, 60.0 + 0.1 * place, row) for place, row in enumerate(copies)]
    drive, at_s, vectors = (np.array(each) for each in zip(*rare, *usual, strict=True))
    event = np.concatenate([drive[: len(rare)], scenes + np.arange(len(usual))])
    return _planted(vectors.astype(np.float32), event, drive, at_s, len(rare))


def auroc(score: NDArray[np.float64], rare: NDArray[np.bool_]) -> float:
    """The chance that a rare clip has a higher score than a common one."""
    ranks, count = rankdata(score), int(rare.sum())
    return float((ranks[rare].sum() - count * (count + 1) / 2) / (count * (len(rare) - count)))


def recall(planted: Planted, score: NDArray[np.float64]) -> float:
    """The share of the rare events among the first 2 % of events by their best clip; ties count against."""
    order = np.lexsort((planted.rare, -score))
    _, first = np.unique(planted.event[order], return_index=True)
    events = planted.event[order][np.sort(first)]
    rare = set(planted.event[planted.rare].tolist())
    top = max(len(rare), round(TOP * len(events)))
    return len(rare & set(events[:top].tolist())) / len(rare)


def judged(case: str, *planted: Planted) -> Iterator[Row]:
    """Ours beside each rival; the mean of several mixtures."""
    ours = [rarity(each.clips).value for each in planted]
    scores = {name: [rival(each.clips.vectors["camera"]) for each in planted] for name, rival in RIVALS.items()}
    for metric, low, measure in (
        ("AUROC", 0.97, lambda each, score: auroc(score, each.rare)),
        ("recall in the top 2 %", 0.9, recall),
    ):
        value, *rivals = (float(np.mean(list(map(measure, planted, score)))) for score in (ours, *scores.values()))
        named = ", ".join(f"{name} {rival:.2f}" for name, rival in zip(scores, rivals, strict=True))
        yield Row(case, metric, "1", value, max(rivals), f"best of {named}", target=f">= {low}", holds=value >= low)


def copied_common(common: int) -> Row:
    """How far ranks move when 30 % of the common clips are stored five times, as a share of the clips."""
    rng = np.random.default_rng(1)
    vectors = np.concatenate([unit(rng.normal(size=(common // 100, DIM))), mixture(common, 30, rng, DIM)])
    copies = vectors[rng.integers(common // 100, common, size=common * 3 // 10)]
    before = rarity(footage(vectors)).value
    after = rarity(footage(np.concatenate([vectors, *[copies] * 4]))).value[: len(vectors)]
    moved = np.abs(rankdata(before) - rankdata(after)) / len(vectors)
    return Row("common clips copied", "largest move of a rank", "share", float(moved.max()), target="<= 0.01",
               holds=bool(moved.max() <= 0.01))  # fmt: skip


def two_lakes(common: int) -> Row:
    """Clips that are in two lakes of one fleet: the share whose rarity in one lies in its interval in the other."""
    fleet = mixture(2 * common, 30, np.random.default_rng(2), DIM)
    same = common // 10
    one, other = (
        rarity(footage(np.concatenate([fleet[:same], part]))) for part in (fleet[same:common], fleet[common:])
    )
    inside = (other.value[:same] >= one.low[:same]) & (other.value[:same] <= one.high[:same])
    width = float(np.median(one.high - one.low))
    return Row(f"one clip in two lakes, median interval {width:.2f}", "agreement", "share", float(inside.mean()),
               target=">= 0.95", holds=bool(inside.mean() >= 0.95))  # fmt: skip


def tail_groups(events: int) -> Row:
    """The share of planted groups of 0.05 to 1 % of the events that a cluster holds at least half of, at purity 0.9."""
    rng = np.random.default_rng(3)
    shares = np.repeat([0.0005, 0.001, 0.002, 0.005, 0.01], 8)
    sizes = np.maximum(3, np.round(shares * events).astype(int))
    label = np.concatenate([np.repeat(30 + np.arange(len(sizes)), sizes), rng.integers(30, size=events - sizes.sum())])
    vectors = around(unit(rng.normal(size=(30 + len(sizes), DIM)))[label], 0.6, rng)
    near, scores = knn_graph(vectors, 15)
    found = density_clusters(near, 1 - scores.astype(np.float64), 3)
    good = 0
    for group in range(30, 30 + len(sizes)):
        own = found[(label == group) & (found >= 0)]
        most = np.bincount(own).argmax() if len(own) else -2
        held = found == most
        good += bool(
            held.any() and (label[held] == group).mean() >= 0.9 and 2 * (own == most).sum() >= (label == group).sum()
        )
    share = good / len(sizes)
    return Row(f"{len(sizes)} tail groups in {events:,} events", "found at purity 0.9", "share", share,
               target=">= 0.9", holds=share >= 0.9)  # fmt: skip


def doubles(count: int, spread: float, seed: int = 4) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Clips of which a tenth have one copy each, and the row of each one's original."""
    rng = np.random.default_rng(seed)
    first = mixture(count * 10 // 11, 100, rng, DIM)
    original = rng.choice(len(first), count - len(first), replace=False)
    vectors = np.concatenate([first, around(first[original], spread, rng)])
    order = rng.permutation(len(vectors))
    place = np.argsort(order)
    own = np.arange(len(vectors))
    own[len(first) :] = original
    return vectors[order], place[own[order]]


def dedup(count: int) -> Iterator[Row]:
    """Promises of the kept set by brute force, beside SemDeDup's rule; and the planted pairs that are found."""
    vectors, original = doubles(count, 0.15)
    spaces = [Space(vectors, 1 - 0.02)]
    order = np.arange(len(vectors))
    started = time.process_time()
    kept: Kept = thin(spaces, order)
    spent = time.process_time() - started
    wrong = faults(spaces, kept)
    rule = semdedup(spaces, NO_EDGES, order)
    case = f"dedup of {count:,}"
    yield Row(case, "removed, none kept near", "clips", float(len(wrong.uncovered)), float(rule.uncovered),
              f"SemDeDup, {rule.removed:,} removed", target="<= 0", holds=not len(wrong.uncovered))  # fmt: skip
    yield Row(case, "kept pairs within eps", "pairs", float(len(wrong.close.left)), target="<= 0",
              holds=not len(wrong.close.left))  # fmt: skip
    copies = np.flatnonzero(original != np.arange(len(vectors)))
    near = np.einsum("ij,ij->i", vectors[copies].astype(float), vectors[original[copies]]) >= 0.98
    pairs = copies[near]
    found = ~(kept.kept[pairs] & kept.kept[original[pairs]])
    clusters = np.argmax(vectors @ unit(np.random.default_rng(5).normal(size=(DIM, 64))), axis=1)
    across = clusters[pairs] != clusters[original[pairs]]
    yield Row(case, "cross-cluster pairs found", "share", float(found[across].mean()), 0.0,
              "within clusters only", target=">= 0.99", holds=bool(found[across].mean() >= 0.99))  # fmt: skip
    yield Row(case, "time", "cpu-s", spent)


def drifting(drives: int, frames: int = 60) -> Row:
    """Frames that drift slowly, as of a moving car: what is left without a kept near-duplicate, ours and SemDeDup's."""
    rng = np.random.default_rng(8)
    angle = np.linspace(0, 2, frames)[None, :, None]
    start, towards = unit(rng.normal(size=(2, drives, 1, DIM)))
    vectors = unit((np.cos(angle) * start + np.sin(angle) * towards).reshape(-1, DIM))
    spaces, order = [Space(vectors, 1 - 0.01)], np.arange(drives * frames)
    wrong, rule = faults(spaces, thin(spaces, order)), semdedup(spaces, NO_EDGES, order)
    case = f"dedup of {drives} drives of {frames} drifting frames"
    return Row(case, "removed, none kept near", "clips", float(len(wrong.uncovered)), float(rule.uncovered),
               f"SemDeDup, {rule.removed:,} removed", target="<= 0", holds=not len(wrong.uncovered))  # fmt: skip


def million() -> Iterator[Row]:
    """A million clips in bursts of 50: time and memory."""
    rng = np.random.default_rng(6)
    vectors = np.repeat(mixture(20_000, 200, rng, DIM), 50, axis=0)
    for first in range(0, len(vectors), 50_000):
        some = slice(first, first + 50_000)
        vectors[some] = around(vectors[some], 0.05, rng)
    before = peak_gb()
    started = time.process_time()
    kept = thin([Space(vectors, 1 - 0.02)], np.arange(len(vectors)))
    spent = time.process_time() - started
    peak = peak_gb()
    case = f"dedup of 1,000,000, {int(kept.kept.sum()):,} kept"
    yield Row(case, "peak memory", "GB", peak, target="< 4", holds=peak < 4)
    yield Row(case, "peak memory above start", "GB", max(peak - before, 0.0))
    yield Row(case, "time", "cpu-s", spent)


def parts_of(options: argparse.Namespace) -> Parts:
    """Bursts, copies, lakes, tail, duplicates."""
    common, scenes = (2000, 300) if options.quick else (8000, 1500)

    def planted(share: float, kind: str, sizes: tuple[int, ...] = BURSTS) -> list[Row]:
        said = f"{100 * share:g} % {kind}, bursts of "
        return [row for burst in sizes for row in judged(f"{said}{burst}", bursts(common, share, burst, kind))]

    def drives() -> list[Row]:
        sizes = BURSTS[1:3] if options.quick else BURSTS
        said = f"simulated, {len(SEEDS)} x {scenes:,} drives, bursts of "
        return [
            row
            for burst in sizes
            for row in judged(f"{said}{burst}", *(simulated_drives(scenes, burst, seed) for seed in SEEDS))
        ]

    small: Parts = {
        "bursts": lambda: planted(0.01, "distinct"),
        "simulated": drives,
        "copies": lambda: [copied_common(common)],
        "lakes": lambda: [two_lakes(common)],
        "tail": lambda: [tail_groups(4000 if options.quick else 20_000)],
        "drift": lambda: [drifting(20)],
        "dedup": lambda: [*dedup(4000 if options.quick else 20_000)],
    }
    large: Parts = {
        "few": lambda: planted(0.0005, "distinct"),
        "one-kind": lambda: planted(0.01, "one kind"),
        "copied": lambda: planted(0.002, "copied", BURSTS[1:4]),
        "dedup-100k": lambda: [*dedup(100_000)],
        "dedup-1m": lambda: [*million()],
    }
    return small if options.quick else {**small, **large}


if __name__ == "__main__":
    run_parts("rare", parts_of)
