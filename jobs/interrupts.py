"""How a job ends before its time: by Ctrl-C, once or twice, or with its process. The same command then goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

INTERRUPTED = 130
_FINISHING = b"interrupted: the group at work is finished and kept; Ctrl-C again stops at once\n"
_STOPPED = b"stopped; what was committed is kept. Run the same command again to go on.\n"


_LAST_WORDS = """\
miner: the job's process was ended: by a signal, for want of memory, by Ray without its cluster, or by a broken library.
What was committed is kept; the same command again goes on."""


class LastWords:
    """A shell that tells the user if this process just ends, as Ray's C++ code and the kernel end it."""

    def __init__(self) -> None:
        told, self._line = os.pipe()
        command = ["/bin/sh", "-c", 'read -r line || printf "%s\\n" "$1" >&2', "sh", _LAST_WORDS]
        self._shell = subprocess.Popen(command, stdin=told, start_new_session=True)  # Ctrl-C is not for it
        os.close(told)
        self._spared = False

    def spare(self) -> None:
        """The process is about to end well, or to tell itself why: nothing is said."""
        if not self._spared:
            self._spared = True
            with suppress(BrokenPipeError):
                os.write(self._line, b"\n")
            os.close(self._line)
            self._shell.wait()


@contextmanager
def interruptible() -> Iterator[None]:
    """The first SIGINT raises KeyboardInterrupt in the block, the second ends the process with 130.

    That changes nothing outside the main thread and where somebody handles the signal already. A process that just ends
    in the block has its `LastWords`.
    """
    last_words = LastWords()
    try:
        with _counted(last_words) if _ours() else nullcontext():
            yield
    finally:
        last_words.spare()


def _ours() -> bool:
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextmanager
def _counted(last_words: LastWords) -> Iterator[None]:
    def finish(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, stop)
        os.write(2, _FINISHING)  # sys.stderr may be in the middle of a line, and refuses to be entered twice
        raise KeyboardInterrupt

    def stop(number: int, frame: FrameType | None) -> None:
        last_words.spare()
        os.write(2, _STOPPED)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, finish)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is finish:  # else the job is on its way out, which Ctrl-C may cut short
            signal.signal(signal.SIGINT, signal.default_int_handler)
