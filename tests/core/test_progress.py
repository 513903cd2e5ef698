"""Progress that is passed on from time to time."""

import time

from obsarchive.core.progress import at_intervals


def test_first_progress_is_passed_on_and_then_some_of_it() -> None:
    heard: list[tuple[float, str]] = []
    report = at_intervals(lambda fraction, text: heard.append((fraction, text)), 0.2)
    began = time.monotonic()
    for number in range(1000):
        report(number / 1000, f"frame {number}")
    assert heard[0] == (0.0, "frame 0")
    assert len(heard) <= 1 + (time.monotonic() - began) / 0.2
    time.sleep(0.2)
    report(1.0, "done")
    assert heard[-1] == (1.0, "done")
