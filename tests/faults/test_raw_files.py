"""Faults 9 to 14, 16, 17, 26 and 33: raw files that grow, are damaged, vanish, lie twice, or come late."""

import bz2
import os
import random
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obsarchive.core.json_text import parse_json
from obsarchive.simulation.night import write_raw
from tests.daemon.conftest import NIGHT, wait_for
from tests.faults.archives import (
    HEADER,
    SETTINGS,
    TARGETS,
    FaultSite,
    assert_nothing_is_left_over,
    assert_nothing_is_lost,
    raw_name,
    step_of,
    write_calibration,
    write_science,
)
from tests.pipelines.test_bad_input import frame_of, star_frames

BLOCK = 2880


def raw_file(site: FaultSite, target: str) -> Path:
    """Return the raw file of an observation."""
    return site.night / f"{raw_name(target, TARGETS.index(target))}.fits.bz2"


def bring_back(site: FaultSite, raw_night: Path, *targets: str) -> None:
    """Put the raw files of observations back as they were, as rsync does it: aside first, then renamed."""
    for target in targets:
        path = raw_file(site, target)
        shutil.copy2(raw_night / path.name, site.folder)
        (site.folder / path.name).rename(path)


def test_09_file_that_is_still_being_copied(site: FaultSite, clean: FaultSite) -> None:
    site.change(daemon={"settle_time_s": 1.5})
    raw, goes_on = raw_file(site, "Vega"), threading.Event()
    content, stat = raw.read_bytes(), raw.stat()
    raw.unlink()

    def copy() -> None:
        with raw.open("wb", buffering=0) as file:
            for byte in content[:-1]:
                file.write(bytes([byte]))
                if goes_on.wait(0.1):
                    break
            file.write(content[file.tell() :])
        os.utime(raw, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    writer = threading.Thread(target=copy)
    writer.start()
    with site.running(), site.store() as store:
        wait_for(lambda: step_of(store, "KOI-2", "note").get("state") == "done")
        assert writer.is_alive()
        assert store.observations.find(raw_name("Vega")) is None
        assert raw.name in (store.nights.find(NIGHT) or {})["raw_data"]["growing"]
        goes_on.set()
        writer.join()
        site.waits_until_settled()
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def test_10_files_that_stay_truncated(site: FaultSite, clean: FaultSite, raw_night: Path) -> None:
    whole = {target: bz2.decompress(raw_file(site, target).read_bytes()) for target in TARGETS}
    cut = raw_file(site, "Vega")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    hdu = next(
        place for place in range(BLOCK, len(whole["KOI-2"]), BLOCK) if whole["KOI-2"][place:].startswith(b"XTEN")
    )
    raw_file(site, "KOI-2").write_bytes(bz2.compress(whole["KOI-2"][:hdu]))  # the first of several streams
    raw_file(site, "HD_3").unlink()
    plain = raw_file(site, "HD_3").with_suffix("")
    plain.write_bytes(whole["HD_3"][:hdu])
    with site.running():
        site.waits_until_settled()
        for target, path in zip(TARGETS, (cut, raw_file(site, "KOI-2"), plain), strict=True):
            record = site.step(target)
            assert record["state"] == "rejected"
            assert path.name.partition(".fits")[0] in record["message"]
        plain.unlink()
        bring_back(site, raw_night, *TARGETS)
        with site.store() as store:
            wait_for(lambda: [step_of(store, target, "note").get("state") for target in TARGETS] == ["done"] * 3)
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean)


def card(text: str) -> bytes:
    """Return a card of a header."""
    return text.ljust(80).encode()


DAMAGE = {
    "bad_card": lambda raw: raw.replace(card_of(raw, b"EXPOSURE"), card("EXPOSURE= 'no end of this string")),
    "no_end": lambda raw: raw.replace(card("END"), card("COMMENT")),
    "naxis_lies": lambda raw: raw.replace(card_of(raw, b"NAXIS1"), card("NAXIS1  =                99999")),
    "no_numbers": lambda raw: raw.replace(card_of(raw, b"BITPIX"), card("BITPIX  = 'sixteen'")),
    "no_position": lambda raw: raw.replace(card_of(raw, b"TELRA"), card("COMMENT")),
}


