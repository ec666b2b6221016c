"""What can be chosen, checked once: of the text, a recurrent stack, training, sampling, searching and writing together.

The only home of defaults; those of a task's network stand in the task's folder.
"""

from nblstm.config.decoding import BACKENDS, BeamConfig, SampleConfig, WriteConfig
from nblstm.config.network import DTYPES, NetworkConfig, StackConfig, TokenStackConfig
from nblstm.config.text import DEFAULT_MAX_VOCAB, PADDINGS, TextConfig
from nblstm.config.training import DEFAULT_BUCKETS, OPTIMIZERS, Recipe, TrainConfig

__all__ = [
    "BACKENDS", "BeamConfig", "DEFAULT_BUCKETS", "DEFAULT_MAX_VOCAB", "DTYPES", "NetworkConfig", "OPTIMIZERS", "PADDINGS",
    "Recipe", "SampleConfig", "StackConfig", "TextConfig", "TokenStackConfig", "TrainConfig", "WriteConfig",
]  # fmt: skip
