"""Plots as inline SVG: they take their colours from the page's variables, so they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 520, 200
_LEFT, _BOTTOM, _TOP = 8, 26, 10


def histogram(
    edges: Sequence[float], ours: Sequence[float], lake: Sequence[float] | None = None, label: str = ""
) -> str:
    """Shares by bin: of the set as bars, of the lake, if given, as a line of steps."""
    top = max([*ours, *(lake or ()), 1e-9])
    wide = (WIDTH - 2 * _LEFT) / len(ours)
    tall = HEIGHT - _BOTTOM - _TOP
    bars = "".join(
        f'<rect x="{_LEFT + i * wide + 1:.1f}" y="{_TOP + tall * (1 - share / top):.1f}" '
        f'width="{max(wide - 2, 1):.1f}" height="{tall * share / top:.1f}" class="set"/>'
        for i, share in enumerate(ours)
        if share
    )
    steps = ""
    if lake:
        points = [
            f"{_LEFT + place * wide:.1f},{_TOP + tall * (1 - share / top):.1f}"
            for i, share in enumerate(lake)
            for place in (i, i + 1)
        ]
        steps = f'<polyline points="{" ".join(points)}" class="lake"/>'
    base = HEIGHT - _BOTTOM
    axis = f'<line x1="{_LEFT}" y1="{base}" x2="{WIDTH - _LEFT}" y2="{base}" class="axis"/>'
    return _svg(HEIGHT, label, bars + steps + axis + _ticks(edges, base))


def scatter(lake: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], label: str = "") -> str:
    """Points from -1 to 1: of the lake, and of the set over them."""
    high = 340

    def dots(points: Sequence[Sequence[float]], kind: str, radius: float) -> str:
        return "".join(
            f'<circle cx="{WIDTH / 2 * (1 + 0.96 * x):.1f}" cy="{high / 2 * (1 - 0.94 * y):.1f}" '
            f'r="{radius}" class="{kind}"/>'
            for x, y in points
        )

    return _svg(high, label, dots(lake, "lakedot", 2.2) + dots(ours, "setdot", 2.6))


def _ticks(edges: Sequence[float], base: int) -> str:
    places = ((0, "start"), (len(edges) // 2, "middle"), (len(edges) - 1, "end"))
    return "".join(
        f'<text x="{_LEFT + (WIDTH - 2 * _LEFT) * i / (len(edges) - 1):.1f}" y="{base + 18}" text-anchor="{anchor}">'
        f"{edges[i]:.4g}</text>"
        for i, anchor in places
    )


def _svg(height: int, label: str, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'
