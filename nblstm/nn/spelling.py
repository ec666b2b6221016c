"""SpelledWords: the vector of a word and what a character stack makes of its spelling, side by side.

After Lample et al. 2016, section 4.1: a stack reads the characters of a word in both directions; its two last states stand
beside the word's own vector, so that a word that is rare or was never seen is known by what it looks like.

A batch repeats its words, so it lists each form once: the stack reads the forms, a packed batch of its own, and the rows
are gathered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.noise import INPUT, UNKNOWN
from nblstm.nn.parameters import Gradients
from nblstm.nn.stack import RecurrentStack
from nblstm.nn.tape import Inputs, Tape
from nblstm.nn.workspace import Workspace

PREFIX = "characters."  # of the names of the character stack's parameters


@dataclass(frozen=True)
class SpelledTokens:
    """The M tokens of a batch: which of F forms each is, and the word and the characters of every form.

    forms (M,) int32. words (F,) int32: ids in the vocabulary of words. characters (C,) int32, offsets (T + 1,) int64: the
    spellings, packed as texts are, the forms in order of falling length; both None where spellings are not read.
    """

    forms: np.ndarray
    words: np.ndarray
    characters: np.ndarray | None = None
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.forms)


class _Kept(NamedTuple):
    """Arrays that the input keeps of a pass."""

    tokens: SpelledTokens
    words: np.ndarray  # (F,) as they were read
    in_place: bool  # whether x has a row for each token, not for each form
    spelling: Tape | None  # of the character stack


class SpelledWords(TokenEmbedding):
    """x[m] = [weight[word], last state of the character stack forwards, the same backwards] of the form of token m.

    config: as that of a TokenEmbedding; spelling: the config of the character stack, None without one. rare (V,) bool: the
    words that are read as <unk>, id 0, in a share `unknown_fraction` of the updates, so that its vector learns from them
    (Lample et al. 2016, section 4.2); for training alone.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(config, weights)
        self.rare: np.ndarray | None = None
        self.unknown_fraction = 0.0
        if config.spelling is not None:
            self.letters = TokenEmbedding(config.spelling, below(weights))
            self.stack = RecurrentStack(config.spelling, below(weights))

    def checked(self, tokens: Any) -> Any:
        """Return the SpelledTokens as the kernels read them. ConfigError if they are not of this network."""
        checks.a(SpelledTokens, "chunk.tokens", tokens)
        count = len(tokens.words)
        forms = checks.ids("chunk.tokens.forms", tokens.forms, count, (-1,), np.int32)
        words = checks.ids("chunk.tokens.words", tokens.words, self.config.vocab_size, (count,), np.int32)
        if self.config.spelling is None:
            return SpelledTokens(forms, words)
        offsets = checks.offsets("chunk.tokens.offsets", tokens.offsets, len(tokens.characters))
        checks.whole("forms with characters", int(offsets[1]), count, count)
        return SpelledTokens(forms, words, self.letters.checked(tokens.characters), offsets)

    def forward(self, tape: Tape, tokens: Any) -> Inputs:
        """Return the vectors of SpelledTokens: a row for each form, or under noise for each token."""
        c, (kernels, threads, _, _), scratch = self.config, tape.backend, tape.scratch
        F, E, words = len(tokens.words), c.embedding_size, self._replaced(tape, tokens.words)
        vectors, x = scratch.array("words", F, E), scratch.array("words, spelled", F, c.input_size)
        kernels.embedding_forward(vectors, words, self.weight, threads)
        self._drop_tokens(tape, vectors, words)
        x[:, :E] = vectors
        spelling = None if c.spelling is None else self._spell(tape, tokens, x[:, E:])
        in_place = tape.noise is not None and (c.input_dropout > 0 or c.variational_dropout > 0)
        tape.input_kept = _Kept(tokens, words, in_place, spelling)
        if not in_place:
            return Inputs(x, tokens.forms, len(tokens))
        rows = scratch.array("x", len(tokens), c.input_size)
        kernels.embedding_forward(rows, tokens.forms, x, threads)
        return Inputs(tape.dropped(rows, c.input_dropout, c.variational_dropout, INPUT, into=rows), None, 0)

    def _replaced(self, tape: Tape, words: np.ndarray) -> np.ndarray:
        """Return words (F,), in training some of the rare ones as <unk>."""
        if tape.noise is None or self.rare is None or self.unknown_fraction == 0:
            return words
        kept = tape.noise.factors(words.shape, self.weight.dtype, self.unknown_fraction, UNKNOWN) > 0
        return np.where(kept | ~self.rare[words], words, np.int32(0))

    def _spell(self, tape: Tape, tokens: SpelledTokens, into: np.ndarray) -> Tape:
        """Write the last states of both directions (F, 2 H) of every form; return the pass of the character stack."""
        scratch = tape.scratch.work("spelling", lambda: Workspace(tape.backend))
        spelling = Tape(tokens.offsets, scratch, tape.noise)  # type: ignore[arg-type] # `checked` has seen them
        inputs = self.letters.forward(spelling, tokens.characters)  # type: ignore[arg-type]
        after = self.stack.forward(spelling, inputs, self.stack.initial_state(len(tokens.words)))
        np.concatenate(list(after.h), axis=1, out=into)
        return spelling

    def backward(self, tape: Tape, grads: Gradients, dx: np.ndarray) -> None:
        """Add the gradients of words, characters and their stack, from dx as `forward` gave x."""
        c, (kernels, threads, _, _) = self.config, tape.backend
        tokens, words, in_place, spelling = tape.input_kept
        d = dx
        if in_place:
            tape.dropped(dx, c.input_dropout, c.variational_dropout, INPUT, into=dx)
            d = tape.scratch.array("d of forms", len(words), c.input_size)
            kernels.clear(d.reshape(d.size), threads)
            kernels.embedding_backward(d, dx, tokens.forms, threads)
        dwords = np.ascontiguousarray(d[:, : c.embedding_size])
        self._drop_tokens(tape, dwords, words)
        kernels.embedding_backward(grads["embedding.weight"], dwords, words, threads)
        if spelling is not None:
            self._spell_backward(spelling, below(grads), d[:, c.embedding_size :])

    def _spell_backward(self, spelling: Tape, grads: Gradients, d: np.ndarray) -> None:
        """Add the gradients of characters and stack from that of the last states (F, 2 H)."""
        H, M = d.shape[1] // 2, int(spelling.offsets[-1])
        dlast = [(d[:, start : start + H], np.zeros((len(d), H), d.dtype)) for start in (0, H)]
        dfeatures = np.zeros((M, 2 * H), d.dtype)
        dx, _ = self.stack.backward(spelling, grads, dfeatures, True, dlast)
        self.letters.backward(spelling, grads, dx)


def below(named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of the character stack by the names that it knows."""
    return {name.removeprefix(PREFIX): array for name, array in named.items() if name.startswith(PREFIX)}
