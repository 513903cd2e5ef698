"""Faults 29, 30 and 36: trees in which files vanish, rot, or are left over."""

import os
import random
import time
from pathlib import Path

from astropy.io import fits
from numpy.testing import assert_array_equal

from tests.daemon.conftest import NIGHT, wait_for
from tests.faults.archives import FaultSite, assert_nothing_is_lost, raw_name, step_of, write_science


def ended_steps(site: FaultSite) -> set[tuple[str, str]]:
    """Return the steps that ran, by target or night."""
    with site.store() as store:
        return {(job["subject"].split("_VIC")[0], job["step"]) for job in store.jobs.recent(limit=500)}


def maker_of(product: Path) -> tuple[str, str]:
    """Return the step that makes a product, by target or night."""
    if product.parent.name == "calib":
        return NIGHT, "darks" if product.name.startswith("dark") else "flats"
    owner = next(folder.name for folder in product.parents if "_VIC" in folder.name)
    return owner.split("_VIC")[0], "add" if product.suffix == ".fits" else "note"


def test_29_part_of_the_tree_deleted(reduced: FaultSite, clean: FaultSite) -> None:
    chance = random.Random(29)
    with reduced.running():
        reduced.waits_until_settled()
        names = sorted(path for path in reduced.layout.root.rglob("*") if path.is_file() and "/." not in str(path))
        gone = chance.sample(names, len(names) // 5)
        gone += [path for path in names if path.name.endswith("Vega_VIC_Si_o_20260314_030000.000000.tar.bz2")]
        for path in gone:
            path.unlink(missing_ok=True)
        wait_for(lambda: all(path.exists() for path in gone))
        reduced.waits_until_settled()
    assert ended_steps(reduced) == {maker_of(path) for path in gone if path.suffix in (".fits", ".txt")}
    assert_nothing_is_lost(reduced, clean)


def test_30_bits_that_flip(reduced: FaultSite, clean: FaultSite) -> None:
    reduced.change(daemon={"checksum_days": 1e-5, "checksum_mb_s": 100.0})
    reduced.run()
    (product,) = reduced.layout.root.rglob("*KOI-2*_sum.fits")
    (note,) = reduced.layout.root.rglob("*Vega*/sum/notes/level.txt")
    (manifest,) = reduced.layout.root.rglob("*HD_3*/sum/.note.json")
    for path in (product, note):
        content, stat = bytearray(path.read_bytes()), path.stat()
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    manifest.write_bytes(manifest.read_bytes()[:50])
    with reduced.running():
        with reduced.store() as store:
            wait_for(lambda: store.database["jobs"].count_documents({"state": "done"}) >= 3)
        reduced.waits_until_settled()
    # nobody knows since when a product of a night that was restored is damaged: what was made from it is made again
    readers = {("3_KOI-2", "note")}
    assert ended_steps(reduced) == {("3_KOI-2", "add"), ("3_Vega", "note"), ("3_HD_3", "note")} | readers
    assert_nothing_is_lost(reduced, clean)


def test_30_a_damaged_master_is_not_copied_to_another_night(reduced: FaultSite, clean: FaultSite) -> None:
    """The audit has not come to it: a run that ends with the work has none."""
    dark = reduced.layout.calibration(NIGHT) / "dark_6.fits"
    content, stat = bytearray(dark.read_bytes()), dark.stat()
    content[len(content) // 2] ^= 1
    dark.write_bytes(content)
    os.utime(dark, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    later = str(int(NIGHT) + 1)
    write_science(reduced.folder / "raw" / later, raw_name("Vega", night=later))
    reduced.run()
    wanted = fits.getdata(clean.layout.calibration(NIGHT) / dark.name)
    assert_array_equal(fits.getdata(dark), wanted)
    assert_array_equal(fits.getdata(reduced.layout.calibration(later) / dark.name), wanted)
    assert_nothing_is_lost(reduced, clean, besides=[later])


def age(path: Path, seconds: float) -> None:
    """Make a file or folder look as if it had been changed some time ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_36_leftovers_of_a_crash(reduced: FaultSite, clean: FaultSite) -> None:
    night = reduced.layout.night(NIGHT)
    observation = next(night.glob("*Vega*"))
    old = [
        folder / ".image.fits.1a2b3c4d.part" for folder in (reduced.layout.root, night / "calib", observation / "sum")
    ]
    for path in old:
        path.write_bytes(b"half")
        age(path, 3600)
    folders = [reduced.folder / "tmp" / "steps" / "dead", reduced.folder / "tmp" / "unpacked" / "nobody"]
    for path in folders:
        path.mkdir(parents=True)
        (path / "half").write_bytes(b"half")
        age(path, 3600)
    with reduced.running():
        reduced.waits_until_settled()
        alive = observation / "sum" / ".image.fits.5e6f7a8b.part"
        alive.write_bytes(b"still being written")
        wait_for(lambda: not any(path.exists() for path in (*old, *folders)))
        time.sleep(1.0)  # two more looks at all products
        assert alive.exists()
        alive.unlink()
        with reduced.store() as store:
            assert step_of(store, "Vega")["state"] == "done"
    assert ended_steps(reduced) == set()
    assert_nothing_is_lost(reduced, clean)
