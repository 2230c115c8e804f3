"""Ids of rows: blake2b-128 over what names a thing, so that reading it again gives the same key; and names that users
give.

Never a URI (files move) and never content (two black frames are two readings). A 32-hex token of the source stays.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

from miner.errors import UsageError

MAX_NAME = 128
_TOKEN = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=,-]*")
_MARKS = " .,:;@+()[]&'#=~_-"


def make_id(kind: str, *parts: str | int) -> str:
    """32 hex digits over the length-prefixed parts, e.g. `make_id("scene", dataset, log, name)`."""
    digest = blake2b(digest_size=16)
    for part in (kind, *parts):
        text = str(part).encode(errors="surrogatepass")  # JSON may hold half a character
        digest.update(len(text).to_bytes(8, "big"))
        digest.update(text)
    return digest.hexdigest()


def check_label(kind: str, name: str) -> str:
    """`name`, which a user gave to a `kind` of thing and which only stands in rows: words of any script.

    Raises UsageError for one that is empty, over 128 characters, begins with other than a letter or digit, or holds
    slashes, control characters or marks that turn the direction of writing.
    """
    # Letters, digits and the accents that go with them (Unicode's categories L, M and N).
    fits = name[:1].isalnum() and all(c in _MARKS or unicodedata.category(c)[0] in "LMN" for c in name)
    return _checked(kind, name, fits, f"letters and digits of any script, and after the first of them {_MARKS.strip()}")


def check_name(kind: str, name: str) -> str:
    """`name`, which a user gave to a `kind` of thing and which a file or table is named after.

    Raises UsageError for other than 1 to 128 of the ASCII letters, digits and . _ : / @ + = , - after a first letter or
    digit. It is not fit to be joined into a path as it is: see `embeddings.encoder.slug`.
    """
    fits = _NAME.fullmatch(name) is not None
    return _checked(kind, name, fits, "ASCII letters and digits, and after the first of them . _ : / @ + = , -")


def _checked(kind: str, name: str, fits: bool, rule: str) -> str:
    if fits and len(name) <= MAX_NAME:
        return name
    shown = ascii(name if len(name) <= MAX_NAME else name[:MAX_NAME] + "...")
    raise UsageError(f"{kind} {shown}: not a name of 1 to {MAX_NAME} characters", f"Allowed are {rule}.")


def is_token(text: str) -> bool:
    """True for a 32-hex token as nuScenes uses them; such a token is kept as the id."""
    return _TOKEN.fullmatch(text) is not None
