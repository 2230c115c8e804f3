"""Documents as text for a terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from jobs.estimate_text import estimate_lines

Document = dict[str, Any]
_SHOWN = 5


def joined(lines: Iterable[str]) -> str:
    """Lines as one text. What recordings say cannot move the cursor, turn a line around or end it."""
    return "\n".join("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines)


def result_text(document: Document) -> str:
    """What a job did, a line per stage; or that there was nothing to do."""
    lines = [_stage_text(stage) for stage in document["stages"] if stage["rows"] or stage["units"]]
    lines += [_scenes_text(stage["scenes"]) for stage in document["stages"] if _compared(stage.get("scenes", {}))]
    if not document["changed"]:
        lines.append(f"Nothing to do: all of it is in {document['lake']}{_unread(document)}.")
    lines += [f"Note: {note}" for stage in document["stages"] for note in stage["notes"]]
    bad = sum(stage["quarantined"] + stage["quarantined_before"] for stage in document["stages"])
    if bad:
        which = f"miner quarantine ls {shlex.quote(document['lake'])}"
        lines.append(f"{bad:,} in quarantine: {which} tells which and why; --retry-quarantined tries them again.")
    lines += [_too_bad(each, document) for each in document["bad"] if document["exit_code"]]
    if document["job"] == "ingest":
        lines.append(f'Next: miner ls {document["lake"]}  |  miner search {document["lake"]} "a truck at night"')
    return joined(line for line in lines if line)


def _too_bad(share: Document, document: Document) -> str:
    """Why the job ends with 3, if it is for this stage."""
    bad, units, allowed = share["bad"], share["units"], document["max_bad"]
    if bad <= allowed * units:
        return ""
    told = f"{bad:,} of the {units:,} units of {share['stage']} ({bad / units:.1%}) are in quarantine"
    accept = f"miner quarantine drop {shlex.quote(document['lake'])} accepts them as lost"
    return f"Ends with 3: {told}, more than --max-bad {allowed:g} allows; {accept}."


def _stage_text(stage: Document) -> str:
    rows = ", ".join(f"{count:,} {table}" for table, count in stage["rows"].items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in stage["reasons"].items())
    parts = [f"{stage['written']:,} new of {stage['units']:,}" if stage["units"] else "", rows and f"rows: {rows}"]
    parts += [reasons and f"quarantined: {reasons}", f"{stage['seconds']:.1f} s"]
    parts += [f"waited {stage['waited_s']:.1f} s for another run" if stage["waited_s"] else ""]
    return f"{stage['stage']:>7}  " + "; ".join(part for part in parts if part)


def _unread(document: Document) -> str:
    """What "nothing to do" means for scenes: that they were compared, or not read."""
    scenes = [stage.get("scenes", {}) for stage in document["stages"]]
    if any(each.get("differing") for each in scenes):
        return ", but for the other content"
    return ", unchanged" if any(map(_compared, scenes)) else " (what is there is not read again)"


def _compared(scenes: dict[str, int]) -> bool:
    return any(scenes.get(what) for what in ("unchanged", "differing", "replaced"))


def _scenes_text(scenes: dict[str, int]) -> str:
    """The scenes of a source by what the lake has of them."""
    words = {"new": "new", "kept": "there already, not compared", "unchanged": "there already, unchanged"}
    words |= {"moved": "of these lie elsewhere", "differing": "with other content", "replaced": "replaced"}
    return " scenes  " + (", ".join(f"{scenes[key]:,} {word}" for key, word in words.items() if scenes[key]) or "none")


def plan_text(document: Document) -> str:
    """What a job would do."""
    lines = [f"{stage['stage']:>7}  {stage['pending']:,} of {stage['units']:,} to do" for stage in document["stages"]]
    source = f" from {document['source']} with reader {document['reader']}" if "source" in document else ""
    head = f"Dry run: {document['job']}{source} into {document['lake']}; nothing is written."
    kinds = [f"{table}: index {kind}" for table, kind in document.get("indexes", {}).items()]
    taken = estimate_lines(document["estimate"]) if "estimate" in document else []
    return joined([head, *lines, *kinds, *_foreseen(document), *taken])


def _foreseen(document: Document) -> list[str]:
    if "scenes" not in document:
        return []
    found = document["scenes"]["differing"] + document["scenes"]["replaced"]
    more = found - len(document["conflicts"])
    shown = [f"Conflict: {each}" for each in document["conflicts"]]
    return [_scenes_text(document["scenes"]), *shown, *([f"and {more:,} more"] if more > 0 else [])]


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
    return joined(lines)


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
    return joined(lines)


def checks_text(document: Document) -> str:
    """The checks of a lake, a line each; then each damaged file, the clips it hits and the next step."""
    lines = []
    for each in document["checks"]:
        detail = f": {each['detail']}" if each["detail"] else ""
        lines.append(f"{'ok  ' if each['ok'] else 'FAIL'}  {each['name']} ({each['rows']:,} rows){detail}")
    failed = sum(not each["ok"] for each in document["checks"])
    good = "All good now: what is damaged is of earlier versions only." if document["damage"] else "All good."
    said = good if not failed else f"{failed} of {len(lines)} checks failed."
    more = [] if document["deep"] or not failed else [f"Which files and clips: miner verify {document['lake']} --deep"]
    return joined([*lines, *_damage_text(document["damage"]), said, *more])


def _damage_text(damage: Sequence[Document]) -> list[str]:
    """Damaged files by what they hit: the first few in words."""
    lines = [f"Damaged: {len(damage):,} file{'s' if len(damage) > 1 else ''}"] if damage else []
    for each in damage[:_SHOWN]:
        clips = each["clips"]
        named = f": {', '.join(clips[:_SHOWN])}{', ...' if len(clips) > _SHOWN else ''}" if clips else ""
        lines.append(f"  {each['file']} ({each['what']}): {each['problem']}")
        lines.append(f"    {each['rows']:,} rows, {len(clips):,} clips{named}")
        lines.append(f"    next: {each['next_step']}")
    return [*lines, f"  ... {len(damage) - _SHOWN:,} more (--json lists all)"] if len(damage) > _SHOWN else lines


def quarantine_text(document: Document) -> str:
    """The units that failed: counted by stage and reason, then the newest."""
    lake, total = document["lake"], document["total"]
    counted = any(each["reason"] == "dropped" for each in document["groups"])  # asked for by --reason dropped
    left_out = document["dropped"] and not counted
    dropped = f"{document['dropped']:,} dropped, not counted (--reason dropped)" if left_out else ""
    if not total:
        return f"{lake}: nothing in quarantine{dropped and '; ' + dropped}."
    lines = [f"{lake}: {total:,} in quarantine{dropped and '; ' + dropped}", *_groups_text(document["groups"]), ""]
    lines += [line for row in document["records"] for line in _record_text(row)]
    more = total - len(document["records"])
    lines += [f"... {more:,} more (--limit {total} shows all)"] if more else []
    at = shlex.quote(lake)
    verbs = (
        [f"show {at} KEY", f"retry {at} --reason dropped"]
        if counted
        else [f"show {at} KEY", f"retry {at}", f"drop {at}"]
    )
    lines.append("Next: " + "  |  ".join(f"miner quarantine {verb}" for verb in verbs))
    return joined(lines)


def _groups_text(groups: list[Document]) -> list[str]:
    width = max((len(each["reason"]) for each in groups), default=0)
    return [f"  {each['stage']:<8}  {each['reason']:<{width}}  {each['units']:>7,}" for each in groups]


def _record_text(row: Document) -> list[str]:
    """One record in two or three lines."""
    times = f" {row['attempts']} times" if row["attempts"] > 1 else ""
    where = " ".join(part for part in (row["scene"], row["channel"]) if part)
    head = [_when(row["time_ns"]), f"{row['stage']} {row['reason']}{times}", where, row["reader"] or ""]
    lines = ["  ".join(part for part in head if part), f"    {row['detail']}", f"    key {row['key']}"]
    file = row["file"]
    return lines if not file or file in row["detail"] else [*lines[:2], f"    file {file}", lines[2]]


def quarantined_text(document: Document) -> str:
    """All that is known of one unit in quarantine."""
    lines = []
    for row in document["records"]:
        lines += [f"{row['reason']} in stage {row['stage']}: {row['detail']}"]
        shown = {name: row[name] for name in ("key", "scene", "scene_id", "channel", "file", "reader", "attempts")}
        shown |= {"failed": _when(row["time_ns"]), "log": row["log"] or "none: nothing unexpected was raised"}
        lines += [f"  {name}: {value!s}" for name, value in shown.items() if value is not None]
        run = row["run"]
        made = " ".join(part for part in (run.get("job", "not in lineage"), run.get("code_version")) if part)
        lines.append(f"  run {run['run_id']}: {made}")
        config = {name: value for name, value in sorted(run.get("config", {}).items()) if value not in (None, "")}
        lines += [f"    {name}: {json.dumps(value)}" for name, value in config.items()]
        lines += ["  To try it again:", *(f"    {command}" for command in row["again"])]
    return joined(lines)


def retried_text(document: Document) -> str:
    """What was or would be taken out of quarantine, and what tries it again."""
    count = f"{document['units']:,} unit{'' if document['units'] == 1 else 's'}"
    what = f"Dry run: {count} would be taken out" if document["dry_run"] else f"{count} taken out"
    lines = [f"{what} of quarantine of {document['lake']}", *_groups_text(document["groups"])]
    lines += [line for each in document["runs"] for line in result_text(each).splitlines()]
    then = "Next" if not document["dry_run"] else "Then"
    return joined([*lines, *(f"{then}: {command}" for command in document["commands"])])


def dropped_text(document: Document) -> str:
    """What was or would be accepted as lost."""
    count = f"{document['units']:,} unit{'' if document['units'] == 1 else 's'}"
    what = f"Dry run: {count} would be" if document["dry_run"] else f"{count}"
    lines = [f"{what} accepted as lost in {document['lake']}", *_groups_text(document["groups"])]
    undo = f"Undo: miner quarantine retry {shlex.quote(document['lake'])} --reason dropped"
    return joined(lines if document["dry_run"] or not document["units"] else [*lines, undo])


def migration_text(document: Document) -> str:
    """What a migration changes or changed, table by table."""
    lake, version, target = document["lake"], document["version"], document["target"]
    if not document["needed"]:
        return f"Nothing to do: {lake} has schema version {target}, the one this release writes."
    lines = [f"{lake}: schema version {version} to {target}"]
    for each in document["tables"]:
        lines.append(f"  {each['table']} ({each['rows']:,} rows)")
        for column in each["columns"]:
            unknown = each["rows"] - column["known"]
            parts = [f"{column['known']:,} from {column['source']}" if column["known"] else ""]
            parts.append(f"{unknown:,} left empty" if unknown else "")
            lines.append(f"    + {column['name']} ({column['type']}): {', '.join(filter(None, parts)) or 'no rows'}")
    if document["dry_run"]:
        return joined([*lines, f"Dry run: nothing is written. Do it with: miner migrate {shlex.quote(lake)}"])
    return joined([*lines, f"Done. The tables as they were are tagged schema-{version}."])


def _when(time_ns: int | None) -> str:
    from miner.shown import shown_time

    return "at an unknown time" if time_ns is None else shown_time(time_ns).partition(".")[0] + " UTC"


def compacted_text(document: Document) -> str:
    """What became of each table that had something to compact."""
    changed = [each for each in document["tables"] if each["changed"]]
    if not changed:
        return joined([f"Nothing to do: {document['lake']} is compact."])
    dry_run = document["dry_run"]  # what merging leaves behind is known only after it
    least, removed = ("at least ", "to be removed") if dry_run else ("", "removed")
    lines = [
        f"{each['table']}: {each['fragments_before']:,} to {each['fragments_after']:,} fragments, "
        f"{least}{each['versions_removed']:,} versions and {each['files_removed']:,} files {removed}"
        for each in changed
    ]
    freed = sum(each["bytes_freed"] for each in changed) / 1e6
    total = "Dry run, nothing is written: it would free at least" if dry_run else "Freed"
    return joined([*lines, f"{total} {freed:,.1f} MB."])


def versions_text(document: Document) -> str:
    """The versions of a table, a line each."""
    lines = [f"{document['table']} of {document['lake']}, newest first:"]
    for each in document["versions"]:
        if each["damage"]:
            lines.append(f"{each['version']:>7}  DAMAGED: {each['damage']}")
            continue
        by = f"by {each['job']} {each['run_id']}" if each["run_id"] else ""
        told = [f"{each['rows']:,} rows", each["operation"], by, ", ".join(each["tags"])]
        lines.append(f"{each['version']:>7}  {each['time']} UTC  " + "  ".join(part for part in told if part))
    return joined([*lines, f"Go back with: miner restore {document['lake']} --table {document['table']} --version N"])


def restored_text(document: Document) -> str:
    """What a restore did, or would do."""
    what = f"{document['table']} at version {document['version']}: {document['rows']:,} rows"
    if not document["changed"]:
        return joined([f"Nothing to do: {what} are the present ones."])
    known = f"{document['lost']} rows go, {document['back']} come back" if document["lost"] is not None else ""
    lines = [f"{'Dry run' if document['dry_run'] else 'Restored'}: {what}; {known or 'the newest one was damaged'}."]
    if document["put_aside"]:
        lines.append(f"Damaged versions put aside: {', '.join(map(str, document['put_aside']))}")
    if document["scenes_to_read_again"]:
        lines.append(f"{document['scenes_to_read_again']:,} scenes lack rows and are to be read again.")
    return joined([*lines, *([f"Next: {document['next_step']}"] if document["next_step"] else [])])
