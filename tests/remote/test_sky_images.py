"""Pictures of the sky: from the configured service only, with limits, kept on disk."""

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from obsarchive.config.model import SkyService
from obsarchive.remote import sky_images
from obsarchive.remote.sky_images import Sky, SkyImageError


def picture(kind: str = "JPEG", side: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), 40).save(buffer, kind)
    return buffer.getvalue()


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body, pause = self.server.answer
        self.send_response(status)
        self.send_header("Location", "http://169.254.169.254/secret")
        self.end_headers()
        try:
            for start in range(0, len(body), 65536):
                self.wfile.write(body[start : start + 65536])
                time.sleep(pause)
        except OSError:
            return

    def log_message(self, *said: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.asked, server.answer = [], (200, picture(), 0.0)
    threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    yield server
    server.shutdown()
    server.server_close()


def sky_of(server: Any, folder: Path, **more: Any) -> Sky:
    url = f"http://127.0.0.1:{server.server_port}/cut?ra={{ra}}&dec={{dec}}&fov={{size}}&n={{pixels}}"
    return Sky(SkyService(url=url, **more), folder / "sky")


def test_a_picture_is_asked_for_once(service: Any, tmp_path: Path) -> None:
    found = [sky_of(service, tmp_path, field_arcsec=36).picture(155.1, -0.5) for _ in range(3)]
    assert len(set(found)) == 1
    assert service.asked == ["/cut?ra=155.1&dec=-0.5&fov=0.01&n=400"]
    with Image.open(found[0]) as shown:
        assert (shown.format, shown.size) == ("PNG", (60, 60))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, b"", 0.0), "answered 404"),
        ((302, b"", 0.0), "answered 302"),
        ((200, b"<html>sorry</html>", 0.0), "no picture"),
        ((200, b"<svg onload='x'/>", 0.0), "no picture"),
        ((200, picture()[:200], 0.0), "no picture"),
        ((200, b"x" * 5_000_000, 0.0), "more than"),
        ((200, b"x" * 3_000_000, 0.2), "too slow"),
        ((200, picture("PNG", 5000), 0.0), "pixels"),
    ],
)
def test_anything_else_is_refused_and_not_kept(service: Any, tmp_path: Path, answer: tuple, words: str) -> None:
    service.answer = answer
    with pytest.raises(SkyImageError, match=words):
        sky_of(service, tmp_path, timeout_s=0.5).picture(1.0, 2.0)
    assert not list(tmp_path.rglob("*.*"))


def test_nobody_there(tmp_path: Path) -> None:
    gone = Sky(SkyService(url="http://127.0.0.1:9/{ra}{dec}{size}{pixels}", timeout_s=0.5), tmp_path)
    with pytest.raises(SkyImageError, match="cannot be reached"):
        gone.picture(1.0, 2.0)


def test_only_so_many_are_kept(service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sky_images, "MAX_CACHED", 3)
    for number in range(6):
        sky_of(service, tmp_path).picture(float(number), 0.0)
    assert len(list((tmp_path / "sky").iterdir())) == 3


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://{ra}.example.org/", "http://x@y/", "https://a.org/{0}", "https://a.org/{ra.x}"],
)
def test_the_service_is_one_fixed_host(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        SkyService(url=url)
