"""The network of a translator: sources and targets' tokens -> encoder and decoder, attention between -> softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm.nn.encoder_decoder import EncoderDecoder, PairInput
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.network import Network
from nblstm.nn.parameters import draw_parameter, views
from nblstm.tasks.classification.network import EMBEDDING_SCALE
from nblstm.tasks.translation.config import TranslatorConfig
from nblstm.text.vectors import WordVectors, place_vectors


class TranslationNetwork(Network):
    """Pairs in, a distribution over the next token of every target out; a chunk's tokens are `Pairs`."""

    def __init__(self, config: TranslatorConfig, parameters: np.ndarray, *args: Any, **keywords: Any) -> None:
        keywords["parts"] = PairInput, EncoderDecoder, SoftmaxHead
        super().__init__(config, parameters, *args, **keywords)


def initial_translator(config: TranslatorConfig, seed: int, vectors: WordVectors | None = None) -> np.ndarray:
    """Draw new parameters (num_parameters,) as `nblstm.nn.parameters.initial` does, but smaller vectors of tokens.

    vectors: what some words of the sources begin with.
    """
    flat, random = np.zeros(config.num_parameters, config.dtype), np.random.default_rng([seed, 0])
    for name, array in views(flat, config).items():
        bare = name.removeprefix("encoder.").removeprefix("decoder.")
        if name in config.tied:
            continue
        draw_parameter(random, bare, array, config, bool(config.tied))
        if bare == "embedding.weight" and not config.tied:
            array *= EMBEDDING_SCALE
    if vectors is not None:
        place_vectors(views(flat, config)["encoder.embedding.weight"], vectors)
    return flat
