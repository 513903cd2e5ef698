"""A small server on loopback that speaks the frames interface, and misbehaves as real ones do."""

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

TOKEN = "token of the test"


@dataclass
class Sky:
    """What the archive holds, and how it misbehaves.

    Parameters
    ----------
    frames : list
        Records as the archive gives them.
    contents : dict
        Bytes by name.
    troubles : list of (status, headers)
        Answered once each to questions, before the truth.
    broken : dict of str to int
        How often the transfer of a name breaks off in the middle.
    asked : list of (path, parameters, headers)
        What was asked.
    """

    frames: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    troubles: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def add(self, name: str, proposal: str, when: str, content: bytes = b"", **more: Any) -> None:
        content = content or f"bytes of {name}".encode() * 50
        self.contents[name] = content
        self.frames = [frame for frame in self.frames if frame["filename"] != name]
        record = {
            "id": len(self.frames) + 1,
            "filename": name,
            "basename": name.split(".")[0],
            "proposal_id": proposal,
            "observation_date": when,
            "target_name": "OGLE-2024-BLG-0001",
            "instrument_id": "fa15",
            "primary_optical_element": "ip",
            "configuration_type": "EXPOSE",
            "reduction_level": 91,
            "version_set": [{"md5": hashlib.md5(content, usedforsecurity=False).hexdigest(), "extension": ".fits.fz"}],
        }
        self.frames.append({**record, **more})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sky: Sky = self.server.sky
        parts = urlsplit(self.path)
        parameters = {key: values[0] for key, values in parse_qs(parts.query).items()}
        sky.asked.append((parts.path, parameters, {key.lower(): value for key, value in self.headers.items()}))
        if parts.path.startswith("/data/"):
            self._data(sky, parts.path.removeprefix("/data/"))
        elif sky.troubles:
            status, headers = sky.troubles.pop(0)
            self._send(status, b"sorry", headers)
        elif self.headers.get("Authorization") != f"Token {TOKEN}":
            self._send(401, b'{"detail": "Invalid token."}', {})
        else:
            self._page(sky, parameters)

    def _page(self, sky: Sky, parameters: dict[str, str]) -> None:
        limit, offset = min(int(parameters.get("limit", 100)), self.server.page), int(parameters.get("offset", 0))
        start, end = (datetime.fromisoformat(parameters[key]).replace(tzinfo=UTC) for key in ("start", "end"))
        found = [
            {**frame, "url": f"{self.server.root}/data/{frame['filename']}"}
            for frame in sky.frames
            if frame["proposal_id"] == parameters["proposal_id"]
            and str(frame["reduction_level"]) == parameters["reduction_level"]
            and start <= datetime.fromisoformat(frame["observation_date"]) <= end
        ]
        following = urlencode({**parameters, "offset": offset + limit})
        more = offset + limit < len(found)
        answer = {
            "count": len(found),
            "next": f"{self.server.root}/frames/?{following}" if more else None,
            "results": found[offset : offset + limit],
        }
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _data(self, sky: Sky, name: str) -> None:
        content = sky.contents.get(name)
        if content is None:
            self._send(404, b"", {})
            return
        begin, status = 0, 200
        if told := self.headers.get("Range"):
            begin, status = int(told.removeprefix("bytes=").rstrip("-")), 206
        if begin >= len(content):
            self._send(416, b"", {})
            return
        part = content[begin:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if sky.broken[name] > 0:
            sky.broken[name] -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True


def serve(sky: Sky, page: int = 1000) -> ThreadingHTTPServer:
    """Start the server; stop it with ``shutdown`` and ``server_close``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.sky, server.page = sky, page
    server.root = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
