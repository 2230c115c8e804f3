"""A seeded simulator of driving scenes: rows and vectors at any scale, camera frames, LiDAR sweeps, ground truth."""

from miner.simulation.recording import load_spec, record, render, sweep
from miner.simulation.spec import Spec, scene_names
from miner.simulation.tables import scene_tables
from miner.simulation.vectors import vectors

__all__ = ["Spec", "load_spec", "record", "render", "scene_names", "scene_tables", "sweep", "vectors"]
