"""Secrets in texts: found, so that they are refused, and masked, so that no message, log or table holds one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from miner.errors import UsageError

HIDDEN = "***"
_SECRET = r"(?:secret|token|passw(?:or)?d|signature|credential|(?:account|access|api|private)[-_]?key|authorization)"
_NAMES_SECRET = re.compile(_SECRET, re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s?#'\"<>]*@")
_QUERY = re.compile(r"(?<=://)([^\s?'\"<>]*)\?[^\s'\"<>]*")
_SIGNED = re.compile(r"[?&](?:x-(?:amz|goog)-\w+|sig|sv|se|sp|awsaccesskeyid|googleaccessid|signature)=", re.IGNORECASE)
_ASSIGNED = re.compile(rf"(?i)([\w.-]*{_SECRET}[\w.-]*['\"]?\s*[=:]\s*['\"]?)[^\s'\"&,;}}<>)\]]+")
_ELEMENT = re.compile(r"<(AWSAccessKeyId|SignatureProvided|StringToSign\w*|CanonicalRequest\w*)>.*?</", re.DOTALL)
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}")
_SHORTEST = 8  # a shorter value is found in too many words


def masked(text: str, options: Mapping[str, str] | None = None) -> str:
    """`text` without credentials: user and query of URIs, signatures, and the very values of secret variables and of
    secret `options`."""
    for value in sorted(_values({**os.environ, **(options or {})}), key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    text = _ELEMENT.sub(rf"<\1>{HIDDEN}</", text)
    text = _QUERY.sub(rf"\1?{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))
    return _KEY_ID.sub(HIDDEN, _ASSIGNED.sub(rf"\g<1>{HIDDEN}", text))


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name is likely to hold a secret."""
    return _NAMES_SECRET.search(name) is not None


def has_secret(text: str) -> bool:
    """Whether a text is a URI with user information or a signature. `abfss://container@account...` names no user."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        return False
    user, at, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    container = scheme == "abfss" and ":" not in user
    return bool(at and not container) or _SIGNED.search(rest) is not None


def refuse_secrets(texts: Iterable[str]) -> None:
    """Raises UsageError, which does not repeat it, for the first of the texts that is a URI with a secret."""
    for text in texts:
        if has_secret(text):
            raise UsageError(
                f"{masked(text)}: the URI carries credentials or a signature, which would end up in logs and lineage",
                "Give the URI without them. Credentials come from the environment (AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY), from "
                "the machine's role, or for a lake in Python from storage_options.",
            )


def _values(named: Mapping[str, str]) -> set[str]:
    return {value for name, value in named.items() if is_secret_name(name) and len(value) >= _SHORTEST}
