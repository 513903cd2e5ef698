"""The invariant: after faults and quiet time the archive is that of a run without faults, and nothing is lost."""

import io
import json
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.soak.people import People
from benchmarks.soak.site import Site
from obsarchive.core.json_text import parse_with_checksum

VOLATILE = ("DATE", "CHECKSUM", "DATASUM", "RAWDIR")
DATES = re.compile(rb"20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?")
OF_MASTER = re.compile(r"\b((?:dark|flat)_\w*:)[0-9a-f]{16}\b")
NOT_COMPARED = {"started", "finished", "log", "products", "amended"}
ENDED = {"done", "rejected", "lacking"}
MOST_RETRIES = 7
SIDECAR = ".observation.json"


def unsettled(site: Site, since: float) -> list[str]:
    """Return what is still to be done: steps, requests, packing, products not checked since a time [s since 1970]."""
    db, found = site.db(), []
    for document in (*db["objects"].find({}), *db["aux"].find({})):
        found += [f"{document['_id']} {text}" for text in _open(document)]
    packed = {each["_id"]: (each.get("distributed") or {}).get("status") for each in db["objects"].find({})}
    found += [f"{name} is not packed" for name, is_packed in packed.items() if not is_packed]
    for night in db["aux"].find({}):
        checked = night.get("checked")
        if checked is None or checked.timestamp() < since:
            found.append(f"{night['_id']} was not checked since")
        if (night.get("raw_data") or {}).get("growing"):
            found.append(f"{night['_id']}: files are growing")
    found += [f"request {each['_id']} waits" for each in db["requests"].find({"state": "waiting"})]
    daemon = db["telemetry"].find_one({"_id": "daemon"}) or {}
    if daemon.get("state") != "idle" or time.time() - daemon["updated"].timestamp() > 15:
        found.append(f"the daemon is {daemon.get('state')}")
    return found + missing_observations(site) + leftovers(site)


