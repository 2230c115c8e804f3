"""The imports of the code itself: layers point one way, heavy libraries stay inside the files that wrap them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["kernels", "embeddings", "miner", "jobs"]
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
OUTSIDE = {"tests", "benchmarks"}
# Who may import what at all: everybody else goes through these.
WRAPPERS = {
    "ray": {"jobs/engine.py", "jobs/job_server.py", "jobs/metrics.py"},
    "lance": {
        *("miner/store.py", "miner/datasets.py", "miner/transactions.py", "miner/fragments.py"),
        *("miner/lance_errors.py", "miner/indexes/lance.py"),
    },
    "faiss": {"miner/indexes/faiss.py"},
    "torch": {
        *("embeddings/device.py", "embeddings/efficientnet.py", "embeddings/int8.py", "embeddings/lite.py"),
        "embeddings/openclip.py",
    },
    "open_clip": {"embeddings/openclip.py", "embeddings/int8.py"},
    "timm": {"embeddings/efficientnet.py", "embeddings/lite.py"},
    "duckdb": {"miner/query/evaluate.py"},
    "sqlglot": {"miner/query/filters.py"},
    "PIL": {"miner/decode/image.py", "miner/readers/labels.py"},
    "simplejpeg": {"miner/decode/image.py", "miner/simulation/recording.py"},
    "av": {"miner/decode/video.py", "miner/decode/demux.py"},
    "mcap": set(),
    "zstandard": {"miner/decode/mcap.py"},
    "lz4": {"miner/decode/mcap.py"},
    "matplotlib": {"miner/show.py", "miner/hits.py", "jobs/bench/plot.py", "jobs/tail_page.py"},
    "jinja2": {"jobs/demo_page.py", "jobs/mining_page.py", "miner/report/page.py"},
    "typer": {
        *("jobs/bench/command.py", "jobs/cli.py", "jobs/clusters.py", "jobs/concepts.py", "jobs/datasets.py"),
        "jobs/options.py",
        *("jobs/mining.py", "jobs/serve.py", "jobs/server/command.py", "jobs/tune/command.py", "jobs/upkeep.py"),
    },
    "fastapi": {"jobs/server"},
    "starlette": {"jobs/server"},
    "limits": {"jobs/server/guard.py"},
    "prometheus_client": {"jobs/server/metrics.py"},
    "uvicorn": {"jobs/serve.py"},
    "rerun": {"miner/rerun_log.py"},
    "rich": {"jobs/progress.py"},
    "pydantic": {"jobs", "miner/selection/spec.py"},
    "yaml": {
        *("jobs/config.py", "miner/readers/labels.py", "miner/query/document.py", "miner/concepts/vocabulary.py"),
        "miner/selection/spec.py",
    },
}
# Never at the top of a module: `miner --help`, `miner ls` and `import miner` must stay quick.
LAZY = {
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "transformers",
    "faiss",
    "av",
    "jinja2",
    "lz4",
    "mcap",
    "uvicorn",
    "zstandard",
    "rerun",
    "matplotlib",
    "pandas",
}
OF_TORCH = {"embeddings/int8.py"}  # its classes are modules of torch: it is imported where these are needed


def imports(tree: ast.AST, top_only: bool = False) -> Iterator[str]:
    """Full names of imported modules; with `top_only`, without those inside functions and TYPE_CHECKING blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""
        elif top_only and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)):
            continue
        else:
            yield from imports(node, top_only)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    above = {*LAYERS[LAYERS.index(layer) + 1 :], *OUTSIDE}
    found = {name.partition(".")[0] for name in imports(parsed(path))}
    assert not found & above, f"{layer} must not import {found & above}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_wrappers(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for module in imports(parsed(path)):
        allowed = WRAPPERS.get(module.partition(".")[0])
        assert allowed is None or any(name == place or name.startswith(f"{place}/") for place in allowed), module
    at_once = {module.partition(".")[0] for module in imports(parsed(path), top_only=True)}
    assert not at_once & (LAZY - {"torch"} if name in OF_TORCH else LAZY)


def test_kernels_is_a_namespace_folder() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_long(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 80, f"{node.name} has {length} lines"


@pytest.mark.parametrize("code", ["import miner", "import jobs.cli", "import miner.lake", "import miner.readers"])
def test_quick_imports_need_neither_torch_nor_ray(code: str) -> None:
    script = (
        f"{code}; import sys; print(sorted({{'torch', 'ray', 'open_clip', 'transformers', 'timm'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_help_needs_no_lance_either() -> None:
    script = "import sys, jobs.cli; print(sorted({'lance', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_command_that_a_server_answers_needs_no_parser_either() -> None:
    script = (
        "import sys, jobs.entry, jobs.warm; print(sorted({'typer', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_our_kernels_are_found_beside_a_package_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("theirs = True\n")
    script = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "import miner, kernels, kernels.se3\nassert kernels.theirs\nprint(kernels.se3.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path(done.stdout.strip()) == ROOT / "kernels" / "se3.py"
