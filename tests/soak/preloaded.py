"""What every command imports, once, before processes are forked for them."""

import lightning.pytorch  # noqa: F401
import transformers  # noqa: F401

import lit_ft.cli
import lit_ft.commands.export  # noqa: F401
import tests.soak.bringing
import tests.soak.reloading  # noqa: F401
