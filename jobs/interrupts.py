"""How a job ends before its time: by Ctrl-C, once or twice, or with its process. The same command then goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
_FINISHING = b"interrupted: the group at work is finished and kept; Ctrl-C again stops at once\n"
_STOPPED = b"stopped; what was committed is kept. Run the same command again to go on.\n"


_LAST_WORDS = """\
miner: the job's process was ended: by a signal, for want of memory, by Ray without its cluster, or by a broken library.
What was committed is kept; the same command again goes on."""


@contextmanager
def interruptible() -> Iterator[None]:
    """The first SIGINT raises KeyboardInterrupt in the block, the second ends the process with 130.

    Nothing changes outside the main thread and where somebody handles the signal already. A process that just ends in
    the block has a shell tell the user so.
    """
    with last_words() as farewell:
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not ours or threading.current_thread() is not threading.main_thread():
            yield
            return

        def finish(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, stop)
            os.write(2, _FINISHING)  # sys.stderr may be in the middle of a line, and refuses to be entered twice
            raise KeyboardInterrupt

        def stop(number: int, frame: FrameType | None) -> None:
            os.write(farewell, b"\n")
            os.write(2, _STOPPED)
            os._exit(INTERRUPTED)

        signal.signal(signal.SIGINT, finish)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is finish:  # else the job is on its way out, which Ctrl-C may cut short
                signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def last_words() -> Iterator[int]:
    """A shell that says what happened if this process ends in the block, as Ray's C++ code and the kernel end it.

    Gives the pipe to it: a line there, as the block's end writes, keeps it silent.
    """
    told, farewell = os.pipe()
    command = ["/bin/sh", "-c", 'read -r line || printf "%s\\n" "$1" >&2', "sh", _LAST_WORDS]
    shell = subprocess.Popen(command, stdin=told, start_new_session=True)  # Ctrl-C is not for it
    os.close(told)
    try:
        yield farewell
    finally:
        os.write(farewell, b"\n")
        shell.wait()
