"""Names to objects: the built-in table, an entry point of an installed package, or `module:attribute`.

The built-in table comes first because under a Ray working_dir nothing is installed and entry points are empty.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

BUILT_IN: dict[str, dict[str, str]] = {
    "miner.encoders": {
        "descriptor": "embeddings.descriptor:DescriptorEncoder",
        "hashing": "embeddings.hashing:HashingEncoder",
        "lite": "embeddings.lite:LiteEncoder",
        "openclip": "embeddings.openclip:OpenClipEncoder",
    },
    "miner.exporters": {
        "jsonl": "miner.exporters.jsonl:JsonlExporter",
        "parquet": "miner.exporters.parquet:ParquetExporter",
        "webdataset": "miner.exporters.webdataset:WebDatasetExporter",
    },
    "miner.readers": {
        "images": "miner.readers.images:ImagesReader",
        "kitti_object": "miner.readers.kitti_object:KittiObjectReader",
        "kitti_raw": "miner.readers.kitti_raw:KittiRawReader",
        "mcap": "miner.readers.mcap:McapReader",
        "nuscenes": "miner.readers.nuscenes:NuScenesReader",
        "synthetic": "miner.readers.synthetic:SyntheticReader",
        "video": "miner.readers.video:VideoReader",
    },
    "miner.strategies": {
        "dpp": "miner.strategies.dpp:DppStrategy",
        "facility_location": "miner.strategies.facility_location:FacilityLocationStrategy",
        "k_center": "miner.strategies.k_center:KCenterStrategy",
        "random": "miner.strategies.random:RandomStrategy",
    },
}


class UnknownPlugin(LookupError):
    """No plugin of that name; the message lists the known ones."""


def plugin_names(group: str) -> list[str]:
    """All names of a group, sorted."""
    return sorted({*BUILT_IN.get(group, {}), *(point.name for point in entry_points(group=group))})


def load_plugin(group: str, name: str) -> Any:
    """The object behind `name` in `group` (e.g. "miner.readers"). Raises UnknownPlugin listing the known names."""
    target = BUILT_IN.get(group, {}).get(name)
    if target is None:
        for point in entry_points(group=group, name=name):
            return point.load()
        if ":" not in name:
            raise UnknownPlugin(f"unknown {_one(group)} {name!r}. Known: {', '.join(plugin_names(group))}")
        target = name
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if target != name:  # a name of ours: the error is in the code behind it
            raise
        raise UnknownPlugin(f"{_one(group)} {name!r} cannot be imported: {error}") from error


def _one(group: str) -> str:
    """What a plugin of the group is called: "strategy" of "miner.strategies"."""
    word = group.rpartition(".")[2]
    return f"{word[:-3]}y" if word.endswith("ies") else word[:-1]
