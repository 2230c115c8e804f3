"""Documents as text for a terminal."""

from __future__ import annotations

import json
from typing import Any

Document = dict[str, Any]


def result_text(document: Document) -> str:
    """What a job did, a line per stage; or that there was nothing to do."""
    lines = [_stage_text(stage) for stage in document["stages"] if stage["rows"] or stage["units"]]
    if not document["changed"]:
        lines.append(f"Nothing to do: all of it is in {document['lake']} (what is there is not read again).")
    lines += [f"Note: {note}" for stage in document["stages"] for note in stage["notes"]]
    bad = sum(stage["quarantined"] + stage["quarantined_before"] for stage in document["stages"])
    if bad:
        table = f"{document['lake']}/quarantine.lance"
        lines.append(f"{bad:,} in quarantine, with reason and file in {table}; --retry-quarantined tries them again.")
    if document["job"] == "ingest":
        lines.append(f'Next: miner ls {document["lake"]}  |  miner search {document["lake"]} "a truck at night"')
    return "\n".join(lines)


def _stage_text(stage: Document) -> str:
    rows = ", ".join(f"{count:,} {table}" for table, count in stage["rows"].items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in stage["reasons"].items())
    parts = [f"{stage['written']:,} new of {stage['units']:,}" if stage["units"] else "", rows and f"rows: {rows}"]
    parts += [reasons and f"quarantined: {reasons}", f"{stage['seconds']:.1f} s"]
    return f"{stage['stage']:>7}  " + "; ".join(part for part in parts if part)


def plan_text(document: Document) -> str:
    """What a job would do."""
    lines = [f"{stage['stage']:>7}  {stage['pending']:,} of {stage['units']:,} to do" for stage in document["stages"]]
    source = f" from {document['source']} with reader {document['reader']}" if "source" in document else ""
    return "\n".join([f"Dry run: {document['job']}{source} into {document['lake']}; nothing is written.", *lines])


def lake_text(document: Document) -> str:
    """What is in a lake."""
    lines = [
        f"{document['lake']}",
        f"  {document['scenes']:,} scenes, {document['hours']:.2f} h, {document['clips']:,} clips, "
        f"{document['annotations']:,} annotations",
    ]
    for title in ("datasets", "channels", "categories", "quarantine"):
        if document[title]:
            lines.append(f"  {title}: " + ", ".join(f"{name} {count:,}" for name, count in document[title].items()))
    for each in document["encoders"]:
        views = f", views {each['views']}" if each["modality"] == "camera" else ""
        name = f"{each['encoder']} ({each['modality']}, version {each['version']}, {each['dim']}-d{views})"
        lines.append(f"  encoder {name}: {each['vectors']:,} vectors of {each['readings']:,} readings")
    width = max((len(name) for name in document["tables"]), default=0)
    lines += [f"  {name:<{width}}  {t['rows']:>12,} rows  v{t['version']}" for name, t in document["tables"].items()]
    return "\n".join(lines)


def item_text(document: Document) -> str:
    """One scene, clip or reading."""
    from miner.shown import shown_time

    lines = [document["kind"]]
    for key, value in document.items():
        if key == "kind" or value in (None, [], {}):
            continue
        if key.endswith("_ns") and isinstance(value, int):
            value = f"{value}  ({shown_time(value)})"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"  {key}: {len(value):,}")
            lines += [f"    {json.dumps(each, default=str)}" for each in value[:12]]
            lines += [f"    ... {len(value) - 12:,} more (--json shows all)"] if len(value) > 12 else []
        else:
            lines.append(f"  {key}: {value if isinstance(value, str) else json.dumps(value, default=str)}")
    return "\n".join(lines)


def checks_text(document: Document) -> str:
    """The checks of a lake, a line each."""
    lines = []
    for each in document["checks"]:
        detail = f": {each['detail']}" if each["detail"] else ""
        lines.append(f"{'ok  ' if each['ok'] else 'FAIL'}  {each['name']} ({each['rows']:,} rows){detail}")
    failed = sum(not each["ok"] for each in document["checks"])
    return "\n".join([*lines, "All good." if not failed else f"{failed} of {len(lines)} checks failed."])
