"""People at work: in the portal and in the Mongo shell; what was acknowledged to them is remembered."""

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from pymongo.errors import PyMongoError

from benchmarks.soak.site import ROOT, Site

PASSWORD = "correct horse battery 71"
ADMIN = "operator"
TOKEN = re.compile(r"arc_[\w-]{43}")
CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass
class Acknowledged:
    """What people were told has been done."""

    comments: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    redone: dict[tuple[str, str], datetime] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    unanswered: dict[str, list[object]] = field(default_factory=dict)
    """Values typed since, without an answer: by a frozen server each may be written yet, or not."""
    acts: int = 0
    refused: int = 0
    last: float = 0.0


class People:
    """Acts at random times until they are stopped.

    Parameters
    ----------
    site : Site
        The archive.
    rng : random.Random
        Who does what.
    """

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site, self.rng = site, rng
        self.done = Acknowledged()
        self.acting = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="people", daemon=True)
        self._number = 0
        self._browser = self._client()
        self._kinds: tuple[Callable[[], bool], ...] = (
            *(self.comment, self.owner, self.alternative_name, self.force_redo, self.pack_again, self.redo),
            *(self.add_user, self.make_token, self.forget_library),
        )

    def prepare(self) -> None:
        """Make the administrator, as the manual says."""
        command = [sys.executable, "-m", "obsarchive", "users", "add", str(self.site.config), ADMIN, "--admin"]
        command.append("--password-stdin")
        done = subprocess.run(
            command, input=PASSWORD, text=True, cwd=ROOT, env=self.site.environment, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"no administrator: {done.stdout} {done.stderr}")
        self.done.users[ADMIN] = ["all"]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stopping.wait(self.rng.uniform(0.5, 3.0)):
            with self.acting:
                act = self.rng.choice(self._kinds)
                try:
                    granted = act()
                except (httpx.HTTPError, PyMongoError, OSError, ValueError, LookupError) as err:
                    self.site.say(f"people: {act.__name__} refused: {type(err).__name__} {str(err)[:100]}")
                    granted = False
                if granted:
                    self.done.acts += 1
                    self.done.last = time.monotonic()
                else:
                    self.done.refused += 1

    # -- Mongo shell ------------------------------------------------------------------------------------------

    def _observation(self) -> dict[str, Any]:
        found = list(self.site.db()["objects"].find({}, {"pipelined": 1, "science_program": 1}).sort("_id", 1))
        return self.rng.choice(found)

    def _set(self, observation: str, fields: dict[str, Any]) -> bool:
        try:
            answer = self.site.db()["objects"].update_one({"_id": observation}, {"$set": fields})
        except PyMongoError:
            self.done.unanswered.setdefault(observation, []).extend(fields.values())
            raise
        self.site.say(f"people: {observation} {fields}: {answer.matched_count}")
        return bool(answer.acknowledged and answer.matched_count)

    def _text(self, what: str) -> str:
        self._number += 1
        return f"{what} {self._number}"

    def comment(self) -> bool:
        """Type a comment."""
        name, text = self._observation()["_id"], self._text("seen in poor seeing;")
        done = self._set(name, {"comment": text})
        if done:
            self.done.comments[name] = text
        return done

    def owner(self) -> bool:
        """Give an observation to another person."""
        name, who = self._observation()["_id"], self._text("astronomer")
        done = self._set(name, {"science_program.program_PI": who})
        if done:
            self.done.owners[name] = who
        return done

    def alternative_name(self) -> bool:
        """Note another name of the star."""
        name, names = self._observation()["_id"], [self._text("HIP")]
        done = self._set(name, {"alternative_names": names})
        if done:
            self.done.names[name] = names
        return done

    def _pipeline(self, observation: dict[str, Any]) -> str:
        return self.rng.choice(sorted(observation.get("pipelined") or {}) or ["bright_star"])

    def force_redo(self) -> bool:
        """Force a pipeline, as docs/mongo_shell.md says."""
        observation = self._observation()
        if not observation.get("pipelined"):
            return False
        name, pipeline = observation["_id"], self._pipeline(observation)
        fields, asked = {f"pipelined.{pipeline}.status.force_redo": True}, datetime.now(UTC)
        done = self._set(name, {**fields, f"pipelined.{pipeline}.last_modified": asked})
        if done:
            self.done.redone[name, pipeline] = asked
        return done

    def pack_again(self) -> bool:
        """Have everything packed again."""
        now = datetime.now(UTC)
        fields = {"distributed.status": False, "distributed.last_modified": now}
        return bool(self.site.db()["objects"].update_many({}, {"$set": fields}).matched_count)

    def forget_library(self) -> bool:
        """Unset the PSF library."""
        return self.site.db()["aux"].update_many({}, {"$unset": {"psf_lib": ""}}).acknowledged

    # -- portal -----------------------------------------------------------------------------------------------

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.site.port}", timeout=20, trust_env=False, follow_redirects=True
        )

    def _form(self, path: str) -> dict[str, Any]:
        """Open a page with a form, after a login where one is needed."""
        page = self._browser.get(path)
        if page.url.path != path:
            form = {"username": ADMIN, "password": PASSWORD, "csrf_token": _csrf(page)}
            self._browser.post("/login", data=form).raise_for_status()
            page = self._browser.get(path)
        return {"csrf_token": _csrf(page)}

    def add_user(self) -> bool:
        """Add a user in the portal."""
        name, programs = f"person{len(self.done.users)}", [f"9{self.rng.randrange(10)}"]
        answer = self._browser.post("/users", data={"name": name, "programs": programs[0], **self._form("/users")})
        self.site.say(f"people: user {name}: {answer.status_code}")
        if answer.status_code == 200:
            self.done.users[name] = programs
        return answer.status_code == 200

    def make_token(self) -> bool:
        """Make a token in the portal."""
        form = {"label": self._text("notebook"), "scope": ["read", "change"], "days": "90"}
        answer = self._browser.post("/account/tokens", data={**form, **self._form("/account")})
        token = TOKEN.search(answer.text)
        self.site.say(f"people: token: {answer.status_code} {token is not None}")
        if token is not None:
            self.done.tokens.append(token.group())
        return token is not None

    def redo(self) -> bool:
        """Ask for a redo through the interface for programs."""
        if not self.done.tokens:
            return self.make_token()
        observation = self._observation()
        pipeline = self._pipeline(observation)
        asked = datetime.now(UTC)
        with self._client() as client:
            answer = client.post(
                f"/api/v1/observations/{observation['_id']}/redo",
                json={"pipeline": pipeline},
                headers={"Authorization": f"Bearer {self.done.tokens[-1]}"},
            )
            self.site.say(f"people: redo {observation['_id']} {pipeline}: {answer.status_code}")
            if answer.status_code == 202 and observation.get("pipelined"):
                self.done.redone[observation["_id"], pipeline] = asked
            return answer.status_code == 202

    def token_works(self, token: str) -> bool:
        """Whether a token that was given opens the interface for programs."""
        with self._client() as client:
            answer = client.get("/api/v1/observations?limit=1", headers={"Authorization": f"Bearer {token}"})
            return answer.status_code == 200


def _csrf(page: httpx.Response) -> str:
    page.raise_for_status()
    found = CSRF.search(page.text)
    if found is None:
        raise ValueError(f"no form at {page.url}: {page.text[:200]}")
    return found.group(1)
