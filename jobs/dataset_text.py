"""What the commands for training sets say in a terminal."""

from __future__ import annotations

import shlex

from jobs.text import Document, joined

_SHOWN = 10
_CELLS = 30


def selected_text(document: Document) -> str:
    """What was chosen, cell by cell, and where it is kept."""
    head = f"{document['chosen']:,} of {document['budget']:,} clips"
    if document["dataset"] is None:
        head = f"Dry run, nothing is written: {head}"
    elif not document["changed"]:
        head = f"Nothing to do: {document['dataset']} has these {document['chosen']:,} clips."
    else:
        head = f"{document['dataset']}: {head}"
    lines = [head, _candidates(document["candidates"]), *_cells(document["cells"])]
    if any(cell["kind"] == "target" for cell in document["cells"]):
        share = f"{document['gap_share']:.2%}, bound {document['bound_share']:.2%}"
        lines.append(f"distance to the targets (L1): {document['gap']:g} clips ({share})")
    if found := document["cover"]:
        unit = "rad, times its value," if found["weighted"] else "rad"
        lines.append(
            f"no candidate is farther than {found['radius']:.3f} {unit} from one taken of its kind; "
            f"no other choice gets below {found['lower_bound']:.3f}"
        )
    if document["shortage"]:
        lines.append("What is short, and why: --shortage")
    if document["dataset"] and document["changed"]:
        lines.append(f"Next: miner dataset show {shlex.quote(document['lake'])} {document['dataset']}")
    return joined(lines)


def _candidates(left: Document) -> str:
    """How many could be chosen, and what left out how many of those before."""
    counts = [*left.values()]
    lost = zip([*left][1:], counts, counts[1:], strict=False)
    said = [f"{name} left out {before - after:,}" for name, before, after in lost if before > after]
    return f"candidates: {'; '.join([f'{counts[-1]:,} of {counts[0]:,}', *said])}"


def shortage_text(document: Document) -> str:
    """A line for each cell that is short."""
    from miner.selection.build import shortage_lines

    if not document["shortage"]:
        return joined([f"Nothing is short: {document['lake']} has all that the spec wants."])
    count = len(document["shortage"])
    head = f"{count} cell{'s are' if count > 1 else ' is'} short in {document['lake']}; what to collect:"
    return joined([head, *(f"  {line}" for line in shortage_lines(document["shortage"]))])


def exported_text(document: Document) -> str:
    """How many files hold how much, and what could not be read."""
    manifest, place = document["manifest"], document["destination"]
    size = sum(each["num_bytes"] for each in manifest["files"]) / 1e6
    version = manifest["dataset"]["version_id"]
    if document["dry_run"]:
        return joined([f"Dry run: {document['written']:,} files of {version} would be written to {place}"])
    what = f"{len(manifest['files']):,} files, {size:,.1f} MB, {manifest['dataset']['clips']:,} clips of {version}"
    head = f"Nothing to do: {place} has" if not document["written"] else f"{place} has"
    bad = manifest["left_out"]
    told = [f"Left out: {each['detail']} ({each['reason']})" for each in bad[:_SHOWN]]
    more = [f"and {len(bad) - _SHOWN:,} more readings: see left_out of the manifest"] if len(bad) > _SHOWN else []
    return joined([f"{head} {what}", *told, *more])


