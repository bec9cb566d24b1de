"""Constrained decoding against all sequences, one by one."""

import itertools

import numpy as np
import pytest
import torch

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.tags.schemes import SCHEMES, TagScheme, TagTable, chunks, transitions
from lit_ft.ops.decoding.viterbi import best_sequences


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_best_of_all_allowed_sequences(scheme: TagScheme) -> None:
    table = TagTable.for_types(["X", "Y"], scheme)
    size, lengths = len(table.names), torch.tensor([4, 1, 3, 2, 4, 4])
    scores = torch.randn(6, 4, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rules = [torch.from_numpy(rule) for rule in transitions(table, scheme)]
    found = best_sequences(scores.float().log_softmax(-1), lengths, *rules)
    different = 0
    for row, length in enumerate(lengths.tolist()):
        every = list(itertools.product(range(size), repeat=length))
        good = [tags for tags in every if chunks(Ragged.of([list(tags)]), table, scheme).well_formed.all()]
        sums = [
            sum(scores[row, word, tag].item() - scores[row, word].logsumexp(0).item() for word, tag in enumerate(tags))
            for tags in good
        ]
        assert tuple(found[row, :length].tolist()) == good[int(np.argmax(sums))]
        assert not found[row, length:].any()
        different += tuple(scores[row, :length].argmax(-1).tolist()) != good[int(np.argmax(sums))]
    assert different or scheme == "IO", "what is most likely word by word is not allowed in some row"
