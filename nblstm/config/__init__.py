"""Settings, checked once: of the text, a recurrent stack, training, sampling, searching and writing together.

The only home of defaults; those of a task's network stand in the task's folder. Modules are imported on the first use of
one of their names, so that a command imports the settings that it has.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nblstm.config.checks import MAX_COUNT, MAX_SIZE, MAX_TOKENS, is_number, said
    from nblstm.config.decoding import BACKENDS, BeamConfig, SampleConfig
    from nblstm.config.network import (
        CELLS,
        DTYPES,
        HEADS,
        NONLINEARITIES,
        PRECISIONS,
        NetworkConfig,
        StackConfig,
        TokenStackConfig,
    )
    from nblstm.config.text import (
        DEFAULT_MAX_VOCAB,
        DEFAULT_SUBWORDS,
        DOCUMENTS,
        PADDINGS,
        TextConfig,
    )
    from nblstm.config.training import (
        DEFAULT_BUCKETS,
        DEVICES,
        MAX_ROLLBACKS,
        ON_DIVERGENCE,
        OPTIMIZERS,
        SCHEDULES,
        WIRES,
        Recipe,
        TrainConfig,
    )
    from nblstm.config.vocabulary import LEVELS, NEWLINES, TOKENIZERS
    from nblstm.config.writing import UNTIL, WriteConfig

__all__ = [
    "BACKENDS", "CELLS", "DEFAULT_BUCKETS", "DEFAULT_MAX_VOCAB", "DEFAULT_SUBWORDS", "DEVICES", "DOCUMENTS", "DTYPES",
    "HEADS", "LEVELS", "MAX_COUNT", "MAX_ROLLBACKS", "MAX_SIZE", "MAX_TOKENS", "NEWLINES", "NONLINEARITIES",
    "ON_DIVERGENCE", "OPTIMIZERS", "PADDINGS", "PRECISIONS", "SCHEDULES", "TOKENIZERS", "UNTIL", "WIRES", "BeamConfig",
    "NetworkConfig", "Recipe", "SampleConfig", "StackConfig", "TextConfig", "TokenStackConfig", "TrainConfig",
    "WriteConfig", "is_number", "said",
]  # fmt: skip
_MODULES = ("checks", "vocabulary", "decoding", "network", "writing", "text", "training")


def __getattr__(name: str) -> Any:
    """Find a name in the first module that has it."""
    for module in _MODULES if name in __all__ else ():
        found = import_module(f"nblstm.config.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module 'nblstm.config' has no attribute {name!r}")
