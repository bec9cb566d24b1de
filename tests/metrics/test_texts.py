"""Scores of generated texts: those of sacrebleu, exact match, F1 and length; options checked; over two processes."""

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lit_ft.errors import UserError
from lit_ft.metrics.texts import TEXT_METRICS, check_text_metrics, text_metric_names
from tests.processes import METHOD
from tests.questions import compute_exact, compute_f1, normalize_answer
from tests.scored_texts import Rows, scored_rows, streams

BLEU: list[dict[str, Any]] = [
    {}, {"tokenizer": "intl"}, {"tokenizer": "zh"}, {"tokenizer": "char"}, {"tokenizer": "none"}, {"lowercase": True},
    {"smooth_method": "floor"}, {"smooth_method": "add-k", "smooth_value": 2.0}, {"smooth_method": "none"},
    {"max_ngram_order": 2, "effective_order": True},
]  # fmt: skip
CHRF: list[dict[str, Any]] = [
    {}, {"word_order": 2}, {"char_order": 4, "beta": 3}, {"lowercase": True}, {"whitespace": True},
    {"eps_smoothing": True},
]  # fmt: skip
TER: list[dict[str, Any]] = [
    {}, {"normalized": True}, {"no_punct": True}, {"normalized": True, "asian_support": True}, {"case_sensitive": True},
]  # fmt: skip
CASES = [("BLEU", each) for each in BLEU] + [("CHRF", each) for each in CHRF] + [("TER", each) for each in TER]


def made(name: str, rows: Rows, size: int = 33, **options: Any) -> Any:
    predictions, references = rows
    metric = TEXT_METRICS[name](**options)
    for start in range(0, len(predictions), size):
        some = slice(start, start + size)
        metric.update(predictions[some], references[some], [len(text) for text in predictions[some]])
    return metric


def scored(name: str, rows: Rows, size: int = 33, **options: Any) -> dict[str, float]:
    return {key: float(value) for key, value in made(name, rows, size, **options).compute().items()}


def single(rows: Rows) -> Rows:
    """Some rows with the first reference of each."""
    return rows[0][:100], [texts[:1] for texts in rows[1][:100]]


def short(rows: Rows, count: int) -> Rows:
    """The first words of rows, for n-grams without a match."""
    return [text[:12] for text in rows[0][:count]], [[text[6:30] for text in texts] for texts in rows[1][:count]]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_scores_of_the_corpus_are_sacrebleus(kind: str, options: dict[str, Any]) -> None:
    rows, name = scored_rows(several=True), kind.lower()
    if options:
        rows = rows[0][:160], rows[1][:160]
    if kind == "TER":  # shifts take their time
        rows = ([text[:50] for text in rows[0]], [[text[:50] for text in texts] for texts in rows[1]])
    renamed = {{"tokenizer": "tokenize"}.get(option, option): value for option, value in options.items()}
    for some in (rows, single(rows), short(rows, 12), short(rows, 1)):
        expected = getattr(sacrebleu, kind)(**renamed).corpus_score(some[0], streams(some[1])).score
        assert scored(name, some, **options) == pytest.approx({name: expected}, abs=1e-4)
        assert some is not rows or 10 < expected < 90
    if not options:
        assert scored(name, rows) == scored(name, rows, 520)


@pytest.mark.parametrize("effective", [False, True])
def test_ngrams_longer_than_all_predictions(effective: bool) -> None:
    rows = (["cat", "a dog"], [["cat"], ["a dog", "dogs"]])
    expected = sacrebleu.BLEU(effective_order=effective).corpus_score(rows[0], streams(rows[1])).score
    assert scored("bleu", rows, effective_order=effective)["bleu"] == pytest.approx(expected)
    assert (expected > 99) == effective


def test_by_hand() -> None:
    rows = (["the cat sat"], [["the cat sat down", "a cat sat"]])
    # of 1, 2 and 3 words all are found; the nearer reference is as long
    assert scored("bleu", rows, max_ngram_order=3)["bleu"] == pytest.approx(100)
    # both need one edit: one word of (4 + 3) / 2
    assert scored("ter", rows)["ter"] == pytest.approx(100 / 3.5)
    # letters only: 2 of 2 are right, of 3; no pair but one of one, of two: precision 1, recall (2/3 + 1/2) / 2
    found = scored("chrf", (["ab"], [["abc"]]), char_order=2, beta=1)["chrf"]
    assert found == pytest.approx(100 * 2 * (7 / 12) / (1 + 7 / 12))


def test_exact_match_and_f1() -> None:
    rows = (["The cat.", " dog", "x", ""], [["cat", "dog"], ["a", "dog\n"], ["y"], [""]])
    assert scored("exact_match", rows) == {"exact_match": 50.0}
    assert scored("exact_match", rows, normalize="squad") == {"exact_match": 75.0}
    assert scored("token_f1", (["the big cat", "x"], [["a cat", "dog"], ["y"]])) == {
        "token_f1": pytest.approx(100 * (2 / 3) / 2)
    }
    predictions, references = scored_rows(True)
    kept = [[text for text in texts if normalize_answer(text)] or [""] for texts in references]
    pairs = list(zip(predictions, kept, strict=True))
    exact = [max(compute_exact(gold, prediction) for gold in texts) for prediction, texts in pairs]
    f1 = [max(compute_f1(gold, prediction) for gold in texts) for prediction, texts in pairs]
    found = scored("exact_match", (predictions, references), normalize="squad")["exact_match"]
    assert found == pytest.approx(100 * sum(exact) / 520)
    assert found > 1
    assert scored("token_f1", (predictions, references))["token_f1"] == pytest.approx(100 * sum(f1) / 520, abs=1e-4)


