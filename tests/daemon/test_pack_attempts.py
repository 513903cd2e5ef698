"""A tarball that cannot be written is tried again, ever later, for as long as the daemon runs."""

import pytest

from obsarchive.daemon.tarballs import LONGEST_PAUSE_S, PackAttempts


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> PackAttempts:
    return PackAttempts(30.0, 3, clock)


def test_nothing_pauses_at_first(attempts):
    assert not attempts.is_paused("a")
    assert attempts.hopeless == set()


def test_pauses_double_and_end(attempts, clock):
    for pause_s in (30.0, 60.0, 120.0, 240.0, 480.0):
        attempts.failed("a")
        clock.now += pause_s - 1
        assert attempts.is_paused("a")
        assert not attempts.is_paused("b")
        clock.now += 1
        assert not attempts.is_paused("a")


def test_a_disk_that_is_away_for_days_is_forgiven_within_the_hour(attempts, clock):
    for _ in range(2000):
        attempts.failed("a")
        clock.now += LONGEST_PAUSE_S
        assert not attempts.is_paused("a")


def test_a_run_that_ends_does_not_wait_for_ever(attempts):
    for _ in range(3):
        attempts.failed("a")
    assert attempts.hopeless == set()
    attempts.failed("a")
    assert attempts.hopeless == {"a"}
    attempts.ended("a")
    assert attempts.hopeless == set()
    assert not attempts.is_paused("a")
