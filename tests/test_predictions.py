"""Parquet predictions: a first batch without a single label does not decide the type."""

from pathlib import Path

import pyarrow.parquet as pq

from lit_ft.callbacks.predictions import Parquet


def test_parquet_of_empty_lists_first(tmp_path: Path) -> None:
    batches = [[[{"labels": []}], [{"labels": ["x"]}]], [[{"labels": []}]]]
    for number, part in enumerate(batches):
        writer = Parquet(tmp_path / f"{number}", None)
        for batch in part:
            writer.write(batch)
        writer.close()
    Parquet.join([tmp_path / "0", tmp_path / "1"], tmp_path / "whole")
    assert pq.read_table(tmp_path / "whole")["labels"].to_pylist() == [[], ["x"], []]
