"""MLPLanguageModel: the article's first program, which sees a fixed number of tokens and remembers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import SampleConfig, TextConfig
from nblstm.kernels import fastest
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.scoring import Score, Surprisals
from nblstm.tasks.article_model import ArticleModel, probabilities
from nblstm.tasks.window.batches import Windows, windows_before
from nblstm.tasks.window.config import WindowConfig, WindowTraining
from nblstm.tasks.window.network import initial_windows, window_network
from nblstm.text.batches import Chunk
from nblstm.text.corpus import Corpus
from nblstm.text.sequences import pad_sequences
from nblstm.text.strings import checked, utf8
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.text_trainer import weigh_targets
from nblstm.training.trainer import Trainer

MOST_NUMBERS = 1 << 24  # of a dense layer's inputs that are read at once outside of training


class MLPLanguageModel(ArticleModel):
    """A window of n tokens, a dense layer of 128 with relu, dropout 0.5, softmax: section 4.1 of the article.

        model = nblstm.MLPLanguageModel(window=10, epochs=3).fit(text)
        print(model.generate_text("To be", n=100))

    Its settings are those of `WindowConfig`, `TextConfig` and `WindowTraining`. Where a text is shorter than the window,
    the end token fills it up (a line end where there is none), on the side that `padding` says. It learns without
    numba, too, only more slowly.
    """

    NETWORK, TRAINING = WindowConfig, WindowTraining
    CONFIGS = (WindowConfig, TextConfig, WindowTraining)

    @staticmethod
    def _rows(config: WindowConfig) -> int:
        """Tell how many windows are read at once outside of training."""
        return max(1, min(1024, MOST_NUMBERS // (config.window * max(config.hidden_size, config.embedding_size))))

    def _trainer(
        self, config: WindowConfig, train: WindowTraining, corpus: Corpus, on_message: Callable[[str], None]
    ) -> Trainer:
        network = window_network(config, initial_windows(config, train.seed), fastest(), train.threads)
        weigh_targets(network, train, corpus.vocabulary)
        shape = config.window, config.padding, corpus.vocabulary.start_id
        source = Windows(corpus.train, corpus.train_offsets, *shape, train.batch_size, train.seed)
        valid = Windows(corpus.valid, corpus.valid_offsets, *shape, self._rows(config), None)
        return Trainer(network, train, source, valid.epoch(0), corpus.release)

    def _take(self, config: WindowConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: Any) -> None:
        super()._take(config, vocabulary, parameters, training)
        self.network = window_network(config, parameters, "numpy")

    def predict(self, sequences: Iterable[Sequence[int]]) -> np.ndarray:
        """Predict as `ArticleModel.predict` does; of a sequence longer than the window its end is seen."""
        ids, rows = self._ids(sequences), self._rows(self.config)
        parts = [probabilities(self._logits(ids[start : start + rows])) for start in range(0, len(ids), rows)]
        return np.concatenate([np.empty((0, self.config.vocab_size), self.config.dtype), *parts])

    def _logits(self, sequences: Sequence[Any]) -> np.ndarray:
        """Compute the logits (M, V) of the token after each of M sequences of ids."""
        c, start = self.config, self._trained().start_id
        tokens = pad_sequences(sequences, c.window, padding=c.padding, value=start)
        logits, _ = self.network.outputs(*_chunk(self.network, tokens, tokens[:, 0]))
        return logits

    def generate_text(
        self, seed_text: str = "", n: int = 200, temperature: float = 0.5, seed: int | None = None
    ) -> str:
        """Generate as `ArticleModel.generate_text` does."""
        vocabulary, config = self._trained(), SampleConfig(n=n, temperature=temperature, seed=seed)
        ids = vocabulary.encode(checked(seed_text)).tolist()
        decoder = vocabulary.decoder()
        for id in ids:
            decoder.feed(id)
        return "".join(map(decoder.feed, self._drawn(ids, config))) + decoder.flush()

    def _drawn(self, ids: list[int], config: SampleConfig) -> Iterator[int]:
        """Draw the ids that follow, up to config.n of them or the end token, which is not among them."""
        vocabulary = self._trained()
        banned, filters = np.array(vocabulary.never_written, np.int64), config.filters(config.temperature)
        random, seen = np.random.default_rng(config.seed), ids[-self.config.window :]
        token, nothing = np.empty(1, np.int64), np.empty((1, 0), np.int64)
        for number in range(config.n):
            self.network.kernels.draw(token, self._logits([seen]), random.random(1), nothing, banned, filters, 1)
            if token[0] < 0:
                raise checks.non_finite(f"the logits of token {number} are")
            if token[0] == vocabulary.end_id:
                return
            seen = [*seen, int(token[0])][-self.config.window :]
            yield seen[-1]

    def score(self, text: str) -> Score:
        """Score as `ArticleModel.score` does."""
        vocabulary, c = self._trained(), self.config
        ends = [] if vocabulary.end_id is None else [vocabulary.end_id]
        ids = np.concatenate([vocabulary.encode(checked(text)), ends]).astype(np.int32)
        judged = vocabulary.read(text)
        judged = utf8(judged) if vocabulary.by_bytes else judged
        nats, rows = np.empty(len(ids), c.dtype), self._rows(c)
        for first in range(0, len(ids), rows):
            places = np.arange(first, min(first + rows, len(ids)))
            tokens = windows_before(ids, places, np.zeros_like(places), c.window, c.padding, vocabulary.start_id)
            nats[places], _ = self.network.losses(*_chunk(self.network, tokens, ids[places]))
        return Surprisals(judged, ids, checks.losses(nats), vocabulary).score


def _chunk(network: Network, tokens: np.ndarray, targets: np.ndarray) -> tuple[Chunk, State]:
    """Return a chunk of windows (M, n) and the tokens after them (M,), and the state before it, which holds nothing."""
    return Chunk(tokens, targets, np.array([0, len(tokens)]), fresh=True), network.initial_state(len(tokens))
