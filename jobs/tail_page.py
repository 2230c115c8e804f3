"""The long tail told: in lines, as a rank-frequency plot (PNG), and as a page with pictures of the rarest."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from jobs.mining_page import Group, Page, render
from jobs.text import joined
from miner.errors import UsageError
from miner.store import Store
from miner.tail import Tail, shown_name
from miner.taxonomy import MIN_EVENTS

_LINES, _GROUPS, _PICTURES = 20, 24, 5


def tail_text(document: dict[str, Any], most: int = _LINES) -> str:
    """The rarest first, `most` of them: events, clips, rate, name, an example."""
    what = {"cluster": "scenarios", "label": "labels"}[document["by"]]
    entries = document["entries"]
    none = {"cluster": "like no others", "label": "without a label"}[document["by"]]
    head = f"{len(entries):,} {what} of {document['events']:,} events in {_time(document['hours'])}"
    head += f"; {document['alone']:,} {none}."
    if not entries:
        few = f" A scenario is at least {MIN_EVENTS} events alike." if document["by"] == "cluster" else ""
        return joined([head + few])
    more = len(entries) - most
    lines = [f"{head} The rarest first:", *(_line(each) for each in entries[:most])]
    return joined([*lines, *([f"... {more:,} more (--json lists all)"] if more > 0 else [])])


def _line(entry: dict[str, Any]) -> str:
    rate = _rate(entry)
    family = f"  [{entry['parent']}]" if entry.get("parent") else ""
    size = f"{entry['events']:>6,} events {entry['clips']:>6,} clips {entry['scenes']:>5,} drives"
    often = f"  {said}" if (said := _where(entry)) else ""
    return f"{size}  {rate:<32}  {shown_name(entry)}{family}{often}  {entry['examples'][0]}"


def _rate(entry: Mapping[str, Any]) -> str:
    if entry["per_hour"] is None:
        return ""
    return f"{entry['per_hour']:.3g} an hour ({entry['low']:.2g} to {entry['high']:.2g})"


def _per_km(entry: Mapping[str, Any]) -> str:
    if entry["per_km"] is None:
        return ""
    limits = f"{100 * entry['per_km_low']:.2g} to {100 * entry['per_km_high']:.2g}"
    return f"{100 * entry['per_km']:.3g} in 100 km ({limits})"


def _where(entry: Mapping[str, Any]) -> str:
    """The condition in which it is certainly oftener than in all, if there is one; not where it is that condition."""
    for each in entry["conditions"]:
        if entry["name"] in _cell(each).split(", "):
            continue
        if each["low"] is not None and entry["per_hour"] is not None and each["low"] > entry["per_hour"]:
            return f"oftener in {_cell(each)}: {_rate(each)}"
    return ""


def _cell(condition: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis}: {value}" for axis, value in condition["cell"].items())


def chart(tail: Tail) -> bytes:
    """Events of each scenario or label by rank, both logarithmic, as PNG. Raises UsageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("a plot needs matplotlib", "pip install 'scene-miner[viz]'") from error
    counts = sorted((each["events"] for each in tail.entries), reverse=True)
    figure = Figure(figsize=(9, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    ranks = range(1, len(counts) + 1)
    axes.plot(ranks, counts, "-o", color="#0b62b8", markersize=4, linewidth=1.2)
    scale = "log" if counts else "linear"
    axes.set(xscale=scale, yscale=scale, xlabel="rank", ylabel="events", title=_title(tail))
    axes.grid(True, which="both", alpha=0.25)
    named = sorted(tail.entries, key=lambda each: -each["events"])
    for place in sorted({0, len(counts) - 1}) if counts else ():
        right = place > 0
        axes.annotate(
            shown_name(named[place])[:36],
            (place + 1, counts[place]),
            xytext=(-6 if right else 6, 8),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9,
        )
    axes.margins(y=0.2)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def page(store: Store, tail: Tail) -> str:
    """The tail as a page: the plot, and the rarest entries with their most typical (or rarest) clips."""
    what = {"cluster": "scenarios", "label": "labels"}[tail.by]
    groups = [
        Group(
            shown_name(each),
            f"{each['events']:,} events, {each['clips']:,} clips, {each['scenes']:,} drives"
            + "".join(f"; {said}" for said in (_rate(each), _per_km(each), _where(each)) if said)
            + (f"; of {each['parent']}" if each.get("parent") else ""),
            [(clip, "") for clip in each["examples"][:_PICTURES]],
        )
        for each in tail.entries[:_GROUPS]
    ]
    more = len(tail.entries) - len(groups)
    lead = f"The rarest {what} first, by the number of events, each with the 95 % limits of its rate."
    if tail.conditions:
        driven = (f"{_time(each['hours'])} of {_cell(each)}" for each in tail.conditions)
        lead += f" Driving by condition: {'; '.join(driven)}."
    return render(
        store,
        Page(
            title=f"The long tail of {store.uri.rpartition('/')[2]}",
            lead=lead + (f" {more:,} more are not shown." if more > 0 else ""),
            numbers=[
                (f"{tail.events:,}", "events"),
                (f"{len(tail.entries):,}", what),
                (f"{tail.alone:,}", {"cluster": "events like no others", "label": "events without a label"}[tail.by]),
                (_time(tail.hours), "of driving"),
            ],
            groups=groups,
            chart=chart(tail),
            chart_says=f"events by rank, {len(tail.entries)} {what}",
        ),
    )


def _title(tail: Tail) -> str:
    what = {"cluster": "scenarios", "label": "labels"}[tail.by]
    return f"{len(tail.entries):,} {what}, {tail.events:,} events, {_time(tail.hours)}"


def _time(hours: float) -> str:
    return f"{hours:.3g} h" if hours >= 0.1 else f"{round(3600 * hours, 1):.3g} s"
