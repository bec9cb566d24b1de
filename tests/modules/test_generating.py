"""Ways of generating: by options, the model's own, a checkpoint's; exported so that transformers generates alike."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from transformers import GenerationConfig, pipeline

from lit_ft import CausalLMModule, InstructionTuningDataModule, InstructionTuningModule
from lit_ft.callbacks.export import export
from lit_ft.errors import UserError
from lit_ft.runs import read_checkpoint
from tests.conversations import conversation
from tests.modules.test_causal_lm import make_data, rows
from tests.preferences import make_preference_model


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Folders of a tiny model that replies, each with a way of generating as people put it on the hub."""
    plain = make_preference_model(tmp_path_factory.mktemp("generating") / "model")

    def make(**own: Any) -> str:
        folder = Path(shutil.copytree(plain, tmp_path_factory.mktemp("own") / "model"))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "bos_token_id": 1, **own}))
        return str(folder)

    return make


def exported_by(run: Trainer, module: Any, folder: Path) -> dict[str, Any]:
    """Exports the model of a run; returns its way of generating."""
    run.save_checkpoint(folder / "run.ckpt")
    export(module, read_checkpoint(folder / "run.ckpt"), folder / "hf", None)
    found: dict[str, Any] = json.loads((folder / "hf" / "generation_config.json").read_text())
    return found


def test_options_are_part_of_the_exported_model(
    chat: Callable[..., str], trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    options = {"max_new_tokens": 5, "repetition_penalty": 1.7, "num_beams": 2, "do_sample": False}
    prompts = rows(3, 6)
    folder = chat()
    data = make_data(folder, dataset={"train": rows(0, 20), "validation": rows(0, 4), "predict": prompts})
    module, run = CausalLMModule(model_name_or_path=folder, generation=options), trainer(max_steps=1)
    run.fit(module, data)
    exported = exported_by(run, module, tmp_path)
    ours = [row["generated_text"] for batch in trainer().predict(module, data) or [] for row in batch]
    assert {name: exported[name] for name in options} == options
    write = pipeline("text-generation", str(tmp_path / "hf"))
    theirs = [write(prompt["text"], return_full_text=False)[0]["generated_text"] for prompt in prompts]
    assert sorted(theirs) == sorted(ours)  # of rows of about one length


@pytest.mark.parametrize(
    ("own", "options", "idle"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, {}, {"temperature", "top_p"}),
        ({"temperature": 0.6, "do_sample": True}, {"do_sample": False}, {"temperature"}),
        ({"num_beams": 4, "early_stopping": True, "length_penalty": 2.0}, {"num_beams": 1},
         {"early_stopping", "length_penalty"}),
        ({"temperature": 0.6, "do_sample": True}, {"max_new_tokens": 7}, set()),
    ],
    ids=["never in use", "no sampling", "no beams", "in use"],
)  # fmt: skip
def test_what_the_models_own_way_has_to_no_effect_does_not_keep_it_from_being_saved(
    own: dict[str, Any], options: dict[str, Any], idle: set[str], chat: Callable[..., str], tmp_path: Path,
    trainer: Callable[..., Trainer], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Transformers refuses to save such a model once anything was changed, as the token that ends replies is here."""
    folder = chat(**own)
    said = [{"messages": conversation(number)} for number in range(8)]
    data = InstructionTuningDataModule(model_name_or_path=folder, dataset={"train": said, "validation": said})
    module = InstructionTuningModule(model_name_or_path=folder, generation=options)
    with caplog.at_level("INFO", logger="lit_ft"):
        run = trainer(max_steps=1)
        run.fit(module, data)
    exported = exported_by(run, module, tmp_path)
    assert not idle & exported.keys()
    assert {name: exported[name] for name in own.keys() - idle - options.keys()} == {
        name: own[name] for name in own.keys() - idle - options.keys()
    }
    notes = [record.message for record in caplog.records if "did nothing without" in record.message]
    assert [all(name in note for name in idle) for note in notes] == ([True] if idle else [])


def test_options_that_contradict_each_other_are_named_with_the_fix(chat: Callable[..., str]) -> None:
    module = CausalLMModule(model_name_or_path=chat(), generation={"temperature": 0.7})
    with pytest.raises(UserError, match=r"generation: .*`temperature`.*You should set `do_sample=True`"):
        module.build()


@pytest.mark.parametrize("given", [{}, {"max_new_tokens": 4}], ids=["of the checkpoint", "by option"])
def test_a_checkpoint_brings_its_way_to_a_model_that_is_built_already(
    given: dict[str, Any], chat: Callable[..., str], trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    folder = chat()
    trained = CausalLMModule(model_name_or_path=folder, generation={"max_new_tokens": 6, "repetition_penalty": 1.4})
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(trained, make_data(folder))
    run.save_checkpoint(tmp_path / "run.ckpt")
    data = make_data(folder, dataset={"predict": rows(3, 6)})
    fresh = CausalLMModule(model_name_or_path=folder, generation=given)
    fresh.build()
    written = [
        row for batch in trainer().predict(fresh, data, ckpt_path=str(tmp_path / "run.ckpt")) or [] for row in batch
    ]
    assert fresh.model is not None
    way: GenerationConfig = fresh.model.generation_config
    assert (way.max_new_tokens, way.repetition_penalty) == (given.get("max_new_tokens", 6), 1.4)
    expected = [row for batch in trainer().predict(trained, data) or [] for row in batch]
    if not given:
        assert written == expected


@pytest.mark.parametrize(
    "own",
    [
        {"return_dict_in_generate": True, "output_scores": True}, {"num_beam_groups": 2, "diversity_penalty": 0.5},
        {"penalty_alpha": 0.6, "top_k": 4}, {"temperature": 0.0, "do_sample": True},
    ],
    ids=lambda own: next(iter(own)),
)  # fmt: skip
def test_a_way_that_cannot_be_generated_with_becomes_greedy(
    own: dict[str, Any], chat: Callable[..., str], trainer: Callable[..., Trainer]
) -> None:
    written = []
    for folder in (chat(**own), chat()):
        data = make_data(folder, dataset={"predict": rows(3, 6)})
        module = CausalLMModule(model_name_or_path=folder, generation={"max_new_tokens": 5})
        written.append([row["generated_text"] for batch in trainer().predict(module, data) or [] for row in batch])
    assert written[0] == written[1]
