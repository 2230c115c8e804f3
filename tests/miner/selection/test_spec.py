"""Specifications: what is refused, and how it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miner.errors import NotFound, UsageError
from miner.selection.spec import Spec


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"budgett": 5}, r"spec: unknown key 'budgett'\nDid you mean 'budget'"),
        ({}, r"spec: budget: Field required"),
        ({"budget": 0}, r"budget = 0: .*greater than or equal to 1"),
        ({"budget": 5, "guard": {"against": "a@1", "meters": 3}}, r"'meters' in guard\nDid you mean 'metres'\?"),
        ({"budget": 5, "targets": [{"over": ["x"], "share": {}}]}, r"'share' in targets\.0\nDid you mean 'shares'"),
        ({"budget": 5, "targets": [{"over": [], "shares": "lake"}]}, r"targets\.0\.over"),
        ({"budget": 5, "diversity": {"strategi": "k_center"}}, r"'strategi' in diversity\nDid you mean 'strategy'"),
        ({"budget": 5, "dedup": {"radius": -1}}, r"dedup\.radius = -1"),
        ({"budget": 5, "limit": {"by": "log_id", "at_most": 0}}, r"limit\.at_most = 0"),
        ({"budget": 5, "from_": "x"}, r"unknown key 'from_'\nDid you mean 'from'"),
    ],
)
def test_what_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Spec.load(given)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("budget: 5\nfrom: split = 'train'\ntargets:\n- over: [weather]\n  shares: {rain: 0.5}\n")
    spec = Spec.load(file)
    assert spec.from_ == "split = 'train'" and spec.targets[0].shares == {"rain": 0.5}
    assert Spec.load(spec.to_dict()).digest == spec.digest != Spec.load({"budget": 6}).digest
    for text, told in (("- 5", "got list"), ("a: [", "not YAML"), ("budget: !!python/object:os.system 1", "not YAML")):
        file.write_text(text)
        with pytest.raises(UsageError, match=told):
            Spec.load(file)
    with pytest.raises(NotFound):
        Spec.load(tmp_path / "none.yaml")
