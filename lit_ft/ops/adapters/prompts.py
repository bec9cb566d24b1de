"""Adapters that are trained tokens, or states, before the text: prompt tuning, P-tuning, prefix tuning; run by PEFT.

The model itself stays as it is but for a new head. Tokens that are not there in the text make rows longer than their
data, so that all of this is computed with padding, and each row holds one text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_ft.errors import UserError
from lit_ft.ops.adapters.injecting import TASK_TYPES, adapter_config, plain_settings, read_weights, write_folder

if TYPE_CHECKING:
    from peft import PeftModel

KINDS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")
ENCODER = "prompt_encoder"
TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "CAUSAL_LM", "SEQ_2_SEQ_LM")


def is_prompt(settings: dict[str, Any]) -> bool:
    """Says whether an adapter stands before the text."""
    return str(settings.get("peft_type")).upper() in KINDS


class Prompts:
    """A model that reads trained tokens before each text.

    Args:
        model: with its pretrained weights; it gets `prompt_encoder`, which alone is trained, with a new head.
        settings: keys of the adapter's configuration.
        task: name of the auto class.
        fresh: names of parameters that do not come from a checkpoint.

    Attributes:
        wrapped: PEFT's model around it.
        settings: the settings with all that was found out.
        tokens: how many stand before the text.

    Raises:
        UserError: PEFT has no class for the task, or the adapter does not fit the model.
    """

    def __init__(self, model: PreTrainedModel, settings: dict[str, Any], task: str, fresh: Sequence[str] = ()) -> None:
        from peft import get_peft_model

        made = adapter_config(settings)
        self.kind = str(settings["peft_type"]).upper()
        if not made.num_virtual_tokens:
            raise UserError(f"peft: {self.kind}: set num_virtual_tokens, such as 20")
        made.task_type = TASK_TYPES.get(task)
        if made.task_type not in TASKS:
            raise UserError(f"peft: {self.kind} is not for this task, but for {', '.join(TASKS)}; use LORA")
        if made.task_type == "SEQ_CLS" and self.kind != "PREFIX_TUNING" and hasattr(model, "score"):
            raise UserError(
                f"peft: {self.kind}: a decoder classifies by its last token, which cannot be found among trained ones: "
                "use PREFIX_TUNING, or LORA"
            )
        try:
            self.wrapped: PeftModel = get_peft_model(model, made)
        except (ValueError, TypeError, AttributeError, AssertionError) as error:
            raise UserError(f"peft: {self.kind}: {' '.join(str(error).split())}") from None
        heads = getattr(self.wrapped, "modules_to_save", None) or ()
        if lost := [name for name in fresh if not any(head in name for head in heads)]:
            raise UserError(
                f"peft: {self.kind}: the checkpoint has no weights for {', '.join(lost)}, and only a head that "
                "classifies can be learned beside trained tokens: use LORA"
            )
        model.add_module(ENCODER, self.wrapped.prompt_encoder)
        self.settings, self.tokens = plain_settings(made), int(made.num_virtual_tokens)

    def __call__(self, **inputs: Any) -> Any:
        """Runs the model; what it says of the trained tokens is left out."""
        outputs, size = self.wrapped(**inputs), inputs["input_ids"].shape[1]
        if "decoder_input_ids" in inputs:  # the trained tokens are read by the encoder, or are states
            return outputs
        for name, value in outputs.items():
            if isinstance(value, Tensor) and value.dim() > 1 and value.shape[1] == size + self.tokens:
                outputs[name] = value[:, self.tokens :]
        return outputs

    def run_with(self, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Any:
        """Runs PEFT's model with other weights, by their names in the model."""
        given = {f"base_model.{name}": value for name, value in weights.items()}
        return torch.func.functional_call(self.wrapped, given, kwargs=inputs, tie_weights=False)

    def save(self, state: dict[str, Tensor], folder: Path) -> None:
        """Writes an adapter folder as PEFT does, with weights that may be others than the model has now."""
        from peft import get_peft_model_state_dict

        encoder: nn.Module = self.wrapped.prompt_encoder["default"]
        now = {name: value.clone() for name, value in encoder.state_dict().items()}
        start = f"{ENCODER}.default."
        try:
            encoder.load_state_dict({name.removeprefix(start): state[name] for name in state if name.startswith(start)})
            given = {f"base_model.{name}": value for name, value in state.items()}
            found = get_peft_model_state_dict(
                self.wrapped, state_dict=given, adapter_name="default", save_embedding_layers=False
            )
        finally:
            encoder.load_state_dict(now)
        model: Any = self.wrapped.base_model
        write_folder(folder, found, self.wrapped.peft_config["default"], model)

    def load(self, folder: str) -> None:
        """Takes a saved adapter's weights.

        Raises:
            UserError: it was saved without what it is trained through.
        """
        from peft import set_peft_model_state_dict

        if self.kind == "P_TUNING" or self.settings.get("prefix_projection"):
            raise UserError(f"peft: {self.kind} cannot go on from a folder: the network behind its tokens is not in it")
        set_peft_model_state_dict(self.wrapped, read_weights(folder), adapter_name="default")