def _blocks(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    blocks = document.get("pipelined") if "pipelined" in document else document
    for name, block in (blocks or {}).items():
        if isinstance(block, dict) and "steps" in block:
            yield name, block


def _open(document: dict[str, Any]) -> Iterator[str]:
    for name, block in _blocks(document):
        if (block.get("status") or {}).get("force_redo"):
            yield f"{name}: a redo is asked for"
        for step, record in block["steps"].items():
            state, is_final = record.get("state"), record.get("retries", 0) > MOST_RETRIES
            if state not in ENDED and not (state == "failed" and is_final):
                yield f"{name}.{step} is {state}"


def missing_observations(site: Site) -> list[str]:
    """Return raw science files that belong to no observation of the database."""
    listed = {
        name for found in site.db()["objects"].find({}, {"raw_data.data": 1}) for name in found["raw_data"]["data"]
    }
    present = {path.name for path in site.raw[0].glob("2*/[0-9]*_VIC_*.fits*")}
    return [f"{name} belongs to no observation" for name in sorted(present - listed)]


def violations_of_database(site: Site, people: People) -> list[str]:
    """Return what the database holds that it should not, and what people were told that it does not hold."""
    db, found = site.db(), list(missing_observations(site))
    observations = {each["_id"]: each for each in db["objects"].find({})}
    for document in (*observations.values(), *db["aux"].find({})):
        found += [f"{document['_id']} {text}" for text in _wrong_states(document)]
    done = people.done
    wanted = [(name, "comment", text) for name, text in done.comments.items()]
    wanted += [(name, "program_PI", who) for name, who in done.owners.items()]
    wanted += [(name, "alternative_names", names) for name, names in done.names.items()]
    for name, what, value in wanted:
        found += _differs(observations.get(name), name, what, [value, *done.unanswered.get(name, ())])
    for (name, pipeline), asked in done.redone.items():
        steps = ((observations.get(name, {}).get("pipelined") or {}).get(pipeline) or {}).get("steps") or {}
        late = [step for step, record in steps.items() if (record.get("finished") or asked) <= asked]
        if late or not steps:
            found.append(f"{name}: the redo of {pipeline} asked for at {asked:%H:%M:%S} was not done: {late}")
    users = {user["_id"]: user for user in db["users"].find({})}
    found += [f"user {name} is lost" for name in done.users if name not in users]
    found += [
        f"user {name} has programmes {users[name].get('programs')}, not {programs}"
        for name, programs in done.users.items()
        if name in users and users[name].get("programs") not in (programs, "all")
    ]
    found += [f"token {number} is lost" for number, token in enumerate(done.tokens) if not people.token_works(token)]
    return found


def _differs(document: dict[str, Any] | None, name: str, what: str, wanted: list[object]) -> list[str]:
    """Compare a field with the value that was acknowledged, and those that may have been written later."""
    if document is None:
        return [f"observation {name} is lost"]
    is_now = {**document, **document["science_program"]}.get(what)
    return [] if is_now in wanted else [f"{name}: {what} {wanted[0]!r} became {is_now!r}"]


def _wrong_states(document: dict[str, Any]) -> Iterator[str]:
    for name, block in _blocks(document):
        for step, record in block["steps"].items():
            state = record.get("state")
            if state in ("enqueued", "waiting"):
                yield f"{name}.{step} is {state}"
            if state in ("failed", "rejected", "lacking") and not record.get("message"):
                yield f"{name}.{step} is {state} without a reason"


def retries(site: Site) -> int:
    """Return how many attempts at steps did not come to an end, as the database counts them."""
    return site.db()["jobs"].count_documents({"state": {"$nin": sorted(ENDED)}})


# -- the tree -------------------------------------------------------------------------------------------------


def violations_of_tree(archive: Path, clean: Path) -> list[str]:
    """Return how a tree differs from that of a run without faults.

    Parameters
    ----------
    archive : Path
        The tree that faults happened to.
    clean : Path
        The other one.

    Returns
    -------
    list of str
    """
    ours, theirs = _files(archive), _files(clean)
    found = [f"{name} is missing" for name in sorted(theirs - ours)]
    found += [f"{name} is not in the tree of a clean run" for name in sorted(ours - theirs)]
    for name in sorted(ours & theirs):
        found += [f"{name}: {text}" for text in _differences(archive / name, clean / name)]
    return found


def _files(root: Path) -> set[str]:
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {name for name in names if not name.startswith(".")}


def _differences(ours: Path, theirs: Path) -> Iterator[str]:
    try:
        if ours.name.endswith(".fits"):
            yield from _fits_differences(ours, theirs)
        elif ours.name == SIDECAR:
            yield from _sidecar_differences(ours, theirs)
        elif ours.name.endswith(".json"):
            yield from _manifest_differences(ours, theirs)
        elif ours.name.endswith(".tar.bz2"):
            yield from _tarball_differences(ours, theirs)
        elif DATES.sub(b"", ours.read_bytes()) != DATES.sub(b"", theirs.read_bytes()):
            yield "its content differs"
    except Exception as err:  # noqa: BLE001 - whatever cannot be read is a finding
        yield f"cannot be compared: {type(err).__name__}: {err}"


def _fits_differences(ours: Path, theirs: Path) -> Iterator[str]:
    with fits.open(ours, checksum=True) as one, fits.open(theirs) as other:
        one.verify("exception")
        if len(one) != len(other):
            yield f"{len(one)} HDUs instead of {len(other)}"
        for number, (mine, clean) in enumerate(zip(one, other, strict=False)):
            cards, wanted = _cards(mine.header), _cards(clean.header)
            if cards != wanted:
                yield f"header of HDU {number} differs: {sorted(set(cards) ^ set(wanted))[:4]}"
            if not _same_pixels(mine.data, clean.data):
                yield f"pixels of HDU {number} differ"


def _cards(header: fits.Header) -> list[str]:
    kept = [card for card in header.cards if card.keyword not in VOLATILE and not card.keyword.startswith("DATE")]
    return [OF_MASTER.sub(r"\1", f"{card.keyword} = {card.value} / {card.comment}") for card in kept]


def _same_pixels(mine: Any, clean: Any) -> bool:
    if mine is None or clean is None:
        return mine is clean
    if mine.dtype.names:
        return bool(mine.tobytes() == clean.tobytes())
    return bool(np.array_equal(mine, clean, equal_nan=mine.dtype.kind == "f"))


def _manifest_differences(ours: Path, theirs: Path) -> Iterator[str]:
    mine, clean = _manifest(ours), _manifest(theirs)
    for key in sorted((mine.keys() | clean.keys()) - NOT_COMPARED):
        if mine.get(key) != clean.get(key):
            yield f"{key} is {str(mine.get(key))[:150]} instead of {str(clean.get(key))[:150]}"
    names, wanted = ([entry["name"] for entry in each["products"]] for each in (mine, clean))
    if names != wanted:
        yield f"products {names} instead of {wanted}"


def _manifest(path: Path) -> dict[str, Any]:
    """Read a manifest, without the signatures that hold the times of other steps, or the past of raw files.

    A master whose raw files were copied again keeps the signature that it had, if its pixels are what they were.
    """
    content: dict[str, Any] = parse_with_checksum(path.read_bytes())
    inputs = content.get("inputs", {})
    plain = {key: OF_MASTER.sub(r"\1", str(value).partition("results:")[0]) for key, value in inputs.items()}
    masters = [{**master, "signature": ""} for master in content["results"].get("masters", ())]
    results = {**content["results"], "masters": masters} if masters else content["results"]
    return {**content, "inputs": plain, "results": results}


def _sidecar_differences(ours: Path, theirs: Path) -> Iterator[str]:
    mine, clean = (parse_with_checksum(path.read_bytes()) for path in (ours, theirs))
    of_people = {"comment", "science_program", "alternative_names", "date_added", "distributed", "raw_data", "seeing"}
    for key in sorted((mine.keys() | clean.keys()) - of_people):
        if mine.get(key) != clean.get(key):
            yield f"{key} is {str(mine.get(key))[:150]} instead of {str(clean.get(key))[:150]}"
    if mine["raw_data"].get("signature") != clean["raw_data"].get("signature"):
        yield "it names other raw files"


def _members(tarball: Path) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tarball.read_bytes()), mode="r:bz2") as tar:
        members = [(member, tar.extractfile(member)) for member in tar.getmembers()]
        return {member.name.partition("/")[2]: file.read() for member, file in members if file is not None}


