"""Where weights lie before a run on a CPU: MKL rounds by their addresses."""

from collections.abc import Callable

import torch
from transformers import AutoModelForMaskedLM

from lit_ft.ops.building.own_memory import ALIGNMENT, into_own_memory


def test_weights_of_a_mapped_file_are_copied_as_they_are(tiny: Callable[..., str]) -> None:
    model = AutoModelForMaskedLM.from_pretrained(tiny("bert"))
    next(iter(model.parameters())).requires_grad_(False)
    before = {name: (value.clone(), value.requires_grad) for name, value in model.named_parameters()}
    own = torch.empty(3).data_ptr() % ALIGNMENT
    assert {value.data_ptr() % ALIGNMENT for value in model.parameters()} - {own}  # or there is nothing to copy
    into_own_memory(model)
    assert {value.data_ptr() % ALIGNMENT for value in model.parameters()} == {own} == {0}
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name][0])
        assert value.requires_grad == before[name][1]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
