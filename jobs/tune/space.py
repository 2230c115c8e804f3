"""What can be set: knobs, each with the values that are worth trying, and the settings they span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

Value = int | float
Setting = Mapping[str, Value]


@dataclass(frozen=True)
class Knob:
    """A key of the config and its values, in order. `strain` tells in which direction it takes more of a device's
    memory: 1 up, -1 down, 0 neither."""

    name: str
    values: Sequence[Value]
    strain: int = 0

    def place(self, value: Value) -> float:
        """Where a value stands, from -1 (the lowest) to 1, by its logarithm."""
        low, high = np.log(self.values[0]), np.log(self.values[-1])
        return float(2 * (np.log(value) - low) / (high - low) - 1) if high > low else 0.0


@dataclass(frozen=True)
class Space:
    """All combinations of the values of some knobs: the grid.

    `relief` names for a stage that limits the knobs that relieve it, and in which direction: 1 up, -1 down.
    """

    knobs: Sequence[Knob]
    relief: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many settings there are."""
        return int(np.prod([len(knob.values) for knob in self.knobs]))

    def settings(self) -> Iterator[dict[str, Value]]:
        """Every setting of the grid."""
        names = [knob.name for knob in self.knobs]
        for values in product(*(knob.values for knob in self.knobs)):
            yield dict(zip(names, values, strict=True))

    def places(self, settings: Sequence[Setting]) -> NDArray[np.float64]:
        """Where settings stand, (settings, knobs), each from -1 to 1."""
        rows = [[knob.place(setting[knob.name]) for knob in self.knobs] for setting in settings]
        return np.array(rows, np.float64).reshape(len(settings), len(self.knobs))

    def nearest(self, wanted: Setting) -> dict[str, Value]:
        """The setting of the grid that is nearest to the wanted values, knob by knob; the middle where one is open."""
        return {
            knob.name: min(knob.values, key=lambda value: abs(value - wanted[knob.name]))
            if knob.name in wanted
            else knob.values[len(knob.values) // 2]
            for knob in self.knobs
        }

    def probes(self, start: Setting) -> list[dict[str, Value]]:
        """`start`, then for every knob the setting where it alone is at its far end: what the effect of each is."""
        found = [dict(start)]
        for knob in self.knobs:
            far = max(knob.values, key=lambda value: abs(knob.place(value) - knob.place(start[knob.name])))
            if far != start[knob.name]:
                found.append({**start, knob.name: far})
        return found

    def relieved(self, setting: Setting, stage: str) -> list[dict[str, Value]]:
        """The setting with the knobs that relieve a stage as far as they go: each alone, and all of them, for alone
        they may do nothing."""
        turned = self.relief.get(stage, {})
        ends = {
            knob.name: knob.values[-1 if turned[knob.name] > 0 else 0] for knob in self.knobs if knob.name in turned
        }
        return [*({**setting, name: end} for name, end in ends.items()), {**setting, **ends}]

    def strains_no_less(self, one: Setting, other: Setting) -> bool:
        """Whether a setting takes as much memory as another or more, by every knob that has a say in it."""
        concerned = [knob for knob in self.knobs if knob.strain]
        return bool(concerned) and all(
            knob.strain * one[knob.name] >= knob.strain * other[knob.name] for knob in concerned
        )
