"""A moment as a picture: cameras with boxes, bird's-eye view, timeline. Drawn with matplotlib, without a window."""

from __future__ import annotations

import math
import textwrap
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kernels.project import project_points
from miner.decode import Recordings
from miner.decode.image import Picture
from miner.errors import BadInput, UsageError
from miner.moment import Moment, Row
from miner.shown import shown_time
from miner.thumbnail import ego_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BIRDS_EYE_M = 50.0
_FRAME_PX = 480
_MAX_POINTS = 60_000
_EDGES = ((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7))
_GROUND, _TEXT, _QUIET, _MARK = "#10151c", "#e6edf3", "#9198a1", "#ffb000"
# Okabe and Ito (2008): told apart by colour-blind people too. The first word that a category contains decides.
_COLOURS = (
    (("pedestrian", "person", "walker", "rider"), "#e69f00"),
    (("cycl", "bike", "motor"), "#009e73"),
    (("truck", "bus", "van", "trailer", "tram", "train", "construction"), "#cc79a7"),
    (("car", "vehicle"), "#56b4e9"),
    (("animal", "cone", "barrier", "debris", "sign"), "#f0e442"),
)
_OTHER = "#d0d7de"


def figure(seen: Moment, title: str = "") -> Figure:
    """A matplotlib figure of a moment; in a notebook it shows itself. A file that cannot be read is named in its place.

    Raises UsageError where matplotlib is not installed.
    """
    made = _new_figure(seen)
    cells = _cells(made, seen)
    with Recordings() as recordings:
        for axes, camera in zip(cells["cameras"], seen.cameras, strict=True):
            _draw_camera(axes, recordings, camera, seen)
        if seen.sweep is not None:
            _draw_birds_eye(cells["birds_eye"], recordings, seen)
    _draw_timeline(cells["timeline"], seen)
    head = title or f"{seen.scene['name']}   {shown_time(seen.time_ns)}"
    made.suptitle(head, color=_TEXT, fontsize=11, x=0.01, ha="left", parse_math=False)
    return made


def figure_png(seen: Moment, title: str = "") -> bytes:
    """The same as the bytes of a PNG."""
    return _png(figure(seen, title))


def colour_of(category: str) -> str:
    """The colour of a category's boxes, as #rrggbb."""
    lower = category.lower()
    return next((colour for words, colour in _COLOURS if any(word in lower for word in words)), _OTHER)


def _new_figure(seen: Moment) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(f"drawing needs matplotlib: {error}", "pip install 'scene-miner[viz]'") from error

    class Shown(Figure):
        """Notebooks ask an object for its picture by this name; pyplot and its global state are not needed."""

        def _repr_png_(self) -> bytes:
            return _png(self)

    rows = math.ceil(len(seen.cameras) / _columns(seen))
    height = max(2.1 * rows, 4.2 if seen.sweep else 0.2) + 0.5 + 0.22 * len(_channels(seen))
    return Shown(figsize=(12.5, height), facecolor=_GROUND, layout="constrained")


