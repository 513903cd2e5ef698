"""Every message that an operator can meet is in the documentation, and every documented one is in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from test_docs import OPERATIONS, ROOT, rows

from obsarchive import errors
from obsarchive.core.causes import CAUSES, OTHER
from obsarchive.web.framework.error_pages import PAGES

FOLDERS = ("daemon", "database", "execution", "store", "web")
FILES = (
    "cli/daemon.py",
    "cli/demo.py",
    "cli/portal.py",
    "cli/status.py",
    "config/loading.py",
    "config/model.py",
    "io/file_locks.py",
)
LOGGED = ("warning", "error", "exception")
RAISED = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
CHAPTER = OPERATIONS[OPERATIONS.index("\n## Messages\n") :]
OF_VERIFY = {
    "is missing",
    "differs from its checksum",
    "cannot be checked: its manifest is damaged",
    "cannot be checked: there is no manifest",
    "the manifest cannot be read",
    "the sidecar file cannot be read",
}
"""What `verify` says of a file; `daemon/test_product_check.py` provokes it."""


def wording(message: ast.expr) -> str | None:
    """Text of a message, with dots for what is put into it; None when it is made elsewhere."""
    match message:
        case ast.Constant(str(text)):
            return re.sub(r"%[\d.]*[a-z]", "…", text)
        case ast.JoinedStr(parts):
            return re.sub("…+", "…", "".join(wording(part) or "…" for part in parts))
    return None


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_message(call: ast.Call) -> bool:
    is_logged = (
        isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "log" and called(call) in LOGGED
    )
    return bool(call.args) and (is_logged or called(call) in RAISED)


def calls() -> Iterator[tuple[str, ast.Call]]:
    package = ROOT / "obsarchive"
    files = [
        *(package / name for name in FILES),
        *(path for name in FOLDERS for path in (package / name).rglob("*.py")),
    ]
    for path in sorted(files):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(package).as_posix(), node


def messages() -> dict[str, str]:
    """Every message of the daemon, the database, the workers and the portal, with the file it is in."""
    found = ((wording(call.args[0]), path) for path, call in calls() if is_message(call))
    return {text: path for text, path in found if text is not None}


def test_a_message_can_be_recognised():
    assert {text: path for text, path in messages().items() if not re.search(r"[a-z]{3}", text)} == {}


def test_every_message_is_documented_and_every_documented_one_exists():
    known = messages()
    assert len(known) > 80  # the walk reaches them
    documented = {text for text in rows(CHAPTER, 2) if not text.startswith(("--check", "status"))} - OF_VERIFY
    assert {text: known[text] for text in known.keys() - documented} == {}
    assert documented - known.keys() == set()


def test_every_cause_is_documented():
    table = CHAPTER[CHAPTER.index("\n### Causes\n") : CHAPTER.index("\n### The daemon\n")]
    assert set(rows(table, 3)) == {cause.name for cause in (*CAUSES, OTHER)}


def test_every_reason_of_status_is_documented():
    names = ("daemon_reasons", "step_reasons", "status")
    tree = [ast.parse((ROOT / f"obsarchive/cli/{name}.py").read_text()) for name in names]
    made = [node for part in tree for node in ast.walk(part) if isinstance(node, ast.Call) and called(node) == "Reason"]
    said = {node.args[0].value for node in made if isinstance(node.args[0], ast.Constant)}
    assert len(said) > 8
    table = CHAPTER[: CHAPTER.index("\n### Causes\n")]
    assert said - set(rows(table, 3)) == set()


def test_every_problem_page_is_documented():
    shown = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", CHAPTER, re.MULTILINE)
    assert {int(status): title for status, title in shown} == {status: page[0] for status, page in PAGES.items()}


def test_what_verify_says_is_documented():
    assert OF_VERIFY - set(rows(CHAPTER, 2)) == set()
    source = (ROOT / "obsarchive/daemon/product_check.py").read_text()
    said = set(re.findall(r"\"((?:is|differs|cannot)[a-z :]+)\"", source))
    assert len(said) >= 4
    assert said <= OF_VERIFY


def test_every_metric_is_documented():
    source = (ROOT / "obsarchive/web/api/monitoring.py").read_text()
    gauges = set(re.findall(r"_gauge\(\s*\"([a-z_]+)\"", source))
    counters = {f"{name}_total" for name in re.findall(r"_counter\(\s*\"([a-z_]+)\"", source)}
    disks = {f"disk_{key}_bytes" for key in ("free", "total")}
    documented = {name for name in rows(OPERATIONS, 2) if name.startswith("archiver_")}
    assert documented == {f"archiver_{name}" for name in gauges | counters | disks}


def test_the_expression_of_the_log_reads_a_line():
    pattern = re.search(r"As a regular expression: `([^`]+)`", OPERATIONS)[1]
    line = re.search(r"^2026-.*\| not finished.*$", OPERATIONS, re.MULTILINE)[0]
    when, level, subject, message = re.fullmatch(pattern, line).groups()
    assert (when, level) == ("2026-03-14T03:12:09Z", "WARNING")
    assert subject.endswith(" bright_star.reduce")
    assert message.startswith("not finished")
    assert Path(ROOT / "obsarchive/core/logs.py").is_file()
