"""Ids of rows: blake2b-128 over what names a thing, so that reading it again gives the same key.

Never a URI (files move) and never content (two black frames are two readings). A 32-hex token of the source stays.
"""

from __future__ import annotations

import re
from hashlib import blake2b

_TOKEN = re.compile(r"[0-9a-f]{32}")


def make_id(kind: str, *parts: str | int) -> str:
    """32 hex digits over the length-prefixed parts, e.g. `make_id("scene", dataset, log, name)`."""
    digest = blake2b(digest_size=16)
    for part in (kind, *parts):
        text = str(part).encode()
        digest.update(len(text).to_bytes(8, "big"))
        digest.update(text)
    return digest.hexdigest()


def is_token(text: str) -> bool:
    """True for a 32-hex token as nuScenes uses them; such a token is kept as the id."""
    return _TOKEN.fullmatch(text) is not None
