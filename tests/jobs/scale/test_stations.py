"""Laws of a line of stations, and the cases in which one can say by hand how long it takes."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.scale.stations import Room, Station, passage

SECONDS = st.floats(0.01, 10.0)
LINES = st.lists(st.tuples(st.integers(1, 4), SECONDS), min_size=1, max_size=4)


def line(servers_and_seconds: list[tuple[int, float]]) -> list[Station]:
    def constant(seconds: float):  # type: ignore[no-untyped-def]
        return lambda block, now_s: seconds

    return [Station(f"s{at}", servers, constant(s)) for at, (servers, s) in enumerate(servers_and_seconds)]


@given(st.lists(SECONDS, min_size=1, max_size=5), st.integers(1, 30))
def test_single_servers_take_as_long_as_the_slowest(seconds: list[float], blocks: int) -> None:
    passed = passage(line([(1, each) for each in seconds]), blocks)
    assert passed.seconds == pytest.approx(sum(seconds) + (blocks - 1) * max(seconds))
    assert seconds[int(passed.limit[1:])] == max(seconds)


@given(SECONDS, st.integers(1, 9), st.integers(1, 40))
def test_servers_work_in_rounds(seconds: float, servers: int, blocks: int) -> None:
    passed = passage(line([(servers, seconds)]), blocks)
    assert passed.seconds == pytest.approx(ceil(blocks / servers) * seconds)
    assert passed.busy["s0"] == pytest.approx(blocks / servers / ceil(blocks / servers))


@given(LINES, st.integers(1, 20))
def test_room_for_one_lets_blocks_pass_one_by_one(stations: list[tuple[int, float]], blocks: int) -> None:
    made = line(stations)
    passed = passage(made, blocks, [Room(made[0].name, made[-1].name, 1)])
    assert passed.seconds == pytest.approx(blocks * sum(seconds for _, seconds in stations))


@given(LINES, st.integers(1, 20), st.integers(1, 5), st.data())
def test_more_servers_and_more_room_cost_no_time(
    stations: list[tuple[int, float]], blocks: int, room: int, data: st.DataObject
) -> None:
    made, at = line(stations), data.draw(st.integers(0, len(stations) - 1))
    more = [(servers + (place == at), seconds) for place, (servers, seconds) in enumerate(stations)]
    first, last = made[0].name, made[at].name
    slowest = passage(made, blocks, [Room(first, last, room)]).seconds
    assert passage(line(more), blocks, [Room(first, last, room)]).seconds <= slowest * (1 + 1e-9)
    assert passage(made, blocks, [Room(first, last, room + 1)]).seconds <= slowest * (1 + 1e-9)


@given(LINES, st.integers(0, 20))
def test_no_server_works_more_than_all_the_time(stations: list[tuple[int, float]], blocks: int) -> None:
    passed = passage(line(stations), blocks)
    assert all(0 <= share <= 1 + 1e-9 for share in passed.busy.values())
    assert passed.seconds >= max((blocks * s / servers for servers, s in stations), default=0) * (1 - 1e-9)