def _png(drawn: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a channel's name may be in a script that the font lacks
        FigureCanvasAgg(drawn).print_figure(buffer, format="png", dpi=110, facecolor=_GROUND)
    return buffer.getvalue()


def _columns(seen: Moment) -> int:
    return min(3 if len(seen.cameras) > 4 or seen.sweep is None else 2, max(len(seen.cameras), 1))


def _channels(seen: Moment) -> list[str]:
    return sorted(set(seen.readings["channel"].to_pylist()))


def _cells(made: Figure, seen: Moment) -> dict[str, Any]:
    """The axes: one per camera, one for the bird's-eye view if there is a sweep, one for the timeline."""
    below = 0.35 + 0.22 * len(_channels(seen))
    outer = made.add_gridspec(2, 1, height_ratios=[made.get_figheight() - below, below])
    columns = _columns(seen)
    widths = [columns * 1.6, 2.0] if seen.cameras and seen.sweep else [1.0]
    inner = outer[0].subgridspec(1, len(widths), width_ratios=widths)
    cells: dict[str, Any] = {"cameras": [], "timeline": made.add_subplot(outer[1])}
    if seen.cameras:
        grid = inner[0].subgridspec(math.ceil(len(seen.cameras) / columns), columns)
        places = [grid[i // columns, i % columns] for i in range(len(seen.cameras))]
        cells["cameras"] = [made.add_subplot(place) for place in places]
    if seen.sweep is not None:
        cells["birds_eye"] = made.add_subplot(inner[len(widths) - 1])
    return cells


def _draw_camera(axes: Axes, recordings: Recordings, camera: Row, seen: Moment) -> None:
    axes.set_axis_off()
    _name(axes, camera["channel"])
    try:
        frame = recordings.read(camera)
        if not isinstance(frame, Picture):
            raise BadInput("wrong-modality", f"{camera['uri']}: not a picture")
        pixels = frame.decode(_FRAME_PX)
    except BadInput as bad:
        _say(axes, str(bad))
        return
    axes.imshow(pixels, extent=(0, frame.width, frame.height, 0), interpolation="antialiased")
    for mark in seen.marks.get(camera["sample_data_id"], ()):
        x0, y0, x1, y1 = mark["bbox_xyxy"]
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour_of(mark["category"]), lw=0.8)
    camera_SE3_ego = seen.camera_SE3_ego(camera)
    if camera_SE3_ego is not None and camera["intrinsic"] and not seen.marks.get(camera["sample_data_id"]):
        for box in seen.boxes:
            found = project_points(box.corners_m, camera_SE3_ego, camera["intrinsic"], frame.width, frame.height)
            if found.visible.any():
                _draw_edges(axes, found.pixels, colour_of(box.category))
    axes.set_xlim(0, frame.width)
    axes.set_ylim(frame.height, 0)


def _draw_edges(axes: Axes, corners: NDArray[np.float64], colour: str) -> None:
    """The twelve edges of a box; those with an end behind the camera (NaN) are not drawn."""
    for a, b in _EDGES:
        axes.plot(*zip(corners[a], corners[b], strict=True), color=colour, lw=0.7)


def _draw_birds_eye(axes: Axes, recordings: Recordings, seen: Moment) -> None:
    """Points of the ego frame, forward up, coloured by height; boxes from above with a line to their front."""
    assert seen.sweep is not None
    axes.set_facecolor("#000")
    axes.set_xticks([])
    axes.set_yticks([])
    _name(axes, f"{seen.sweep['channel']}, {BIRDS_EYE_M:.0f} m around")
    try:
        xyz = ego_points(recordings, seen.sweep)
    except BadInput as bad:
        _say(axes, str(bad))
        return
    near = xyz[np.abs(xyz[:, :2]).max(axis=1) < BIRDS_EYE_M]
    near = near[:: max(1, len(near) // _MAX_POINTS)]
    low = np.percentile(near[:, 2], 5) if len(near) else 0.0
    axes.scatter(-near[:, 1], near[:, 0], c=near[:, 2], s=0.25, cmap="viridis", vmin=low, vmax=low + 4, lw=0)
    for box in seen.boxes:
        ring = box.corners_m[[0, 2, 6, 4, 0]]  # the upper corners: front left, front right, back right, back left
        axes.plot(-ring[:, 1], ring[:, 0], color=colour_of(box.category), lw=1.0)
        centre, front = box.corners_m.mean(axis=0), box.corners_m[:4].mean(axis=0)
        axes.plot([-centre[1], -front[1]], [centre[0], front[0]], color=colour_of(box.category), lw=1.0)
    axes.plot([0], [0], marker="^", color=_MARK, ms=5)
    axes.set_xlim(-BIRDS_EYE_M, BIRDS_EYE_M)
    axes.set_ylim(-BIRDS_EYE_M, BIRDS_EYE_M)
    axes.set_aspect("equal")


def _draw_timeline(axes: Axes, seen: Moment) -> None:
    """A line per channel with a tick per reading, and the moment marked."""
    channels = _channels(seen)
    seconds = (seen.readings["timestamp_ns"].to_numpy() - seen.start_ns) / 1e9
    lines = np.array([channels.index(channel) for channel in seen.readings["channel"].to_pylist()], int)
    axes.set_facecolor(_GROUND)
    axes.scatter(seconds, lines, marker="|", s=60, lw=1.0, color="#56b4e9", zorder=3)
    axes.axvline((seen.time_ns - seen.start_ns) / 1e9, color=_MARK, lw=1.2)
    axes.set_yticks(range(len(channels)), channels, parse_math=False)
    axes.set_ylim(max(len(channels), 1) - 0.5, -0.5)
    length = max((seen.end_ns - seen.start_ns) / 1e9, 1e-3)
    axes.set_xlim(-0.005 * length, 1.005 * length)
    axes.set_xlabel("seconds of the clip", color=_QUIET, fontsize=8)
    axes.tick_params(colors=_QUIET, labelsize=7, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _name(axes: Axes, name: str) -> None:
    axes.set_title(name, color=_QUIET, fontsize=8, loc="left", pad=2, parse_math=False)


def _say(axes: Axes, message: str) -> None:
    shown = "\n".join(textwrap.wrap(message, 44)[:6])
    said = axes.text(0.5, 0.5, shown, transform=axes.transAxes, ha="center", va="center", parse_math=False)
    said.set(color=_QUIET, fontsize=7)
