"""`miner search` through a warm server prints what it prints by itself; without one it is as if there never was any."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import entry
from jobs.serve import Serving, _listening, serving
from jobs.warm import answered, socket_of
from miner.lake import Lake
from tests.jobs.command import Done, Miner
from tests.jobs.server.conftest import Serve

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def warm(serve: Serve, lake: Lake, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    serve()
    capfd.readouterr()
    yield


def timeless(printed: str) -> str:
    return "\n".join(line for line in printed.splitlines() if "elapsed_ms" not in line)


def asked(words: list[str], capfd: pytest.CaptureFixture[str]) -> Done | None:
    """What a server says to a command line; None where it is left to the command."""
    capfd.readouterr()
    code = answered(words)
    return None if code is None else Done(code, *capfd.readouterr())


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    "words",
    [
        ["a truck", "-k", "3"],
        ["a truck", "rain", "--not", "snow", "--per", "frame", "--json"],
        ["-k", "2", "a truck", "--where", "num_frames > 0", "--encoder", "hashing", "--json"],
        ["a truck", "-k", "0"],
        ["a truck", "--where", "colour = 'red'"],
        ["--like", "nothing"],
        [],
    ],
)
def test_prints_the_same(words: list[str], lake: Lake, miner: Miner, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["search", lake.uri, *words]
    told, alone = asked(line, capfd), miner(*line)
    assert told is not None and told.code == alone.code and timeless(told.out) == timeless(alone.out)
    assert told.err == "".join(f"{line}\n" for line in alone.err.splitlines() if not line.startswith("miner: loading"))


@pytest.mark.usefixtures("warm")
def test_files_are_found_from_where_the_user_is(
    lake: Lake, drives: Path, miner: Miner, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drives)
    picture = str(next(drives.rglob("*.jpg")).relative_to(drives))
    line = ["search", os.path.relpath(lake.uri), "--image", picture, "--json"]
    told, alone = asked(line, capfd), miner(*line)
    assert told is not None and timeless(told.out) == timeless(alone.out) and f'"{picture}"' in told.out


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("words", [["--html", "x.html"], ["--help"], ["--no-such-option"], ["-k", "many"]])
def test_leaves_to_the_command_what_is_the_command_s(
    words: list[str], lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    assert asked(["search", lake.uri, "a", *words], capfd) is None
    assert asked(["ls", lake.uri], capfd) is None


def test_another_lake_of_the_same_words_is_not_answered(
    warm: None, lake: Lake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert asked(["search", str(tmp_path / "other"), lake.uri], capfd) is None


def test_the_entry_asks_the_server_first(
    warm: None, lake: Lake, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for option, loads in (((), False), (("--no-server",), True)):
        monkeypatch.setattr(sys, "argv", ["miner", "search", lake.uri, "a truck", "-k", "1", *option])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert ended.value.code == 0 and out.startswith("1 clip for a truck") and ("loading" in err) == loads


def test_a_socket_of_nobody_is_ignored_and_taken_over(
    runtime: Path, lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    place = socket_of(lake.uri)
    place.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(place))
    assert place.exists() and asked(["search", lake.uri, "a"], capfd) is None
    with serving(lake.uri, Serving(port=0)):
        assert asked(["search", lake.uri, "a"], capfd) is not None
    assert not place.exists()


def test_the_first_server_of_a_lake_keeps_the_socket(
    runtime: Path, lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(lake.uri, Serving(port=0)):
        with serving(lake.uri, Serving(port=0)):
            assert "another server of this lake runs" in capfd.readouterr().err
        assert asked(["search", lake.uri, "a"], capfd) is not None


def test_a_folder_that_others_can_enter_is_not_trusted(
    warm: None, lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = socket_of(lake.uri).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert asked(["search", lake.uri, "a"], capfd) is None


def test_the_command_serves_until_it_is_told_to_end(runtime: Path, lake: Lake) -> None:
    """In a process of its own: says where, answers, ends with 0 and leaves no socket behind."""
    command = [sys.executable, "-m", "jobs.cli", "serve", lake.uri, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stderr is not None
        lines = [server.stderr.readline()]
        while lines[-1] and not lines[-1].startswith("serving"):
            lines.append(server.stderr.readline())
        assert "http://127.0.0.1:" in lines[-1]
        script = "import sys; from jobs.entry import main; main()"
        words = ["search", lake.uri, "a truck", "-k", "1"]
        told = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=ROOT)
        assert told.returncode == 0 and told.stdout.startswith("1 clip for a truck") and told.stderr == ""
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert not socket_of(lake.uri).exists()


def test_an_address_that_is_taken(runtime: Path, lake: Lake, miner: Miner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = miner("serve", lake.uri, "--port", str(taken.getsockname()[1]))
    assert done.code == 1 and "--port 0" in done.err
    assert miner("serve", lake.uri, "--host", "0.0.0.0").code == 2
    assert miner("serve", f"{lake.uri}-none", "--port", "0").code == 4


def test_the_end_of_an_answer_does_not_wait_for_the_client() -> None:
    with _listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
