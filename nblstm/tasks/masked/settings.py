"""The settings of a masked language model's runs."""

from nblstm.config import TextConfig, TrainConfig
from nblstm.config.runs import RunSettings
from nblstm.tasks.masked.config import MaskedConfig

MASKED_SETTINGS = RunSettings(TextConfig, MaskedConfig, TrainConfig)
