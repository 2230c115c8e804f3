"""What a search found: hits that show themselves in a terminal, a notebook and as a page; JSON, Arrow, pandas."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miner.decode import Recordings
from miner.decode.image import encode_jpeg
from miner.decode.views import Region
from miner.errors import BadInput, UsageError
from miner.query.explain import plan_text
from miner.shown import shown_time
from miner.thumbnail import thumbnail

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from miner.accepted import Accepted
    from miner.lake import Lake
    from miner.store import Store

SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("clip_id", pa.string()),
        ("scene_id", pa.string()),
        ("sample_data_id", pa.string()),
        ("channel", pa.string()),
        ("timestamp_ns", pa.int64()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("uri", pa.string()),
        ("evidence", pa.map_(pa.string(), pa.float32())),
        ("why", pa.string()),
    ]
)
_FILE = ("uri", "offset", "length", "fileformat", "ego_SE3_sensor")
_IN_NOTEBOOK = 24


@dataclass(frozen=True)
class Hit:
    """A clip or frame that was found, with its best frame.

    `clip_id`, `start_ns` and `end_ns` are None for a frame in no clip, `uri` for one of a lake that has vectors only.
    `evidence` is what the score is made of: similarity by kind of what was sought (text, image, lidar, not_text, ...),
    probability by concept; `region` the part of the frame that scored, None for all of it; `why` says in words what is
    special, where a verb knows.
    """

    rank: int
    score: float
    clip_id: str | None
    scene_id: str
    sample_data_id: str
    channel: str
    timestamp_ns: int
    start_ns: int | None
    end_ns: int | None
    uri: str | None
    evidence: Mapping[str, float]
    scene: str = ""
    region: Region | None = None
    fileformat: str = ""
    offset: int | None = None
    length: int | None = None
    ego_SE3_sensor: Mapping[str, Any] | None = None
    why: str = ""
    store: Store | None = field(default=None, repr=False, compare=False)

    def show(self) -> Figure:
        """The hit as a matplotlib figure: all cameras, bird's-eye view with boxes, timeline of its clip.

        Raises UsageError for a hit that came from no lake or where matplotlib is missing.
        """
        from miner.moment import moment
        from miner.show import figure

        if self.store is None:
            raise UsageError("this hit is of no lake", "Take it from lake.search(...).")
        title = f"{self.rank}. {self.score:.3f}   {self.scene}   {self.channel}   {shown_time(self.timestamp_ns)}"
        return figure(moment(self.store, self.sample_data_id), _plain(title))

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON values, with the keys of SCHEMA."""
        return {name: getattr(self, name) for name in SCHEMA.names} | {"evidence": dict(self.evidence)}


