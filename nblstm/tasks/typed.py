"""Types of keyword settings, for editors and type checkers: a field for each of the configs.

Written by tests/support/typed.py, and held to the configs by tests/test_typed.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypedDict

AnyPaths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class TrainSettings(TypedDict, total=False):
    """Settings of `nblstm.train`."""

    attention: str
    average_every: int | None
    averaging_patience: int
    batch_size: int
    bayes_init: bool
    bidirectional: bool
    bptt: int
    buckets: str | None
    cell: str
    char_embedding_size: int
    char_hidden_size: int
    class_weights: dict[str, Any] | str | None
    clip: float
    clip_value: float
    context_column: str | None
    cutoffs: str | None
    decay_after: int
    device: str
    distil_temperature: float | None
    distil_weight: float | None
    documents: str | None
    dropout: float
    dtype: str
    embedding_dropout: float
    embedding_size: int
    encoding: str
    epochs: int | None
    head: str
    hidden_size: int
    include: str
    input_dropout: float
    input_feeding: bool
    keep_statistics: bool
    label_column: str | None
    label_smoothing: float
    layer_norm: bool
    lazy_embedding: bool
    learned_state: bool
    level: str
    lowercase: bool
    lr: float | None
    lr_decay: float
    mask_fraction: float
    max_characters: int
    max_length: int
    max_vocab: int | None
    min_count: int
    minutes: float | None
    mogrifier_rounds: int
    momentum: float
    monitor: str
    nesterov: bool
    newline: str | None
    nonlinearity: str
    num_buckets: int | None
    num_layers: int
    on_divergence: str
    optimizer: str
    output_dropout: float
    patience: int
    peepholes: bool
    pooling: str
    precision: str
    proj_size: int
    residual: bool
    schedule: str
    seed: int
    shared_vocabulary: bool
    source: AnyPaths
    source_level: str | None
    sparsity: float
    steps: int | None
    tag_column: int
    target: AnyPaths
    text_column: str | None
    threads: int
    tie: bool
    token_column: int
    token_weights: dict[str, Any] | None
    tokenizer: str
    tokens_per_batch: int | None
    unknown_fraction: float
    valid_every: str | int | None
    valid_fraction: float
    valid_source: AnyPaths
    valid_target: AnyPaths
    variational_dropout: float
    vectors: AnyPaths
    warmup: int
    weight_decay: float | None
    weight_dropout: float
    wire: str
    zero_digits: bool


class SampleSettings(TypedDict, total=False):
    """Settings of `generate` and its like."""

    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    repetition_window: int
    presence_penalty: float
    frequency_penalty: float
    no_repeat_ngram: int
    n: int
    temperature: float
    logit_bias: dict[str, Any] | None
    seed: int | None
    num_samples: int
    backend: str


class BeamSettings(TypedDict, total=False):
    """Settings of `beam`."""

    n: int
    beam: int
    num_samples: int
    length_penalty: float
    groups: int
    diversity: float
    stochastic: bool
    seed: int | None
    stop: str | Sequence[str]
    backend: str


class WriteSettings(TypedDict, total=False):
    """Settings of `cowriter`."""

    continuations: int
    until: str
    n: int
    temperature: float
    seed: int | None
    backend: str
