"""A module made freshly beside a checkpoint, loaders beside a data module, callbacks beside a model not built yet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from lit_ft import (
    QuestionAnsweringDataModule,
    QuestionAnsweringModule,
    SentenceEmbeddingDataModule,
    SentenceEmbeddingModule,
    TextClassificationDataModule,
    TextClassificationModule,
)
from lit_ft.errors import UserError
from tests.modules.conftest import LABELS, sample_rows
from tests.questions import question_rows

Make = Callable[..., Trainer]


def data_of(folder: str, rows: dict[str, list[Any]], **options: Any) -> TextClassificationDataModule:
    return TextClassificationDataModule(model_name_or_path=folder, dataset=rows, **options)


def weights(module: LightningModule) -> Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()])


@pytest.fixture(scope="module")
def trained(headed: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that knows the sample's labels, whose model had another head."""
    folder = tmp_path_factory.mktemp("trained")
    run = Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    seed_everything(1)
    module = TextClassificationModule(model_name_or_path=headed)
    run.fit(module, data_of(headed, {"train": sample_rows(24)}))
    run.save_checkpoint(folder / "labels.ckpt")
    return str(folder / "labels.ckpt")


def test_what_only_the_checkpoint_knows_of_questions_is_said(
    asked: Callable[..., str], trainer: Make, tmp_path: Path
) -> None:
    def data(**dataset: Any) -> QuestionAnsweringDataModule:
        return QuestionAnsweringDataModule(
            model_name_or_path=asked(), dataset=dataset, max_seq_length=48, doc_stride=12, predict_split_name="predict"
        )

    run, path = trainer(max_steps=1), tmp_path / "qa.ckpt"
    run.fit(QuestionAnsweringModule(model_name_or_path=asked()), data(train=question_rows(9, unanswerable=True)))
    run.save_checkpoint(path)
    rows = question_rows(4)
    with pytest.raises(UserError, match=r"trained with unanswerable .*QuestionAnsweringModule.load_from_checkpoint"):
        trainer().test(QuestionAnsweringModule(model_name_or_path=asked()), data(test=rows), ckpt_path=path)
    told = QuestionAnsweringModule(model_name_or_path=asked(), version_2_with_negative=True)
    (found,) = trainer().test(told, data(test=rows), ckpt_path=path, verbose=False)
    (known,) = trainer().test(QuestionAnsweringModule.load_from_checkpoint(path), data(test=rows), verbose=False)
    assert found == pytest.approx(known, nan_ok=True)


def test_prompts_that_only_the_checkpoint_knows_are_said(
    tiny: Callable[..., str], trainer: Make, tmp_path: Path
) -> None:
    def data(prompts: dict[str, str] | None = None, **dataset: Any) -> SentenceEmbeddingDataModule:
        return SentenceEmbeddingDataModule(model_name_or_path=tiny("bert"), dataset=dataset, prompts=prompts)

    rows = [{"anchor": text, "positive": text} for text in ("one text", "another one", "a third", "and a last one")]
    run, path, prompts = trainer(max_steps=1), tmp_path / "prompts.ckpt", {"anchor": "find: "}
    run.fit(SentenceEmbeddingModule(model_name_or_path=tiny("bert")), data(prompts, train=rows))
    run.save_checkpoint(path)
    fresh = SentenceEmbeddingModule(model_name_or_path=tiny("bert"))
    with pytest.raises(UserError, match=r"trained with prompts .*SentenceEmbeddingModule.load_from_checkpoint"):
        trainer().test(fresh, data(test=rows), ckpt_path=str(path))
    (found,) = trainer().test(fresh, data(prompts, test=rows), ckpt_path=str(path), verbose=False)
    (known,) = trainer().test(SentenceEmbeddingModule.load_from_checkpoint(path), data(test=rows), verbose=False)
    assert found == pytest.approx(known)


