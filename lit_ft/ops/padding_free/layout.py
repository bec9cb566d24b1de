"""Where the tokens of a padded batch lie that are worth running, and the flat row that they make end to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from lit_ft.data.batching.twins import on_cpu
from lit_ft.ops.padding_free.sequences import Sequences


class Layout:
    """A padded batch and its flat row.

    Attributes:
        shape: rows and width of the padded batch.
        index: places of the flat row's tokens in the padded batch, row by row, `[total]`, on the CPU.
        sequences: what lies in the flat row.
        no_padding_on: sides of the batch where no row has padding; `within` stands for between tokens.
    """

    def __init__(
        self, shape: tuple[int, int], index: Tensor, sequences: Sequences, no_padding_on: frozenset[str] = frozenset()
    ) -> None:
        self.shape, self.index, self.sequences, self.no_padding_on = shape, index, sequences, no_padding_on
        self._on: dict[torch.device, Tensor] = {}
        self._turned: Layout | None = None

    @classmethod
    def of(cls, attention_mask: Tensor) -> "Layout":
        """Reads a mask `[batch, seq]`, wherever its zeros are; each row is a sequence.

        Waits for a device only where nobody kept the mask's twin (`lit_ft.data.batching.twins`).
        """
        real = on_cpu(attention_mask).bool()
        rows, width = real.shape
        some = real[real.any(1)]  # missing rows, such as choices, are on no side
        bare = frozenset(side for side, column in (("left", 0), ("right", -1)) if bool(some[:, column].all()))
        if not bool((real[:, 1:] & ~real[:, :-1] & (real[:, :-1].cumsum(1) > 0)).any()):
            bare |= {"within"}
        return cls((rows, width), real.flatten().nonzero()[:, 0], Sequences(real.sum(1).tolist()), bare)

    @classmethod
    def of_documents(cls, position_ids: Tensor) -> "Layout":
        """Reads positions `[batch, seq]`; a document starts with each row and wherever they do not go on by one.

        Documents of one token, as padding is, teach nothing and are left out.
        """
        positions = on_cpu(position_ids)
        rows, width = positions.shape
        index = in_documents(positions).flatten().nonzero()[:, 0]
        row, chosen = index // width, positions.flatten()[index]
        starts = torch.ones_like(index, dtype=torch.bool)
        starts[1:] = (chosen.diff() != 1) | (row.diff() != 0)
        lengths = torch.cat([starts.nonzero()[:, 0], index.new_tensor([len(index)])]).diff()
        return cls((rows, width), index, Sequences(lengths.tolist()))

    def flatten(self, padded: Tensor) -> Tensor:
        """`[batch, seq, ...]` -> `[1, total, ...]`."""
        return padded.flatten(0, 1).index_select(0, self._index(padded.device))[None]

    def pad(self, flat: Tensor) -> Tensor:
        """`[1, total, ...]` -> `[batch, seq, ...]`, zeros where nothing was."""
        rows, width = self.shape
        empty = flat.new_zeros(rows * width, *flat.shape[2:])
        padded: Tensor = empty.index_copy(0, self._index(flat.device), flat[0])
        return padded.view(rows, width, *flat.shape[2:])

    def turned(self) -> "Layout":
        """Returns the layout of the same tokens in `[seq, batch]`."""
        if self._turned is None:
            rows, width = self.shape
            index = self.index % width * rows + self.index // width
            self._turned = Layout((width, rows), index, self.sequences)
        return self._turned

    def row_of_token(self) -> Tensor:
        """Returns which row of the batch each token is of, `[1, total]`, on the CPU."""
        return (self.index // self.shape[1])[None]

    def _index(self, device: torch.device) -> Tensor:
        if device not in self._on:
            self._on[device] = self.index.to(device, non_blocking=True)
        return self._on[device]


_running: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def running_layout(layout: Layout) -> Iterator[None]:
    """Around the forward pass of a batch with this layout."""
    token = _running.set(layout)
    try:
        yield
    finally:
        _running.reset(token)


def current_layout() -> Layout | None:
    """Returns the layout of the batch that runs, if it does without padding."""
    return _running.get()


def in_documents(positions: Tensor) -> Tensor:
    """Returns which tokens are in a document of more than one token, `[batch, seq]`: others, padding, teach nothing."""
    flat = positions.flatten()
    follows = torch.cat([flat[1:] > 0, flat.new_zeros(1, dtype=torch.bool)])
    real = (flat > 0) | follows
    real[:1] |= ~real.any()  # a model cannot run on nothing
    return real.reshape(positions.shape)
