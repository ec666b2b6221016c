"""TextGenerator: the article's second program, an LSTM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nblstm.config import TextConfig, TrainConfig
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.nn.state import State
from nblstm.scoring import Score
from nblstm.tasks.article_model import ArticleModel, probabilities
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.teachers import distilling
from nblstm.text.batches import Chunk
from nblstm.text.corpus import Corpus
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.text_trainer import fitted, make_trainer
from nblstm.training.trainer import Trainer

PREDICT_STEPS, PREDICT_TEXTS = 64, 64  # of sequences that `predict` reads at once


class TextGenerator(ArticleModel):
    """An LSTM layer of 256, dropout 0.5, softmax: section 4.2 of the article.

        generator = nblstm.TextGenerator(epochs=5).fit(names)
        print(generator.generate_text("Mar", n=20))

    Its settings are those of `nblstm.train`. It is `nblstm.train` and `LanguageModel` behind the article's names: its
    file is a model file, which `nblstm sample` reads, and `model` is the LanguageModel. Training needs numba.
    """

    NETWORK, TRAINING = LanguageConfig, TrainConfig
    CONFIGS = (LanguageConfig, TextConfig, TrainConfig)
    DEFAULTS = {"num_layers": 1, "dropout": 0.5, "output_dropout": 0.5}
    model: LanguageModel

    def _check(self, text: TextConfig, train: TrainConfig) -> None:
        train.check_documents(text.documents)
        distilling(train, None, None, grows=False)  # there is no teacher

    def _trainer(
        self, config: LanguageConfig, train: TrainConfig, corpus: Corpus, on_message: Callable[[str], None]
    ) -> Trainer:
        return make_trainer(Network, config, initial(config, train.seed), fitted(train, corpus, on_message), corpus)

    def _take(self, config: LanguageConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: Any) -> None:
        super()._take(config, vocabulary, parameters, training)
        self.model = LanguageModel(config, vocabulary, parameters, training)

    def predict(self, sequences: Iterable[Sequence[int]]) -> np.ndarray:
        """Predict as `ArticleModel.predict` does. Sequences of one length are read as a batch."""
        texts = [np.concatenate([self._before(ids), ids]) for ids in self._ids(sequences)]
        network, lengths = self.model.network(), np.array([len(ids) for ids in texts], np.int64)
        found = np.empty((len(texts), self.config.vocab_size), self.config.dtype)
        for length in np.unique(lengths):
            alike = np.flatnonzero(lengths == length)
            for numbers in np.split(alike, range(PREDICT_TEXTS, len(alike), PREDICT_TEXTS)):
                state = self._read(np.stack([texts[number] for number in numbers], axis=1))
                found[numbers] = probabilities(network.logits(state.features))
        return found

    def _before(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids read before a text, (0 or 1,): its end token, or a line end where there is nothing else."""
        vocabulary = self._trained()
        needed = vocabulary.end_id is not None or not len(ids)
        return np.full(int(needed), vocabulary.start_id, np.int32)

    def _read(self, tokens: np.ndarray) -> State:
        """Return the state after texts of one length, tokens (T, N) with T >= 1."""
        network = self.model.network()
        state = network.initial_state(tokens.shape[1])
        for start in range(0, len(tokens), PREDICT_STEPS):
            piece = tokens[start : start + PREDICT_STEPS]
            state = network.read(Chunk.rectangle(piece, piece, fresh=False), state)
        return state

    def generate_text(
        self, seed_text: str = "", n: int = 200, temperature: float = 0.5, seed: int | None = None
    ) -> str:
        """Generate as `ArticleModel.generate_text` does."""
        self._trained()
        return "".join(self.model.generate(seed_text, n=n, temperature=temperature, seed=seed))

    def score(self, text: str) -> Score:
        """Score as `ArticleModel.score` does."""
        self._trained()
        return self.model.surprisals(text).score
