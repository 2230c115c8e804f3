"""A time limit for each unit, so that no file, however broken, holds up a run.

A block is worked on by a thread of its own, a `Hand`, while the worker looks on. What is over its limit in Python code
is ended there by an exception; a hand stuck in native code that does not come back is left to itself, and the worker
goes on without that unit.
"""

from __future__ import annotations

import ctypes
import faulthandler
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from miner.errors import BadInput, MinerError

UNIT_TIMEOUT_S = 300.0
_GRACE_S = 1.0  # from the interruption to giving up
_BYTECODES = 1000  # an exception on its way arrives within a few
T = TypeVar("T")


class Overdue(BaseException):
    """Raised inside a hand, wherever it is: BaseException, so that no reader takes it for bad data."""


class Stuck(Exception):
    """The hand did not come back from the unit `key`."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(key, detail)
        self.key, self.detail = key, detail


class _Unit:
    """What a hand is at. Who takes the only token decides: its watcher, to interrupt it, or the hand, being done."""

    def __init__(self, key: str, shown: str) -> None:
        self.key, self.shown = key, shown
        self.began = time.monotonic()
        self._token = [True]
        self._interrupted = threading.Event()

    def interrupt(self, thread: int) -> None:
        """Raise Overdue in the thread, unless it is done with the unit: at most once."""
        if self._take_token():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Overdue))
            self._interrupted.set()

    def close(self) -> None:
        """Called by the hand: an Overdue on its way comes out of here, none comes after it."""
        if not self._take_token():
            self._interrupted.wait()
            for _ in range(_BYTECODES):
                pass

    def _take_token(self) -> bool:
        try:
            return self._token.pop()
        except IndexError:
            return False


class Hand(threading.Thread):
    """A thread that does a block's work. `limit_s` is for each of its units."""

    def __init__(self, work: Callable[[], Any], limit_s: float) -> None:
        super().__init__(name="hand", daemon=True)  # a stuck one does not keep the process from ending
        self.limit_s = limit_s
        self.unit: _Unit | None = None
        self.let_go = False
        self.outcome: Future[Any] = Future()
        self._work = work

    def press(self) -> None:
        """Interrupt a unit over its limit. Raises Stuck where that was of no use."""
        unit = self.unit
        late_s = time.monotonic() - unit.began - self.limit_s if unit else -1.0
        if unit and late_s > _GRACE_S:
            raise Stuck(unit.key, f"{unit.shown}: not done after {self.limit_s:g} s, nor to be interrupted")
        if unit and late_s > 0 and self.ident is not None:
            unit.interrupt(self.ident)

    def run(self) -> None:
        try:
            self.outcome.set_result(self._work())
        except BaseException as error:
            self.outcome.set_exception(error)


def limited(key: str, shown: str, work: Callable[[], T]) -> T:
    """The result of `work` on the unit `key`; `shown` names its file or scene.

    Raises BadInput `timed-out` where it takes longer than the limit of the hand that does it (outside a hand there is
    none), and what `work` raises; an unexpected exception gets `shown` as a note.
    """
    hand = threading.current_thread()
    if not isinstance(hand, Hand):
        return work()
    assert_wanted()
    unit = hand.unit = _Unit(key, shown)
    try:
        try:
            return work()
        finally:
            unit.close()
    except Overdue:
        raise BadInput("timed-out", f"{shown}: not done after {hand.limit_s:g} s") from None
    except Exception as error:
        if not isinstance(error, MinerError):
            error.add_note(shown)
        raise
    finally:
        hand.unit = None


def assert_wanted() -> None:
    """End the hand that calls this if it was given up: what it still does nobody waits for, and others are at it."""
    hand = threading.current_thread()
    if isinstance(hand, Hand) and hand.let_go:
        raise Overdue


def watched(work: Callable[[], T], limit_s: float, may_end_process: bool = False) -> T:
    """`work()` done by a hand, with `limit_s` for each unit.

    Raises what it raises, and Stuck for a unit that cannot be ended. Native code may also hold the interpreter lock,
    which stops the watcher too: with `may_end_process` the process then ends itself.
    """
    hand, tick_s = Hand(work, limit_s), min(1.0, limit_s / 4)
    if may_end_process:
        faulthandler.dump_traceback_later(limit_s + 2 * _GRACE_S, exit=True)
    hand.start()
    try:
        while not wait([hand.outcome], tick_s).done:
            if may_end_process:  # not yet: this thread runs
                faulthandler.dump_traceback_later(limit_s + 2 * _GRACE_S, exit=True)
            hand.press()
        result: T = hand.outcome.result()
        return result
    finally:
        hand.let_go = True  # one that comes back later ends at its next unit
        if may_end_process:
            faulthandler.cancel_dump_traceback_later()
