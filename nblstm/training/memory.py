"""How much memory training takes, from the sizes alone."""

from __future__ import annotations

import numpy as np

from nblstm.config import ModelConfig, TrainConfig
from nblstm.kernels import LOGITS_BYTES

MOMENTS = {"adam": 2, "sgd": 1, "rmsprop": 1}


def per_parameter(train: TrainConfig, model: ModelConfig) -> int:
    """Bytes per parameter: the parameter, its gradient, its moments, and the best one so far."""
    return (3 + MOMENTS[train.optimizer]) * np.dtype(model.dtype).itemsize


def per_token(model: ModelConfig) -> int:
    """Bytes per token of a chunk, without the logits: 64 H for two layers with dropout between them, in float32.

    Per layer: four gates, the cell, the output, and the output after dropout if there is any. Shared: two gradients of an output
    and a packed copy of one layer's inputs. Logits are bounded by LOGITS_BYTES in all, see `training_bytes`.
    """
    H, L = model.hidden_size, model.num_layers
    return (6 * L + sum(rate > 0 for rate in model.dropouts) + 3) * H * np.dtype(model.dtype).itemsize


def training_bytes(model: ModelConfig, train: TrainConfig) -> int:
    """Bytes of all arrays that training on chunks of up to (bptt, batch_size) keeps; the program comes on top."""
    size, H = np.dtype(model.dtype).itemsize, model.hidden_size
    tokens = max(train.tokens_per_batch, train.bptt) if train.tokens_per_batch else train.batch_size * train.bptt
    logits = min(tokens * model.vocab_size * size, LOGITS_BYTES)
    packed = (4 * H * (max(model.embedding_size, H) + H) + min(model.vocab_size, 4096) * H) * size
    table = min(tokens, model.vocab_size) * (4 * H + model.embedding_size) * size
    return (
        model.num_parameters * per_parameter(train, model) + tokens * per_token(model) + logits + packed + table
    )
