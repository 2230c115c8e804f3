"""The commands about concepts: what a bare word in a query means, and how sure the lake can be of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobs.options import AsJson, DryRun, LakeArg, NoWait, say
from jobs.text import joined
from jobs.upkeep import notify

app = typer.Typer(
    help="Concepts of queries such as 'truck AND night NOT rain': list, fit to the lake, show.",
    epilog="Example: **miner concepts ls lake**",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Words = Annotated[list[str] | None, typer.Option("--prompt", help="A sentence that says it; more than once.")]
Opposites = Annotated[list[str] | None, typer.Option("--opposite", help="What is there instead; more than once.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="Category it goes by: vehicle.truck*, weather: rain.")
]


@app.command(name="ls", epilog="Example: **miner concepts ls lake --json**")
def list_(lake: LakeArg, as_json: AsJson = False) -> None:
    """The concepts a query can name, and how their probabilities are known."""
    from miner.concepts.verbs import listing
    from miner.store import Store

    store = Store.open(lake)
    say({"lake": store.uri, "concepts": listing(store)}, as_json, _listing_text)


@app.command(epilog="Example: **miner concepts show lake truck**")
def show(
    lake: LakeArg, name: Annotated[str, typer.Argument(help="Which one.", show_default=False)], as_json: AsJson = False
) -> None:
    """One concept: its words, opposites and labels, and its fits."""
    from miner.concepts.verbs import show as look
    from miner.store import Store

    store = Store.open(lake)
    say({"lake": store.uri, **look(store, name)}, as_json, _concept_text)


@app.command(epilog='Example: **miner concepts fit lake wheelie_bin --prompt "a wheelie bin" --label "*bin"**')
def fit(
    lake: LakeArg,
    names: Annotated[list[str] | None, typer.Argument(help="Which ones; all if none is named.")] = None,
    prompt: Words = None,
    opposite: Opposites = None,
    label: Labels = None,
    encoder: Annotated[str | None, typer.Option(help="Whose vectors; the only camera encoder if not given.")] = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fit concepts to the lake's vectors and labels and keep that; the same command again changes nothing.

    With --prompt, a concept of the lake's own.
    """
    from miner.concepts.verbs import to_fit
    from miner.concepts.vocabulary import user_concept
    from miner.executor import LocalExecutor, is_stale
    from miner.lake import open

    opened = open(lake, LocalExecutor(wait=not no_wait, notify=notify))
    words = {"prompts": tuple(prompt or ()), "opposites": tuple(opposite or ()), "labels": tuple(label or ())}
    reduction = to_fit(opened.store, names or (), encoder, user_concept(tuple(names or ()), **words))
    wanted = [each.name for each in reduction.definitions]
    document: dict[str, Any] = {"lake": opened.uri, "dry_run": dry_run, "encoder": reduction.encoder}
    if dry_run:
        document["changed"] = is_stale(reduction, opened.store)
    else:
        document["changed"] = opened.fit_concepts(*(names or ()), encoder=encoder, **words).changed
    known = {each["name"]: each for each in opened.concepts()}
    document["concepts"] = [known.get(name, {"name": name, "fitted": []}) for name in wanted]
    say(document, as_json, _fitted_text)


def _listing_text(document: dict[str, Any]) -> str:
    return joined(_line(each) for each in document["concepts"])


def _fitted_text(document: dict[str, Any]) -> str:
    if document["dry_run"]:
        what = "would be fitted" if document["changed"] else "are up to date"
        head = f"Dry run: {len(document['concepts'])} concepts {what} ({document['encoder']}); nothing is written."
        return joined([head])
    if not document["changed"]:
        return joined([f"Nothing to do: {len(document['concepts'])} concepts are up to date ({document['encoder']})."])
    return joined(_line(each) for each in document["concepts"])


def _line(concept: dict[str, Any]) -> str:
    return f"{concept['name']:<18} {'; '.join(map(_fit, concept['fitted'])) or 'not fitted: calibrated for each query'}"


def _concept_text(document: dict[str, Any]) -> str:
    lines = [f"{document['name']} ({document['origin']})"]
    for key in ("prompts", "opposites", "labels"):
        lines += [f"  {key}: {', '.join(document[key]) or 'none'}"]
    return joined([*lines, *(f"  {_fit(each)}" for each in document["fitted"])])


def _fit(each: dict[str, Any]) -> str:
    how = "against contrasting prompts, no labels"
    if each["method"] == "labels":
        how = f"by labels of {each['positives'] + each['negatives']:,} clips, {each['positives']:,} with it"
        how += f", Brier {each['brier']:.3f}"
    return f"{each['encoder']}: {how}{' (stale: fit again)' if each['stale'] else ''}"
