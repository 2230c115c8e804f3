"""Files that start clusters: templates with comments, a few words filled in."""

from __future__ import annotations

from pathlib import Path

from miner.errors import UnknownName

KINDS = ("aws", "kuberay")
IMAGE = "CHANGE-registry/scene-miner:2026.11"
_TEMPLATES = Path(__file__).parent / "templates"


def cluster_file(kind: str, image: str | None = None, max_gpus: int = 8) -> str:
    """The text of a cluster file: `aws` for Ray's cluster launcher, `kuberay` for a RayCluster and a RayJob.

    Raises UnknownName for another kind.
    """
    if kind not in KINDS:
        raise UnknownName.of("kind of cluster", kind, KINDS)
    text = (_TEMPLATES / f"{kind}.yaml").read_text()
    return text.replace("{{MAX_GPUS}}", str(max_gpus)).replace("{{IMAGE}}", image or IMAGE)


def dashboard() -> str:
    """A Grafana dashboard of `jobs.metrics`, as JSON."""
    return (_TEMPLATES / "grafana.json").read_text(encoding="utf-8")
