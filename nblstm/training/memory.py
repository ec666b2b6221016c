"""How much memory training takes, from the sizes alone."""

from __future__ import annotations

import numpy as np

from nblstm.config import TokenStackConfig, TrainConfig
from nblstm.kernels import LOGITS_BYTES
from nblstm.scoring import SCORED_AT_ONCE

MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1, "rmsprop": 1, "asgd": 2}


def per_parameter(train: TrainConfig, model: TokenStackConfig) -> int:
    """Count the bytes per parameter: the parameter, its gradient, its moments, and the best one so far."""
    return (3 + MOMENTS[train.optimizer]) * np.dtype(model.dtype).itemsize


# Numbers that a unit keeps for its gates at every step, where only the specification computes a cell: all it needs to
# go back.
SPECIFIED = 12


def per_token(model: TokenStackConfig, precision: str = "single") -> int:
    """Count the bytes per token of a chunk, without the logits: 64 H for two LSTM layers with dropout, in float32.

    Per cell: its gates, its memory, its output and what its rounds keep; backwards also its inputs' projections. Per
    layer: the output after noise, with the input added, of both directions side by side, where there is any of it. Shared:
    two gradients of an output and a packed copy of one layer's inputs. Logits are bounded by LOGITS_BYTES, see
    `training_bytes`.
    """
    H, F, L = model.hidden_size, model.output_size, model.num_layers
    gates = model.cells[0].kept_size if model.cells[0].compiled else SPECIFIED
    apart = L * (model.directions - 1)  # layers whose directions are computed apart, then laid side by side
    cells = len(model.cells) * ((gates + 1) * H + model.cells[0].output_size) + apart * gates * H
    cells += sum(cell.kept_in_rounds for cell in model.cells)
    if model.cells[0].compiled and model.cells[0].layer_norm:  # norms; shared: gradients of U h and of norm(c)
        cells += len(model.cells) * 2 * gates * H + (gates + 1) * H
    if model.cells[0].compiled and model.cells[0].proj_size:  # what is projected; shared: gradients of it and of h
        cells += len(model.cells) * H + 2 * H
    noisy = sum(rate > 0 or model.variational_dropout > 0 for rate in model.dropouts)
    layers = (noisy + (L if model.residual else 0) + apart) * F
    numbers = cells + layers + 2 * F + max(H, F) + (model.head_size if model.head == "cell" else 0)
    return numbers * _size(model) + (_of_pairs(model) if precision == "bfloat16" else 0)


def _of_pairs(model: TokenStackConfig) -> int:
    """Count the bytes per token that products of bfloat16 numbers take more: copies of two bytes a number, all shared.

    The gradients of a layer's gates by rows and by columns, h, and what a layer reads; its packed inputs take half.
    """
    cell, F = model.cells[0], model.output_size
    return 2 * (2 * cell.kept_size * cell.hidden_size + 2 * max(F, model.embedding_size) - max(F, model.hidden_size))


def card_bytes(model: TokenStackConfig, train: TrainConfig) -> int:
    """Count the bytes on the card: `training_bytes`, arrays of the card's kernels alone, and validation's buffers.

    For the tokens of a chunk: the gradients of one layer's gates and its states of the step before. For its texts: all
    states before and after it, and the gradient of one layer's. An upper bound, as half precision takes half of much
    that is counted, beside a rounded copy of the parameters.
    """
    size, V, H, texts = _size(model), model.vocab_size, model.hidden_size, train.tokens_per_batch or train.batch_size
    tokens = max(train.tokens_per_batch, train.bptt) if train.tokens_per_batch else train.batch_size * train.bptt
    shared = (2 * model.cells[0].kept_size + 1) * H * size  # a token
    states = (2 * (2 * len(model.cells) * H + model.head_size) + 2 * H) * size  # a text: h, c and what the head sees
    reading = SCORED_AT_ONCE * (per_token(model) + shared) + min(SCORED_AT_ONCE * V * size, LOGITS_BYTES)
    reading += min(SCORED_AT_ONCE, V) * (model.cells[0].gates * H) * size  # projections of distinct tokens
    return training_bytes(model, train) + tokens * shared + texts * states + reading + model.num_parameters * size


def _size(model: TokenStackConfig) -> int:
    return int(np.dtype(model.dtype).itemsize)


def training_bytes(model: TokenStackConfig, train: TrainConfig) -> int:
    """Count the bytes of all arrays that training on chunks of up to (bptt, batch_size) keeps, without the program."""
    size, H = _size(model), model.hidden_size
    rows = model.cells[0].gates * H  # of a layer's weights
    tokens = max(train.tokens_per_batch, train.bptt) if train.tokens_per_batch else train.batch_size * train.bptt
    logits = min(tokens * model.vocab_size * size, LOGITS_BYTES)
    packed = (rows * (max(model.embedding_size, model.output_size) + H) + min(model.vocab_size, 4096) * H) * size
    table = min(tokens, model.vocab_size) * (rows + model.embedding_size) * size
    token = per_token(model, train.precision)
    return model.num_parameters * per_parameter(train, model) + tokens * token + logits + packed + table
