"""nblstm: LSTM language models with NumPy and Numba, no framework.

In short:

    model = nblstm.train("corpus.txt", epochs=5)        # needs numba
    model = nblstm.load("model.safetensors")            # needs only NumPy
    print("".join(model.generate("To be", n=100)))
    print(model.score("To be, or not to be").perplexity)
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from nblstm.version import __version__

if TYPE_CHECKING:  # what `__getattr__` finds, for editors and type checkers
    from nblstm.config import SampleConfig as SampleConfig
    from nblstm.config import TextConfig as TextConfig
    from nblstm.config import TrainConfig as TrainConfig
    from nblstm.errors import (
        ConfigError as ConfigError,
    )
    from nblstm.errors import (
        DeviceError as DeviceError,
    )
    from nblstm.errors import (
        DivergenceError as DivergenceError,
    )
    from nblstm.errors import (
        ModelFileError as ModelFileError,
    )
    from nblstm.errors import (
        NblstmError as NblstmError,
    )
    from nblstm.errors import (
        NonFiniteError as NonFiniteError,
    )
    from nblstm.errors import (
        ReportError as ReportError,
    )
    from nblstm.errors import (
        TextError as TextError,
    )
    from nblstm.errors import (
        TrainingError as TrainingError,
    )
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
    from nblstm.tasks.registry import load as load
    from nblstm.tasks.series.config import SeriesConfig as SeriesConfig
    from nblstm.tasks.series.model import SeriesModel as SeriesModel
    from nblstm.tasks.session import train as train
    from nblstm.tasks.tagging.config import TaggerConfig as TaggerConfig
    from nblstm.tasks.tagging.model import Tagger as Tagger
    from nblstm.tasks.tagging.reading import read_tagged as read_tagged
    from nblstm.tasks.translation.config import TranslateConfig as TranslateConfig
    from nblstm.tasks.translation.config import TranslatorConfig as TranslatorConfig
    from nblstm.tasks.translation.model import Translator as Translator
    from nblstm.tasks.translation.reading import read_pairs as read_pairs
    from nblstm.tasks.translation.reading import read_parallel as read_parallel
    from nblstm.tasks.window.model import MLPLanguageModel as MLPLanguageModel
    from nblstm.text.sequences import pad_sequences as pad_sequences
    from nblstm.text.sequences import texts_to_sequences as texts_to_sequences
    from nblstm.text.vocabulary import Vocabulary as Vocabulary

_HOMES = {
    "train": "nblstm.tasks.session",
    "load": "nblstm.tasks.registry",
    "export": "nblstm.exporting.files",
    "LanguageModel": "nblstm.tasks.language.model",
    "MaskedLanguageModel": "nblstm.tasks.masked.model",
    "MLPLanguageModel": "nblstm.tasks.window.model",
    "TextGenerator": "nblstm.tasks.language.generator",
    "Score": "nblstm.scoring",
    "Surprisals": "nblstm.scoring",
    "SeriesModel": "nblstm.tasks.series.model",
    "TextClassifier": "nblstm.tasks.classification.model",
    "Translator": "nblstm.tasks.translation.model",
    "State": "nblstm.nn.state",
    "Vocabulary": "nblstm.text.vocabulary",
    "read_labelled": "nblstm.tasks.classification.reading",
    "read_pairs": "nblstm.tasks.translation.reading",
    "read_parallel": "nblstm.tasks.translation.reading",
    "Tagger": "nblstm.tasks.tagging.model",
    "read_tagged": "nblstm.tasks.tagging.reading",
    "pad_sequences": "nblstm.text.sequences",
    "texts_to_sequences": "nblstm.text.sequences",
    "ClassifierConfig": "nblstm.tasks.classification.config",
    "LanguageConfig": "nblstm.tasks.language.config",
    "MaskedConfig": "nblstm.tasks.masked.config",
    "SampleConfig": "nblstm.config",
    "SeriesConfig": "nblstm.tasks.series.config",
    "TaggerConfig": "nblstm.tasks.tagging.config",
    "TextConfig": "nblstm.config",
    "TrainConfig": "nblstm.config",
    "TranslateConfig": "nblstm.tasks.translation.config",
    "TranslatorConfig": "nblstm.tasks.translation.config",
    "NblstmError": "nblstm.errors",
    "ConfigError": "nblstm.errors",
    "DeviceError": "nblstm.errors",
    "DivergenceError": "nblstm.errors",
    "ModelFileError": "nblstm.errors",
    "NonFiniteError": "nblstm.errors",
    "ReportError": "nblstm.errors",
    "TextError": "nblstm.errors",
    "TrainingError": "nblstm.errors",
}

_RENAMED = {"ModelConfig": "LanguageConfig"}  # names that still work, for one more version

__all__ = ["__version__", *_HOMES]


def _find_commands() -> None:
    """Import `nblstm.cli` from beside the package, where it lies in a checkout; installed it is inside."""
    here = os.path.dirname(__file__)
    folder = os.path.join(os.path.dirname(here), "cli")
    if os.path.isdir(os.path.join(here, "cli")) or not os.path.isdir(folder):
        return
    from importlib.util import module_from_spec, spec_from_file_location

    start = os.path.join(folder, "__init__.py")
    spec = spec_from_file_location(f"{__name__}.cli", start, submodule_search_locations=[folder])
    assert spec and spec.loader
    sys.modules[spec.name] = globals()["cli"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


_find_commands()


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `import nblstm` is quick."""
    import importlib

    if name in _RENAMED:
        import warnings

        new = _RENAMED[name]
        warnings.warn(f"nblstm.{name} is now nblstm.{new}", DeprecationWarning, stacklevel=2)
        name = new
    if name not in _HOMES:
        raise AttributeError(f"module 'nblstm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
