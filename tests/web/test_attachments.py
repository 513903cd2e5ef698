"""Names of downloads, over a real connection: headers are bytes there, and a letter that is none ends the answer."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from flask import Flask, Response, request
from visitors import served
from werkzeug.http import parse_options_header

from obsarchive.web.framework.file_responses import as_attachment, csv_attachment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def downloads() -> Iterator[str]:
    """Serve an empty file under whatever name is asked for."""
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: as_attachment(Response("1"), request.args["name"]), endpoint="file")
    with served(app) as address:
        yield address


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("WDJ0000+2000.csv", "WDJ0000+2000.csv"),
        ("\u03b7_Car.csv", "_Car.csv"),
        ("Lac\u00e9rt\u00e6.csv", "Lacert.csv"),
        ("\u661f 1.parquet", " 1.parquet"),
        ('say "hi"; x=1.csv', 'say "hi"; x=1.csv'),
    ],
)
def test_a_name_in_any_letters_arrives(downloads: str, name: str, plain: str) -> None:
    answer = httpx.get(downloads, params={"name": name})
    assert answer.status_code == 200
    kind, options = parse_options_header(answer.headers["Content-Disposition"])
    assert kind == "attachment"
    assert options["filename"] == name
    encoded = re.search(r"filename\*=UTF-8''(\S+)", answer.headers["Content-Disposition"])
    assert (unquote(encoded[1]) if encoded else plain) == name
    assert answer.headers["Content-Disposition"].isascii()


def test_what_is_no_text_cannot_begin_another_header(downloads: str) -> None:
    answer = httpx.get(downloads, params={"name": "a\r\nSet-Cookie: b=c.csv"})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert parse_options_header(answer.headers["Content-Disposition"])[1]["filename"] == "a__Set-Cookie: b=c.csv"


def test_no_page_names_a_download_by_itself() -> None:
    found = [path for path in (ROOT / "obsarchive").rglob("*.py") if "Content-Disposition" in path.read_text()]
    assert [path.name for path in found] == ["file_responses.py"]


def test_no_text_of_a_table_is_a_formula() -> None:
    rows = [["=1+1", -2.5, None], ["@x", "plain", "-y"]]
    with Flask(__name__).test_request_context():
        text = csv_attachment(["a", "b", "c"], rows, "t.csv").get_data(as_text=True)
    assert text == "a,b,c\n'=1+1,-2.5,\n'@x,plain,'-y\n"


def test_all_tables_are_written_by_the_same_function() -> None:
    pages = [path for path in (ROOT / "obsarchive" / "web").rglob("*.py") if path.name != "file_responses.py"]
    assert [path.name for path in pages if re.search(r"csv\.(Dict)?[wW]riter|to_csv", path.read_text())] == []
