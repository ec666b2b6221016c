"""The classifier of `nblstm.TextClassifier` in PyTorch: word vectors, a bidirectional LSTM, the mean of its outputs.

As one would write it there: padded batches, packed sequences, a mean with a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TorchClassifier(nn.Module):
    """The network of a ClassifierConfig with mean pooling."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        c = config
        self.embedding = nn.Embedding(c.vocab_size, c.embedding_size)
        self.rnn = nn.LSTM(
            c.embedding_size, c.hidden_size, c.num_layers, bidirectional=c.bidirectional, batch_first=True,
            dropout=c.dropout if c.num_layers > 1 else 0.0,
        )  # fmt: skip
        self.head = nn.Linear(c.head_size, c.num_outputs)
        self.before, self.behind = nn.Dropout(c.input_dropout), nn.Dropout(c.output_dropout)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Take the weights of our network, which has the same names."""
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})

    def logits(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(N, labels) of tokens (N, T)."""
        packed = pack_padded_sequence(self.before(self.embedding(tokens)), lengths, batch_first=True)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)  # 0 behind the end of a text
        return self.head(self.behind(y.sum(1) / lengths[:, None]))

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch."""
        return nn.functional.cross_entropy(self.logits(tokens, lengths), labels)


def padded_texts(chunk: Any) -> tuple[torch.Tensor, ...]:
    """A packed chunk of ours as `TorchClassifier` reads it: (tokens, lengths, labels)."""
    counts = np.diff(chunk.offsets)
    lengths = (counts[:, None] > np.arange(counts[0])).sum(axis=0)
    tokens = np.zeros((len(lengths), len(counts)), np.int64)
    for t, (first, last) in enumerate(zip(chunk.offsets, chunk.offsets[1:])):
        tokens[: last - first, t] = chunk.tokens[first:last]
    return tuple(map(torch.from_numpy, (tokens, lengths, chunk.targets.astype(np.int64))))
