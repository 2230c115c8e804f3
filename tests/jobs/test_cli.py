"""The command `miner`: exit codes, one JSON document on stdout, dry runs that write nothing, and a quick start.

Most tests call `main` in this process, with its arguments, exit code and streams; a few start a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
import typer

from jobs.cli import app
from miner.embed import DEFAULT_ENCODERS
from miner.store import Store
from tests.jobs.command import Done, Miner
from tests.recordings import write_drives, write_frames
from tests.tables import contents

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
LOCAL = ["--executor", "local", "--encoder", "hashing"]
FRAMES = 4


def process(*args: str | Path) -> Done:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of four frames; one of the eight is broken."""
    source = write_drives(tmp_path_factory.mktemp("cli") / "drives", scenes=2, frames=FRAMES)
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    return source


@pytest.fixture(scope="module")
def first(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A lake, and how the ingest that made it ended."""
    lake = tmp_path_factory.mktemp("cli") / "lake"
    return lake, process("ingest", source, "--lake", lake, *LOCAL, "--clip-seconds", "2", "--json")


@pytest.fixture(scope="module")
def lake(first: tuple[Path, Done]) -> Path:
    return first[0]


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_has_an_example_that_parses(miner: Miner, verb: str) -> None:
    done = miner(verb, "--help")
    assert done.code == 0 and done.err == ""
    [example] = re.findall(r"Example: \*\*(miner .*)\*\*", COMMANDS[verb].epilog)
    assert f"Example: miner {verb}" in re.sub(r"\s+", " ", done.out)
    name, command, *args = shlex.split(example)
    assert (name, command) == ("miner", verb)
    COMMANDS[verb].make_context(verb, args)  # raises for an option the command does not have


def test_every_writing_verb_has_json(miner: Miner) -> None:
    for verb, command in COMMANDS.items():
        if hasattr(command, "commands") or verb == "serve":  # a noun with verbs of its own; what answers by HTTP
            continue
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, verb


def test_help_lists_every_verb(miner: Miner) -> None:
    done = miner("--help")
    assert done.code == 0
    assert all(re.search(rf"\b{verb}\b", done.out) for verb in COMMANDS)


# -- the way of a lake ------------------------------------------------------------------------------------------------


def test_too_many_bad_frames_end_with_three(first: tuple[Path, Done], source: Path) -> None:
    _, done = first
    assert done.code == 3, done.err
    document = done.document
    assert (document["job"], document["reader"], document["encoders"]) == ("ingest", "images", ["hashing"])
    assert document["source"] == str(source) and document["changed"]
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert list(stages) == ["ingest", "cut", "embed", "facts", "flat"]
    assert (stages["ingest"]["written"], stages["embed"]["written"]) == (2, 2 * FRAMES - 1)
    assert stages["embed"]["reasons"] == {"empty-file": 1}
    assert "embed: 8 of 8, 1 in quarantine" in done.err


def test_the_same_again_says_that_nothing_is_to_do(miner: Miner, lake: Path, source: Path) -> None:
    before = contents(lake)
    again = ["ingest", source, "--lake", lake, *LOCAL]
    done = miner(*again, "--max-bad", "0.5")
    assert done.code == 0
    assert f"Nothing to do: all of it is in {lake}" in done.out and "1 in quarantine" in done.out
    assert miner(*again).code == 0, "what is in quarantine was judged by the run that put it there"
    document = miner(*again, "--max-bad", "0.5", "--json").document
    assert document["changed"] is False
    assert contents(lake) == before


@pytest.mark.parametrize("verb", ["cut", "embed", "index"])
def test_each_step_is_a_verb(miner: Miner, lake: Path, tmp_path: Path, verb: str) -> None:
    shutil.copytree(lake, tmp_path / "copy")
    outputs = {"cut": "clips", "embed": "embeddings/hashing", "index": "clip_facts"}
    lance.dataset(f"{tmp_path}/copy/{outputs[verb]}.lance").delete("true")
    if verb == "index":  # its rows are made anew when what they are made of has changed
        lance.dataset(f"{tmp_path}/copy/clips.lance").delete("false")
    options = {"cut": ["--clip-seconds", "2"], "embed": ["--encoder", "hashing", "--max-bad", "1"], "index": []}[verb]
    done = miner(verb, tmp_path / "copy", "--executor", "local", *options, "--json")
    assert done.code == 0, done.err
    assert done.document["job"] == verb and done.document["changed"]
    assert contents(tmp_path / "copy") == contents(lake)


def test_embed_says_which_encoders_it_took(miner: Miner, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEFAULT_ENCODERS, "camera", "hashing")
    assert miner("embed", lake, "--executor", "local", "--json").document["encoders"] == ["hashing"]


def test_vectors_from_a_file(miner: Miner, lake: Path, tmp_path: Path) -> None:
    shutil.copytree(lake, tmp_path / "copy")
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(8, 5)))
    importing = ["embed", tmp_path / "copy", "--from", tmp_path / "v.npy", "--executor", "local", "--json"]
    done = miner(*importing)
    assert done.code == 2 and "encoder is not given: name of the encoder that made the vectors" in done.err
    dry = miner(*importing, "--encoder", "mine", "--dry-run").document
    assert dry["stages"] == [{"stage": "import mine", "units": 8, "pending": 8}]
    assert not Store.open(str(tmp_path / "copy")).exists("embeddings/mine")
    assert miner(*importing, "--encoder", "mine").document["stages"][0]["written"] == 8
    assert miner(*importing, "--encoder", "mine").document["changed"] is False


def test_ls(miner: Miner, lake: Path) -> None:
    found = miner("ls", lake, "--json").document
    assert (found["scenes"], found["readings"], found["quarantine"]) == (2, 8, {"empty-file": 1})
    text = miner("ls", lake).out
    assert "2 scenes" in text and "CAM 8" in text and "21 vectors of 7 readings" in text and "empty-file 1" in text


def test_show(miner: Miner, lake: Path) -> None:
    clip = Store.open(str(lake)).scan("clips")["clip_id"][0].as_py()
    found = miner("show", lake, clip, "--json").document
    assert (found["kind"], found["clip_id"]) == ("clip", clip)
    assert "frame_00000" in miner("show", lake, "drive_00").out


@pytest.mark.parametrize("verb", ["verify", "compact --dry-run", "restore --table clips", "migrate --dry-run"])
def test_documents_say_which_job_they_are_of(miner: Miner, lake: Path, verb: str) -> None:
    name, *options = verb.split()
    document = miner(name, lake, *options, "--json").document
    assert (document["job"], document["lake"]) == (name, str(lake))


def test_verify(miner: Miner, lake: Path, tmp_path: Path) -> None:
    done = miner("verify", lake, "--json")
    assert done.code == 0 and done.document["ok"] and len(done.document["checks"]) > 10
    assert miner("verify", lake).out.endswith("All good.\n")
    shutil.copytree(lake, tmp_path / "copy")
    lance.dataset(f"{tmp_path}/copy/embeddings/hashing.lance").delete("part = 0")
    done = miner("verify", tmp_path / "copy", "--json")
    assert (done.code, done.document["ok"]) == (1, False)
    assert "FAIL  embeddings/hashing: has all of" in miner("verify", tmp_path / "copy").out


def test_search_has_the_shape_of_the_design(miner: Miner, lake: Path) -> None:
    done = miner("search", lake, "a truck", "-k", "3", "--json")
    assert (done.code, done.err) == (0, "miner: loading encoder hashing\n")
    keys = {"lake", "query", "encoder", "index_id", "table_version", "elapsed_ms", "notes", "hits"}
    document = done.document
    assert document.keys() == keys and document["encoder"] == "hashing" and document["index_id"]
    hit_keys = {"rank", "score", "clip_id", "scene_id", "sample_data_id", "channel", "timestamp_ns", "start_ns"}
    hit_keys |= {"end_ns", "uri", "evidence", "why"}
    assert [hit["rank"] for hit in document["hits"]] == [1, 2, 3]
    assert all(hit.keys() == hit_keys for hit in document["hits"])
    assert len({hit["clip_id"] for hit in document["hits"]}) == 3


def test_ways_to_search(miner: Miner, lake: Path, source: Path, tmp_path: Path) -> None:
    picture = source / "drive_00" / "frame_000001.jpg"
    [best] = miner("search", lake, "--image", picture, "-k", "1", "--per", "frame", "--json").document["hits"]
    assert best["uri"] == str(picture) and best["score"] > 0.999
    like = miner("search", lake, "--like", best["clip_id"], "--not", "rain", "--json").document
    assert best["clip_id"] not in {hit["clip_id"] for hit in like["hits"]}
    where = miner("search", lake, "x", "--where", "scene = 'drive_01'", "--html", tmp_path / "page.html", "--json")
    assert {Path(hit["uri"]).parent.name for hit in where.document["hits"]} == {"drive_01"}
    assert (tmp_path / "page.html").read_text().count("<img ") == len(where.document["hits"]) == 2


def test_search_explains_itself(miner: Miner, lake: Path) -> None:
    asked = ("search", lake, "x", "--where", "modality = 'camera' and sharpness is not null", "--explain")
    steps = miner(*asked, "--json").document["plan"]["steps"]
    assert [step["step"] for step in steps] == ["query", "filter", "filter", "match", "fetch", "describe"]
    assert all(step["rows"] == step["expected_rows"] for step in steps[1:3])
    assert "weighed: scan" in miner(*asked).out


# -- dry runs ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_makes_no_lake(miner: Miner, source: Path, tmp_path: Path) -> None:
    done = miner("ingest", source, "--lake", tmp_path / "lake", *LOCAL, "--dry-run", "--json")
    assert done.code == 0
    assert done.document["stages"] == [{"stage": "ingest", "units": 2, "pending": 2}]
    assert list(tmp_path.iterdir()) == []
    assert "nothing is written" in miner("ingest", source, "--lake", tmp_path / "lake", *LOCAL, "--dry-run").out


@pytest.mark.parametrize(
    ("args", "pending"),
    [
        (["ingest", "SOURCE", "--lake", "LAKE", *LOCAL], {"ingest": 0, "cut": 0, "embed": 0}),
        (["cut", "LAKE"], {"cut": 0}),
        (["embed", "LAKE", "--encoder", "hashing:32"], {"embed": 7}),
    ],
    ids=lambda args: args[0] if isinstance(args, list) else "",
)
def test_a_dry_run_touches_no_file(
    miner: Miner, lake: Path, source: Path, args: list[str], pending: dict[str, int]
) -> None:
    before = files(lake)
    named = {"LAKE": str(lake), "SOURCE": str(source)}
    document = miner(*(named.get(arg, arg) for arg in args), "--dry-run", "--json").document
    assert {stage["stage"]: stage["pending"] for stage in document["stages"]} == pending
    assert files(lake) == before


# -- what goes wrong --------------------------------------------------------------------------------------------------

ERRORS: list[tuple[str, int, str]] = [
    ("ingest SOURCE --lake NEW --reader imges", 2, "unknown reader 'imges'\nDid you mean 'images'"),
    ("ingest SOURCE --lake NEW --encoder hashin", 2, "unknown encoder 'hashin'\nDid you mean 'hashing'"),
    ("ingest SOURCE --lake NEW --encoder hashing --views half", 2, "unknown views 'half'"),
    ("ingest SOURCE --lake NEW --set encodr=hashing", 2, "unknown key 'encodr'\nDid you mean 'encoder'"),
    ("ingest SOURCE --lake NEW --executor dask", 2, "executor = 'dask'"),
    ("ingest EMPTY --lake NEW", 2, "no reader knows this format"),
    ("ingest SOURCE", 2, "lake is not given"),
    ("ingest SOURCE --lake NEW --nope", 2, "No such option: --nope"),
    ("serach LAKE x", 2, "Did you mean 'search'"),
    ("cut LAKE --clip-seconds 3", 2, "cut by window=2s, not window=3s"),
    ("embed LAKE --encoder hashing --views whole --executor local", 2, "has views whole+tiles, this run makes whole"),
    ("search LAKE x -k 0", 2, "k = 0: expected a whole number"),
    ("search LAKE", 2, "nothing to search for"),
    ("search LAKE x --per hour", 2, "per = 'hour': expected 'clip' or 'frame'"),
    ("search LAKE x --where scenes='a'", 2, "\n  scenes=a\n  ^"),
    ("search LAKE x --encoder lite", 4, "no vectors of encoder 'lite'"),
    ("search LAKE --like nobody", 4, "has the id 'nobody'"),
    ("search LAKE --image NOWHERE", 4, "no such file"),
    ("ingest NOWHERE --lake NEW", 4, "no such source"),
    ("ingest SOURCE --lake NEW --config NOWHERE", 4, "no config file"),
    ("ls NOWHERE", 4, "no lake at"),
    ("verify NOWHERE", 4, "no lake at"),
    ("cut NOWHERE --executor local", 4, "no lake at"),
    ("show LAKE nobody", 4, "no scene, clip or reading 'nobody'"),
]


@pytest.mark.parametrize(("command", "code", "says"), ERRORS, ids=[command for command, _, _ in ERRORS])
def test_errors_say_what_and_end_with_their_code(
    miner: Miner, lake: Path, source: Path, tmp_path: Path, command: str, code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"SOURCE": source, "LAKE": lake, "EMPTY": tmp_path / "empty"}
    named |= {"NEW": tmp_path / "new", "NOWHERE": tmp_path / "NOWHERE"}
    before = files(lake)
    done = miner(*(named.get(arg, arg) for arg in shlex.split(command)))
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "new").exists() and not (tmp_path / "NOWHERE").exists()
    assert files(lake) == before


def test_an_unknown_source_lists_what_was_looked_for(miner: Miner, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no recording")
    done = miner("ingest", tmp_path, "--lake", tmp_path / "lake")
    assert all(f"{reader}: " in done.err for reader in ("images", "nuscenes", "synthetic"))
    assert "--reader NAME" in done.err


def test_a_bad_filter_is_shown_with_a_caret(miner: Miner, lake: Path) -> None:
    done = miner("search", lake, "x", "--where", "dataset = 'a' and sceen = 'b'")
    assert done.code == 2
    shown, caret = done.err.splitlines()[1:3]
    assert shown[caret.index("^") :].startswith("sceen")


def test_settings_come_from_a_file_and_the_environment(
    miner: Miner, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.yaml").write_text("encoder: hashing:16\nviews: tiles\nexecutor: local\nmax_bad: 1\n")
    monkeypatch.setenv("MINER_VIEWS", "whole")
    done = miner("ingest", source, "--lake", tmp_path / "lake", "--config", tmp_path / "job.yaml", "--json")
    assert done.code == 0, done.err
    assert done.document["encoders"] == ["hashing:16"]


# -- as a process -----------------------------------------------------------------------------------------------------


def test_an_error_of_a_process_goes_to_stderr(tmp_path: Path) -> None:
    done = process("ls", tmp_path / "nowhere", "--json")
    assert (done.code, done.out) == (4, "")
    assert done.err == f"miner: no lake at {tmp_path / 'nowhere'}\nMake one with: miner ingest SOURCE --lake LAKE\n"


@pytest.mark.parametrize("args", ["--help", "ls LAKE", "show LAKE drive_00", "verify LAKE"], ids=lambda args: args)
def test_looking_loads_neither_torch_nor_ray(lake: Path, args: str) -> None:
    heavy = {"torch", "ray", "open_clip", "transformers", "timm", "faiss", "matplotlib", "scipy"}
    script = (
        "import sys\nfrom jobs.cli import main\ntry:\n    main()\nexcept SystemExit as ended:\n"
        f"    loaded = sorted({heavy!r} & set(sys.modules))\n    sys.exit(f'loaded {{loaded}}, code {{ended.code}}')"
    )
    command = [sys.executable, "-c", script, *args.replace("LAKE", str(lake)).split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == "loaded [], code 0\n"


def test_an_interrupt_ends_with_130_and_the_next_run_goes_on(miner: Miner, tmp_path: Path) -> None:
    source = write_drives(tmp_path / "source", scenes=12, frames=40)
    command = [sys.executable, "-m", "jobs.cli", "ingest", str(source), "--lake", str(tmp_path / "lake"), *LOCAL]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )
    assert running.stderr is not None and "ingest" in running.stderr.readline()
    os.kill(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert errors.endswith("interrupted; what was finished is kept. Run the same command again to go on.\n")
    assert miner(*command[3:]).code == 0
    assert Store.open(str(tmp_path / "lake")).count("assets") == 480


# -- what a user trips over --------------------------------------------------------------------------------------------


def test_another_folder_of_the_same_name_is_told(miner: Miner, tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_frames(tmp_path / place / "images" / "front", 3, seed=ord(place))
    options = ("--lake", tmp_path / "lake", "--encoder", "hashing", "--executor", "local")
    miner("ingest", tmp_path / "a" / "images", *options)
    again = miner("ingest", tmp_path / "b" / "images", *options)
    assert "were not read again" in again.out and "--dataset NAME" in again.out
    named = miner("ingest", tmp_path / "b" / "images", *options, "--dataset", "b", "--json")
    assert named.document["stages"][0]["written"] == 1
    assert "notes" in named.document["stages"][0] and not named.document["stages"][0]["notes"]


def test_a_file_is_no_lake(miner: Miner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = miner("ls", tmp_path / "file")
    assert (done.code, "is a file" in done.err) == (2, True)


def test_a_source_without_scenes(miner: Miner, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = ("--lake", tmp_path / "lake", "--executor", "local", "--encoder", "hashing")
    done = miner("ingest", tmp_path / "empty", "--reader", "images", *options)
    assert (done.code, "finds no scene" in done.err) == (2, True)


def test_version(miner: Miner) -> None:
    import miner as package

    assert miner("--version").out == f"scene-miner {package.__version__}\n"


def test_every_option_of_a_verb_reaches_its_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each option of ingest, cut, embed and index changes the config the job gets."""
    import jobs.config

    seen: list[dict[str, Any]] = []

    def record(model: Any, file: Any, settings: Any, given: dict[str, Any], verb: str = "") -> Any:
        seen.append({key: value for key, value in given.items() if value is not None})
        raise typer.Exit

    monkeypatch.setattr(jobs.config, "resolve", record)
    skipped = {"as_json", "dry_run", "calibrate", "config", "set_", "from_"}
    for verb in ("ingest", "cut", "embed", "index"):
        command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
        needed = ["x" for each in command.params if each.param_type_name == "argument"]
        needed += ["--lake", "y"] if verb == "ingest" else []
        for option in (each for each in command.params if each.param_type_name == "option"):
            if option.name in skipped or option.name == "lake":
                continue
            seen.clear()
            for extra in ([], [option.opts[0], *([] if option.is_flag else ["0.5"])]):
                with contextlib.suppress(typer.Exit):
                    app([verb, *needed, *extra], standalone_mode=False)
            assert seen[0] != seen[1], f"{verb} {option.opts[0]} changes nothing"
