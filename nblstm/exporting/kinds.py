"""The kinds of models that can be exported, and which of them a format holds."""

from __future__ import annotations

from typing import Any

from nblstm.errors import ConfigError
from nblstm.exporting.cells import EXPORTED_CELLS
from nblstm.exporting.classification import EXPORTED_CLASSIFIER
from nblstm.exporting.formats import ExportedKind, check_held
from nblstm.exporting.language import EXPORTED_LANGUAGE
from nblstm.exporting.masked import EXPORTED_MASKED
from nblstm.exporting.tagging import EXPORTED_TAGGER

EXPORTED_KINDS = [EXPORTED_LANGUAGE, EXPORTED_CLASSIFIER, EXPORTED_TAGGER, EXPORTED_MASKED]


def exported_kind(model: Any, format: str) -> ExportedKind:
    """Return what the exports of a model are. ConfigError where the format does not hold it, or it has learnt nothing."""
    kinds = {kind.model.__name__: kind for kind in EXPORTED_KINDS}
    kind = next((kind for kind in EXPORTED_KINDS if isinstance(model, kind.model)), None)
    check_held(format, "models", kinds, (kind.model if kind else type(model)).__name__)
    if getattr(model, "parameters", None) is None:
        raise ConfigError(f"this {type(model).__name__} has learnt nothing yet; call fit or load first.")
    if model.config.head == "adaptive":
        raise ConfigError(f"format {format} has no adaptive head; train one with head linear.")
    if model.vocabulary.level == "subword" and format != "onnx":
        raise ConfigError(f"format {format} cannot cut a text into sub-words, level subword; train at another level.")
    check_held(format, "cells", EXPORTED_CELLS, model.config.cell)
    assert kind is not None
    return kind