def card_of(raw: bytes, key: bytes) -> bytes:
    """Return the first card of a key."""
    place = next(place for place in range(0, len(raw), 80) if raw[place : place + 8].rstrip() == key)
    return raw[place : place + 80]


def test_11_corrupt_headers(site: FaultSite, clean: FaultSite) -> None:
    whole = bz2.decompress(raw_file(site, "Vega").read_bytes())
    chance = random.Random(11)
    contents = {name: damage(whole) for name, damage in DAMAGE.items()}
    for number in range(8):
        mutated = bytearray(whole)
        for _ in range(3):
            mutated[chance.randrange(BLOCK)] = chance.randrange(256)
        contents[f"mutant{number}"] = bytes(mutated)
    for number, (name, content) in enumerate(contents.items()):
        (site.night / f"{raw_name(name, 10 + number)}.fits").write_bytes(content)
    with site.running():
        site.waits_until_settled(3 + len(contents), seconds=150)
    with site.store() as store:
        states = {name: step_of(store, name) for name in contents}
    assert {states[name]["state"] for name in ("no_end", "naxis_lies", "no_numbers")} == {"rejected"}
    assert states["no_position"]["state"] == "done"
    rejected = [name for name, record in states.items() if record["state"] == "rejected"]
    assert all(states[name]["state"] in ("done", "rejected", "lacking") for name in contents)
    assert_nothing_is_lost(site, clean, [n for n in contents if states[n]["state"] != "done"] or rejected, contents)


def test_12_frames_that_no_telescope_should_write(empty: FaultSite) -> None:
    rng = np.random.default_rng(12)
    kinds = {kind: [frame_of(kind, (48, 48), rng)] * 4 for kind in ("nan", "some nan", "saturated", "zero", "noise")}
    stars = list(star_frames(5, 12))
    scenes = {**kinds, "single": stars[:1], "partly": [*stars, np.full((48, 48), 65535, np.uint16)]}
    for number, (name, frames) in enumerate(scenes.items()):
        path = empty.night / f"{raw_name(name.replace(' ', '-'), number)}.fits"
        write_raw(path, (frame.astype(np.float32) for frame in frames), len(frames), HEADER)
    empty.change(
        pipelines=[{"class": f"pipelines.{name}"} for name in ("bright_star.BrightStar", "faint_star.FaintStar")],
        calibration={"required": False},
        parallel={"memory_limit_gb": 2},
    )
    with empty.running():
        empty.waits_until_settled(len(scenes), seconds=120)
        with empty.store() as store:
            for document in store.database["objects"].find():
                steps = [step for block in document["pipelined"].values() for step in block["steps"].values()]
                assert steps
                for step in steps:
                    assert step["state"] in ("done", "rejected", "lacking"), (document["_id"], step["message"])
                    assert step["state"] == "done" or len(step["message"]) > 15
    for path in empty.layout.root.rglob(".*.json"):
        assert "NaN" not in path.read_text()
        assert parse_json(path.read_bytes())
    pictures = list(empty.layout.root.rglob("*.png"))
    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
    assert_nothing_is_left_over(empty, empty.layout.root)


def test_13_file_without_content(site: FaultSite, clean: FaultSite, raw_night: Path) -> None:
    raw = raw_file(site, "Vega")
    raw.unlink()
    site.change(daemon={"settle_time_s": 1.5})
    with site.running(), site.store() as store:
        wait_for(lambda: step_of(store, "KOI-2", "note").get("state") == "done")
        raw.touch()
        wait_for(lambda: raw.name in (store.nights.find(NIGHT) or {})["raw_data"]["growing"])
        wait_for(lambda: step_of(store, "Vega").get("state") == "rejected")
        assert "found an empty file" in step_of(store, "Vega")["message"]
        bring_back(site, raw_night, "Vega")
        wait_for(lambda: step_of(store, "Vega", "note").get("state") == "done")
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean)


