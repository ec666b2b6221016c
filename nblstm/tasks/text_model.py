"""TextModel: a model file of text in memory, to score with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nblstm import checks
from nblstm.config import NetworkConfig
from nblstm.errors import TextError
from nblstm.files.model_file import ModelFile, load_model, save_model
from nblstm.kernels.threads import WORKERS
from nblstm.nn.network import Network
from nblstm.nn.parameters import check_parameters
from nblstm.remembered import kept_under
from nblstm.text.lines import without_end
from nblstm.text.strings import checked
from nblstm.text.vocabulary import Vocabulary, check_vocabulary

if TYPE_CHECKING:  # scoring is imported where it is used: a text that is written starts sooner without
    from nblstm.scoring import Score, Surprisals, Text


class TextModel:
    """Base of models of text. `nblstm.load(path)` makes one.

    config: of CONFIG. vocabulary: Vocabulary. training: facts about how it was made.
    parameters: (config.num_parameters,) of config.dtype, finite, only to be read: shared, not copied, if they are
    `checks.in_form`, and then those that were given must not change. ConfigError unless these fit together.

    Any number of threads may ask one model for anything at once; what it returns step by step is for one thread at a
    time.
    """

    CONFIG: ClassVar[type[NetworkConfig]]
    NETWORK: ClassVar[type[Network]] = Network

    def __init__(self, config: Any, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]) -> None:
        self.config, self.vocabulary = check_vocabulary(self.CONFIG, config, vocabulary), vocabulary
        self._given = check_parameters(
            config, parameters
        )  # the same numbers, of the type that the compiled kernels know
        self.parameters, self.training = self._given.view(), checks.a(dict, "training", training)
        self.parameters.flags.writeable = False
        self._networks: dict[tuple[str, int], Network] = {}
        self._fingerprint: str | None = None

    def __repr__(self) -> str:
        loss = self.training.get("valid_loss")
        known = f", validation loss {loss:.4f}" if isinstance(loss, float) else ""
        tokens = f"{len(self.vocabulary):,} tokens, level {self.vocabulary.level}"
        return f"<{type(self).__name__}: {self.config.description}, {tokens}{known}>"

    # ------------------------------------------------------------ files

    @classmethod
    def restore(cls, file: ModelFile) -> TextModel:
        """Make the model of a file's content."""
        assert file.vocabulary is not None
        return cls(file.config, file.vocabulary, file.parameters, file.training)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextModel:
        """Read a model from its file. ModelFileError if it is missing, damaged, of another task or a newer version."""
        return cls.restore(load_model(path, [cls.CONFIG]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, atomically. ModelFileError if it cannot be written."""
        save_model(path, self._file())

    def _file(self) -> ModelFile:
        """Return what the file holds."""
        return ModelFile.of(self.config, self.vocabulary, self.parameters, {}, self.training)

    # ------------------------------------------------------------ what it is

    def network(self, backend: str = "numpy", threads: int = 0) -> Network:
        """Return the network on a backend, "numpy", "cpu" or "cuda" (DeviceError where that cannot run); made once."""
        checks.a(str, "backend", backend), checks.whole("threads", threads, 0, WORKERS)
        return kept_under((backend, threads), self._networks, lambda: self._new_network(backend, threads))

    def _new_network(self, backend: str, threads: int) -> Network:
        return self.NETWORK(self.config, self._given, backend, threads, constant=True)

    def encode(self, text: str) -> np.ndarray:
        """Encode a text as token ids (tokens,) int64. TextError if it is none."""
        return self.vocabulary.encode(checked(text)).astype(np.int64)

    @property
    def fingerprint(self) -> str:
        """A digest of all that the model's outputs depend on: config, vocabulary, parameters."""
        if self._fingerprint is None:
            facts = json.dumps(self._described())
            digest = hashlib.blake2b(facts.encode(), digest_size=16)
            digest.update(self.parameters.view(np.uint8))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _described(self) -> list[Any]:
        """Return what the fingerprint is a digest of, the parameters apart, as JSON values."""
        return [self.config.to_dict(), self.vocabulary.to_dict()]

    # ------------------------------------------------------------ scoring

    def score(self, text: Text | Iterable[Text], backend: str = "auto", threads: int = 0) -> Score:
        """Score a text (or its pieces, cut between tokens). Its first token is given.

        A masked model fills in every token from both sides, the first as well; see `nblstm.scoring`.

        backend: "numpy", "cpu", or "auto" for the one that is expected to be done first. threads: 0 for every core.
        """
        from nblstm.scoring import score

        pieces = text if isinstance(text, Iterable) and not isinstance(text, (str, bytes)) else [text]
        network, pieces = self.scorer(pieces, backend, threads)
        return score(network, self.vocabulary, pieces)

    def score_lines(self, lines: Iterable[Text], backend: str = "auto", threads: int = 0) -> Iterator[Score]:
        """Score each line, many of them as a batch; the line end after it is not part of it.

        Every line is a text of its own, read after a line end, so its first token is scored too. A model of documents
        reads it after its end token and must predict that token in the end. Lines are taken as they are needed, some
        hundred thousand characters ahead.
        """
        from nblstm.scoring import judge

        if isinstance(lines, (str, bytes)):
            raise TextError("lines must be several texts, got a single one; split it with .splitlines().")
        checks.items("lines", lines)
        bare: Iterable[Text] = (without_end(checked(line)) for line in lines)
        network, bare = self.scorer(bare, backend, threads, side_by_side=True)
        return (found.score for found in judge(network, self.vocabulary, bare))

    def surprisals(self, text: Text, backend: str = "auto", threads: int = 0) -> Surprisals:
        """Judge each token of a text: .tokens, .nats, .bits; the text is read as `score_lines` reads a line."""
        from nblstm.scoring import judge

        network, texts = self.scorer([text], backend, threads)
        (found,) = judge(network, self.vocabulary, texts)
        return found

    def scorer(
        self, texts: Iterable[Text], backend: str = "auto", threads: int = 0, side_by_side: bool = False
    ) -> tuple[Network, Iterable[Text]]:
        """Return the network to score these texts or pieces with, and the texts: "auto" looks at the first of them."""
        texts = map(checked, checks.items("texts", texts))
        if checks.a(str, "backend", backend) == "auto":
            from nblstm.scoring import backend_for

            backend, texts = backend_for(self.config, texts, side_by_side)
        return self.network(backend, threads), texts
