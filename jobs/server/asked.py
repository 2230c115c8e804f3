"""What is asked of the server, and the shape of its answers: pydantic models, so that OpenAPI tells them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from miner.errors import UsageError
from miner.search import Query

_SAID = {
    "texts": "what to look for; several are fused",
    "not_texts": "what to keep away from",
    "images": "paths of pictures; not over the network",
    "lidar": "paths of LiDAR sweeps; not over the network",
    "like": "ids of readings or clips that it is like",
    "not_like": "ids of readings or clips that it is not like",
    "query": "concepts and sums: truck AND night NOT rain",
    "k": "how many hits",
    "per": "one hit per clip, or per frame",
    "where": "filter, e.g. count('vehicle.truck') >= 2 and split = 'mini'",
    "encoder": "whose vectors; the only ones if not given",
}


class Asked(BaseModel):
    """A question, by the names the answer's `query` has."""

    model_config = ConfigDict(extra="forbid")

    def checked(self, max_k: int, files: bool) -> Query:
        """The checked query. Raises UsageError for k over `max_k`, and for files where they are not read."""
        asked = query_of(self.model_dump())
        if asked.k > max_k:
            raise UsageError(f"k = {asked.k:,}: this server gives at most {max_k:,}")
        if not files and asked.reads_files:
            raise UsageError("this server reads no files that a request names", "Ask by text, or like=ID.")
        return asked


def _fields() -> dict[str, Any]:
    """The fields of a query, tuples as lists, with what is said of them."""
    hints = get_type_hints(Query)
    made = {}
    for each in fields(Query):
        many = hints[each.name] == tuple[str, ...]
        default: Any = Field([] if many else each.default, description=_SAID.get(each.name, each.name))
        made[each.name] = (list[str] if many else hints[each.name], default)
    return made


if TYPE_CHECKING:
    SearchRequest = Asked
else:  # from the query itself: what can be asked in Python and by command can be asked here, with the same defaults
    SearchRequest = create_model("SearchRequest", __base__=Asked, **_fields())


def query_of(asked: dict[str, Any]) -> Query:
    """The query of JSON values. Raises UsageError."""
    values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in asked.items()}
    return Query(**values)


class FoundHit(BaseModel):
    """One hit, as `miner search --json` prints it."""

    model_config = ConfigDict(extra="forbid")

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
    evidence: dict[str, float]
    why: str


class Answer(BaseModel):
    """An answer, as `miner search --json` prints it."""

    model_config = ConfigDict(extra="forbid")

    lake: str
    query: dict[str, Any]
    encoder: str
    index_id: str | None
    table_version: int
    elapsed_ms: float
    notes: list[str]
    hits: list[FoundHit]


class Refusal(BaseModel):
    """What went wrong: `exit_code` is what the command would end with."""

    kind: str
    message: str
    hint: str
    exit_code: int
