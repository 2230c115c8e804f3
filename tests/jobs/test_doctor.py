"""What `miner doctor` says of a machine: good, bad, and how to mend it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs import doctor
from jobs.doctor import Finding, examine
from tests.jobs.command import Miner


def found(name: str) -> Finding:
    return next(each for each in examine() if each.what == name)


def test_everything_is_examined_and_said(miner: Miner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("t")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    done = miner("doctor", "--json")
    findings = done.document["findings"]
    assert {each["state"] for each in findings} <= {"ok", "warn", "fix"}
    assert {"Python", "versions", "Ray token", "Ray ports", "GPU", "memory", "encoder lite"} <= {
        each["what"] for each in findings
    }
    assert all(each["fix"] for each in findings if each["state"] == "fix")
    assert done.code == (0 if done.document["ok"] else 1)


@pytest.mark.parametrize(("mode", "state"), [(0o600, "ok"), (0o644, "fix"), (0o640, "fix")])
def test_a_token_that_others_can_read_is_to_be_mended(
    mode: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    os.chmod(token, mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    [finding] = doctor._tried(doctor._ray_token)
    assert finding.state == state and (state == "ok" or finding.fix == f"chmod 600 {token}")


def test_a_lake_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    [finding] = [each for each in examine(str(tmp_path / "none")) if "no lake" in each.found]
    assert finding.what == "lake" and finding.state == "fix" and "miner ingest" in finding.fix


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("no such thing")

    [finding] = doctor._tried(broken)  # type: ignore[arg-type]
    assert finding.state == "fix" and finding.found == "ValueError: no such thing"
