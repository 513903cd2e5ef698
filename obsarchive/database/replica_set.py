"""The replica set of one server on this machine: a connection before it has users, its configuration, its users."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from obsarchive.errors import ServiceUnavailable
from obsarchive.io.file_locks import wait_until

LOOPBACK = "127.0.0.1"
REPLICA_SET = "rs0"
START_TIMEOUT_S = 120.0  # repairing a large database from its journal takes long
_NOT_YET_INITIALIZED = 94  # code of a MongoDB error


def uri_of(port: int, user: str, password: str, database: str) -> str:
    """Return the address with the name and password of a user of this database.

    Clients find the server through the replica set, not by a direct connection: so they wait while it starts
    again, and a retried write finds the primary.

    Parameters
    ----------
    port : int
        Port of the server.
    user, password : str
        The user.
    database : str
        Its database.

    Returns
    -------
    str
    """
    return (
        f"mongodb://{user}:{password}@{LOOPBACK}:{port}/{database}?authSource={database}"
        f"&replicaSet={REPLICA_SET}&w=majority&journal=true&retryWrites=true"
    )


@contextlib.contextmanager
def connection_as_member(port: int, folder: Path) -> Iterator[MongoClient[dict[str, Any]]]:
    """Connect to this very server, whatever its state, and make sure that it is ours.

    We log in as a member of the replica set would, with the keyfile: that needs no user yet, and only a
    server started with our keyfile lets us in.

    Parameters
    ----------
    port : int
        Port of the server.
    folder : Path
        Folder of its database, with the keyfile.

    Yields
    ------
    MongoClient

    Raises
    ------
    ServiceUnavailable
        It is another server.
    """
    address = f"mongodb://__system@{LOOPBACK}:{port}/?authSource=local&directConnection=true"
    password, timeout_ms = (folder / "keyfile").read_text(), int(START_TIMEOUT_S * 1000)
    client: MongoClient[dict[str, Any]]
    with MongoClient(address, password=password, serverSelectionTimeoutMS=timeout_ms) as client:
        in_use = client.admin.command("getCmdLineOpts")["parsed"]["storage"]["dbPath"]
        if Path(in_use) != folder / "data":
            raise ServiceUnavailable(f"the server on port {port} is not ours: it keeps {in_use}")
        yield client


def set_up_replica_set(client: MongoClient[dict[str, Any]], port: int) -> None:
    """Make a replica set of this one server, or put a changed port into it, and wait until it takes writes.

    Parameters
    ----------
    client : MongoClient
        Connection as a member.
    port : int
        Port of the server.

    Raises
    ------
    ServiceUnavailable
        It takes no writes in time.
    """

    def is_configured() -> bool:
        config = client.local["system.replset"].find_one()
        host = f"{LOOPBACK}:{port}"
        try:
            if config is None:
                members = [{"_id": 0, "host": host}]
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            elif config["members"][0]["host"] != host:
                config["members"][0]["host"] = host
                config["version"] += 1
                client.admin.command("replSetReconfig", config, force=True)  # there is no majority to ask
        except OperationFailure as err:
            if err.code != _NOT_YET_INITIALIZED:
                raise
            return False
        return True

    wait_until(is_configured, START_TIMEOUT_S, "mongod to read its configuration")
    wait_until(lambda: client.admin.command("hello")["isWritablePrimary"], START_TIMEOUT_S, "mongod to be primary")


def set_user(database: Database[dict[str, Any]], name: str, password: str, role: str, *, renew: bool) -> None:
    """Make a user of this database, or with `renew` change its password.

    Parameters
    ----------
    database : Database
        The database that the user belongs to.
    name, password : str
        The user.
    role : str
        What the user may do there, such as ``readWrite``.
    renew : bool
        Whether the password of a user that exists is changed.
    """
    exists = bool(database.command("usersInfo", name)["users"])
    if renew or not exists:
        database.command("updateUser" if exists else "createUser", name, pwd=password, roles=[role])
