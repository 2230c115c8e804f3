"""The notebook runs from an empty folder in a fresh kernel, shows what the stored one shows, and README says the same.

Store it anew with `jupyter execute --inplace tests/notebooks/search.ipynb`.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from miner.decode.image import decode_image

FILE = Path(__file__).parent / "search.ipynb"
ROOT = Path(__file__).resolve().parents[2]
PICTURE = re.compile(r'<img src="data:image/jpeg;base64,([^"]+)"')


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    notebook = nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    return notebook


def kinds(cell: nbformat.NotebookNode) -> list[Counter[str]]:
    """What each output of a cell is: its kinds, and how many pictures are in its HTML."""
    found = []
    for output in cell.get("outputs", ()):
        counted = Counter(output.get("data", {output.output_type: ""}).keys())
        counted["pictures"] = len(PICTURE.findall(output.get("data", {}).get("text/html", "")))
        found.append(counted)
    return found


def lines(code: str) -> list[str]:
    """Lines of code without comments and empty ones."""
    return [line for line in (re.sub(r"\s+#.*|^#.*", "", line) for line in code.splitlines()) if line.strip()]


def test_what_is_stored(stored: nbformat.NotebookNode) -> None:
    cells = {cell.source.splitlines()[-1].split("  #")[0]: cell for cell in stored.cells if cell.cell_type == "code"}
    assert all(cell.execution_count for cell in cells.values())
    assert not [output for cell in cells.values() for output in cell.outputs if output.output_type != "execute_result"]
    assert FILE.stat().st_size < 1_000_000
    assert kinds(cells["hits"]) == [Counter({"text/plain": 1, "text/html": 1, "pictures": 4})]
    assert kinds(cells["hits[0].show()"])[0]["image/png"] == 1
    sizes = {
        decode_image(base64.b64decode(data), "jpg", "stored").shape
        for cell in cells.values()
        for output in cell.outputs
        for data in PICTURE.findall(output.data.get("text/html", ""))
    }
    assert sizes == {(180, 320, 3), (360, 360, 3)}  # frames, and a sweep from above


@pytest.mark.parametrize("encoder", ["hashing", pytest.param("lite", marks=pytest.mark.slow)])
def test_it_runs(stored: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """With `hashing` in the place of the default encoder, which takes ten seconds to load: `slow` runs it as it is."""
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    again = nbformat.from_dict(stored)
    for cell in again.cells:
        cell.source = cell.source.replace("lake.embed()", f"lake.embed(['{encoder}', 'descriptor'])")
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", connection_file=str(tmp_path / "kernel.json"))
    NotebookClient(again, km=kernel, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert encoder in "".join(output.data["text/plain"] for cell in again.cells for output in cell.get("outputs", ()))
    assert [kinds(cell) for cell in again.cells] == [kinds(cell) for cell in stored.cells]


def test_readme_says_the_same(stored: nbformat.NotebookNode) -> None:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = [line for cell in stored.cells if cell.cell_type == "code" for line in lines(cell.source)]
    missing = [line for line in lines(block.replace("/data/nuscenes", "drives")) if line not in code]
    assert not missing, f"not in {FILE.name}: {missing}"
