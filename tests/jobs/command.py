"""The command `miner`, run in the process of the test."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobs.cli import main


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Stdout as one JSON document: anything beside it fails here."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Miner = Callable[..., Done]


@pytest.fixture
def miner(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Miner:
    """Runs the command in this process."""

    def call(*args: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["miner", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, *capfd.readouterr())

    return call
