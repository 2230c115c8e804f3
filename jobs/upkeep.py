"""The commands that keep a lake sound: verify and what mends it."""

from __future__ import annotations

import typer

from jobs import text
from jobs.options import AsJson, LakeArg, say

app = typer.Typer()


@app.command(epilog="Example: **miner verify lake**")
def verify(lake: LakeArg, as_json: AsJson = False) -> None:
    """Check that a lake holds what it says; ends with 1 if it does not."""
    from miner.store import Store
    from miner.verify import verify as check

    store = Store.open(lake)
    checks = [vars(each) for each in check(store)]
    say({"lake": store.uri, "ok": all(each["ok"] for each in checks), "checks": checks}, as_json, text.checks_text)
    if not all(each["ok"] for each in checks):
        raise typer.Exit(1)
