"""Faults of the archive tree and of the configuration file."""

import json
import random
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.faults import LASTS_S, Fault, World, follows, kind

PATIENCE_S = 10.0
"""How long a fault waits for something to damage [s]."""


def _damaged(pattern: str, damage: Callable[[Path, random.Random], None]) -> Fault:
    def fault(world: World) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := world.products(pattern)) and time.monotonic() < deadline:
            time.sleep(1)
        if found:
            chosen = world.rng.choice(found)
            world.site.say(f"damaged: {chosen.relative_to(world.site.archive)}")
            damage(chosen, world.rng)
            if chosen.name == ".observation.json":
                world.sidecar_damaged = time.time()
        return bool(found)

    return fault


def _flip(path: Path, rng: random.Random) -> None:
    """Flip one bit, in place, and leave the time as it is."""
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        with path.open("r+b") as file:
            file.write(content)


def _cut(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(rng.randrange(max(path.stat().st_size, 1)))


def _garble(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.choice([b"", b"{", b'{"_id": 18446744073709551616000}', b"\x00\xff" * 40, b"[[[[", b"null"]))


def _remove(path: Path, _rng: random.Random) -> None:
    path.unlink()


_PRODUCT = "2*/*/*/**/[!.]*"
_MANIFEST = "2*/**/.[!o]*.json"
for _what, _pattern in {
    "product": _PRODUCT,
    "calibration": "2*/calib/[!.]*",
    "tarball": "2*/*/*.tar.bz2",
    "manifest": _MANIFEST,
    "sidecar": "2*/*/.observation.json",
}.items():
    kind(f"{_what}: bit flipped", "tree")(_damaged(_pattern, _flip))
    kind(f"{_what}: truncated", "tree")(_damaged(_pattern, _cut))
    kind(f"{_what}: deleted", "tree")(_damaged(_pattern, _remove))
kind("manifest: garbled", "tree")(_damaged(_MANIFEST, _garble))
kind("sidecar: garbled", "tree")(_damaged("2*/*/.observation.json", _garble))


@kind("folder of an observation or night deleted", "tree")
def _folder(world: World) -> bool:
    found = sorted(path for path in world.site.archive.glob("2*/*/*/") if path.is_dir())
    found += sorted(path for path in world.site.archive.glob("2*/*/") if path.is_dir())
    if found:
        shutil.rmtree(world.rng.choice(found), ignore_errors=True)
        world.sidecar_damaged = time.time()
    return bool(found)


@kind("leftovers of killed writers", "tree")
def _leftovers(world: World) -> bool:
    folders = sorted(path for path in world.site.archive.glob("2*/**/") if path.is_dir())
    for folder in world.rng.sample(folders, min(3, len(folders))):
        (folder / f".something.fits.{secrets.token_hex(4)}.part").write_bytes(b"half")
    return bool(folders)


# -- configuration --------------------------------------------------------------------------------------------


def _edited(change: Callable[[dict[str, object], random.Random], str]) -> Fault:
    """The configuration is edited, and edited back after a while."""

    def fault(world: World) -> bool:
        path = world.site.config
        before = path.read_text()
        path.write_text(change(json.loads(before), world.rng))
        time.sleep(world.rng.uniform(1, 2 * LASTS_S))
        path.write_text(before)
        return True

    return fault


def _other_interval(config: dict[str, object], rng: random.Random) -> str:
    config["daemon"] |= {"loop_interval_s": rng.uniform(0.4, 1.0), "max_retries": 8}  # type: ignore[operator]
    return json.dumps(config)


def _unknown_key(config: dict[str, object], rng: random.Random) -> str:
    config[f"nonsense{rng.randrange(100)}"] = 1
    return json.dumps(config)


def _other_archive(config: dict[str, object], _rng: random.Random) -> str:
    config["paths"] |= {"archive": "elsewhere"}  # type: ignore[operator]
    return json.dumps(config)


# a daemon that starts meanwhile refuses these, so that they need the daemon for themselves
kind("configuration: a valid edit", "daemon")(_edited(_other_interval))


def _refused(change: Callable[[dict[str, object], random.Random], str]) -> Fault:
    edited = _edited(change)

    def fault(world: World) -> bool:
        world.site.daemon.excuse(20)
        world.site.portal.excuse(20)
        return edited(world)

    return fault


kind("configuration: no JSON", "daemon")(_refused(lambda config, _rng: json.dumps(config)[:-7]))
kind("configuration: unknown key", "daemon")(_refused(_unknown_key))


@kind("configuration: another archive", "daemon")
def _moved_archive(world: World) -> bool:
    """Name another archive while the daemon runs; a program that starts meanwhile rightly uses that one."""
    programs = (world.site.daemon, world.site.portal)
    starts = [program.starts for program in programs]
    is_done = follows(world.site) and _refused(_other_archive)(world)
    for program, before in zip(programs, starts, strict=True):
        if program.starts > before:
            program.excuse()
            program.send(signal.SIGTERM)
    return is_done