def test_14_raw_files_deleted_in_the_middle_of_a_run(site: FaultSite, clean: FaultSite, raw_night: Path) -> None:
    def is_missing(target: str) -> bool:
        document = store.observations.find(raw_file(site, target).name.partition(".fits")[0]) or {}
        return bool(document["raw_data"].get("missing"))

    site.order("HD_3", "add", "hold")
    with site.running(), site.store() as store:
        site.held("HD_3")  # the next step is handed out already, that of Vega is not
        raw_file(site, "KOI-2").unlink()
        raw_file(site, "Vega").unlink()
        wait_for(lambda: is_missing("KOI-2") and is_missing("Vega"))
        site.release("HD_3")
        wait_for(lambda: "No such file" in step_of(store, "KOI-2").get("message", ""))
        wait_for(lambda: step_of(store, "HD_3", "note").get("state") == "done")
        made = {path: path.stat().st_mtime_ns for path in site.layout.root.rglob("*.fits")}
        raw_file(site, "HD_3").unlink()
        wait_for(lambda: is_missing("HD_3"))
        site.waits_until_settled()
        assert made == {path: path.stat().st_mtime_ns for path in made}
        bring_back(site, raw_night, *TARGETS)
        wait_for(lambda: not any(map(is_missing, TARGETS)))
        site.waits_until_settled()
    assert [site.step(target)["retries"] for target in TARGETS] == [0, 0, 0]
    assert_nothing_is_lost(site, clean)


@pytest.mark.parametrize("first", ["raw", "raw2"])
def test_16_observation_below_two_roots(site: FaultSite, clean: FaultSite, first: str) -> None:
    second = site.folder / "raw2" / NIGHT
    shutil.copytree(site.night, second)
    other = second / raw_file(site, "Vega").name
    write_science(second, raw_name("Vega"), seed=99)
    site.change(paths={"raw": sorted(("raw", "raw2"), key=lambda name: name != first)})
    with site.running():
        site.waits_until_settled()
        with site.store() as store:
            problems = {problem["folder"] for problem in store.nights.find(NIGHT)["raw_data"]["problems"]}
            counted = (store.observations.find(raw_name("Vega")) or {})["raw_data"]["location"][1]
    assert problems == {str(second if first == "raw" else site.night)}
    assert Path(counted).parent.name == first
    assert "has other contents and counts: remove the wrong one" in site.run("--check")
    others = () if first == "raw" else ("Vega",)
    assert_nothing_is_lost(site, clean, besides=others)
    assert other.exists()


def test_17_hostile_names(site: FaultSite, clean: FaultSite) -> None:
    chance = random.Random(17)
    names = [b"-rf", b"a\nb.fits", b"'quote\".fits", b"\xff\xfe.fits", "naïve_☂.fits".encode(), b"x" * 255, b"$ne.fits"]
    names += [b"..fits", b"3_.._VIC_Si_o_20260314_030000.000000.fits", b"{id}.fits", b"%2e%2e%2f.fits", b" .fits"]
    names += [bytes(chance.choice(range(1, 256)) for _ in range(chance.randrange(1, 40))) for _ in range(40)]
    for name in names:
        with open(os.fsencode(site.night) + b"/" + name.replace(b"/", b"_"), "wb") as file:  # noqa: PTH123 - bytes
            file.write(b"nothing")
    before = {path for path in site.folder.rglob("*") if not path.is_relative_to(site.layout.root)}
    with site.running(), site.store() as store:
        wait_for(lambda: [step_of(store, target, "note").get("state") for target in TARGETS] == ["done"] * 3)
        wait_for(lambda: (store.jobs.daemon() or {}).get("state") == "idle")
    new = {path for path in site.folder.rglob("*") if not path.is_relative_to(site.layout.root)} - before
    assert {path.relative_to(site.folder).parts[0] for path in new} <= {"said.txt", "logs", "tmp"}
    with site.store() as store:
        odd = [document["name"] for document in store.database["objects"].find() if document["name"] not in TARGETS]
    assert_nothing_is_lost(site, clean, failed=odd)


def with_cards(raw: bytes, cards: Iterable[str]) -> bytes:
    """Return a raw file whose first header has more cards."""
    end = next(place for place in range(0, len(raw), 80) if raw[place : place + 8] == b"END     ")
    header = raw[:end] + b"".join(map(card, cards)) + card("END")
    return header + b" " * (-len(header) % BLOCK) + raw[end + BLOCK - end % BLOCK :]


