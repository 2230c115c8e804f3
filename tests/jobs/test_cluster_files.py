"""Cluster files: valid by Ray's own check, closed to the world, and what the repository ships is what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cluster_files import cluster_file
from miner.errors import UnknownName
from tests.jobs.command import Miner

ROOT = Path(__file__).resolve().parents[2]


def test_rays_launcher_takes_the_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(config)
    workers = {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}
    assert all(kind["min_workers"] == 0 for kind in workers.values())
    assert all(kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot" for kind in workers.values())
    assert any(kind["resources"].get("GPU") for kind in workers.values())
    assert config["max_workers"] <= sum(kind["max_workers"] for kind in workers.values())


def test_aws_opens_no_port_of_ray_and_wants_a_token() -> None:
    config = yaml.safe_load(cluster_file("aws"))
    permissions = config["provider"]["security_group"]["IpPermissions"]
    assert [each["FromPort"] for each in permissions] == [22]
    assert all(block["CidrIp"] != "0.0.0.0/0" for each in permissions for block in each["IpRanges"])
    assert "RAY_AUTH_MODE=token" in " ".join(config["setup_commands"])
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])


def test_the_repositorys_file_is_the_one_that_is_written() -> None:
    assert (ROOT / "cluster.yaml").read_text() == cluster_file("aws")
    assert yaml.safe_load(cluster_file("aws", max_gpus=3))["available_node_types"]["embed"]["max_workers"] == 3


def _kuberay() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(cluster_file("kuberay", "registry/scene-miner:1", 4)))


def test_kuberay_has_a_cluster_behind_a_token_and_a_job() -> None:
    cluster, job = _kuberay()
    assert (cluster["apiVersion"], cluster["kind"], job["kind"]) == ("ray.io/v1", "RayCluster", "RayJob")
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["workerGroupSpecs"][1]["maxReplicas"] == 4
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}


def test_kubernetes_takes_the_pods() -> None:
    """Each pod template against the schema of Kubernetes."""
    validate = pytest.importorskip("kubernetes_validate")
    cluster = _kuberay()[0]
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        validate.validate(pod, "1.31", strict=True)
        images = {container["image"] for container in group["template"]["spec"]["containers"]}
        assert images == {"registry/scene-miner:1"}
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [{"nome": "x"}]}}
    with pytest.raises(validate.ValidationError):
        validate.validate(bad, "1.31", strict=True)


def test_init_writes_a_file_once(miner: Miner, tmp_path: Path) -> None:
    out = tmp_path / "ray.yaml"
    assert miner("cluster", "init", "kuberay", "--out", out).code == 0
    assert out.read_text() == cluster_file("kuberay")
    again = miner("cluster", "init", "kuberay", "--out", out)
    assert again.code == 2 and "there already" in again.err
    assert miner("cluster", "init", "aws").out == cluster_file("aws")
    with pytest.raises(UnknownName, match="azure"):
        cluster_file("azure")
