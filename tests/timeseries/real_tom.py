"""A real TOM Toolkit server, as tests see it."""

from dataclasses import dataclass

import httpx

SECRET = "retrograde motion"


@dataclass
class TomServer:
    """A TOM that runs."""

    url: str
    token: str

    def asked(self, path: str) -> dict:
        return httpx.get(f"{self.url}{path}", auth=("archiver", SECRET), timeout=30).raise_for_status().json()
