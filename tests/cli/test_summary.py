"""What ``--once`` writes at its end."""

from obsarchive.cli.daemon import summary


def test_a_run_that_was_stopped_does_not_claim_to_be_complete() -> None:
    assert summary({"done": 3}) == "nothing is due any more; steps of this run: 3 done\n"
    assert summary({"done": 3}, is_stopped=True) == "stopped before all was done; steps of this run: 3 done\n"
