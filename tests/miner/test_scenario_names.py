"""Scenarios named by concepts: what stands out is found, what does not gives no name, and a run again the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from embeddings.hashing import HashingEncoder
from miner.concepts.fitting import directions_of
from miner.concepts.vocabulary import load_vocabulary
from miner.lake import Lake
from miner.scenario_names import names, standing_out
from miner.tail import shown_name
from tests.footages import unit
from tests.miner.test_rare import ROWS, lake_of, made

SCENARIOS, DRIVES = 8, 4


def centres(concept: str, strength: float) -> np.ndarray:
    """Drives of eight scenarios that no word of the vocabulary tells apart, but one, which shows `concept`."""
    rng = np.random.default_rng(4)
    vocabulary = load_vocabulary()
    directions = np.array(directions_of(HashingEncoder(), [*vocabulary.values()]), np.float64)
    _, _, axes = np.linalg.svd(directions)
    wordless = unit(rng.normal(size=(SCENARIOS, len(axes) - len(directions)))) @ axes[len(directions) :]
    wordless[3] += strength * directions[[*vocabulary].index(concept)]
    return 4 * np.repeat(wordless, DRIVES, axis=0) + 0.1 * rng.normal(size=(SCENARIOS * DRIVES, 64))


@pytest.mark.parametrize("concept", ["fog", "traffic_cone"])
def test_the_concept_that_stands_out_names_a_scenario(tmp_path: Path, concept: str) -> None:
    lake = Lake(lake_of(tmp_path / "lake", made(centres=centres(concept, 0.7)), "hashing"))
    tail = lake.tail()
    shown = [entry for entry in tail.entries if entry["concept"] == concept]
    assert len(tail.entries) == SCENARIOS and len(shown) == 1 and not tail.notes
    assert f"{concept} (z " in shown_name(shown[0]) and shown[0]["z"] > 3
    drives = {row["clip_id"]: row["scene_id"] for row in lake.store.scan("clips").to_pylist()}
    scenes = [row["scene_id"] for row in lake.store.scan("scenes").to_pylist()]
    assert {scenes.index(drives[clip]) // DRIVES for clip in shown[0]["examples"]} == {3}
    version = lake.store.version("cluster_names")
    assert lake.tail() == tail and lake.store.version("cluster_names") == version


def test_without_a_joint_encoder_labels_name_and_it_is_said(tmp_path: Path) -> None:
    tail = Lake(lake_of(tmp_path / "lake", ROWS)).tail()
    [note] = tail.notes
    assert "not named by concepts" in note and tail.to_dict()["notes"] == [note]
    assert all(entry["concept"] is None and shown_name(entry) == entry["name"] for entry in tail.entries)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(2, 6))
def test_z_is_that_of_a_t_test_against_the_others(seed: int, clusters: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(clusters), size)
    scores = np.repeat(rng.normal(size=(clusters, 3)), size, axis=0)  # alike within: the means alone decide
    z = standing_out(scores, label, clusters)
    for cluster in range(clusters):
        others = np.delete(scores[::size], cluster, axis=0)
        spread = others.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(others))
        t = (scores[cluster * size] - others.mean(axis=0)) / spread
        np.testing.assert_allclose(z[cluster], stats.norm.isf(stats.t.sf(t, len(others) - 1)), rtol=1e-6, atol=1e-6)


def test_chance_gives_no_names() -> None:
    rng = np.random.default_rng(0)
    label = [f"cluster {number}" for number in np.repeat(np.arange(20), 10)]
    found = [names(rng.normal(size=(200, 37)), label, [f"concept {i}" for i in range(37)]) for _ in range(60)]
    assert sum(map(bool, found)) <= 8, "one of 20 is expected"
    assert names(rng.normal(size=(30, 4)), label[:30], ["a", "b", "c", "d"]) == {}, "three have too few others"
