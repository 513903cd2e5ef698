"""What is imported when: help and small commands do not wait for libraries that they do not use."""

import subprocess
import sys

import pytest

LARGE = {
    *("pandas", "xarray", "h5py", "matplotlib", "distributed", "dask", "astropy", "numba", "scipy", "pymongo"),
    *("pyarrow", "pydantic", "httpx"),
}
IMPORT = "import surveys.project"
HELP = """
import contextlib, io
from surveys.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main(["--help"])
assert "usage" in said.getvalue()
"""
PROJECT = "from surveys.project import Project; Project('toy', cfg_file=None, obs_names=['DEMO'])"


def imported_by(code: str) -> set[str]:
    """Return the names of packages that a new process has imported after some code."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(made.stdout.split())


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_nothing_large_is_imported_before_it_is_needed(code):
    assert imported_by(code) & LARGE == set()


def test_a_project_imports_neither_pictures_nor_services_nor_workers():
    unused = {"xarray", "matplotlib", "distributed", "dask", "astropy", "pymongo", "httpx"}
    assert imported_by(PROJECT) & unused == set()
