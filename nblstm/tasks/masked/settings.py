"""The settings of a masked language model's runs."""

from nblstm.config import TrainConfig
from nblstm.config.runs import RunSettings
from nblstm.config.text import CorpusConfig
from nblstm.tasks.language.settings import GIVEN_BY_TEXT
from nblstm.tasks.masked.config import MaskedConfig

MASKED_SETTINGS = RunSettings(CorpusConfig, MaskedConfig, TrainConfig, given=GIVEN_BY_TEXT)
