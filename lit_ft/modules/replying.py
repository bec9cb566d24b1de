"""Causal language models that reply: what ends a reply, and samples of replies; a base of tasks, not a task."""

from transformers import PreTrainedModel

from lit_ft.data.chats.encoding import ChatEncoder
from lit_ft.data.chats.formats import Conversation
from lit_ft.data.chats.rendering import ChatRenderer
from lit_ft.modules.causal_lm import CausalLMModule
from lit_ft.ops.decoding.generation import end_with


class ReplyingModule(CausalLMModule):
    """Learns from conversations; use a task's own class, not this one.

    A reply ends with the token that ends replies in the chat template, which is in the exported
    `generation_config.json`, too.

    Args:
        kwargs: options of `CausalLMModule`; `sample_prompts` are what users say, each a conversation of its own.
    """

    length_option = "max_seq_length"
    card_example = """from transformers import pipeline

reply = pipeline("text-generation", "this/folder")
reply([{"role": "user", "content": "A question"}], max_new_tokens=200)"""

    def build(self) -> PreTrainedModel:
        """Builds the model, which ends its replies as the chat template does; see the base."""
        model = super().build()
        end_with(model, self.description.get("end_of_reply"))
        return model

    def prompt_tokens(self, prompt: str) -> list[int]:
        """Returns the tokens of a conversation that begins with a prompt; see the base."""
        assert self.tokenizer is not None
        encoder = ChatEncoder(self.tokenizer, ChatRenderer(self.tokenizer))
        made: list[int] = encoder.prompts([Conversation(({"role": "user", "content": prompt},))])[0].tolist()
        return made
