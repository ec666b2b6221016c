"""Warm-up: compile every kernel that training, scoring, sampling and searching with a cell use, into the cache."""

from __future__ import annotations

import numpy as np

from nblstm.config import OPTIMIZERS, BeamConfig, SampleConfig, TrainConfig
from nblstm.generation.beam import BeamSearch
from nblstm.generation.sampler import generate, read_ids
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Streams
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer


def warmup(cell: str = LanguageConfig.cell, nonlinearity: str = LanguageConfig.nonlinearity) -> None:
    """Use tiny models for everything, with every option that has a kernel of its own. DeviceError without numba."""
    ids = np.arange(40, dtype=np.int64) % 5
    for optimizer in OPTIMIZERS:
        shape = LanguageConfig(
            5, hidden_size=4, num_layers=2, dropout=0.5, input_dropout=0.5, cell=cell, nonlinearity=nonlinearity
        )
        config = TrainConfig(batch_size=2, bptt=4, steps=1, optimizer=optimizer, clip_value=1.0)
        network = Network(shape, initial(shape, 0))
        streams = Streams(ids, config.batch_size, config.bptt)
        for _ in Trainer(network, config, streams, streams).run():
            pass
    state = read_ids(network, ids[:1])
    for _ in generate(network, state, SampleConfig(n=2), np.random.default_rng(0)):
        pass
    network.decoder()(ids[:1], state)
    BeamSearch(network, Vocabulary.build(["abcd"], "char"), state, BeamConfig(n=2, beam=2)).step()
