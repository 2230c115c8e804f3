"""Object stores: which URIs are taken, who opens them within which limits, and how their failures are told.

Lakes are read and written by Lance, recordings read by Arrow: two clients, one configuration. Credentials and endpoint
come from the environment or the provider chain of the cloud (AWS_*, GOOGLE_*, AZURE_*), for a lake in Python also from
`storage_options`, never from a URI.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from miner.errors import MinerError, NotFound, UsageError
from miner.masking import masked, refuse_secrets

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

Options = Mapping[str, str]

SCHEMES = ("file", "s3", "gs", "az", "abfss")
_OF_STORE = (
    r"AWS Error|AWS credentials|Bucket .* not found|HTTP error|google::cloud::Status|Azure::"
    r"|Generic (?:S3|GCS|MicrosoftAzure) error"
)
_NO_OBJECT = r"NO_SUCH_KEY|NoSuchKey|RESOURCE_NOT_FOUND during GetObject"  # the last where the answer had no body
_NO_BUCKET = r"NO_SUCH_BUCKET|NoSuchBucket|Bucket .* not found|RESOURCE_NOT_FOUND during ListObjects"
_METADATA = ("fd00:ec2::254",)  # beside all of 169.254.0.0/16 and fe80::/10
_METADATA_NAMES = {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}


class Limits(NamedTuple):
    """How long Arrow waits for a connection and for the next byte; how often it tries, with growing random pauses."""

    connect_s: float
    silence_s: float
    attempts: int


READING = Limits(2.0, 5.0, 4)
KNOCKING = Limits(2.0, 2.0, 3)  # the first request of a run: nothing there is told within seconds
# Lance counts its tries per request, four to six times over: these make 5 s of a store that refuses every connection.
_LANCE = {"client_max_retries": "3", "client_retry_timeout": "20", "connect_timeout": "3s"}


def is_remote(uri: str) -> bool:
    """Whether a path or URI is in an object store."""
    return "://" in uri and not uri.startswith("file://")


def local_path(uri: str) -> str:
    """A local path, or that of a `file://` URI."""
    return unquote(urlsplit(uri).path) if uri.startswith("file://") else uri


def check_uri(uri: str, options: Options | None = None) -> None:
    """Raises UsageError for a URI with credentials, of a scheme that is not taken, or to a metadata service."""
    refuse_secrets([uri])
    scheme, colon, rest = uri.partition("://")
    if not colon:
        return
    if scheme not in SCHEMES:
        allowed = ", ".join(f"{each}://" for each in SCHEMES)
        raise UsageError(f"{masked(uri)}: {scheme}:// is not taken", f"Give a path or a URI of one of: {allowed}")
    endpoint = endpoint_of(options) if scheme == "s3" else None
    for host in (rest.partition("/")[0].rpartition("@")[2], urlsplit(endpoint or "").hostname or ""):
        if scheme != "file" and _is_metadata_service(host):
            raise UsageError(f"{host} serves the machine's own credentials, no recordings", "Give the store's address.")


def endpoint_of(options: Options | None) -> str | None:
    """The address of an S3 server other than Amazon's, with its scheme: of the options, else of the environment."""
    given = _lower(options)
    for names, values in (
        (("aws_endpoint_url", "aws_endpoint", "endpoint_url", "endpoint"), given),
        (("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"), os.environ),
    ):
        for name in names:
            if values.get(name):
                return values[name] if "://" in values[name] else f"https://{values[name]}"
    return None


def lance_options(uri: str, options: Options | None = None) -> dict[str, str]:
    """What Lance is told of the store at `uri`: our limits, the endpoint Arrow uses too, and above all `options`."""
    if not is_remote(uri):
        return dict(options or {})
    endpoint = endpoint_of(options) if uri.startswith("s3://") else None
    found = {} if endpoint is None else {"aws_endpoint": endpoint}
    if endpoint and endpoint.startswith("http://"):
        found["allow_http"] = "true"
    return {**_LANCE, **found, **(options or {})}


def filesystem(uri: str, options: Options | None = None, limits: Limits = READING) -> tuple[FileSystem, str]:
    """Arrow's client for the store of `uri`, and the path there as it takes it.

    What follows the bucket is the key as it is, nothing of it is percent-encoded. Raises UsageError as `check_uri`.
    """
    from pyarrow import fs

    check_uri(uri, options)
    scheme, _, path = uri.partition("://")
    if scheme == "s3":
        return fs.S3FileSystem(**_s3(path.partition("/")[0], options, limits)), path
    if scheme == "gs":
        patience = timedelta(seconds=limits.attempts * limits.silence_s)
        return fs.GcsFileSystem(retry_time_limit=patience), path
    if scheme in ("az", "abfss"):
        return _azure(path, options)
    found: tuple[FileSystem, str] = fs.FileSystem.from_uri(uri)
    return found


def knock(uri: str, options: Options | None = None) -> None:
    """One listing of an S3 server, so that one that cannot be reached or refuses us is told at once, before Lance's
    long patience. Of other stores nothing is asked: the two clients take different credentials there.

    Raises NotFound (no such bucket), UsageError as `check_uri` and MinerError.
    """
    from pyarrow import fs

    if uri.startswith("s3://"):
        with told(uri, options), suppress(FileNotFoundError):  # a prefix without objects
            client, path = filesystem(uri, options, KNOCKING)
            client.get_file_info(fs.FileSelector(path.rstrip("/")))


