"""Where the real tokens of a padded batch lie, and the flat row that they make end to end."""

import torch
from torch import Tensor

from lit_ft.ops.sequences import Sequences


class Layout:
    """A padded batch and its flat row.

    Attributes:
        shape: rows and width of the padded batch.
        index: places of the real tokens in the padded batch, row by row, `[total]`.
        sequences: lengths of the rows.
        no_padding_on: sides of the batch where no row has padding.
    """

    def __init__(self, shape: tuple[int, int], index: Tensor, sequences: Sequences, no_padding_on: set[str]) -> None:
        self.shape, self.index, self.sequences, self.no_padding_on = shape, index, sequences, no_padding_on
        self._turned: Layout | None = None

    @classmethod
    def of(cls, attention_mask: Tensor) -> "Layout":
        """Reads a mask `[batch, seq]`, wherever its zeros are.

        Waits for a GPU where the mask is there already, unless somebody let it `remember` its layout.
        """
        known = getattr(attention_mask, "_layout", None)
        if isinstance(known, Layout):
            return known
        real = attention_mask.detach().cpu().bool()
        index = real.flatten().nonzero()[:, 0]
        rows, width = real.shape
        bare = {side for side, column in (("left", 0), ("right", -1)) if bool(real[:, column].all())}
        device = attention_mask.device
        return cls((rows, width), index.to(device, non_blocking=True), Sequences(real.sum(1).tolist()), bare)

    def to(self, device: torch.device) -> "Layout":
        """Returns the layout for a batch on another device."""
        index = self.index.to(device, non_blocking=True)
        return Layout(self.shape, index, self.sequences, self.no_padding_on)

    def remember(self, attention_mask: Tensor) -> None:
        """Lets a mask on a device know its layout."""
        attention_mask._layout = self  # type: ignore[attr-defined]

    def flatten(self, padded: Tensor) -> Tensor:
        """`[batch, seq, ...]` -> `[1, total, ...]`."""
        return padded.flatten(0, 1).index_select(0, self.index)[None]

    def pad(self, flat: Tensor) -> Tensor:
        """`[1, total, ...]` -> `[batch, seq, ...]`, zeros where nothing was."""
        rows, width = self.shape
        padded: Tensor = flat.new_zeros(rows * width, *flat.shape[2:]).index_copy(0, self.index, flat[0])
        return padded.view(rows, width, *flat.shape[2:])

    def turned(self) -> "Layout":
        """Returns the layout of the same tokens in `[seq, batch]`."""
        if self._turned is None:
            rows, width = self.shape
            index = self.index % width * rows + self.index // width
            self._turned = Layout((width, rows), index, self.sequences, set())
        return self._turned

    def row_of_token(self) -> Tensor:
        """Returns which row of the batch each token is of, `[1, total]`."""
        return (self.index // self.shape[1])[None]
