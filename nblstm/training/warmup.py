"""Warm-up: compile every kernel that training, scoring and sampling use, into the cache."""

from __future__ import annotations

import numpy as np

from nblstm.config import OPTIMIZERS, ModelConfig, SampleConfig, TrainConfig
from nblstm.generation.sampler import generate, read
from nblstm.model.network import Network
from nblstm.model.parameters import initial
from nblstm.text.batches import Streams
from nblstm.training.trainer import Trainer


def warmup() -> None:
    """Train, score and sample tiny models, with every option that has a kernel of its own. DeviceError without numba."""
    ids = np.arange(40, dtype=np.int64) % 5
    for optimizer in OPTIMIZERS:
        shape = ModelConfig(5, hidden_size=4, num_layers=2, dropout=0.5, input_dropout=0.5)
        config = TrainConfig(batch_size=2, bptt=4, steps=1, optimizer=optimizer, clip_value=1.0)
        network = Network(shape, initial(shape, 0))
        streams = Streams(ids, config.batch_size, config.bptt)
        for _ in Trainer(network, config, streams, streams).run():
            pass
    state = read(network, ids[:1])
    for _ in generate(network, state, SampleConfig(n=2), np.random.default_rng(0)):
        pass
    network.decoder()(ids[:1], state)
