"""Downloads: ranges, streamed archives, a script that is really run by bash and curl."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest
from toy_archive import EARLIER, NIGHT

from obsarchive.core.package_texts import PACKAGE_VERSION
from obsarchive.web.framework.authorization import digest_of

TOKEN = "arc_download"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs the program curl")


@pytest.fixture
def headers(app, archive) -> dict[str, str]:
    app.store.tokens.add(digest_of(TOKEN), "ana", "script", ["download"], timedelta(days=1))
    return {"Authorization": f"Bearer {TOKEN}"}


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_parts_of_a_product(archive, as_user) -> None:
    address = f"/observation/{archive.own}/product/bright_star/100p.fits"
    ana = as_user("ana")
    whole = ana.get(address)
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = ana.get(address, headers={"Range": "bytes=4-9"})
    assert part.status_code == 206
    assert part.data == whole.data[4:10]
    assert ana.get(address, headers={"Range": "bytes=9999999-"}).status_code == 416


def test_a_programme_of_a_night_comes_as_one_archive(app, archive, as_user) -> None:
    found = members(as_user("ana").get(f"/download/night/{NIGHT}/3.tar").data)
    inside = f"{archive.own}/bright_star"
    assert found[f"{inside}/100p.fits"].startswith(b"SIMPLE")
    assert found[f"{inside}/frames.txt"] == b"1 2 3\n"
    assert not any(archive.foreign in name for name in found)
    assert as_user("ana").get(f"/download/night/{NIGHT}/4.tar").status_code == 404
    assert as_user("ana").get(f"/download/night/{EARLIER}/7.tar").status_code == 404


def test_a_selection_comes_as_one_archive(archive, as_user) -> None:
    found = members(as_user("admin").get("/download/selection.tar?done=bright_star.strehl").data)
    assert {name.split("/")[0] for name in found} == {archive.own, archive.foreign}
    assert as_user("admin").get("/download/selection.tar?ra=x&dec=y").status_code == 400


def test_nothing_is_offered_of_what_no_pipeline_made_a_product_of(app, archive, as_user) -> None:
    name, ana = archive.failed, as_user("ana")
    tarball = app.layout.tarball(NIGHT, name)
    archive.toy.product(tarball.parent, tarball.name, b"BZh9")
    packed = {"distributed.status": True, "distributed.version": PACKAGE_VERSION}
    app.store.observations.set_fields(name, packed)
    archive.toy.raw_file(name, f"{name}.fits.bz2", b"frames")
    script = ana.get(f"/download/selection.sh?id={name}")
    assert script.status_code == 200
    assert name not in script.text
    for path in (f"observation/{name}.tar", f"selection.tar?id={name}"):
        answer = ana.get(f"/download/{path}")
        assert answer.status_code == 404
        assert "no pipeline made a product" in answer.text
    assert ana.get(f"/observation/{name}/tarball").status_code == 404
    assert ana.get(f"/api/v1/observations/{name}").get_json()["tarball"] is None
    assert "No products to download" in ana.get(f"/observation/{name}").text
    for page in (f"/observation/{name}", f"/night/{NIGHT}/downloads"):
        links = set(re.findall(r'href="(/[^"]*)"', ana.get(page).text))
        assert {link for link in links if name in link and re.search(r"\.(tar|sh)|tarball", link)} == {
            f"/download/observation/{name}.tar?raw=1",
            f"/download/observation/{name}.sh?raw=1",
        }
    found = members(ana.get(f"/download/observation/{name}.tar?raw=1").data)
    assert found[f"{name}/raw/{name}.fits.bz2"] == b"frames"
    whole = members(ana.get(f"/download/night/{NIGHT}/3.tar").data)
    assert b"There are none: no pipeline made a product of it." in whole[f"{name}/README.txt"]
    assert b"There are none" not in whole[f"{archive.own}/README.txt"]


def test_a_programme_without_products_offers_none(archive, as_user) -> None:
    admin = as_user("admin")
    page = admin.get(f"/night/{NIGHT}").text
    assert f'href="/download/night/{NIGHT}/3.tar"' in page
    assert f'href="/download/night/{NIGHT}/5.tar"' not in page
    downloads = admin.get(f"/night/{NIGHT}/downloads").text
    assert f'href="/download/night/{NIGHT}/5.tar"' not in downloads
    assert f'href="/download/night/{NIGHT}/5.tar?raw=1"' in downloads
    assert admin.get(f"/download/night/{NIGHT}/5.tar").status_code == 404
    gone = admin.get(f"/download/night/{NIGHT}/5.tar?raw=1")
    assert gone.status_code == 404
    assert "no raw files" in gone.text


def test_only_so_many_streams_at_a_time(app, archive, as_user) -> None:
    ana = as_user("ana")
    for _ in range(2):
        app.store.slots.take("tar ana", 2, timedelta(minutes=1))
    assert ana.get(f"/download/night/{NIGHT}/3.tar").status_code == 429
    assert as_user("admin").get(f"/download/night/{NIGHT}/3.tar").status_code == 200
    app.store.slots.give_back("tar ana 0")
    for _ in range(3):
        assert ana.get(f"/download/night/{NIGHT}/3.tar").status_code == 200, "a stream that ended leaves its place"


def test_a_place_that_nobody_keeps_is_free_again(app) -> None:
    slots = app.store.slots
    assert slots.take("x", 1, timedelta(seconds=-1)) is not None
    assert slots.take("x", 1, timedelta(minutes=1)) is not None
    assert slots.take("x", 1, timedelta(minutes=1)) is None


def run(script: str, folder: Path, token: str = TOKEN) -> subprocess.CompletedProcess:
    path = folder / "get.sh"
    path.write_text(script)
    environment = {"PATH": os.environ["PATH"], "ARCHIVER_TOKEN": token}
    return subprocess.run(["bash", str(path)], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def script_of(address: str, headers: dict[str, str], what: str) -> str:
    import requests

    answer = requests.get(f"{address}/download/{what}", headers=headers, timeout=30)
    assert answer.status_code == 200
    return answer.text


@needs_curl
def test_the_script_fetches_checks_and_goes_on(app, archive, address, headers, tmp_path) -> None:
    script = script_of(address, headers, f"night/{NIGHT}/3.sh")
    assert TOKEN not in script
    first = run(script, tmp_path)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / archive.own / "bright_star"
    source = app.layout.observation(NIGHT, archive.own) / "bright_star"
    products = [path for path in folder.rglob("*") if path.is_file()]
    assert len(products) == 7
    for path in products:
        assert path.read_bytes() == (source / path.relative_to(folder)).read_bytes()

    (folder / "frames.txt").unlink()
    (folder / "100p.fits").write_text("damaged")
    picture = next(folder.glob("preview/*_full.png"))
    picture.rename(picture.with_name(f"{picture.name}.part"))
    with picture.with_name(f"{picture.name}.part").open("r+b") as part:
        part.truncate(100)
    second = run(script, tmp_path)
    assert second.returncode == 0, second.stderr
    assert len(second.stdout.splitlines()) == 3, "only what was missing or damaged is fetched"
    assert (
        hashlib.sha256(picture.read_bytes()).hexdigest()
        == hashlib.sha256((source / picture.relative_to(folder)).read_bytes()).hexdigest()
    )
    assert not list(folder.rglob("*.part"))


@needs_curl
def test_the_script_tells_what_it_cannot_fetch(app, archive, address, headers, tmp_path) -> None:
    script = script_of(address, headers, f"observation/{archive.own}.sh")
    refused = run(script.replace("sleep", "true"), tmp_path, token="wrong")
    assert refused.returncode == 1
    assert "FAILED" in refused.stderr
    missing = subprocess.run(
        ["bash", str(tmp_path / "get.sh")],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert missing.returncode != 0
    assert "ARCHIVER_TOKEN" in missing.stderr


@needs_curl
def test_a_hostile_name_is_no_command(app, archive, address, headers, tmp_path) -> None:
    """Neither the name of a product nor that of a target leaves its quotes."""
    name = "$(touch pwned)';touch pwned;'`touch pwned`.txt"
    folder = app.layout.observation(NIGHT, archive.own) / "bright_star"
    (folder / name).write_bytes(b"x")
    record = {"name": name, "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    archive.toy.step(archive.own, "bright_star", "reduce", state="done", products=[record])
    done = run(script_of(address, headers, f"observation/{archive.own}.sh"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("pwned"))
    assert (tmp_path / archive.own / "bright_star" / name).read_bytes() == b"x"
