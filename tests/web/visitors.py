"""People of competing programmes who visit a portal."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from obsarchive.config.model import Config
from obsarchive.store import Store
from obsarchive.web import Portal, create_app

PASSWORD = "perihelion of 1801"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash(PASSWORD)
PEOPLE = {"admin": "all", "ana": ["3"], "ben": ["4"], "pia": []}


def make_app(store: Store, config: Config) -> Portal:
    for name, programs in PEOPLE.items():
        store.users.save(name, {"password": HASH, "programs": programs})
    portal = create_app(config, store)
    portal.testing = False
    return portal


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an application on loopback, and give its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Visitor:
    """A browser without scripts: keeps cookies and sends the token of its last page."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def token(self, page: str) -> str:
        text = self.client.get(page).text
        marker = 'name="csrf_token" value="'
        return text.split(marker)[1].split('"')[0]

    def get(self, address: str, **options: Any) -> Any:
        return self.client.get(address, **options)

    def post(self, address: str, page: str = "/account", **fields: str) -> Any:
        return self.client.post(address, data={"csrf_token": self.token(page), **fields})

    def log_in(self, name: str, password: str = PASSWORD) -> Any:
        return self.post("/login", "/login", username=name, password=password)
