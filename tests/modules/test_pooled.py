"""How texts are pooled is in the checkpoint, and read from the right revision, where nobody says it by option."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

import lit_ft
from lit_ft import EmbeddingZeroShotModule, SentenceEmbeddingModule
from lit_ft.commands.export import export
from lit_ft.errors import UserError
from tests.modules.test_sentence_embedding import fitted, made
from tests.tiny import texts


def theirs(model: str, folder: Path, mode: Any = "mean", dense: int | None = None, **options: Any) -> Path:
    """A folder that sentence-transformers saves, with vectors as they are pooled."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    transformer = modules.Transformer(model)
    size = transformer.get_word_embedding_dimension()
    parts = [transformer, modules.Pooling(size, pooling_mode=mode)]
    parts += [modules.Dense(size, dense)] if dense else []
    library.SentenceTransformer(modules=parts, device="cpu", **options).save(str(folder))
    return folder


def pooling_by_cls(model: str, folder: Path) -> Path:
    """A folder of sentence-transformers that takes the first token's vector as it is."""
    return theirs(model, folder, "cls")


def with_content(folder: Path, file: str, **values: Any) -> None:
    """Sets values in a file of JSON."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def exported(folder: Path, out: Path, data_options: Any = None, **options: Any) -> Path:
    """What a short run from a folder exports."""
    module, data = made(str(folder), "pairs", batch_options=data_options, **options)
    fitted(module, data, max_steps=1).save_checkpoint(out / "model.ckpt")
    return export(["--ckpt_path", str(out / "model.ckpt"), "--out", str(out / "hf")])


def test_a_checkpoint_pools_as_its_folder_did_without_it(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)  # a relative path could be a name on the hub, too
    reference = library.SentenceTransformer(str(pooling_by_cls(tiny("bert"), tmp_path / "theirs")), device="cpu")
    expected = reference.encode(texts()[:5])
    trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
    trainer.strategy.connect(module := SentenceEmbeddingModule(model_name_or_path="theirs"))
    module.build()
    trainer.save_checkpoint("model.ckpt")
    shutil.rmtree("theirs")

    built = SentenceEmbeddingModule(model_name_or_path=tiny("bert"))  # as a Trainer does before it reads the file
    built.build()
    built.on_load_checkpoint(torch.load("model.ckpt", weights_only=True))
    assert built.way == {"pooling": "cls", "normalize": False}
    rows = lit_ft.load_predictor("model.ckpt")(texts()[:5])
    torch.testing.assert_close(torch.tensor([row["embedding"] for row in rows]), torch.tensor(expected))
    folder = export(["--ckpt_path=model.ckpt", "--out=hf"])
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"] is True
    again = library.SentenceTransformer(str(folder), device="cpu").encode(texts()[:5])
    torch.testing.assert_close(torch.tensor(again), torch.tensor(expected))


def test_revision_and_place_of_downloads_are_those_of_the_model(tiny: Callable[..., str], tmp_path: Path) -> None:
    hub = tmp_path / "models--me--vectors"
    (hub / "refs").mkdir(parents=True)
    for number, branch in enumerate(("main", "cls")):
        (hub / "refs" / branch).write_text(str(number) * 40)
        shutil.copytree(tiny("bert"), hub / "snapshots" / (str(number) * 40))
    pooling_by_cls(tiny("bert"), hub / "snapshots" / ("1" * 40))
    options = {"model_name_or_path": "me/vectors", "cache_dir": str(tmp_path)}
    for branch, pooling, normalize in (("main", "mean", True), ("cls", "cls", False)):
        module = SentenceEmbeddingModule(**options, model_revision=branch)
        module.build()
        assert module.way == {"pooling": pooling, "normalize": normalize}


def test_no_such_folder() -> None:
    with pytest.raises(UserError, match=r"^/no/where: lit_ft.json cannot be looked for: there is no such folder in"):
        lit_ft.load_predictor("/no/where")


@pytest.mark.parametrize("kind", [SentenceEmbeddingModule, EmbeddingZeroShotModule])
def test_a_module_that_is_not_known_is_an_error_or_left_out_by_option(
    tiny: Callable[..., str], tmp_path: Path, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = theirs(tiny("bert"), tmp_path / "dense", dense=16)
    assert library.SentenceTransformer(str(folder), device="cpu").encode("a").shape == (16,)
    with pytest.raises(
        UserError, match=r"dense: modules.json lists 2_Dense \(Dense\), .* or set pooling \(mean, cls, la"
    ):
        kind(model_name_or_path=str(folder)).build()
    (folder / "model.safetensors").rename(tmp_path / "away")  # it is said before weights are loaded
    with pytest.raises(UserError, match="2_Dense"):
        kind(model_name_or_path=str(folder)).build()
    (tmp_path / "away").rename(folder / "model.safetensors")
    caplog.set_level(logging.INFO, "lit_ft")
    module = kind(model_name_or_path=str(folder), pooling="mean")
    module.build()
    assert module.way == {"pooling": "mean", "normalize": False}
    assert "2_Dense (Dense) of sentence-transformers is left out (pooling: mean)" in caplog.text


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("mode", "said"), [("max", "max"), ("weightedmean", "weightedmean"), (("cls", "mean"), "cls and mean")]
)
def test_a_pooling_that_is_not_known_is_an_error_or_replaced_by_option(
    tiny: Callable[..., str], tmp_path: Path, mode: Any, said: str, older: bool
) -> None:
    folder = theirs(tiny("bert"), tmp_path / "pooled", mode)
    if older:
        names = {"cls": "pooling_mode_cls_token"}
        names |= {each: f"pooling_mode_{each}_tokens" for each in ("mean", "max", "weightedmean")}
        modes = {name: each in ([mode] if isinstance(mode, str) else mode) for each, name in names.items()}
        with_content(folder, "1_Pooling/config.json", pooling_mode=None, **modes)
    with pytest.raises(
        UserError, match=f"pooled by {said}, which lit_ft does not do: set pooling to one of mean, cls, l"
    ):
        SentenceEmbeddingModule(model_name_or_path=str(folder)).build()
    module = SentenceEmbeddingModule(model_name_or_path=str(folder), pooling="last")
    module.build()
    assert module.way == {"pooling": "last", "normalize": False}


@pytest.mark.parametrize(("mode", "ours"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last"), (None, "mean")])
def test_vectors_are_those_of_sentence_transformers_in_either_way_to_say_it(
    tiny: Callable[..., str], tmp_path: Path, mode: Any, ours: str
) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = theirs(tiny("bert"), tmp_path / "pooled", mode or "cls")
    for older in (False, True):
        if older or mode is None:
            names = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
            modes = {f"pooling_mode_{name}": each == mode for each, name in names.items()}
            (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))
        expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts()[:5])
        predictor = lit_ft.load_predictor(folder, task="SentenceEmbedding")
        assert predictor.module.way == {"pooling": ours, "normalize": False}
        found = np.array([row["embedding"] for row in predictor([{"text": text} for text in texts()[:5]])])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_prompts_of_the_folder_go_along_unless_the_data_set_some(
    tiny: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = pytest.importorskip("sentence_transformers")
    prompts = {"query": "query: ", "document": "doc: "}
    folder = theirs(tiny("bert"), tmp_path / "asked", prompts=prompts, default_prompt_name="query")
    with_content(folder, "1_Pooling/config.json", include_prompt=False)
    caplog.set_level(logging.INFO, "lit_ft")
    (tmp_path / "kept").mkdir()
    opened = library.SentenceTransformer(str(exported(folder, tmp_path / "kept")), device="cpu")
    assert (opened.prompts, opened.default_prompt_name, opened[1].include_prompt) == (prompts, None, False)
    said = [line for line in caplog.messages if "has the prompts" in line]
    assert len(said) == 1
    assert "'query', 'document'" in said[0] or "'document', 'query'" in said[0]
    assert "'query' does not stand before texts by itself any more (data.prompts" in said[0]
    rows = lit_ft.load_predictor(tmp_path / "kept" / "model.ckpt")(texts()[:5])
    np.testing.assert_allclose([row["embedding"] for row in rows], opened.encode(texts()[:5]), atol=1e-5)

    caplog.clear()
    (tmp_path / "set").mkdir()
    own = exported(folder, tmp_path / "set", {"prompts": {"anchor": "find: "}})
    opened = library.SentenceTransformer(str(own), device="cpu")
    assert opened.prompts["anchor"] == "find: "
    assert "query: " not in opened.prompts.values()
    assert (opened.default_prompt_name, opened[1].include_prompt) == (None, True)
    assert "has the prompts" not in caplog.text


def test_folders_without_a_prompt_say_nothing(tiny: Callable[..., str], tmp_path: Path, caplog: Any) -> None:
    folder = theirs(tiny("bert"), tmp_path / "plain")  # with the empty prompts that sentence-transformers writes
    caplog.set_level(logging.INFO, "lit_ft")
    (tmp_path / "out").mkdir()
    exported(folder, tmp_path / "out")
    assert str(folder) not in caplog.text


@pytest.mark.parametrize("asked", [None, 16])
def test_the_length_that_a_folder_was_made_for_is_said(
    tiny: Callable[..., str], tmp_path: Path, asked: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = theirs(tiny("bert"), tmp_path / "short")
    with_content(folder, "sentence_bert_config.json", max_seq_length=12)
    caplog.set_level(logging.INFO, "lit_ft")
    (tmp_path / "out").mkdir()
    out = exported(folder, tmp_path / "out", {"max_seq_length": asked})
    used = asked or 160
    assert library.SentenceTransformer(str(out), device="cpu").max_seq_length == used
    note = f"{folder}: made for 12 tokens of a text, {used} are read (data.max_seq_length)"
    assert caplog.messages.count(note) == int(asked is None)


@pytest.mark.parametrize("cased", [False, True])
def test_do_lower_case_is_said_where_the_tokenizer_does_not_do_it_and_written_again(
    tiny: Callable[..., str], tmp_path: Path, cased: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = theirs(tiny("bert"), tmp_path / "lower")
    with_content(folder, "sentence_bert_config.json", do_lower_case=True)
    if cased:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": None}))
        with_content(folder, "tokenizer_config.json", do_lower_case=False)
    caplog.set_level(logging.INFO, "lit_ft")
    (tmp_path / "out").mkdir()
    out = exported(folder, tmp_path / "out")
    assert json.loads((out / "sentence_bert_config.json").read_text())["do_lower_case"] is True
    assert caplog.text.count("do_lower_case is not done here") == int(cased)


def test_a_checkpoint_from_before_has_nothing_to_keep(tiny: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    module, data = made(tiny("bert"), "pairs")
    fitted(module, data, max_steps=1).save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    del checkpoint["lit_ft"]["kept"]
    torch.save(checkpoint, tmp_path / "model.ckpt")
    out = export(["--ckpt_path", str(tmp_path / "model.ckpt"), "--out", str(tmp_path / "hf")])
    said = json.loads((out / "config_sentence_transformers.json").read_text())
    assert said == {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}


def test_a_model_below_its_folder_is_named(tiny: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "older"
    shutil.copytree(tiny("bert"), folder / "0_Transformer")
    kind = "sentence_transformers.models.Transformer"
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "0_Transformer", "type": kind}]))
    with pytest.raises(UserError, match=r"its model is in 0_Transformer: set model_name_or_path to that folder \("):
        SentenceEmbeddingModule(model_name_or_path=str(folder)).build()
    with pytest.raises(UserError, match="is no model that can be loaded: there is no such folder"):
        SentenceEmbeddingModule(model_name_or_path=str(tmp_path / "nowhere")).build()
