"""Learning rates against transformers' own schedules."""

import math
from typing import Any

import pytest
import torch
import transformers
from transformers import SchedulerType, TrainingArguments

from lit_ft.errors import UserError
from lit_ft.optim.schedules import apply_options, check_schedule, schedule, warmup_steps

STEPS, WARMUP = 20, 4
ARGUMENTS: dict[str, dict[str, Any]] = {
    "cosine_with_min_lr": {"min_lr": 1e-5},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-5},
    "warmup_stable_decay": {"num_decay_steps": 6},
}


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)


def curve(scheduler: Any) -> list[float]:
    rates = []
    metric = iter([1.0] * STEPS)
    needs_metric = (
        isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) or "Greedy" in type(scheduler).__name__
    )
    for _ in range(STEPS):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step(next(metric)) if needs_metric else scheduler.step()
    return rates


@pytest.mark.parametrize("name", [kind.value for kind in SchedulerType])
def test_curves_equal_transformers(name: str) -> None:
    check_schedule(name)
    kwargs = ARGUMENTS.get(name)
    ours = curve(schedule(name, optimizer(), WARMUP, STEPS, kwargs))
    theirs = curve(transformers.get_scheduler(name, optimizer(), WARMUP, STEPS, kwargs))
    assert ours == theirs
    if name not in ("constant", "greedy"):
        assert len(set(ours)) > 1


def test_options_asked_for_replace_those_of_a_checkpoint() -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1e-3, "weight_decay": decay} for decay in (0.1, 0.0)
    ]
    made = torch.optim.AdamW([dict(group) for group in groups])
    scheduler = schedule("linear", made, 0, STEPS, None)
    for _ in range(5):
        made.step()
        scheduler.step()
    apply_options(made, scheduler, groups)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([7.5e-4, 7.5e-4])
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    asked = [{**group, "lr": 2e-3, "weight_decay": 3 * group["weight_decay"]} for group in groups]
    apply_options(made, scheduler, asked, betas=(0.8, 0.9))
    assert [group["lr"] for group in made.param_groups] == pytest.approx([1.5e-3, 1.5e-3])
    assert [group["weight_decay"] for group in made.param_groups] == pytest.approx([0.3, 0.0])
    assert {group["betas"] for group in made.param_groups} == {(0.8, 0.9)}


def test_linear_by_hand() -> None:
    rates = curve(schedule("linear", optimizer(), WARMUP, STEPS, None))
    expected = [step / WARMUP if step < WARMUP else (STEPS - step) / (STEPS - WARMUP) for step in range(STEPS)]
    assert rates == pytest.approx([1e-3 * share for share in expected])


@pytest.mark.parametrize("steps", [1, 7, 33, 1000])
@pytest.mark.parametrize("ratio", [0.0, 0.06, 0.1, 0.5, 0.999])
def test_the_ratio_is_rounded_as_in_training_arguments(steps: int, ratio: float, tmp_path: Any) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), warmup_steps=ratio, use_cpu=True, report_to="none")
    assert warmup_steps(0, ratio, steps) == arguments.get_warmup_steps(steps) == math.ceil(ratio * steps)


def test_steps_win_over_the_ratio(tmp_path: Any) -> None:
    assert warmup_steps(3, 0.5, 100) == 3
    assert warmup_steps(100, 0.0, 100) == 100


@pytest.mark.parametrize(("number", "ratio"), [(101, 0.0), (0, 1.5)])
def test_warmup_longer_than_training_is_refused(number: int, ratio: float) -> None:
    with pytest.raises(UserError, match=r"longer than the training of 100 optimizer steps"):
        warmup_steps(number, ratio, 100)


def test_unknown_names_and_arguments_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        check_schedule("cosin")
    with pytest.raises(UserError, match=r"(?s)cosine_with_restarts.*num_cycle\b"):
        schedule("cosine_with_restarts", optimizer(), 0, 10, {"num_cycle": 2})
    # transformers needs a floor for this one
    with pytest.raises(UserError, match="min_lr"):
        schedule("cosine_with_min_lr", optimizer(), 0, 10, None)
