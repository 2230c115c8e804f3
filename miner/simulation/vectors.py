"""Vectors for camera readings nobody rendered: structured as embeddings of driving are, at any scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miner.simulation.spec import Spec
from miner.simulation.world import event_span_ns, make_world, timestamps_ns

_DRIFT_S = 4.0  # how long frames stay alike
_SHARES = {"kind": 1.0, "channel": 0.5, "scene": 0.6, "drift": 0.45, "frame": 0.12, "event": 1.3}


def vectors(spec: Spec, name: str, dim: int) -> NDArray[np.float32]:
    """Unit vectors f32 (n, dim) of a scene's camera readings, row by row as in `scene_tables`' sample_data.

    Scenes of like surroundings, weather and light lie together; the frames of a scene follow one another in small steps
    (an Ornstein-Uhlenbeck process); frames that see a rare event are pushed the same way for each kind of event.
    """
    world = make_world(spec, name)
    conditions, span = world.conditions, event_span_ns(world)
    kind = (
        _direction(spec, conditions.environment, dim)
        + _direction(spec, conditions.weather, dim)
        + _direction(spec, conditions.light, dim)
    ) / np.float32(np.sqrt(3.0))
    rng = world.rng(4)
    base = _SHARES["kind"] * kind + _SHARES["scene"] * _normal(rng, (dim,))
    parts = [np.empty((0, dim), np.float32)]
    for channel in spec.cameras:
        times = timestamps_ns(world, channel)
        rows = base + _SHARES["channel"] * _direction(spec, channel, dim)
        rows = rows + _SHARES["drift"] * _drift(rng, len(times), dim, spec.camera_hz)
        rows += _SHARES["frame"] * _normal(rng, rows.shape)
        if span and conditions.event:
            rows[times >= span[0]] += _SHARES["event"] * _direction(spec, conditions.event, dim)
        parts.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(parts)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Gaussian rows of expected length 1."""
    return rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]))


def _direction(spec: Spec, name: str, dim: int) -> NDArray[np.float32]:
    """The fixed direction of a name, the same in all scenes of a seed."""
    return _normal(np.random.default_rng([spec.seed, 5, *name.encode()]), (dim,))


def _drift(rng: np.random.Generator, count: int, dim: int, rate_hz: float) -> NDArray[np.float32]:
    """Ornstein-Uhlenbeck steps f32 (count, dim), stationary with expected length 1."""
    keep = np.float32(np.exp(-1.0 / (rate_hz * _DRIFT_S)))
    steps = _normal(rng, (count, dim))
    steps[1:] *= np.sqrt(1 - keep * keep)
    for row in range(1, count):
        steps[row] += keep * steps[row - 1]
    return steps
