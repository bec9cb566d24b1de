"""What is searched: Optuna's distributions against those made by hand, values as YAML, words divided between two."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lit_ft.sweeping.options import read_sweep, split
from lit_ft.sweeping.space import as_yaml, points, size, space_of
from lit_ft.sweeping.study import default_storage, open_study, sampler_of, tell

PARAMETERS: dict[str, dict[str, Any]] = {
    "model.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "model.warmup_ratio": {"low": 0, "high": 1},
    "model.peft.r": {"low": 8, "high": 32, "step": 8},
    "data.batch_size": {"choices": [8, 16, 32]},
}


def test_distributions_are_whole_numbers_where_all_are_and_the_option_takes_them() -> None:
    assert space_of(PARAMETERS, {"model.learning_rate", "model.warmup_ratio"}) == {
        "model.learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
        "model.warmup_ratio": FloatDistribution(0, 1),
        "model.peft.r": IntDistribution(8, 32, step=8),
        "data.batch_size": CategoricalDistribution([8, 16, 32]),
    }


def test_points_try_both_ends_and_every_choice() -> None:
    space = space_of(PARAMETERS, ())
    found = points(space)
    assert len(found) == 3
    assert {point["model.learning_rate"] for point in found} == {1e-5, 1e-3}
    assert {point["data.batch_size"] for point in found} == {8, 16, 32}


def test_size_counts_what_a_grid_tries() -> None:
    space = space_of({"a": {"low": 1, "high": 7, "step": 2}, "b": {"low": 0.0, "high": 0.3, "step": 0.1}}, ())
    study = optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=0))
    tried = 1
    while not tell(study, study.ask(space).number, 0.0, optuna.trial.TrialState.COMPLETE):
        tried += 1
    assert size(space) == tried == 16
    assert size(space_of(PARAMETERS, ())) is None


def test_values_become_yaml_that_goes_beside_the_run() -> None:
    run = {
        "model": {"class_path": "M", "init_args": {"learning_rate": 1.0, "peft": {"peft_type": "LORA", "r": 1}}},
        "trainer": {"max_epochs": 3, "strategy": {"class_path": "S", "init_args": {"a": 1, "b": 2}}},
    }
    values = {
        "model.peft.r": 8, "model.peft.lora_alpha": 16, "model.init_args.weight_decay": 0.1, "trainer.max_epochs": 2,
        "trainer.strategy.init_args.a": 5, "seed_everything": 7,
    }  # fmt: skip
    assert as_yaml(values, run) == {
        "model": {"init_args": {"peft": {"peft_type": "LORA", "r": 8, "lora_alpha": 16}, "weight_decay": 0.1}},
        "trainer": {"max_epochs": 2, "strategy": {"class_path": "S", "init_args": {"a": 5, "b": 2}}},
        "seed_everything": 7,
    }
    assert run["model"]["init_args"]["peft"] == {"peft_type": "LORA", "r": 1}


def test_words_go_to_the_sweep_or_to_its_run(tmp_path: Path) -> None:
    ours, theirs = split(
        ["--config", "s.yaml", "--data.train_file", "x.csv", "--n_trials=3", "--jobs", "2", "--trainer.max_epochs=1",
         "--parameters.a.b", "{low: 1}"]
    )  # fmt: skip
    assert ours == ["--config", "s.yaml", "--n_trials=3", "--jobs", "2", "--parameters.a.b", "{low: 1}"]
    assert theirs == ["--data.train_file", "x.csv", "--trainer.max_epochs=1"]
    file = tmp_path / "s.yaml"
    file.write_text("run: [a.yaml, b.yaml]\nparameters: {model.learning_rate: {low: 1e-5, high: 1e-3}}\nn_trials: 9\n")
    sweep, files, of_run = read_sweep(["--config", str(file), "--jobs", "2", "--model.x=1"])
    assert (sweep.run, sweep.n_trials, sweep.jobs) == (["a.yaml", "b.yaml"], 9, 2)
    assert sweep.parameters["model.learning_rate"] == {"low": 1e-5, "high": 1e-3}
    assert (files, of_run) == ([file], ["--model.x=1"])


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("sampler", ["random", {"class_path": "tpe", "init_args": {"n_startup_trials": 3, "seed": 1}}])
def test_a_search_that_goes_on_draws_what_it_would_have_drawn(sampler: Any, journal: bool, tmp_path: Path) -> None:
    space = space_of(PARAMETERS, ())

    def search(folder: Path, stops: int) -> list[dict[str, Any]]:
        folder.mkdir()
        study: Any = None
        for number in range(6):
            if number in (0, stops):
                place = str(folder / "study.log") if journal else default_storage(folder)
                study = open_study(place, "s", "minimize", {"a": 1})
            study.sampler = sampler_of(sampler, space, number)
            trial = study.ask(space)
            value = abs(trial.params["model.peft.r"] - 16) + trial.params["model.learning_rate"]
            tell(study, trial.number, value, optuna.trial.TrialState.COMPLETE)
        return [trial.params for trial in study.trials]

    whole = search(tmp_path / "whole", 0)
    assert whole == search(tmp_path / "stopped", 4)
    assert len({params["model.learning_rate"] for params in whole}) == 6
