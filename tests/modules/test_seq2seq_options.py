"""Options of Seq2SeqModule that cannot be, texts longer than a model's positions, and models from scratch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, PegasusConfig

from lit_ft import Seq2SeqModule, SummarizationModule, TranslationDataModule, TranslationModule
from lit_ft.errors import UserError
from lit_ft.ops.building.seq2seq import check_lengths
from tests.modules.test_seq2seq import Fit, data_of
from tests.pairs import make_seq2seq, pair_rows

BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("bart", {}, {"generation": {"num_beam": 4}}, "no option 'num_beam'.*num_beams"),
    ("bart", {}, {"generation": {"max_length": 9}}, "set max_new_tokens"),
    ("bart", {}, {"generation": {"temperature": 0.5}}, "generation: .*do_sample"),
    ("bart", {}, {"generation": {"min_length": 50, "max_new_tokens": 9}}, "at least 50 tokens.*max_new_tokens is 9"),
    ("bart", {}, {"generation": {"max_new_tokens": 500}}, "max_new_tokens 500 is above the model's 160"),
    ("bart", {}, {"metrics": ["exact_mach"]}, "no 'exact_mach'.*exact_match"),
    ("bart", {}, {"label_smoothing_factor": 1.0}, "label_smoothing_factor is 1.0"),
    ("bart", {"max_source_length": 200}, {}, "max_source_length 200 is above the model's 160 positions, and bart"),
    ("bart", {"max_target_length": 200}, {}, "max_target_length 200 is above the model's 160 positions"),
    ("pegasus", {"max_target_length": 200}, {"resize_position_embeddings": False}, "set resize_position_embeddings"),
    ("led", {"max_target_length": 200}, {}, "max_target_length 200 is above the model's 160"),
    ("t5", {}, {"max_generate_samples": 0}, "max_generate_samples is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "data", "options", "message"), BAD, ids=[message[:40] for *_, message in BAD])
def test_bad_options(
    family: str, data: dict[str, Any], options: dict[str, Any], message: str, folder: Callable[[str], str], trainer: Fit
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(max_steps=1).fit(
            Seq2SeqModule(model_name_or_path=folder(family), **options), data_of(folder(family), family, **data)
        )


def test_decoders_that_begin_with_nothing(tmp_path: Path, trainer: Fit) -> None:
    path = make_seq2seq("bart", tmp_path / "bart")
    config = json.loads((Path(path) / "config.json").read_text())
    (Path(path) / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": None}))
    with pytest.raises(UserError, match=r"does not say what its decoder begins with.*target_lang"):
        trainer(max_steps=1).fit(Seq2SeqModule(model_name_or_path=path), data_of(path))
    with pytest.raises(UserError, match="bert is no encoder-decoder"):
        Seq2SeqModule(model_type="bert")


def test_longer_texts_than_positions(folder: Callable[[str], str], trainer: Fit) -> None:
    module = SummarizationModule(model_name_or_path=folder("pegasus"), metrics=["exact_match"])
    trainer(max_steps=1).fit(module, data_of(folder("pegasus"), "pegasus", max_source_length=200))
    assert module.model is not None
    assert module.model.config.max_position_embeddings == 200
    # of two sides that are too long the longer one decides
    config = PegasusConfig(max_position_embeddings=64)
    assert check_lengths(config, {"max_source_length": 200, "max_target_length": 100}, None) == 200
    assert check_lengths(config, {"max_source_length": 100, "val_max_target_length": 200}, None) == 200


def test_from_scratch_with_a_tokenizer_of_its_own(trainer: Fit, tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    rows = pair_rows(40, source="en", target="de")
    for model_type, start in (("marian", "<pad>"), ("bart", "</s>"), ("t5", "<pad>")):
        t5 = {"d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 1, "num_heads": 2}
        data = TranslationDataModule(
            dataset={"train": rows, "validation": rows[:6]}, source_lang="en", target_lang="de", max_target_length=20,
            max_source_length=40, train_tokenizer={"vocab_size": 300},
        )  # fmt: skip
        module = TranslationModule(
            model_type=model_type, config_overrides=t5 if model_type == "t5" else sizes, metrics=["exact_match"]
        )
        run = trainer(max_steps=2, val_check_interval=2)
        run.fit(module, data)
        assert module.model is not None
        config, tokenizer = module.model.config, data.tokenizer
        assert config.decoder_start_token_id == tokenizer.convert_tokens_to_ids(start)
        assert (config.pad_token_id, config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
        assert config.vocab_size == len(tokenizer)
        path = tmp_path / f"{model_type}.ckpt"
        run.save_checkpoint(path)
        loaded = TranslationModule.load_from_checkpoint(path, weights_only=True)
        assert loaded.model is not None
        assert loaded.model.generation_config.to_dict() == module.model.generation_config.to_dict()
        own = GenerationConfig.from_model_config(config)
        assert module.model.generation_config.eos_token_id == own.eos_token_id == tokenizer.eos_token_id
        assert module.model.generation_config.forced_eos_token_id in (None, tokenizer.eos_token_id)
