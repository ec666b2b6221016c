"""Public names, for editors and type checkers; written by tests/support/typed.py."""

from nblstm.config import SampleConfig as SampleConfig
from nblstm.config import TextConfig as TextConfig
from nblstm.config import TrainConfig as TrainConfig
from nblstm.errors import ConfigError as ConfigError
from nblstm.errors import DeviceError as DeviceError
from nblstm.errors import DivergenceError as DivergenceError
from nblstm.errors import ModelFileError as ModelFileError
from nblstm.errors import NblstmError as NblstmError
from nblstm.errors import NonFiniteError as NonFiniteError
from nblstm.errors import ReportError as ReportError
from nblstm.errors import TextError as TextError
from nblstm.errors import TrainingError as TrainingError
from nblstm.exporting.files import export as export
from nblstm.nn.state import State as State
from nblstm.scoring import Score as Score
from nblstm.scoring import Surprisals as Surprisals
from nblstm.tasks.classification.config import ClassifierConfig as ClassifierConfig
from nblstm.tasks.classification.model import TextClassifier as TextClassifier
from nblstm.tasks.classification.reading import read_labelled as read_labelled
from nblstm.tasks.language.config import LanguageConfig as LanguageConfig
from nblstm.tasks.language.generator import TextGenerator as TextGenerator
from nblstm.tasks.language.model import LanguageModel as LanguageModel
from nblstm.tasks.masked.config import MaskedConfig as MaskedConfig
from nblstm.tasks.masked.model import MaskedLanguageModel as MaskedLanguageModel
from nblstm.tasks.pruning import prune as prune
from nblstm.tasks.registry import load as load
from nblstm.tasks.series.config import SeriesConfig as SeriesConfig
from nblstm.tasks.series.model import SeriesModel as SeriesModel
from nblstm.tasks.tagging.config import TaggerConfig as TaggerConfig
from nblstm.tasks.tagging.model import Tagger as Tagger
from nblstm.tasks.tagging.reading import read_tagged as read_tagged
from nblstm.tasks.train import train as train
from nblstm.tasks.translation.config import TranslateConfig as TranslateConfig
from nblstm.tasks.translation.config import TranslatorConfig as TranslatorConfig
from nblstm.tasks.translation.model import Translator as Translator
from nblstm.tasks.translation.reading import read_pairs as read_pairs
from nblstm.tasks.translation.reading import read_parallel as read_parallel
from nblstm.tasks.window.model import MLPLanguageModel as MLPLanguageModel
from nblstm.text.sequences import pad_sequences as pad_sequences
from nblstm.text.sequences import texts_to_sequences as texts_to_sequences
from nblstm.text.vocabulary import Vocabulary as Vocabulary

__version__: str
