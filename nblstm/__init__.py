"""nblstm: LSTM language models with NumPy and Numba, no framework.

In short:

    model = nblstm.train("corpus.txt", epochs=5)        # needs numba
    model = nblstm.load("model.safetensors")            # needs only NumPy
    print("".join(model.generate("To be", n=100)))
    print(model.score("To be, or not to be").perplexity)
"""

import os
import sys

TYPE_CHECKING = False  # `typing` is slow to import, and an interrupt before the command listens ends in a traceback
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "__version__": "nblstm.version",
    "train": "nblstm.tasks.train",
    "prune": "nblstm.tasks.pruning",
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

__all__ = [*_HOMES]


def _find_commands() -> None:
    """Import `nblstm.cli` from beside the package, where it lies in a checkout; installed it is inside."""
    here = os.path.dirname(__file__)
    folder = os.path.join(os.path.dirname(here), "cli")
    if os.path.isdir(os.path.join(here, "cli")) or not os.path.isdir(folder):
        return
    from _frozen_importlib import module_from_spec  # what `importlib.util` offers, which imports much more
    from _frozen_importlib_external import spec_from_file_location

    start = os.path.join(folder, "__init__.py")
    spec = spec_from_file_location(f"{__name__}.cli", start, submodule_search_locations=[folder])
    assert spec and spec.loader
    sys.modules[spec.name] = globals()["cli"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


_find_commands()


def __getattr__(name: str) -> "Any":
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