def report_text(document: Document) -> str:
    """The numbers of a report, a line each."""
    lines = [f"{document['dataset'] or document['lake']}: {document['clips']:,} clips, {document['hours']:.2f} h"]
    if document["diversity"]:
        found = document["diversity"]
        lines.append(f"diversity: {_range(found['effective'])} effective clips; the lake {found['lake']:.4g}")
    if document["representativeness"]:
        lines.append(f"representativeness: {_range(document['representativeness'])} (1: as the lake)")
    for each in document["scarcity"]:
        lines.append(f"scarcity ({each['scorer']}): median {each['median']:.4g}, of the lake {each['lake_median']:.4g}")
    if document["coverage"]:
        found = document["coverage"]
        names = " x ".join(found["axes"])
        lines.append(f"conditions: {found['covered']} of {len(found['cells'])} cells of {names} have a clip")
    if document["duplicates"]:
        found = document["duplicates"]
        lines.append(f"copies: {found['share']:.1%} of the clips have another within {found['radius']:g}")
    if document["leakage"]:
        found = document["leakage"]
        rules = ", ".join(f"{name} {count:,}" for name, count in found["by"].items())
        if found["evaluation_clips"]:
            lines.append(f"leakage to {found['against']}: {found['clips']:,} clips ({rules})")
        else:
            lines.append(f"leakage: not looked for, as no clip of the lake is of {found['against']}")
        lines += [f"  {note}" for note in found["notes"] if found["evaluation_clips"]]
    quality = document["quality"]
    flags = ", ".join(f"{name} {count:,}" for name, count in quality["flags"].items()) or "none"
    lines.append(f"readings: {quality['read']:,} of {quality['readings']:,} read; flags: {flags}")
    return joined(lines)


def _range(found: Document) -> str:
    return f"{found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g})"


def datasets_text(document: Document) -> str:
    """A line for each version."""
    if not document["datasets"]:
        return joined([f"{document['lake']} has no datasets. Make one: miner select LAKE spec.yaml --name NAME"])
    lines = []
    for each in document["datasets"]:
        note = f"  {each['note']}" if each["note"] else ""
        lines.append(f"{each['version_id']:<28} {each['num_clips']:>8,} clips  {_when(each['created_ns'])}{note}")
    return joined(lines)


def dataset_text(document: Document) -> str:
    """A version with its first clips."""
    tables = ", ".join(f"{name} {version}" for name, version in document["tables"].items())
    lines = [f"{document['version_id']}: {document['num_clips']:,} clips, made {_when(document['created_ns'])}"]
    lines += [f"note: {document['note']}"] if document["note"] else []
    lines += [f"from: {document['parent']}"] if document["parent"] else []
    lines += [f"table versions: {tables}", *_cells(document["report"].get("cells", []))]
    for clip in document["clips"][:_SHOWN]:
        lines.append(f"{clip['rank']:>6}  {clip['clip_id']}  {clip['gain']:.3f}  {clip['reason']}")
    more = document["num_clips"] - _SHOWN
    return joined([*lines, *([f"and {more:,} more: --json has all"] if more > 0 else [])])


def diff_text(document: Document) -> str:
    """What changed between two versions."""
    lines = [
        f"{document['from']} to {document['to']}: {len(document['added']):,} clips added, "
        f"{len(document['removed']):,} removed, {document['kept']:,} kept"
    ]
    lines += [f"  {sign} {clip}" for sign, key in (("+", "added"), ("-", "removed")) for clip in document[key][:_SHOWN]]
    lines += [f"  {name}: version {old} to {new}" for name, (old, new) in document["tables"].items()]
    lines += [f"  spec {key}: {old} to {new}" for key, (old, new) in document["spec"].items()]
    return joined(lines)


def removed_text(document: Document) -> str:
    """That a version is gone, or would be."""
    what = "Dry run: would be forgotten" if document["dry_run"] else "Forgotten"
    return joined([f"{what}: {document['dataset']} of {document['lake']}"])


def _cells(cells: list[Document]) -> list[str]:
    lines = [
        f"  {cell['chosen']:>7,} of {cell['wanted']:>7,}  {cell['cell']}{'   SHORT' if cell['deficit'] else ''}"
        for cell in cells[:_CELLS]
    ]
    return [*lines, *([f"  and {len(cells) - _CELLS:,} more cells"] if len(cells) > _CELLS else [])]


def _when(time_ns: int) -> str:
    from miner.shown import shown_time

    return shown_time(time_ns).partition(".")[0] + " UTC"
