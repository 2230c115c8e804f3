"""A line of stations that blocks pass one after the other: a discrete-event simulation of queues with finite room."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Station:
    """Blocks are served first come, first served, by `servers` at once, each for `service_s(block, now_s)` seconds."""

    name: str
    servers: int
    service_s: Callable[[int, float], float]


@dataclass(frozen=True)
class Room:
    """At most `blocks` at a time from where they enter the station `first` to where they leave the station `last`."""

    first: str
    last: str
    blocks: int


@dataclass(frozen=True)
class Passage:
    """How all blocks passed: in how many seconds, and the share of it that the servers of each station were at work."""

    seconds: float
    busy: Mapping[str, float]

    @property
    def limit(self) -> str:
        """The station that was busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


def passage(stations: Sequence[Station], blocks: int, rooms: Sequence[Room] = ()) -> Passage:
    """Let `blocks` blocks, numbered from 0, pass the stations in order, as fast as servers and rooms allow."""
    line = _Line(stations, blocks, rooms)
    line.run()
    busy = {
        station.name: served_s / (station.servers * line.now_s) if line.now_s else 0.0
        for station, served_s in zip(stations, line.served_s, strict=True)
    }
    return Passage(line.now_s, busy)


class _Line:
    """The state of a line at `now_s`: who waits where, which servers and rooms are free, what will be done when."""

    def __init__(self, stations: Sequence[Station], blocks: int, rooms: Sequence[Room]) -> None:
        self.now_s = 0.0
        self.served_s = [0.0] * len(stations)
        self._stations = stations
        self._waiting: list[deque[int]] = [deque(range(blocks)), *(deque[int]() for _ in stations[1:])]
        self._free = [station.servers for station in stations]
        places = {station.name: place for place, station in enumerate(stations)}
        self._rooms = [(places[room.first], places[room.last]) for room in rooms]
        self._places_left = [room.blocks for room in rooms]
        self._entered = [[room for room, (first, _) in enumerate(self._rooms) if first == at] for at in places.values()]
        self._left = [[room for room, (_, last) in enumerate(self._rooms) if last == at] for at in places.values()]
        self._events: list[tuple[float, int, int]] = []  # done at, station, block

    def run(self) -> None:
        self._serve(0)
        while self._events:
            self.now_s, at, block = heapq.heappop(self._events)
            self._free[at] += 1
            for room in self._left[at]:
                self._places_left[room] += 1
            if at + 1 < len(self._stations):
                self._waiting[at + 1].append(block)
                self._serve(at + 1)
            self._serve(at)
            for room in self._left[at]:
                self._serve(self._rooms[room][0])

    def _serve(self, at: int) -> None:
        waiting, entered = self._waiting[at], self._entered[at]
        while waiting and self._free[at] and all(self._places_left[room] for room in entered):
            for room in entered:
                self._places_left[room] -= 1
            self._free[at] -= 1
            block = waiting.popleft()
            seconds = self._stations[at].service_s(block, self.now_s)
            self.served_s[at] += seconds
            heapq.heappush(self._events, (self.now_s + seconds, at, block))
