"""Documents of the cluster commands as text for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobs.text import joined

Document = dict[str, Any]
_MARKS = {"ok": "ok  ", "warn": "warn", "fix": "fix "}


def submission_text(document: Document) -> str:
    """What would be submitted."""
    size = f"{document['files']:,} files of code and config, {document['bytes'] / 1e6:.1f} MB"
    env = f"; variables {', '.join(document['env'])}" if document["env"] else ""
    return joined(
        [f"Dry run: to {document['address']}; nothing is submitted.", f"  {document['entrypoint']}", f"  {size}{env}"]
    )


def started(document: Document) -> str:
    """A line for a job that is being followed."""
    how = "is there already" if document["attached"] else "is submitted"
    return joined([f"job {document['submission_id']} {how} ({document['address']})"])


def submitted_text(document: Document) -> str:
    """A job that was submitted, and how to look after it."""
    id, at = document["submission_id"], document["option"]
    return joined(
        [
            f"{started(document)}: {document['status'].lower()}",
            f"Follow it: miner logs {id} --follow {at}",
            f"Stop it:   miner stop {id} {at}",
        ]
    )


def ended(document: Document) -> str:
    """How a job that did not end well did."""
    said = [line.strip() for line in document["message"].splitlines() if line.strip()]
    why = f": {said[0]}" if said and document["exit_code"] == 1 else ""
    return joined([f"job {document['submission_id']} {document['status'].lower()} ({document['exit_code']}){why}"])


def stopped_text(document: Document) -> str:
    """Whether a job was stopped."""
    if document["stopped"]:
        return joined([f"job {document['submission_id']} is stopping; what it has committed is kept"])
    return joined([f"job {document['submission_id']} has ended before: {document['status'].lower()}"])


def jobs_text(document: Document) -> str:
    """Jobs, a line each."""
    lines = [_job_line(job) for job in document["jobs"]]
    return joined(lines or [f"no jobs at {document['address']}"])


def _job_line(job: Document) -> str:
    code = "" if job["exit_code"] in (None, 0) else f" ({job['exit_code']})"
    when, took = "", ""
    if job["start_ms"]:
        when = datetime.fromtimestamp(job["start_ms"] / 1e3, UTC).strftime("%Y-%m-%d %H:%M")
        took = f"{(job['end_ms'] - job['start_ms']) / 1e3:,.0f} s" if job["end_ms"] else "running"
    command = job["entrypoint"].replace("python -m jobs.cli", "miner")
    return f"{job['id']:<32} {job['status'].lower() + code:<14} {when:<16} {took:>9}  {command}"


def doctor_text(document: Document) -> str:
    """A line for each thing examined, with what to do below."""
    lines = []
    for each in document["findings"]:
        lines.append(f"{_MARKS[each['state']]}  {each['what']:<16} {each['found']}")
        if each["fix"]:
            lines.append(f"      {'':<16} -> {each['fix']}")
    return joined(lines)