@contextmanager
def told(uri: str, options: Options | None = None) -> Iterator[None]:
    """Failures of the store of `uri` as MinerError, told with bucket, key and where the credentials came from."""
    try:
        yield
    except MinerError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # Arrow raises the first two, Lance all three
        if not is_remote(uri) or not is_of_store(error):
            raise
        raise failure(uri, error, options) from None  # its own text may hold what `masked` takes out


def is_of_store(error: BaseException) -> bool:
    """Whether an exception of Arrow or Lance is about an object store, not about what lies there."""
    return re.search(_OF_STORE, str(error)) is not None


def is_denied(error: BaseException) -> bool:
    """Whether the store knows us or not, it lets us not have this."""
    return re.search(r"ACCESS_DENIED|AccessDenied|403 Forbidden|HTTP status 403", str(error)) is not None


def is_missing(error: BaseException) -> bool:
    """Whether the object is not there."""
    return isinstance(error, FileNotFoundError) or re.search(_NO_OBJECT, str(error)) is not None


def failure(uri: str, error: BaseException, options: Options | None = None) -> MinerError:
    """What to tell of an error of the store of `uri`: cause and next step."""
    cause = masked(str(error).partition(", /")[0], options)
    place = masked(uri, options) or "object store"
    endpoint = endpoint_of(options) if uri.startswith("s3://") else None
    where = f" at {masked(endpoint, options)}" if endpoint else ""
    if re.search(_NO_BUCKET, cause):
        return NotFound(f"{place}: no such bucket{where}", "Look at its name, and at AWS_ENDPOINT_URL if it is set.")
    used = credentials(uri, options)
    if is_denied(error) or re.search(r"(?i)credential|InvalidAccessKey|INVALID_ACCESS|Signature|ExpiredToken", cause):
        hint = "Who is asked may not list, read or (for a lake) write there, or the credentials are not valid any more."
        return MinerError(f"{place}: access denied{where}, asked with {used}: {cause}", hint)
    return MinerError(
        f"{place}: the store{where} does not answer as it should, after several tries: {cause}",
        "Is the address right, the network up? What was finished is kept: run the same command again.",
    )


def credentials(uri: str, options: Options | None = None) -> str:
    """Where the credentials for the store of `uri` come from, in words; never what they are."""
    if any(re.search(r"key|token|secret|sas|credential|service_account", name) for name in _lower(options)):
        return "storage_options"
    known = {
        "s3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"),
    }.get(uri.partition("://")[0], ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_ID"))
    found = next((name for name in known if os.environ.get(name)), None)
    return (
        f"{found} of the environment" if found else "nothing of the environment: the user's files or the machine's role"
    )


def _s3(bucket: str, options: Options | None, limits: Limits) -> dict[str, Any]:
    from pyarrow import fs

    given, endpoint = _lower(options), endpoint_of(options)
    address = urlsplit(endpoint or "")

    def option(*names: str) -> str | None:
        return next((given[name] for each in names for name in (f"aws_{each}", each) if name in given), None)

    region = option("region", "default_region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    return {
        "access_key": option("access_key_id"),
        "secret_key": option("secret_access_key"),
        "session_token": option("session_token", "token"),
        "anonymous": option("skip_signature") in ("true", "1"),
        "region": region,
        "scheme": address.scheme or None,
        "endpoint_override": address.netloc or None,
        "connect_timeout": limits.connect_s,
        "request_timeout": limits.silence_s,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=limits.attempts),
        "force_virtual_addressing": option("virtual_hosted_style_request") in ("true", "1"),
    }


def _azure(path: str, options: Options | None) -> tuple[FileSystem, str]:
    """`container/path` of the account that the environment names, or `container@account.dfs.core.windows.net/path`."""
    from pyarrow import fs

    authority, _, key = path.partition("/")
    container, _, host = authority.partition("@")
    given = {name.upper(): value for name, value in os.environ.items()}
    given |= {name.upper(): value for name, value in (options or {}).items()}
    account = host.partition(".")[0] or given.get("AZURE_STORAGE_ACCOUNT_NAME") or given.get("ACCOUNT_NAME")
    if not account:
        raise UsageError(f"az://{path}: of which account?", "Set AZURE_STORAGE_ACCOUNT_NAME.")
    secrets = {
        "account_key": given.get("AZURE_STORAGE_ACCOUNT_KEY") or given.get("ACCOUNT_KEY"),
        "sas_token": given.get("AZURE_STORAGE_SAS_TOKEN") or given.get("SAS_TOKEN"),
    }
    client = fs.AzureFileSystem(account, **{name: value for name, value in secrets.items() if value})
    return client, f"{container}/{key}"


def _lower(options: Options | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (options or {}).items()}


def _is_metadata_service(host: str) -> bool:
    """Whether a host, as a name or an address in any way of writing it, is one of a cloud's metadata services."""
    name = host.rpartition(":")[0] if re.fullmatch(r"[^:]*:\d+", host) else host
    name = name.strip("[]").rstrip(".").lower()
    if name in _METADATA_NAMES:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if not re.fullmatch(r"[0-9a-fx.]+", name):
            return False
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 0xa9fea9fe, 169.254.43518, ...
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local) or str(mapped) in _METADATA
