"""The summary of a run as text: rates, what limited it, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.amounts import shown_bytes, three_digits
from jobs.text import joined

Document = dict[str, Any]
PHASES: Mapping[str, str] = {
    "prepare": "reading and decoding",
    "apply": "encoding",
    "write": "writing data files",
    "commit": "committing what workers wrote",
    "driver": "the driver's own work",
    "start": "starting workers",
}


def summary_text(document: Document) -> str:
    """Of the stages that worked on units: a line each, then what limited the longest and what would relieve it, then
    the cost. Empty where none did."""
    stages = document["summary"]
    if not stages:
        return ""
    return joined([*(_stage(each) for each in stages), *_bottleneck(document), *_cost(document)])


def _stage(each: Document) -> str:
    parts = [f"{each['units_per_s']:,.1f}/s", f"{each['mb_read_per_s']:,.1f} MB/s read"]
    parts += [f"{each['mb_written_per_s']:,.1f} MB/s written"]
    parts += [f"{each['workers']} {'worker' if each['workers'] == 1 else 'workers'} {each['busy_share']:.0%} busy"]
    parts += [f"{each['decoders']} decoders {each['shares']['prepare']:.0%} busy"] if each["decoders"] else []
    if each["gpu_wait_share"] is not None:
        parts.append(f"GPUs waited {each['gpu_wait_share']:.0%}")
    parts += [f"{each['quarantined']:,} quarantined"] if each["quarantined"] else []
    return f"{each['stage']:>7}  {', '.join(parts)}"


def _bottleneck(document: Document) -> list[str]:
    first = document["summary"][0]
    whole_s = sum(stage["seconds"] for stage in document["stages"])
    what = f"Bottleneck: {first['stage']} ({first['seconds'] / whole_s:.0%} of the time)"
    if first["limits"] == "waiting":
        found = f"{what}: nothing was busy for long; workers worked {first['busy_share']:.0%} of it"
    else:
        whose = "decoders" if first["decoders"] and first["limits"] == "prepare" else "workers"
        of = f"all {whose}' time" if first["limits"] in ("prepare", "apply", "write", "start") else "the time"
        found = f"{what}, by {_phase(first)} on {first['resource']}: {first['shares'][first['limits']]:.0%} of {of}"
    faster = first["rate_if_doubled"]
    told = f"; with twice as many, up to {faster:,.1f}/s once all are at work" if faster is not None else ""
    return [f"{found}.", f"Relief: {first['relief']}{told}."]


def _phase(stage: Document) -> str:
    """What limits a stage, in words. Only one stage encodes; the others do their work where that one does."""
    encodes = stage["stage"] == "embed"
    return PHASES[stage["limits"]] if encodes or stage["limits"] != "apply" else "its own work"


def _cost(document: Document) -> list[str]:
    total = document["cost"]["total"]
    parts = [f"{total['cpu_s']:,.1f} CPU-s", *([f"{total['gpu_s']:,.1f} GPU-s"] if total["gpu_s"] else [])]
    parts += [f"{shown_bytes(total['bytes_read'])} read, {shown_bytes(total['bytes_written'])} written"]
    if "money" not in total:
        return [f"Cost: {', '.join(parts)}."]
    by_stage = {name: stage for name, stage in document["cost"]["stages"].items() if "money" in stage}
    each = ", ".join(f"{name} {_money(stage['money'])}" for name, stage in by_stage.items())
    clip = sum(stage["per_clip"]["money"] for stage in by_stage.values() if "per_clip" in stage)
    currency = total["money"]["currency"]
    per_clip = [f"{three_digits(clip)} {currency} a clip"] if clip else []
    money = f"{_money(total['money'])} ({each})"
    return [f"Cost: {', '.join([*parts, money, *per_clip])}."]


def _money(bill: Document) -> str:
    return f"{three_digits(bill['total'])} {bill['currency']}"
