"""What is said where a run goes on with other batches; figures of batches: test_batches_of_every_task.py."""

import pytest

from lit_ft.datamodules.batch_notes import note_on_change


@pytest.mark.parametrize(
    ("budgeted", "said"),
    [
        (False, "processes 2, now 1; batch_size 4, now 8: goes on in epoch 3 after its first 1,200 rows"),
        (True, "processes 2, now 1: goes on in epoch 3 after its first 1,200 batches"),
    ],
)
def test_the_place_is_counted_in_what_a_step_takes(budgeted: bool, said: str, caplog: pytest.LogCaptureFixture) -> None:
    then, now = ({"processes": 2, "batch_size": 4, "rows": "x"}, {"processes": 1, "batch_size": 8, "rows": "x"})
    with caplog.at_level("INFO", "lit_ft"):
        note_on_change({"epoch": 3, "units": 1200, "run": then}, now, budgeted)
        note_on_change({"epoch": 3, "units": 1200, "run": now}, now, budgeted)
    assert caplog.messages == [f"the checkpoint was written with {said}"]