def _tarball_differences(ours: Path, theirs: Path) -> Iterator[str]:
    mine, clean = _members(ours), _members(theirs)
    if mine.keys() != clean.keys():
        yield f"members differ: {sorted(mine.keys() ^ clean.keys())[:6]}"
    for name, content in mine.items():
        beside = ours.parent / name
        if name != SIDECAR and beside.is_file() and beside.read_bytes() != content:
            yield f"{name} is another one than beside it"


def leftovers(site: Site) -> list[str]:
    """Return unfinished and temporary files that are left."""
    found = [path for path in site.archive.rglob("*.part") if ".db" not in path.parts]
    for folder in ("steps", "unpacked"):
        found += [path for path in (site.tmp / folder).glob("*")]
    return [f"left behind: {path.relative_to(site.root)}" for path in found]


def wrong_checksums(archive: Path) -> list[str]:
    """Return products that differ from the checksums in their manifests, read with nothing of the project."""
    import hashlib

    found = []
    for manifest in archive.glob("2*/**/.[!o]*.json"):
        try:
            for entry in json.loads(manifest.read_bytes())["products"]:
                content = (manifest.parent / entry["name"]).read_bytes()
                if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                    found.append(f"{manifest.parent / entry['name']} differs from its checksum")
        except (OSError, ValueError, LookupError, TypeError) as err:
            found.append(f"{manifest}: {type(err).__name__}: {err}")
    return found
