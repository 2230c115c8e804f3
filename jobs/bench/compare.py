"""Two results side by side: what changed, beyond the spread of either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jobs.bench.measure import quartiles

Document = Mapping[str, Any]
Verdict = Literal["faster", "slower", "alike", "only old", "only new"]
CHANCE = 0.01  # that values of the same speed are told apart, if repeats were independent


def compared(old: Document, new: Document) -> list[dict[str, Any]]:
    """A row for each case of either document, with its medians, their ratio (new to old) and the verdict."""
    before, after = _by_case(old), _by_case(new)
    rows = []
    for key in [*before, *(key for key in after if key not in before)]:
        first, second = before.get(key), after.get(key)
        row: dict[str, Any] = {"group": key[0], "case": key[1], "unit": key[2]}
        row |= {"old": first and first["median"], "new": second and second["median"], "ratio": None}
        if first is None or second is None:
            rows.append({**row, "verdict": "only new" if first is None else "only old"})
            continue
        rows.append({**row, "ratio": second["median"] / first["median"], "verdict": verdict(first, second)})
    return rows


def verdict(old: Document, new: Document) -> Verdict:
    """Whether a case is faster or slower than it was.

    Both must say so: a rank test of all values (Mann and Whitney 1947), and the medians, which have to be further apart
    than the quartiles of either result; otherwise what differs is noise.
    """
    from scipy.stats import mannwhitneyu

    first, second = old["values"], new["values"]
    spread = max(high - low for low, _, high in (quartiles(first), quartiles(second)))
    apart = new["median"] - old["median"]
    if abs(apart) <= spread or mannwhitneyu(first, second).pvalue >= CHANCE:
        return "alike"
    return "faster" if (apart > 0) == new["more_is_better"] else "slower"


def elsewhere(old: Document, new: Document) -> list[str]:
    """What else differs between the results: machines, and libraries."""
    first, second = old["machine"], new["machine"]
    facts = [(name, first[name], second[name]) for name in ("cpu", "cores", "python")]
    names = sorted({*first["libraries"], *second["libraries"]})
    facts += [(name, first["libraries"].get(name), second["libraries"].get(name)) for name in names]
    return [f"{name}: {was} before, {now} now" for name, was, now in facts if was != now]


def _by_case(document: Document) -> dict[tuple[str, str, str], Document]:
    return {(row["group"], row["case"], row["unit"]): row for row in document["rows"]}