def test_26_huge_and_odd_header_values(site: FaultSite, clean: FaultSite) -> None:
    whole = bz2.decompress(raw_file(site, "Vega").read_bytes())
    odd = {
        "huge": whole.replace(card_of(whole, b"EXPOSURE"), card("EXPOSURE= 1E400")),
        "integer": whole.replace(card_of(whole, b"MAGNITUD"), card(f"MAGNITUD= {2**70}")),
        "long": with_cards(whole, (f"HIERARCH ESO WORD{n} = '{'x' * 40}'" for n in range(250))),
        "wide": with_cards(whole, (f"T{n:<7d}= '{'t' * 66}'" for n in range(50_000))),
    }
    for number, (name, content) in enumerate(odd.items()):
        (site.night / f"{raw_name(name, 10 + number)}.fits").write_bytes(content)
    with site.running():
        site.waits_until_settled(3 + len(odd), seconds=150)
    assert {site.step(name)["state"] for name in odd} == {"done"}
    with site.store() as store:
        document = store.database["objects"].find_one({"name": "wide"}) or {}
    assert document["coordinates"]["dec_deg"] == -8.5
    assert len(document["fits_header"]) > 1000
    assert_nothing_is_lost(site, clean, besides=odd)


def test_33_calibration_that_comes_late(site: FaultSite, clean: FaultSite, raw_night: Path) -> None:
    for path in [*site.night.glob("dark_*"), *site.night.glob("flat_*")]:
        path.unlink()
    with site.running():
        with site.store() as store:
            wait_for(lambda: step_of(store, "Vega").get("state") == "lacking")
            write_calibration(site.folder / "raw" / "20260312", "20260312")
            wait_for(lambda: step_of(store, "Vega", "note").get("state") == "done")
            assert "copied from 20260312" in step_of(store, "Vega")["results"]["calibration"]
        for path in raw_night.glob("[df][al]*"):
            shutil.copy2(path, site.night)
        with site.store() as store:
            wait_for(lambda: step_of(store, "Vega").get("results", {}).get("calibration") == "dark_6, flat_Si")
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean, besides=("20260312",))


@pytest.mark.parametrize("pattern", ["dark_*", "flat_*", "dark_0*"])
def test_33_calibration_files_that_are_away_while_masters_are_made(
    site: FaultSite, clean: FaultSite, tmp_path: Path, pattern: str
) -> None:
    """As on a disk that is unmounted after they were listed: they are used when they are back, as they were."""
    site.change(pipelines=SETTINGS["pipelines"][1:])
    site.run()
    away = [path.rename(tmp_path / path.name) for path in site.night.glob(pattern)]
    site.change(pipelines=SETTINGS["pipelines"])
    site.run()
    assert set(site.states().values()) >= {"lacking"}
    assert not site.step("Vega").get("products")
    for path in away:
        path.rename(site.night / path.name)
    site.run()
    assert_nothing_is_lost(site, clean)


def test_33_raw_disk_that_is_away_for_a_whole_run(site: FaultSite, clean: FaultSite) -> None:
    """The run says that it waited in vain; the next one begins at once."""
    site.change(pipelines=SETTINGS["pipelines"][1:], daemon={"loop_interval_s": 0.02})
    site.run()
    site.change(pipelines=SETTINGS["pipelines"])
    raw = site.night.parent
    raw.rename(site.folder / "unmounted")
    said = site.run()
    assert "wait for what is away now" in said
    assert "nothing is due" not in said
    (site.folder / "unmounted").rename(raw)
    assert "nothing is due any more" in site.run()
    assert_nothing_is_lost(site, clean)


def test_33_science_waits_for_calibration_that_is_due_again(reduced: FaultSite, raw_night: Path) -> None:
    reduced.run()
    write_science(reduced.night, raw_name("late", 50), 5)
    one_more = next(raw_night.glob("dark_6*")).name.replace("_0100", "_0200")
    shutil.copy(next(raw_night.glob("dark_6*")), reduced.night / one_more)
    reduced.run()
    with reduced.store() as store:
        jobs = list(store.database["jobs"].find())
    (darks,) = (job for job in jobs if job["step"] == "darks")
    science = [job for job in jobs if job["step"] == "add"]
    assert len(science) == len({job["subject"] for job in science}) == len(TARGETS) + 1
    assert all(job["queued"] >= darks["finished"] for job in science)
    assert_nothing_is_left_over(reduced, reduced.layout.root)
