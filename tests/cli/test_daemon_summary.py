"""What the daemon says at the end of a run."""

from obsarchive.cli.daemon import summary


def test_a_run_that_was_stopped_does_not_claim_that_all_is_done():
    assert summary({"done": 3}).startswith("nothing is due any more; steps of this run: 3 done")
    assert summary({"waiting": 14}, paused=2).startswith("2 step(s) wait for what is away now")
    stopped = summary({"done": 3}, is_cut_short=True)
    assert "nothing is due" not in stopped
    assert stopped.startswith("stopped before all was done: run it again; steps of this run: 3 done")
