"""What a job will take, as lines of text."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def estimate_lines(estimate: Document) -> list[str]:
    """A line for each stage that is to do something, with where the figures are from, and one in all."""
    lines = [f"{each['stage']:>7}  {_told(each)}; from {each['from']}" for each in estimate["stages"]]
    if len(lines) > 1:
        lines.append(f" in all  {_told(estimate['total'])}")
    if estimate["unknown"]:
        which = ", ".join(estimate["unknown"])
        lines.append(f"What {which} will take is not known from earlier runs: --calibrate 256 measures a sample.")
    return lines


def _told(each: Document) -> str:
    parts = [f"about {each['cpu_s']:,.3g} CPU-s{_interval(each)}"]
    parts += [f"{each['gpu_s']:,.3g} GPU-s"] if each["gpu_s"] else []
    parts += [f"{each['seconds']:,.3g} s", f"{each['bytes_read'] / 1e6:,.3g} MB read"]
    parts += [f"{each['bytes_written'] / 1e6:,.3g} MB written"]
    parts += [f"{each['money']['total']:.3g} {each['money']['currency']}"] if "money" in each else []
    return ", ".join(parts)


def _interval(each: Document) -> str:
    if each["low"] is None:
        return " (one measurement: how far off is not known)"
    return f" (90 %: {each['low'] * each['cpu_s']:,.3g} to {each['high'] * each['cpu_s']:,.3g})"