def test_other_labels_than_the_checkpoints_are_named(tiny: Callable[..., str], trained: str, trainer: Make) -> None:
    module = TextClassificationModule(model_name_or_path=tiny("bert"), label_names=LABELS[::-1])
    rows = {"test": sample_rows(6, "validation")}
    with pytest.raises(UserError, match="the checkpoint's labels are"):
        trainer().test(module, data_of(tiny("bert"), rows), ckpt_path=trained)


def test_a_checkpoint_of_somebody_else_raises_as_lightning_loads_it(headed: str, trainer: Make, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.0", "epoch": 0, "global_step": 0}, tmp_path / "o")
    module = TextClassificationModule(model_name_or_path=headed)
    data = data_of(headed, {"train": sample_rows(9), "test": sample_rows(9)})
    with pytest.raises(UserError, match="not a checkpoint of lit_ft"):
        trainer().test(module, data, ckpt_path=tmp_path / "o")


# Loaders that are given to a Trainer which keeps the data module of the run before


def given_loaders(folder: str, kind: str, number: int) -> list[Any]:
    data = data_of(folder, {kind: sample_rows(5, "validation")}, label_names=LABELS, **{f"{kind}_split_name": kind})
    data.setup({"validation": "validate"}.get(kind, kind))
    (loader,) = getattr(data, {"validation": "val"}.get(kind, kind) + "_dataloader")()
    return [loader] * number


def test_given_loaders_are_sets_of_their_own_after_a_run_with_a_data_module(headed: str, trainer: Make) -> None:
    data = data_of(headed, {"train": sample_rows(9), "validation": sample_rows(4)})
    run, module = trainer(max_steps=1), TextClassificationModule(model_name_or_path=headed)
    run.fit(module, data)
    loaders = given_loaders(headed, "test", 2)  # the data module has no test rows, and is not asked for any
    found, alone = run.test(module, dataloaders=loaders), trainer().test(module, dataloaders=loaders)
    assert found == alone
    assert run.callback_metrics["test_1_loss"] == run.callback_metrics["test_0_loss"]
    assert len(run.validate(module, dataloaders=given_loaders(headed, "validation", 3))) == 3
    assert len(run.predict(module, dataloaders=given_loaders(headed, "predict", 2)) or []) == 2
    assert run.validate(module, data)  # the data module itself serves again


def test_the_schedule_goes_by_the_loaders_that_are_given(headed: str, trainer: Make) -> None:
    run, module = trainer(max_epochs=1), TextClassificationModule(model_name_or_path=headed)
    data = data_of(headed, {"train": sample_rows(40)})
    run.fit(module, data)
    assert module._planned_steps() == 5
    batches = list(data.train_dataloader())[:2]
    run.fit(module, train_dataloaders=DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert module._planned_steps() is None
    assert module._training_steps() == 2
    assert data.state_dict()  # between runs it has its place


def test_averaging_that_would_average_nothing_is_refused(headed: str, trainer: Make) -> None:
    data = data_of(headed, {"train": sample_rows(9), "validation": sample_rows(4)})
    module = TextClassificationModule(model_name_or_path=headed)
    with pytest.raises(UserError, match="would average nothing: take Lightning's WeightAveraging"):
        trainer(max_epochs=3, callbacks=[StochasticWeightAveraging(1e-3, 1)]).fit(module, data)
    run = trainer(max_epochs=3, callbacks=[averaging := StochasticWeightAveraging(1e-3, 1)])
    run.validate(module, data)
    run.fit(module, data)
    averaged: Any = averaging._average_model
    assert averaged.model is not None
    assert torch.equal(weights(averaged), weights(module))
    instead = TextClassificationModule(model_name_or_path=headed)
    trainer(max_epochs=2, callbacks=[EMAWeightAveraging(decay=0.5)]).fit(instead, data)
    assert instead.model is not None


def test_training_rows_that_are_not_there_yet_are_named(headed: str) -> None:
    data = data_of(headed, {"train": sample_rows(9)}, batch_size=3)
    with pytest.raises(UserError, match=r'call prepare_data\(\) and setup\("fit"\)'):
        data.train_dataloader()
    data.prepare_data()
    data.setup("fit")
    assert len(data.train_dataloader()) == 3
