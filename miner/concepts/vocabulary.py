"""What concepts mean: the built-in driving vocabulary, those a lake has of its own, and texts that have no name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miner.errors import UsageError
from miner.query.tree import check_name, check_string

MAX_PROMPTS = 50
_TEMPLATES = ("a photo of {}", "a dash-cam photo of {}")
_ELSE = ("an empty road", "a street with a few cars", "buildings beside a street", "trees and sky")


@dataclass(frozen=True)
class Definition:
    """A concept: sentences that say it, sentences that say what is there instead, and the labels it goes by.

    `labels` are patterns (fnmatch, lower case) of the names of categories in `clip_facts`.
    """

    name: str
    prompts: tuple[str, ...]
    opposites: tuple[str, ...]
    labels: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What a calibration was made for: another one is stale."""
        said = json.dumps([self.prompts, self.opposites, self.labels], ensure_ascii=False)
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def load_vocabulary() -> dict[str, Definition]:
    """The built-in concepts by name, sorted; from `vocabulary.yaml`, which says how it is to be read."""
    import yaml

    groups = yaml.safe_load((Path(__file__).parent / "vocabulary.yaml").read_text(encoding="utf-8"))
    found = {name: _defined(name, group) for group in groups.values() for name in group["concepts"]}
    return dict(sorted(found.items()))


def named_by_user(
    name: str, prompts: tuple[str, ...], opposites: tuple[str, ...] = (), labels: tuple[str, ...] = ()
) -> Definition:
    """A concept of the user's own. Raises UsageError for a name or texts that cannot be."""
    check_name(name)
    for kind, texts in {"prompts": prompts, "opposites": opposites, "labels": labels}.items():
        if len(texts) > MAX_PROMPTS:
            raise UsageError(f"{name}: {len(texts)} {kind}, at most {MAX_PROMPTS} are allowed")
        for text in texts:
            check_string(kind, text)
    if not prompts:
        raise UsageError(f"concept {name!r} needs a prompt", 'Say it in words: --prompt "a wheelie bin"')
    return Definition(name, _filled(_TEMPLATES, prompts), opposites or _ELSE, tuple(label.lower() for label in labels))


def user_concept(
    names: tuple[str, ...], prompts: tuple[str, ...], opposites: tuple[str, ...], labels: tuple[str, ...]
) -> Definition | None:
    """The concept that a user defines under the one name given; None where no words are given.

    Raises UsageError for words without one name.
    """
    if not (prompts or opposites or labels):
        return None
    if len(names) != 1:
        raise UsageError(f"prompts are of one concept, {len(names)} are named")
    return named_by_user(names[0], prompts, opposites, labels)


def without_name(text: str) -> Definition:
    """A text that stands for itself."""
    return Definition(text, (text, *_filled(_TEMPLATES, (text,))), _ELSE)


def _defined(name: str, group: Mapping[str, Any]) -> Definition:
    own = group["concepts"][name]
    others = [each["prompts"] for other, each in group["concepts"].items() if group["exclusive"] and other != name]
    opposites = [*group.get("opposites", ()), *own.get("opposites", ()), *(text for texts in others for text in texts)]
    labels = tuple(str(label).lower() for label in own.get("labels", ()))
    sentences = _filled(tuple(group["templates"]), tuple(own["prompts"]))
    return Definition(check_name(name), sentences, _filled(tuple(group["templates"]), tuple(opposites)), labels)


def _filled(templates: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(template.replace("{}", text) for template in templates for text in texts)
