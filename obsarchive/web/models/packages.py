"""Archive files of several observations, written while they are sent: products, texts, checksums."""

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flask import abort

from obsarchive.core.package_texts import CHECKSUMS, CITATION, README, Member, checksums, readme
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import resolve_product_path
from obsarchive.web.models.raw_data import CALIBRATION, CALIBRATION_PIPELINE, RAW, masters_of, raw_files
from obsarchive.web.models.view_models import Card

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Item:
    """A file of an observation to download.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Its name below the folder of the observation.
    source : str
        Pipeline that made it, or ``raw``.
    file : str
        Its name as addresses hold it.
    sha256 : str
        Its checksum; empty if it is not known.
    bytes : int
        Its size.
    """

    path: Path
    name: str
    source: str
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Package:
    """What is sent of an observation."""

    card: Card
    items: tuple[Item, ...]
    citation: str = ""

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(item.bytes for item in self.items)


def package(card: Card, citation: str, with_raw: bool = False) -> Package:
    """Return the files of an observation that are whole on disk.

    Parameters
    ----------
    card : Card
        The observation.
    citation : str
        How to cite its data.
    with_raw : bool, optional
        Also its raw files and the master frames of its night.

    Returns
    -------
    Package
    """
    items = list(_products(card))
    if with_raw:
        items += _sources(card)
    return Package(card, tuple(items), citation)


def require_files(packages: Iterable[Package], with_raw: bool) -> None:
    """Abort with 404 where there would be nothing in an archive file but texts.

    Parameters
    ----------
    packages : iterable of Package
        The observations.
    with_raw : bool
        Whether raw files were asked for, too.
    """
    if any(each.items for each in packages):
        return
    if with_raw:
        abort(404, "There is nothing to download: no products, no raw files and no master frames are on disk.")
    abort(404, "There is nothing to download: no pipeline made a product. With raw=1, raw files are sent as well.")


def product_bytes(card: Card) -> int:
    """Return the size of all products of an observation, as the database knows it."""
    sizes = (record.get("bytes") for view in card.pipelines for record in view.products.values())
    return sum(size for size in sizes if isinstance(size, int))


def _products(card: Card) -> Iterator[Item]:
    layout, night = portal().layout, card.observation.night
    for view in card.pipelines:
        for record in view.products.values():
            name = str(record["name"])
            path = resolve_product_path(view.folder / name, layout, night)
            if path is not None:
                digest = str(record.get("sha256") or "")
                yield Item(path, f"{view.name}/{name}", view.name, name, digest, path.stat().st_size)


def _sources(card: Card) -> Iterator[Item]:
    seen = card.observation
    for folder, source, files in ((RAW, RAW, raw_files(seen)), (CALIBRATION, CALIBRATION_PIPELINE, masters_of(seen))):
        for found in files:
            if found.path is not None and found.bytes is not None:
                yield Item(found.path, f"{folder}/{found.name}", source, found.name, found.sha256, found.bytes)


def tar(packages: Iterable[Package]) -> Iterator[bytes]:
    """Yield a tar archive without a temporary file; a file that shrinks meanwhile ends the stream.

    Parameters
    ----------
    packages : iterable of Package
        The observations, each in a folder of its own.

    Yields
    ------
    bytes
    """
    for each in packages:
        sums: list[tuple[str, str]] = []
        folder = each.card.id
        for item in each.items:
            digest = hashlib.sha256()
            yield from _file(item, f"{folder}/{item.name}", digest.update)
            sums.append((item.name, digest.hexdigest()))
        texts = {README: readme(folder, [Member(item.name, item.bytes) for item in each.items])}
        texts |= {CITATION: each.citation} if each.citation else {}
        sums += [(name, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts.items()]
        when = max((int(item.path.stat().st_mtime) for item in each.items), default=0)
        for name, text in (texts | {CHECKSUMS: checksums(sums)}).items():
            content = text.encode()
            yield _head(f"{folder}/{name}", len(content), when) + content + b"\0" * (-len(content) % BLOCK)
    yield b"\0" * 2 * BLOCK


def _file(item: Item, name: str, note: Callable[[bytes], None]) -> Iterator[bytes]:
    with item.path.open("rb") as file:
        yield _head(name, item.bytes, int(item.path.stat().st_mtime))
        left = item.bytes
        while left > 0:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise OSError(f"{item.path} shrank while it was sent")
            left -= len(chunk)
            note(chunk)
            yield chunk
    yield b"\0" * (-item.bytes % BLOCK)


def _head(name: str, n_bytes: int, when: int) -> bytes:
    about = tarfile.TarInfo(name)
    about.size, about.mtime = n_bytes, when
    return about.tobuf(tarfile.PAX_FORMAT)
