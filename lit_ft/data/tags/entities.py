"""The entities that tags say, in the characters of a text, as transformers' pipeline writes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.tags.schemes import TagScheme, TagTable, chunks


def entities_in(
    ids: Sequence[int],
    scores: Sequence[float],
    table: TagTable,
    scheme: TagScheme,
    text: str,
    places: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
    """Returns the entities of a row, as `pipeline("token-classification", aggregation_strategy="first")` does.

    Args:
        ids: of each word's tag.
        scores: probability of each word's tag; an entity's is their mean.
        table: the tags.
        scheme: that they are in.
        text: that the words stand in.
        places: the characters of each word.
    """
    found = chunks(Ragged(np.asarray(ids, np.int64), np.array([0, len(ids)])), table, scheme)
    entities = []
    for first, behind, kind in zip(found.start.tolist(), found.end.tolist(), found.kind.tolist(), strict=True):
        start, end = places[first][0], places[behind - 1][1]
        entities.append(
            {
                "entity_group": table.types[kind],
                "score": float(np.mean(scores[first:behind])),
                "word": text[start:end],
                "start": start,
                "end": end,
            }
        )
    return entities