@dataclass(frozen=True, repr=False)
class Hits(Sequence[Hit]):
    """Hits by score descending, and what was asked of what: `table_version` of the vectors of `encoder` in `lake`.

    `notes` tell what the answer lacks, such as vectors in a damaged file. `opened` is whom to ask further,
    `plan` how the hits were found, where that was asked for (`miner.query.explain`).
    """

    lake: str
    query: Mapping[str, Any]
    encoder: str
    index_id: str | None
    table_version: int
    elapsed_ms: float
    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()
    opened: Lake | None = field(default=None, repr=False, compare=False)
    plan: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> Hits: ...

    def __getitem__(self, place: int | slice) -> Hit | Hits:
        return replace(self, hits=self.hits[place]) if isinstance(place, slice) else self.hits[place]

    def where(self, expression: str) -> Hits:
        """The same question, asked only of what also matches a filter. Raises UsageError, as `lake.search`."""
        from miner.feedback import narrowed

        return narrowed(self, expression)

    def more_like(self, places: Sequence[int], not_like: Sequence[int] = ()) -> Hits:
        """The same question, with the hits at `places` (`hits[0]` is at 0) as examples, and `not_like` as what is not
        meant. Raises UsageError."""
        from miner.feedback import alike

        return alike(self, places, not_like)

    def not_like(self, places: Sequence[int]) -> Hits:
        """The same question, away from what the hits at `places` show. Raises UsageError."""
        return self.more_like((), places)

    def accept(self, places: Sequence[int]) -> Accepted:
        """The clips of the hits at `places` (`hits[0]` is at 0), to make a dataset of. Raises UsageError."""
        from miner.feedback import accepted

        return accepted(self, places)

    def to_rerun(self, path: str | Path) -> Path:
        """The clips of the hits as one recording of Rerun, below `hit_1`, `hit_2`, ... See `miner.rerun_log`."""
        from miner.feedback import opened
        from miner.rerun_log import write_rrd

        return write_rrd(opened(self).store, {f"hit_{hit.rank}": hit.sample_data_id for hit in self.hits}, path)

    def to_dict(self) -> dict[str, Any]:
        """The answer as one JSON document."""
        return {
            "lake": self.lake,
            "query": dict(self.query),
            "encoder": self.encoder,
            "index_id": self.index_id,
            "table_version": self.table_version,
            "elapsed_ms": self.elapsed_ms,
            "notes": list(self.notes),
            **({} if self.plan is None else {"plan": dict(self.plan)}),
            "hits": [hit.to_dict() for hit in self.hits],
        }

    def to_arrow(self) -> pa.Table:
        """One row a hit, with the columns of SCHEMA."""
        rows = [hit.to_dict() | {"evidence": list(hit.evidence.items())} for hit in self.hits]
        return pa.Table.from_pylist(rows, SCHEMA)

    def to_pandas(self) -> pd.DataFrame:
        """One row a hit."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __repr__(self) -> str:
        lines = [self.headline, *(f"Note: {_plain(note)}" for note in self.notes)]
        lines.append(_text_table(self.hits) if self.hits else "nothing found")
        return "\n".join([*lines, *(["", plan_text(self.plan)] if self.plan is not None else [])])

    def _repr_html_(self) -> str:
        more = len(self.hits) - _IN_NOTEBOOK
        note = f"<p>and {more} more: <code>to_html(path)</code> shows all</p>" if more > 0 else ""
        return f"<style>{_STYLE}</style>{_grid(self.hits[:_IN_NOTEBOOK], self.headline, self.notes)}{note}"

    def to_html(self, path: str | Path | None = None, title: str = "scene-miner") -> str:
        """One self-contained page with a picture per hit; also written to `path`, if given."""
        body = _grid(self.hits, self.headline, self.notes)
        text = _PAGE.format(title=html.escape(_plain(title)), style=_STYLE, body=body)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @property
    def headline(self) -> str:
        """What was asked and how much was found, in one line."""
        asked = [self.query["query"]] if self.query.get("query") else []
        asked += [*self.query.get("texts", ()), *(PurePath(image).name for image in self.query.get("images", ()))]
        asked += [PurePath(sweep).name for sweep in self.query.get("lidar", ())]
        asked += [f"like {each}" for each in self.query.get("like", ())]
        asked += [self.query["verb"]] if "verb" in self.query else []
        asked += [f"not {text}" for text in self.query.get("not_texts", ())]
        asked += [f"not like {each}" for each in self.query.get("not_like", ())]
        where = f" where {self.query['where']}" if self.query.get("where") else ""
        found = f"{len(self.hits)} {self.query.get('per', 'hit')}{'' if len(self.hits) == 1 else 's'}"
        return _plain(f"{found} for {', '.join(asked)}{where} ({self.encoder}, table version {self.table_version})")


# -- as text -----------------------------------------------------------------------------------------------------------


def _text_table(hits: Sequence[Hit]) -> str:
    head = ("", "score", "channel", "time", "scene", "clip", "file")
    rows = [
        (str(hit.rank), f"{hit.score:.3f}", hit.channel, shown_time(hit.timestamp_ns), hit.scene, hit.clip_id or "-",
         PurePath(hit.uri or "-").name)
        for hit in hits
    ]  # fmt: skip
    cells = [head, *([_shortened(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    for place, hit in reversed(list(enumerate(hits, 1))):
        if hit.why:
            lines.insert(place + 1, f"{' ' * (widths[0] + 2)}{_plain(hit.why)}")
    return "\n".join(lines)


def _shortened(text: str, width: int = 40) -> str:
    plain = _plain(text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def _plain(text: str) -> str:
    """Without characters that could move the cursor, turn the line around or end it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# -- as a page ---------------------------------------------------------------------------------------------------------

# GitHub shows a notebook's output without its styles, classes and ids, so the grid is a table whose pictures say their
# size and hold their outline. Where styles live, the table flows with the width. Colours are those around it: a page,
# Jupyter and VS Code each know for themselves whether it is dark.
_COLUMNS = 3
_SHOWN_PX = 240
_MARK, _EDGE = (255, 176, 0), (30, 30, 30)