def test_generated_length() -> None:
    rows = (["我们 go", "a, b-c"], [["x"], ["y"]])
    assert scored("generated_length", rows, unit="words") == {"generated_length": 3.0}
    assert scored("generated_length", rows, unit="characters") == {"generated_length": 5.5}
    metric = TEXT_METRICS["generated_length"]()
    metric.update(*rows, [7, 10])
    assert float(metric.compute()["generated_length"]) == 8.5
    with pytest.raises(ValueError, match="lengths"):
        metric.update(*rows)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_no_rows_and_bad_rows(name: str) -> None:
    metric = TEXT_METRICS[name]()
    metric.update([], [], [])
    values = metric.compute()
    assert tuple(values) == metric.names
    assert all(torch.isnan(value) for value in values.values())
    for references, message in (([["a"], []], r"row 2: .*\[\]"), (["a", "b"], "row 1: .*'a'"), ([["a"]], "2 predict")):
        with pytest.raises(ValueError, match=message):
            metric.update(["a", "b"], references, [1, 1])  # type: ignore[arg-type]
    copied = copy.deepcopy(metric)
    copied.update(["a b c d e"], [["a b c d e"]], [5])
    assert not torch.isnan(copied.compute()[name if name != "rouge" else "rougeL"])
    assert all(torch.isnan(value) for value in metric.compute().values())


ALL: dict[str, dict[str, Any]] = {
    "rouge": {"precision_and_recall": True}, "bleu": {}, "chrf": {"word_order": 2}, "ter": {}, "exact_match": {},
    "token_f1": {}, "generated_length": {},
}  # fmt: skip
CUTS = {"uneven": 150, "one process has a single row": 1, "one process has none": 200}


def _rows(part: slice) -> Rows:
    predictions, references = scored_rows(True)
    return [text[:50] for text in predictions[:200][part]], [[t[:50] for t in each] for each in references[:200][part]]


def _score_a_share(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    results = {
        (cut, name): scored(name, _rows(slice(0, at) if rank == 0 else slice(at, None)), **options)
        for cut, at in CUTS.items()
        for name, options in ALL.items()
    }
    if rank == 1:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.mark.soak
def test_two_processes_equal_one(tmp_path: Path, free_port: int) -> None:
    mp.start_processes(_score_a_share, (free_port, str(tmp_path)), nprocs=2, start_method=METHOD)
    results = torch.load(tmp_path / "results.pt", weights_only=True)
    whole = {name: scored(name, _rows(slice(None)), **options) for name, options in ALL.items()}
    assert len(results) == len(CUTS) * len(ALL)
    for (cut, name), found in results.items():
        assert found == whole[name], (cut, name)  # sums of whole numbers: equal to the last bit
    assert sum(map(len, whole.values())) == 18


def test_names_and_options() -> None:
    wanted = ["bleu", {"rouge": {"use_stemmer": True, "precision_and_recall": True}, "chrf": None}, {"ter": {}}]
    chosen = check_text_metrics(wanted)
    assert chosen == {"bleu": {}, "rouge": wanted[1]["rouge"], "chrf": {}, "ter": {}}  # type: ignore[call-overload]
    names = text_metric_names(chosen)
    assert names[:3] == ["bleu", "rouge1_precision", "rouge1_recall"]
    assert names == [name for each, options in chosen.items() for name in scored(each, _rows(slice(3)), **options)]
    assert check_text_metrics([{"bleu": {"smooth_method": "floor", "smooth_value": 1}}])


BAD = [
    (["exact_mach"], "no 'exact_mach' — did you mean 'exact_match'.*known: rouge, bleu"),
    (["bleu", {"bleu": {}}], "bleu is named twice"),
    ([3], "3 is neither a name nor a dict"),
    ([{"rouge": ["use_stemmer"]}], "rouge: options are a dict"),
    ([{"bleu": {"tokenize": "13a"}}], "bleu has no option 'tokenize' — did you mean 'tokenizer'"),
    ([{"token_f1": {"x": 1}}], "token_f1 has no option 'x'; it has none"),
    ([{"bleu": {"tokenizer": "13b"}}], "bleu: tokenizer is '13b' — did you mean '13a'.*intl"),
    ([{"bleu": {"tokenizer": "flores200"}}], "tokenizer is 'flores200'"),
    ([{"bleu": {"smooth_value": 0.5}}], "smooth_value is for smooth_method floor and add-k, not for exp"),
    ([{"bleu": {"smooth_value": "a"}}], "smooth_value is 'a'; it must be of type float or null"),
    ([{"bleu": {"max_ngram_order": 0}}], "max_ngram_order is 0; it must be at least 1"),
    ([{"chrf": {"word_order": True}}], "word_order is True; it must be of type int"),
    ([{"chrf": {"word_order": -1}}], "word_order is -1; it must be at least 0"),
    ([{"rouge": {"use_stemmer": "yes"}}], "use_stemmer is 'yes'; it must be of type bool"),
    ([{"exact_match": {"normalize": "squat"}}], "normalize is 'squat' — did you mean 'squad'"),
]


@pytest.mark.parametrize(("wanted", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_options(wanted: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_text_metrics(wanted)


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="MeCab is installed")
def test_tokenizer_of_a_further_package() -> None:
    with pytest.raises(UserError, match=r"bleu: tokenizer ja-mecab: .*pip install sacrebleu\[ja\]"):
        check_text_metrics([{"bleu": {"tokenizer": "ja-mecab"}}])
