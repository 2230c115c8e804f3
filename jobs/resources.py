"""What workers need and nodes have, by Ray's names of resources: CPU, GPU, memory in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from miner.errors import MinerError

Resources = Mapping[str, float]


def places(need: Resources, nodes: Iterable[Resources]) -> int:
    """How many workers that need so much fit on the nodes."""
    return sum(int(min(node.get(kind, 0) / much for kind, much in need.items())) for node in nodes)


def too_small(what: str, need: Resources, nodes: Sequence[Resources]) -> MinerError:
    """The error for workers that fit on no node: Ray would wait for ever."""
    found = "; ".join(shown(node) for node in nodes) or "it has no nodes"
    return MinerError(
        f"{what} asks for {shown(need)} a worker; no node of the cluster has so much: {found}",
        "Ask for less (--num-gpus, --memory-gb), or run it on a cluster that has it. "
        "Nodes that start on demand are waited for with --wait-nodes SECONDS.",
    )


def shown(resources: Resources) -> str:
    """`2 CPU, 0 GPU, 8.0 GB memory`."""
    memory = f", {resources['memory'] / 1e9:.1f} GB memory" if "memory" in resources else ""
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU{memory}"
