"""The tagger of `nblstm.Tagger` in PyTorch: word vectors, an LSTM over characters, one over words, a linear-chain CRF.

As one would write it there: padded batches, packed sequences, the forward algorithm as a loop over steps with a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TorchTagger(nn.Module):
    """The network of a TaggerConfig with a crf head and one layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        c, spelling = config, config.spelling
        self.words = nn.Embedding(c.vocab_size, c.embedding_size)
        self.letters = nn.Embedding(spelling.vocab_size, spelling.embedding_size)
        self.spell = nn.LSTM(spelling.embedding_size, spelling.hidden_size, bidirectional=True, batch_first=True)
        self.read = nn.LSTM(c.input_size, c.hidden_size, bidirectional=True, batch_first=True)
        self.head = nn.Linear(c.head_size, c.num_outputs)
        self.transitions = nn.Parameter(torch.zeros(c.num_outputs, c.num_outputs))
        self.start, self.end = nn.Parameter(torch.zeros(c.num_outputs)), nn.Parameter(torch.zeros(c.num_outputs))
        self.before, self.behind = nn.Dropout(c.input_dropout), nn.Dropout(c.output_dropout)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Take the weights of our network, by their names there."""
        names = {
            "embedding": "words", "characters.embedding": "letters", "characters.rnn": "spell", "rnn": "read",
            "head": "head", "crf": "",
        }  # fmt: skip
        state = {}
        for name, array in weights.items():
            part, _, last = name.rpartition(".")
            state[f"{names[part]}.{last}".lstrip(".")] = torch.from_numpy(array.copy())
        self.load_state_dict(state)

    def emissions(self, words, spellings, spelled, lengths):
        """(N, T, K) of words (N, T), spellings (N * T rows as `spelled` counts them, characters)."""
        N, T = words.shape
        packed = pack_padded_sequence(self.letters(spellings), spelled, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.spell(packed)
        last = h.transpose(0, 1).reshape(len(spellings), -1)
        of_words = words.new_zeros((N, T, last.shape[1]), dtype=last.dtype)
        of_words[torch.arange(T)[None] < lengths[:, None]] = last
        x = self.before(torch.cat([self.words(words), of_words], dim=2))
        y, _ = self.read(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return self.head(self.behind(pad_packed_sequence(y, batch_first=True)[0]))

    def forward(self, words, spellings, spelled, lengths, tags):
        """The mean of -log p of a word's tag."""
        e, mask = (
            self.emissions(words, spellings, spelled, lengths),
            torch.arange(words.shape[1])[None] < lengths[:, None],
        )
        rows, ends = torch.arange(len(words)), lengths - 1
        score = self.start[tags[:, 0]] + self.end[tags[rows, ends]]
        score = score + (e.gather(2, tags[:, :, None])[:, :, 0] * mask).sum(1)
        score = score + (self.transitions[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]).sum(1)
        a = self.start + e[:, 0]
        for t in range(1, e.shape[1]):
            step = torch.logsumexp(a[:, :, None] + self.transitions, dim=1) + e[:, t]
            a = torch.where(mask[:, t, None], step, a)
        return (torch.logsumexp(a + self.end, dim=1) - score).sum() / mask.sum()

    @torch.no_grad()
    def best(self, words, spellings, spelled, lengths) -> list[list[int]]:
        """The most probable tags of each sentence (Viterbi)."""
        e, found = self.emissions(words, spellings, spelled, lengths), []
        for scores, length in zip(e, lengths.tolist()):
            a, came_from = self.start + scores[0], []
            for step in scores[1:length]:
                best = (a[:, None] + self.transitions).max(dim=0)
                a, came_from = best.values + step, [*came_from, best.indices]
            tags = [int((a + self.end).argmax())]
            for places in reversed(came_from):
                tags.append(int(places[tags[-1]]))
            found.append(tags[::-1])
        return found


def padded(chunk: Any) -> tuple[torch.Tensor, ...]:
    """A packed chunk of ours as `TorchTagger` reads it: (words, spellings, their lengths, lengths, tags)."""
    tokens, offsets = chunk.tokens, chunk.offsets
    counts = np.diff(offsets)
    lengths = np.array([(counts > n).sum() for n in range(counts[0])])
    letters = np.diff(tokens.offsets)
    spelled = np.array([(letters > n).sum() for n in range(letters[0])])
    words, tags = np.zeros((2, len(lengths), len(counts)), np.int64)
    forms = np.zeros((len(lengths), len(counts)), np.int64)
    for t, (first, last) in enumerate(zip(offsets, offsets[1:])):
        words[: last - first, t] = tokens.words[tokens.forms[first:last]]
        tags[: last - first, t], forms[: last - first, t] = chunk.targets[first:last], tokens.forms[first:last]
    table = np.zeros((len(spelled), len(letters)), np.int64)
    for t, (first, last) in enumerate(zip(tokens.offsets, tokens.offsets[1:])):
        table[: last - first, t] = tokens.characters[first:last]
    rows = forms[np.arange(len(counts))[None] < lengths[:, None]]
    return tuple(map(torch.from_numpy, (words, table[rows], spelled[rows], lengths, tags)))
