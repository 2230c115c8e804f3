"""What changed is told apart from noise, and only that."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.bench.compare import compared, elsewhere, verdict
from jobs.bench.measure import Measured, ns_each, per_second, quartiles, seconds
from tests.jobs.command import Miner

MACHINE = {"cpu": "A", "cores": 2, "python": "3.11", "libraries": {"numpy": "2.1"}}


def row(values: list[float], more_is_better: bool = True, case: str = "c") -> dict[str, Any]:
    return {"group": "kernels", **Measured(case, "x/s", values, more_is_better).to_dict()}


def noisy(middle: float, seed: int, spread: float = 0.1) -> list[float]:
    noise = random.Random(seed)
    return [middle * (1 + noise.uniform(-spread, spread)) for _ in range(9)]


def document(*rows: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {"job": "bench", "format": 1, "machine": {**MACHINE, **machine}, "rows": list(rows)}


def test_the_same_speed_is_alike() -> None:
    told = [verdict(row(noisy(100, seed)), row(noisy(100, 1000 + seed))) for seed in range(300)]
    assert told.count("alike") >= 292  # CHANCE is 1 %: three deviations below 297


@pytest.mark.parametrize(("factor", "wanted"), [(1.3, "faster"), (0.7, "slower")])
@pytest.mark.parametrize("more_is_better", [True, False])
def test_a_third_is_seen_through_a_tenth_of_noise(factor: float, wanted: str, more_is_better: bool) -> None:
    pairs = [(row(noisy(100, s), more_is_better), row(noisy(100 * factor, 900 + s), more_is_better)) for s in range(50)]
    opposite = {"faster": "slower", "slower": "faster"}[wanted]
    assert {verdict(*pair) for pair in pairs} == {wanted if more_is_better else opposite}


def test_much_noise_hides_little() -> None:
    assert verdict(row(noisy(100, 1, 0.6)), row(noisy(110, 2, 0.6))) == "alike"


@given(st.lists(st.floats(1, 1e6), min_size=5, max_size=9))
def test_a_result_is_alike_to_itself(values: list[float]) -> None:
    [only] = compared(document(row(values)), document(row(values)))
    assert only["verdict"] == "alike" and only["ratio"] == 1.0


def test_cases_of_one_side_are_told() -> None:
    rows = compared(document(row([1.0] * 5, case="a")), document(row([1.0] * 5, case="b")))
    assert [(each["case"], each["verdict"]) for each in rows] == [("a", "only old"), ("b", "only new")]


def test_another_machine_is_told() -> None:
    changed = document(cpu="B", libraries={"numpy": "2.2", "ray": "2.60"})
    lines = elsewhere(document(), changed)
    assert lines == ["cpu: A before, B now", "numpy: 2.1 before, 2.2 now", "ray: None before, 2.60 now"]
    assert elsewhere(document(), document()) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_quartiles_lie_in_order_within_the_values(values: list[float]) -> None:
    low, middle, high = quartiles(values)
    assert min(values) <= low <= middle <= high <= max(values)


def test_work_is_repeated_after_one_call_that_does_not_count() -> None:
    calls: list[int] = []
    found = seconds(lambda: calls.append(1), repeats=6)
    assert (len(found), len(calls)) == (6, 7)
    rate, times = per_second("r", "units", 5, lambda: None), ns_each("t", "unit", 5, lambda: None)
    assert (rate.unit, rate.more_is_better) == ("units/s", True)
    assert (times.unit, times.more_is_better) == ("ns/unit", False)


def test_the_command_compares_two_files(miner: Miner, tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(document(row(noisy(100, 1)), row(noisy(50, 2), case="d"))))
    new.write_text(json.dumps(document(row(noisy(200, 3)), row(noisy(50, 4), case="d"), cpu="B")))
    done = miner("bench", "--compare", old, new)
    assert done.code == 0 and "1 faster, 0 slower beyond the spread, of 2 cases" in done.out
    assert "cpu: A before, B now" in done.out
    rows = miner("bench", "--compare", old, new, "--json").document["rows"]
    assert [each["verdict"] for each in rows] == ["faster", "alike"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("kernel",), "kernels"),
        (("--compare", "none.json", "none.json"), "no such file"),
        (("--compare", "other.json", "other.json"), "no result of miner bench"),
        (("--compare", "empty.json", "empty.json"), "no result of miner bench"),
        (("--compare", "broken.json", "broken.json"), "cannot be read"),
        (("kernels", "--compare", "other.json", "other.json"), "nothing else"),
        (("kernels", "--out", "none/x.json"), "there is no folder"),
    ],
)
def test_mistakes_are_told(
    miner: Miner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("[]")
    Path("empty.json").write_text('{"job": "bench", "format": 1}')
    Path("broken.json").write_text("{")
    done = miner("bench", *args)
    assert done.code not in (0, 1, 130) or "cannot be read" in told or "no such file" in told
    assert told in done.err and "Traceback" not in done.err and done.out == ""
