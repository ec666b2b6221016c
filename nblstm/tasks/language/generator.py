"""TextGenerator: the article's second program, an LSTM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nblstm.config import ModelConfig, TextConfig, TrainConfig, check_documents, check_masking, check_writes
from nblstm.tasks.language.model import LanguageModel
from nblstm.nn.parameters import initial
from nblstm.nn.state import State
from nblstm.tasks.article import Program, probabilities
from nblstm.scoring import Score, start_id
from nblstm.text.batches import Chunk
from nblstm.text.corpus import Corpus
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.session import fitted, make_trainer
from nblstm.training.trainer import Trainer

STEPS, TEXTS = 64, 64  # of sequences that `predict` reads at once


class TextGenerator(Program):
    """An LSTM layer of 256, dropout 0.5, softmax: section 4.2 of the article.

        generator = nblstm.TextGenerator().train(names, epochs=5)
        print(generator.generate_text("Mar", n=20))

    Its settings are those of `ModelConfig`. It is `nblstm.train` and `LanguageModel` behind the article's names: its
    file is a model file, which `nblstm sample` reads, and `model` is the LanguageModel. Training needs numba.
    """

    CONFIG = ModelConfig
    NETWORK = {"num_layers": 1, "dropout": 0.5, "output_dropout": 0.5}
    model: LanguageModel

    def _check(self, text: dict[str, Any], training: dict[str, Any]) -> None:
        asked = TextConfig(**text)
        check_documents(asked, TrainConfig(**training))
        check_masking(asked.level, self.network_settings.get("bidirectional", False))

    def _trainer(
        self, config: ModelConfig, train: TrainConfig, corpus: Corpus, on_message: Callable[[str], None]
    ) -> Trainer:
        return make_trainer(config, initial(config, train.seed), fitted(train, corpus, on_message), corpus)

    def _take(self, config: ModelConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: Any) -> None:
        super()._take(config, vocabulary, parameters, training)
        self.model = LanguageModel(config, vocabulary, parameters, training)

    def predict(self, sequences: Iterable[Sequence[int]]) -> np.ndarray:
        """As `Program.predict`. Sequences of one length are read side by side."""
        texts = [np.concatenate([self._before(ids), ids]) for ids in self._ids(sequences)]
        check_writes(self.config)
        network, lengths = self.model.network(), np.array([len(ids) for ids in texts], np.int64)
        found = np.empty((len(texts), self.config.vocab_size), self.config.dtype)
        for length in np.unique(lengths):
            alike = np.flatnonzero(lengths == length)
            for numbers in np.split(alike, range(TEXTS, len(alike), TEXTS)):
                state = self._read(np.stack([texts[number] for number in numbers], axis=1))
                found[numbers] = probabilities(network.logits(state.top))
        return found

    def _before(self, ids: np.ndarray) -> np.ndarray:
        """What is read before a text (0 or 1,): its end token, or a line end where there is nothing else to read."""
        needed = self.vocabulary.end_id is not None or not len(ids)
        return np.full(int(needed), start_id(self.vocabulary), np.int32)

    def _read(self, tokens: np.ndarray) -> State:
        """The state after texts of one length, tokens (T, N) with T >= 1."""
        network = self.model.network()
        state = network.initial_state(tokens.shape[1])
        for start in range(0, len(tokens), STEPS):
            piece = tokens[start : start + STEPS]
            state = network.read(Chunk.rectangle(piece, piece, fresh=False), state)
        return state

    def generate_text(
        self, seed_text: str = "", n: int = 200, temperature: float = 0.5, seed: int | None = None
    ) -> str:
        """As `Program.generate_text`."""
        self._trained()
        return "".join(self.model.generate(seed_text, n=n, temperature=temperature, seed=seed))

    def score(self, text: str) -> Score:
        """As `Program.score`."""
        self._trained()
        return self.model.surprisals(text).score
