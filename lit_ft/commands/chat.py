"""`lit-ft chat --model FOLDER`: talk to a model in the terminal, word by word, to feel what was trained."""

import argparse
import sys
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import PreTrainedTokenizerBase, TextStreamer

from lit_ft.data.chats.encoding import ChatEncoder, read_template
from lit_ft.data.chats.formats import Conversation, Message
from lit_ft.data.chats.rendering import ChatRenderer
from lit_ft.data.features.ragged import Array
from lit_ft.errors import UserError
from lit_ft.modules import CausalLMModule
from lit_ft.ops.building.positions import longest_input
from lit_ft.ops.decoding.generation import end_with
from lit_ft.ops.decoding.prompts import check_room
from lit_ft.screen import quiet, speak

HELP = "an empty line or /exit ends it, /new begins anew"


class _Screen(TextStreamer):
    """Prints a reply as it comes, and keeps it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, console: Console) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
        self.console, self.text = console, ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Prints what is certain by now."""
        self.text += text
        self.console.print(text, end="\n" if stream_end else "", markup=False, highlight=False, soft_wrap=True)


class Chat:
    """A conversation with a model.

    Args:
        module: its model built; a causal language model with a chat template.
        options: of `generate`.
        system: a system message to begin with.
        template: a chat template instead of the tokenizer's.

    Raises:
        UserError: `max_new_tokens` leaves no room for a message.
    """

    def __init__(
        self, module: CausalLMModule, options: dict[str, Any], system: str | None = None, template: str | None = None
    ) -> None:
        assert module.model is not None
        assert module.tokenizer is not None
        self.model, self.tokenizer, self.options = module.model.eval(), module.tokenizer, options
        self.encoder = ChatEncoder(self.tokenizer, ChatRenderer(self.tokenizer, read_template(template)))
        self.begin: list[Message] = [{"role": "system", "content": system}] if system else []
        self.messages = list(self.begin)
        most = longest_input(self.model.config, self.tokenizer)
        new = int(options["max_new_tokens"])
        self.room = None if most is None else most - new
        check_room(np.ones(1, np.int64), self.room, new)
        self.ends = end_with(self.model, self.encoder.end_of_reply())

    @torch.inference_mode()
    def reply(self, text: str, console: Console) -> str:
        """Replies to what a user says, on the console; forgets the oldest turns where the model cannot take them all.

        Raises:
            UserError: not even this message fits.
        """
        self.messages.append({"role": "user", "content": text})
        while not self._fit(ids := self.encoder.prompts([Conversation(tuple(self.messages))])[0]):
            first = len(self.begin)
            if len(self.messages) <= first + 1:
                raise UserError(f"a message of {len(ids)} tokens is longer than the {self.room} that the model takes")
            del self.messages[first : first + 2]
            console.print("(the oldest turn is forgotten: all of them are more than the model takes)", style="dim")
        prompt = torch.from_numpy(ids)[None].to(self.model.device)
        screen = _Screen(self.tokenizer, console)
        self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), streamer=screen, tokenizer=self.tokenizer,
            pad_token_id=self.tokenizer.pad_token_id or next(iter(self.ends), 0), **self.options,
        )  # type: ignore[operator]  # fmt: skip
        self.messages.append({"role": "assistant", "content": screen.text})
        return screen.text

    def _fit(self, ids: Array) -> bool:
        return self.room is None or len(ids) <= self.room

    def forget(self) -> None:
        """Begins anew."""
        self.messages = list(self.begin)


def chat(arguments: list[str] | None = None) -> None:
    """Runs `lit-ft chat`.

    Args:
        arguments: the words after `chat`, those of the command line by default.

    Raises:
        UserError: no model, or one without a chat template, or without room for a message.
    """
    options = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    quiet()
    speak()
    console = Console()
    module = CausalLMModule(model_name_or_path=options.model, gguf_file=options.gguf_file)
    module.build()
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    # word by word there is one reply, whatever number of beams the model has of its own
    generation: dict[str, Any] = {"num_beams": 1, "num_return_sequences": 1, "do_sample": options.temperature > 0}
    generation["max_new_tokens"] = options.max_new_tokens
    if options.temperature > 0:
        generation |= {"temperature": options.temperature, "top_p": options.top_p}
    talk = Chat(module, generation, options.system, options.chat_template)
    console.print(HELP, style="dim")
    while True:
        try:
            said = console.input("[bold]> [/bold]").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if said in ("", "/exit"):
            return
        if said == "/new":
            talk.forget()
            continue
        talk.reply(said, console)


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    made = argparse.ArgumentParser(prog="lit-ft chat", description=f"{__doc__} In it, {HELP}.")
    made.add_argument("--model", required=True, help="exported folder, an adapter's too, or a name on the hub")
    made.add_argument("--gguf_file", help="name of the GGUF file in the folder")
    made.add_argument("--system", help="system message to begin with")
    made.add_argument("--chat_template", help="a file, chatml, llama3, gemma, mistral or alpaca; the tokenizer's")
    made.add_argument("--max_new_tokens", type=int, default=512, help="most tokens of a reply (default 512)")
    made.add_argument("--temperature", type=float, default=0.7, help="0 = always the likeliest word (default 0.7)")
    made.add_argument("--top_p", type=float, default=0.9, help="draw among the likeliest words of this share (0.9)")
    return made
