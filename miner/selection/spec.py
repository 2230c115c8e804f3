"""What a training set should be, as a YAML file or a mapping: strict, an unknown key is told with the nearest one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from miner.errors import NotFound, UnknownName, UsageError

MAX_BUDGET = 10_000_000
Shares = float | Mapping[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConceptIs(_Part):
    """Clips that show a concept of the lake (`miner concepts`) with a probability of at least `at_least`."""

    concept: str
    at_least: float = Field(0.5, ge=0, le=1)


Condition = str | ConceptIs


class Target(_Part):
    """How the chosen clips should spread over the values of some axes, as near as can be (L1).

    `shares` nests one level for each axis of `over`: `{rain: {night: 0.2, day: 0.1}, clear: 0.5}`, where a number above
    the last level is for all that is below. `uniform`: the same for each combination there is; `lake`: as among the
    candidates.
    """

    over: tuple[str, ...] = Field(min_length=1)
    shares: Literal["uniform", "lake"] | dict[str, Any]


class Quota(_Part):
    """At least and at most how many chosen clips match a filter, or show a concept; a set that cannot have them is not
    made."""

    where: Condition
    at_least: int = Field(0, ge=0, le=MAX_BUDGET)
    at_most: int | None = Field(None, ge=0, le=MAX_BUDGET)
    name: str | None = None

    @property
    def label(self) -> str:
        """How the quota is called: by its name, else by what it asks for."""
        return self.name or (self.where if isinstance(self.where, str) else f"concept {self.where.concept}")


class Scarcity(_Part):
    """Only clips whose score by `scorer` is at least `at_least`; `weight` prefers those with higher ones."""

    scorer: str | None = None
    at_least: float | None = None
    weight: float = Field(1.0, ge=0)


class Like(_Part):
    """Clips like these (ids, or NAME@N: a dataset): cosine similarity of at least `at_least`, the more the better."""

    clips: tuple[str, ...] = Field(min_length=1)
    at_least: float | None = Field(None, ge=-1, le=1)
    weight: float = Field(1.0, ge=0)


class Diversity(_Part):
    """Of clips that serve the targets equally well, those that `strategy` takes; `start` is a dataset NAME@N that
    training has already. With `scarcity` or `like` the strategy weighs clips by them."""

    strategy: str = "k_center"
    start: str | None = None


class Dedup(_Part):
    """Of clips within `radius` (cosine distance) of each other one is kept, that of most value."""

    radius: float = Field(gt=0, le=2)


class Limit(_Part):
    """At most `at_most` clips of one `by`: a column of the clip facts, such as scene_id, log_id or vehicle."""

    by: str
    at_most: int = Field(ge=1)


class Guard(_Part):
    """No clip of, or near, an evaluation set: a filter, NAME@N or ids of clips.

    Left out are its clips, those of its scenes (`scenes`), those driven within `metres` of one, within `seconds` of one
    by the same vehicle or in the same log, and those within `radius` of one (cosine distance of their vectors).
    """

    against: str | tuple[str, ...]
    scenes: bool = True
    metres: float | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)
    radius: float | None = Field(None, gt=0, le=2)


class Spec(_Part):
    """A training set of `budget` clips, of those that match `from`."""

    budget: int = Field(ge=1, le=MAX_BUDGET)
    from_: str | None = Field(None, alias="from")
    axes: dict[str, dict[str, Condition]] = Field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    quotas: tuple[Quota, ...] = ()
    scarcity: Scarcity | None = None
    like: Like | None = None
    diversity: Diversity | None = None
    dedup: Dedup | None = None
    limit: Limit | None = None
    guard: Guard | None = None
    encoder: str | None = None
    fill: bool = True
    seed: int = Field(0, ge=0, lt=2**63)

    @classmethod
    def load(cls, given: Spec | Mapping[str, Any] | str | Path) -> Spec:
        """The spec of a mapping or a YAML file. Raises NotFound and UsageError, naming file, key and nearest key."""
        if isinstance(given, Spec):
            return given
        where = "spec" if isinstance(given, Mapping) else str(given)
        values = given if isinstance(given, Mapping) else _yaml(Path(given))
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _refused(where, error) from error

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, by the names of the file; what is not given is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def digest(self) -> str:
        """sha256 of what the spec says, however its file is written."""
        whole = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    @property
    def needs_vectors(self) -> bool:
        """Whether anything in it compares vectors."""
        near = self.guard is not None and self.guard.radius is not None
        return any((self.like, self.diversity, self.dedup, near))


def _yaml(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise NotFound(f"no such file: {file}", "Give a YAML file with the specification of the set.")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file}: expected keys and values, got {type(values).__name__}")
    return values


def _refused(where: str, error: ValidationError) -> UsageError:
    """The first thing that is wrong, with its place: `spec.yaml: targets.0.over: ...`."""
    first = min(
        error.errors(), key=lambda each: each["type"] != "extra_forbidden"
    )  # a slip may make another key missing
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        unknown = UnknownName.of("key", place[-1], _keys(place[:-1]))
        within = f" in {'.'.join(place[:-1])}" if place[:-1] else ""
        return UsageError(f"{where}: {unknown.message}{within}", unknown.hint)
    shown = "" if first["type"] == "missing" else f" = {first.get('input')!r}"
    said = re.sub(r"^Value error, ", "", first["msg"])
    return UsageError(f"{where}: {'.'.join(place)}{shown[:80]}: {said}", f"Keys: {', '.join(_keys(place[:-1]))}")


def _keys(place: list[str]) -> list[str]:
    """The keys that may stand at a place of the spec."""
    model: type[BaseModel] = Spec
    for part in place:
        field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
        if field is not None:
            model = next((each for each in _models(field.annotation)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [found for part in get_args(kind) for found in _models(part)]