_STYLE = """
.miner-hits{font:14px/1.4 system-ui,sans-serif;margin-bottom:24px}
.miner-hits h3{font-size:16px;margin:0 0 12px;overflow-wrap:anywhere}
.miner-hits.miner-hits table{display:block;width:100%;margin:0;border:0}
.miner-hits tbody{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,220px),1fr));gap:12px}
.miner-hits tr{display:contents}
.miner-hits.miner-hits td{display:block;padding:0 0 8px;border:1px solid #8886;border-radius:8px;overflow:hidden;
background:#8881;text-align:left;font-size:13px;overflow-wrap:anywhere;white-space:normal}
.miner-hits.miner-hits td>*{margin:0 10px}
.miner-hits.miner-hits td>img{display:block;width:100%;max-width:none;height:auto;margin:0 0 6px}
.miner-hits.miner-hits img+br,.miner-hits td>div+br{display:none}
.miner-hits small{display:block;opacity:.75;font-size:12px}
.miner-hits small+br{display:none}
.miner-hits td>div{padding:24px 0;text-align:center;font-size:12px;opacity:.75}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>:root{{color-scheme:light dark}}body{{margin:0;padding:16px;background:#fff;color:#1b1f24}}
@media(prefers-color-scheme:dark){{body{{background:#0d1117;color:#e6edf3}}}}{style}</style></head>
<body>{body}</body></html>
"""


def _grid(hits: Sequence[Hit], headline: str, notes: Sequence[str]) -> str:
    with Recordings() as recordings:
        cells = [_cell(recordings, hit) for hit in hits]
    rows = ("".join(cells[start : start + _COLUMNS]) for start in range(0, len(cells), _COLUMNS))
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    found = f"<table><tbody>{table}</tbody></table>" if cells else "<p>nothing found</p>"
    said = "".join(f"<p><b>Note: {_escaped(note)}</b></p>" for note in notes)
    return f'<div class="miner-hits"><h3>{html.escape(headline)}</h3>{said}{found}</div>'


def _cell(recordings: Recordings, hit: Hit) -> str:
    """A hit as a table cell: picture, then a line for each thing known of it."""
    lines = [shown_time(hit.timestamp_ns), hit.scene, hit.clip_id or "", hit.why]
    small = "".join(f"<small>{_escaped(line)}</small><br>" for line in lines if line)
    return (
        f'<td align="left" valign="top" title="{_escaped(hit.uri or hit.sample_data_id)}">{_picture(recordings, hit)}'
        f"<br><b>{hit.rank}. {hit.score:.3f}</b> {_escaped(hit.channel)}<br>{small}</td>"
    )


def _picture(recordings: Recordings, hit: Hit) -> str:
    """The frame with the region that scored outlined, or the reason why there is no picture."""
    try:
        pixels = _frame(recordings, hit)
    except BadInput as bad:
        return f"<div>{_escaped(str(bad))}</div>"
    data = base64.b64encode(encode_jpeg(outlined(pixels, hit.region))).decode()
    height = round(_SHOWN_PX * pixels.shape[0] / pixels.shape[1])
    alt = _escaped(f"{hit.scene}, {hit.channel}")
    return f'<img src="data:image/jpeg;base64,{data}" width="{_SHOWN_PX}" height="{height}" alt="{alt}">'


def outlined(pixels: NDArray[np.uint8], region: Region | None) -> NDArray[np.uint8]:
    """A copy of uint8 RGB (H, W, 3) with a frame of 3 pixels inside the edges of `region`; as it is for None."""
    if region is None:
        return pixels
    height, width = pixels.shape[:2]
    x0, x1 = (round(edge * width) for edge in (region[0], region[2]))
    y0, y1 = (round(edge * height) for edge in (region[1], region[3]))
    marked = pixels.copy()
    for inset, colour in ((0, _MARK), (3, _EDGE), (4, None)):
        part = slice(y0 + inset, max(y1 - inset, 0)), slice(x0 + inset, max(x1 - inset, 0))
        marked[part] = pixels[part] if colour is None else colour
    return marked


def _escaped(text: str) -> str:
    return html.escape(_plain(text))


def _frame(recordings: Recordings, hit: Hit) -> NDArray[np.uint8]:
    """The hit's frame or sweep as small uint8 RGB. Raises BadInput where there is none."""
    if hit.uri is None:
        raise BadInput("no-file", f"reading {hit.sample_data_id} has no file")
    return thumbnail(recordings, {name: getattr(hit, name) for name in _FILE})
