"""What can go wrong, by what the caller can do about it.

MinerError                exit 1   something failed; the message says what, where, why and what to do next
|-- UsageError            exit 2   the call or the configuration is wrong; nothing was done
|   |-- UnknownName       exit 2   no such plugin, column or table; the message lists the known ones
|   `-- SchemaError       exit 2   a table does not have the declared columns and types
|-- NotFound              exit 4   a lake, table, clip, reading or file is not there
|-- Damaged               exit 1   files of the lake are not what was written, or are gone
|-- Conflict              exit 5   somebody else holds the table, or it changed under us
`-- BadInput              (none)   one unit's data is bad: it goes to quarantine, the run goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MinerError(Exception):
    """Root of all errors of the product. `hint` is the next step for the person who reads the message."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(MinerError):
    """The call or the configuration is wrong."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not among the known ones."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """An error that lists the known names, the nearest first in the hint."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return cls(f"unknown {kind} {name!r}", f"{hint}Known: {', '.join(names) or 'none'}")


class SchemaError(UsageError):
    """A table does not have the declared columns and types."""


class NotFound(MinerError):
    """A lake, table, clip, reading or file is not there."""

    exit_code = 4


class Damaged(MinerError):
    """Files of the lake are not what was written, or are gone, and without them there is no answer."""


class Conflict(MinerError):
    """Somebody else holds the table, or it changed under us."""

    exit_code = 5


class BadInput(MinerError):
    """One unit's data is bad. `reason` is a short kebab-case slug, `detail` names file and cause."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.args = (reason, detail)
        self.reason = reason
        self.detail = detail
