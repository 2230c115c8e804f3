"""What `miner tune` says, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.amounts import shown_s
from jobs.summary_text import PHASES
from jobs.text import joined
from jobs.tune.model import HAND_OVER
from jobs.tune.run import shown

_LIMITS = {**PHASES, HAND_OVER: "no stage: workers wait for blocks, or for room to hand them over"}
_BEYOND = {
    "prepare": "more CPUs, or nodes",
    "apply": "more CPUs or GPUs, or a smaller encoder",
    "write": "a faster disk or store for the lake",
    "commit": "a faster disk or store for the lake",
    HAND_OVER: "a larger source: this one gives each worker few blocks",
}
_FIRST = 5


def tuned_text(document: Mapping[str, Any]) -> str:
    """The best setting, how much faster it is, what limits it and what would help beyond settings."""
    best, limit = document["best"], document["limit"]
    tried = [trial for trial in document["trials"] if not trial["failed"]]
    ranked = sorted(tried, key=lambda trial: (-trial["units"], -trial["rate"]))[:_FIRST]
    lines = [
        f"{shown(best['setting'])}: {best['rate']:.1f} readings/s{_gain(document['gain'])}",
        f"What limits: {_LIMITS[limit]}. At work: {_shares(best['busy'])}",
        f"What would help beyond these settings: {_BEYOND[limit]}.",
        f"{len(document['trials'])} trials of {document['grid']} settings; the longest and fastest:",
        *(f"{trial['rate']:10.1f}/s  {trial['units']:6} readings  {shown(trial['setting'])}" for trial in ranked),
    ]
    if document["interrupted"]:
        lines.append("Interrupted: the best so far, not of all trials.")
    if document.get("file"):
        lines.append(f"Next: miner ingest {document['source']} --lake LAKE --config {document['file']}")
    return joined(lines)


def plan_text(document: Mapping[str, Any]) -> str:
    """Which trials, and how long they take."""
    trials, units = document["most_trials"], document["units_of_trials"]
    again = f", the best again on up to {units[-1]}" if document["finalists"] else ""
    return joined(
        [
            f"{trials} {'trial' if trials == 1 else 'trials'} of {document['grid']} settings, on {units[0]} readings"
            f" each{again}: about {shown_s(document['seconds'])}",
            "The first, then what they suggest:",
            *(f"  {shown(setting)}" for setting in document["first"]),
        ]
    )


def _gain(gain: float | None) -> str:
    return "" if gain is None else f", {gain:.2f} times what a run without settings does"


def _shares(busy: Mapping[str, float]) -> str:
    shares = (f"{PHASES[stage]} {share:.0%}" for stage, share in sorted(busy.items(), key=lambda each: -each[1]))
    return f"{', '.join(shares)} of the time."
