"""A report as one page that holds all it shows: numbers, tables and plots; light and dark, wide and on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from miner.report.plots import histogram, scatter

Document = dict[str, Any]
_FOLDER = Path(__file__).resolve().parents[1] / "templates"
_MEASURES = {
    "sharpness": "sharpness of frames",
    "exposure": "exposure of frames",
    "num_points": "points of sweeps",
}


def write_page(document: Document, path: str | Path) -> tuple[Path, Path]:
    """Write the page, and beside it the document as JSON; gives both paths."""
    page = Path(path)
    page.parent.mkdir(parents=True, exist_ok=True)
    beside = page.with_suffix(".json")
    page.write_text(render(document), encoding="utf-8")
    beside.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return page, beside


def render(document: Document) -> str:
    """The page of a document that `measure` gave."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": lambda n: f"{n:,}", "percent": _percent, "short": lambda x: f"{x:.4g}"}
    return environment.get_template("report.html.j2").render(
        **document,
        title=document["dataset"] or "the whole lake",
        numbers=_numbers(document),
        grid=_grid(document["coverage"]),
        plots=_plots(document),
        mapped=_mapped(document),
        short=sorted((c for c in document["cells"] if c["deficit"]), key=lambda c: -c["deficit"]),
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0.1 > share > 0 else f"{share:.0%}"


def _numbers(document: Document) -> list[tuple[str, str, str]]:
    """The figures on top: number, what it is, what it says."""
    found = [(f"{document['clips']:,}", "clips", f"{document['hours']:.2f} h of {document['scenes']:,} drives")]
    diversity, stands = document["diversity"], document["representativeness"]
    if diversity:
        e = diversity["effective"]
        between = f"{e['low']:.3g} to {e['high']:.3g}; the lake {diversity['lake']:.3g}"
        found.append((f"{e['value']:.3g}", "effective clips", f"diversity (Vendi), {between}"))
    if stands:
        between = f"{stands['low']:.3f} to {stands['high']:.3f}; 1 is the lake itself"
        found.append((f"{stands['value']:.3f}", "representativeness", between))
    if document["coverage"]:
        c = document["coverage"]
        found.append((f"{c['covered']} of {len(c['cells'])}", "conditions covered", " x ".join(c["axes"])))
    if document["duplicates"]:
        d = document["duplicates"]
        found.append((_percent(d["share"]), "have a near copy", f"within {d['radius']:g} cosine distance"))
    if document["leakage"]:
        leak = document["leakage"]
        if leak["evaluation_clips"]:
            found.append((f"{leak['clips']:,}", "clips leak", f"near {leak['against']}"))
        else:
            found.append(("?", "clips leak", f"no clip of the lake is of {leak['against']}"))
    return found


def _grid(coverage: Document | None) -> Document | None:
    """The table of conditions: with two axes rows and columns, else one row a cell; `heat` 0 to 1 by clips."""
    if coverage is None:
        return None
    most = max([cell["clips"] for cell in coverage["cells"]] + [1])
    cells = [{**cell, "heat": round((cell["clips"] / most) ** 0.5, 3)} for cell in coverage["cells"]]
    if len(coverage["axes"]) != 2:
        return {"columns": ["clips"], "rows": [(", ".join(cell["cell"]), [cell]) for cell in cells]}
    columns = list(dict.fromkeys(cell["cell"][1] for cell in cells))
    rows: dict[str, list[Document]] = {}
    for cell in cells:
        rows.setdefault(cell["cell"][0], []).append(cell)
    return {"columns": columns, "rows": list(rows.items())}


def _plots(document: Document) -> list[Document]:
    """Histograms with what they say."""
    found = []
    for each in document["scarcity"]:
        said = f"median {each['median']:.4g}, of the lake {each['lake_median']:.4g}"
        plot = histogram(each["edges"], each["set"], each["lake"], f"scarcity by {each['scorer']}")
        found.append({"title": f"scarcity ({each['scorer']})", "said": said, "svg": plot})
    for each in document["quality"]["measures"]:
        low, median, high = each["quantiles"]
        said = f"median {median:.4g}, 90 % between {low:.4g} and {high:.4g}, {each['readings']:,} readings"
        name = _MEASURES.get(each["measure"], each["measure"])
        found.append({"title": name, "said": said, "svg": histogram(each["edges"], each["set"], None, name)})
    return found


def _mapped(document: Document) -> str:
    if not document["map"]:
        return ""
    ours = document["map"]["set"] if document["dataset"] else []
    return scatter(document["map"]["lake"], ours, "clips by the two main directions of their vectors")
