"""The settings of a masked language model's runs."""

from nblstm.config import TrainConfig
from nblstm.config.runs import RunSettings
from nblstm.config.text import CorpusConfig
from nblstm.tasks.masked.config import MaskedConfig

MASKED_SETTINGS = RunSettings(CorpusConfig, MaskedConfig, TrainConfig)
