"""A replica set of three members with authentication and TLS, as an observatory runs it."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from obsarchive.database.embedded_mongod import find_mongod
from tests.daemon.conftest import PROJECT, wait_for

NAME = "rs-obs"
ROLES = PROJECT / "deploy" / "mongo" / "roles.json"
SMALL = ("--wiredTigerCacheSizeGB", "0.25", "--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=10MB)")


class Member:
    """One server."""

    def __init__(self, folder: Path, ca: Path, certificate: Path, keyfile: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        folder.mkdir()
        self.host = f"127.0.0.1:{self.port}"
        self.command = [
            *(str(find_mongod()), "--dbpath", str(folder), "--logpath", f"{folder}.log", "--logappend", *SMALL),
            *("--port", str(self.port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--replSet", NAME),
            *("--auth", "--keyFile", str(keyfile)),
            *("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificate), "--tlsCAFile", str(ca)),
            "--tlsAllowConnectionsWithoutCertificates",
        ]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class ReplicaSet:
    """Three members, an administrator, and the two users that ``deploy/mongo/users.js`` makes."""

    def __init__(self, folder: Path) -> None:
        self.ca, certificate = certificates(folder)
        self.password = folder / "password"
        self.password.write_text("p:@/ss")
        keyfile = folder / "keyfile"
        keyfile.write_text("secret of the members " * 4)
        keyfile.chmod(0o400)
        self.members = [Member(folder / f"member{n}", self.ca, certificate, keyfile) for n in range(3)]

    @property
    def options(self) -> str:
        return f"tls=true&tlsCAFile={self.ca}"

    @property
    def uri(self) -> str:
        """Address as it stands in a configuration."""
        return f"mongodb://{','.join(member.host for member in self.members)}/?{self.options}"

    def admin(self, **more: Any) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.uri, username="root", password="root", replicaSet=NAME, **more)

    def _direct(self, member: Member) -> MongoClient[dict[str, Any]]:
        address = f"mongodb://{member.host}/?{self.options}&directConnection=true"
        return MongoClient(address, serverSelectionTimeoutMS=60_000)

    def initiate(self) -> None:
        for member in self.members:  # the first one asks the others whether they are there
            with self._direct(member) as client:
                client.admin.command("ping")
        with self._direct(self.members[0]) as client:
            members = [{"_id": n, "host": member.host} for n, member in enumerate(self.members)]
            settings = {"electionTimeoutMillis": 2000}
            client.admin.command("replSetInitiate", {"_id": NAME, "members": members, "settings": settings})
            wait_for(lambda: client.admin.command("hello")["isWritablePrimary"])
            client.admin.command("createUser", "root", pwd="root", roles=["root"])

    def add_users(self, database: str) -> None:
        """Make what ``deploy/mongo/users.js`` makes."""
        with self.admin() as client:
            for role in json.loads(ROLES.read_text().replace("DATABASE", database)):
                client[database].command(role)
            for user, role in (("archiver", "archiverDaemon"), ("archiver-portal", "archiverPortal")):
                roles = [{"role": role, "db": database}]
                client.admin.command("createUser", user, pwd=self.password.read_text(), roles=roles)

    def section(self, database: str, user: str) -> dict[str, Any]:
        """Return ``database`` of a configuration."""
        here = {"mode": "external", "uri": self.uri, "db": database, "replicaset": NAME}
        return {**here, "user": user, "password": {"file": str(self.password)}}

    def primary(self) -> Member | None:
        """Return the member that takes writes now."""
        with self.admin(serverSelectionTimeoutMS=5000) as client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return None
            return next((member for member in self.members if client.primary == ("127.0.0.1", member.port)), None)

    def step_down(self) -> None:
        with self.admin() as client:
            client.admin.command("replSetStepDown", 5, force=True)

    def close(self) -> None:
        for member in self.members:
            member.kill()


def certificates(folder: Path) -> tuple[Path, Path]:
    """Make an authority, and a certificate of the servers signed by it; return both files."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Observatory")
    openssl("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/O=Observatory/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.crt")
    both = folder / "server.pem"
    both.write_text((folder / "server.crt").read_text() + (folder / "server.key").read_text())
    return folder / "ca.pem", both


@contextmanager
def replica_set(folder: Path, database: str) -> Iterator[ReplicaSet]:
    """Run a replica set with the users of an archive."""
    servers = ReplicaSet(folder)
    try:
        servers.initiate()
        servers.add_users(database)
        yield servers
    finally:
        servers.close()
