"""LanguageRun: a language model trained on files of text, one stream or documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from nblstm.adapting import STREAMS as FEWEST_TOKENS
from nblstm.adapting import gradient_statistics
from nblstm.config import TextConfig, TokenStackConfig, TrainConfig
from nblstm.config.adaptive import best_cutoffs
from nblstm.config.runs import RunSettings
from nblstm.errors import ConfigError
from nblstm.kernels import fastest
from nblstm.nn.card import check_card
from nblstm.nn.decoder import check_writes
from nblstm.scoring import worse_than_guessing
from nblstm.scoring.results import figure_text
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.language.settings import LANGUAGE_SETTINGS
from nblstm.tasks.run import OnMessage, Places, TaskRun, Yardstick, check_vocabulary_of_run, text_of
from nblstm.tasks.text_model import TextModel
from nblstm.text.buckets import padding
from nblstm.text.corpus import Corpus, check_ends, load_corpus
from nblstm.text.demo import DEMO, demo_source
from nblstm.text.reading import read_text
from nblstm.text.token_file import count_ids
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.facts import training_facts
from nblstm.training.text_trainer import check_recipe, fitted, make_trainer
from nblstm.training.trainer import Trainer

MOST_TOKENS = 1 << 24  # of the training text that gradient statistics are spread over


class LanguageRun(TaskRun):
    """A run of a network that predicts tokens; its material is a Corpus, and a vocabulary is all that it knows."""

    TASK = "language"
    SETTINGS: ClassVar[RunSettings] = LANGUAGE_SETTINGS
    FITTED = ("batch_size", "bptt")
    MARK, DIVIDES = False, True
    MODEL: ClassVar[type[TextModel]] = LanguageModel

    # ------------------------------------------------------------ settings

    def draft(self, network: Mapping[str, Any]) -> Any:
        """Make the network's config of settings before anything is read. ConfigError for a wrong one."""
        return super().draft({"vocab_size": self.SETTINGS.network.fewest_tokens(network), **network})

    def fields(self, material: Corpus, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the network's config; the clusters of an adaptive head are chosen by the text's counts."""
        fields = super().fields(material, network)
        if network.get("head") == "adaptive" and network.get("cutoffs") is None:
            fields["cutoffs"] = best_cutoffs(count_ids(material.train, len(material.vocabulary)))
        return fields

    def check(self, reading: TextConfig, shape: TokenStackConfig, recipe: TrainConfig) -> None:
        """Raise ConfigError for settings of documents without any, a level or a card that the network cannot have."""
        recipe.check_documents(reading.documents)
        shape.check_level(reading.level)
        check_recipe(shape, recipe)
        if recipe.device == "cuda":
            check_card(shape)

    def fitted(self, recipe: TrainConfig, material: Corpus, on_message: OnMessage) -> TrainConfig:
        """Return the recipe with streams that the text can fill."""
        return fitted(recipe, material, on_message)

    # ------------------------------------------------------------ material

    def read(
        self,
        places: Places,
        reading: TextConfig,
        recipe: Any,
        known: Vocabulary | None,
        on_message: OnMessage,
        **how: Any,
    ) -> Corpus:
        """Load the corpus. how: further arguments of `load_corpus`."""
        corpus, valid = (
            [demo_source() if path == DEMO else path for path in places[name]] for name in ("corpus", "valid")
        )
        return load_corpus(
            corpus, valid_paths=valid, vocabulary=known, **reading.to_dict(), on_message=on_message, **how
        )

    def read_again(
        self, places: Places, reading: TextConfig, recipe: Any, known: Vocabulary, fingerprint: str
    ) -> Corpus:
        """Load the corpus of a run that goes on, split as format version 1 split words at first where that is its text."""
        corpus = self.read(places, reading, recipe, known, lambda message: None)
        if corpus.fingerprint != fingerprint and known.level == "word":
            return self.read(places, reading, recipe, known, lambda message: None, split_at="line")
        return corpus

    def reading_of(self, known: Vocabulary, reading: TextConfig) -> TextConfig:
        """Return the text's settings for a vocabulary that is given. ConfigError if they ask for another one."""
        return text_of(known, reading)

    def read_growing(
        self, places: Places, reading: TextConfig, recipe: Any, known: Vocabulary, on_message: OnMessage
    ) -> tuple[Corpus, TextConfig]:
        """Load the corpus with the text's other tokens behind the vocabulary's, chosen by min_count and max_vocab."""
        check_ends(known, reading.documents)

        def grown(found: Vocabulary) -> Vocabulary:
            old, room = set(known.tokens), None if reading.max_vocab is None else max(0, reading.max_vocab - len(known))
            new = [token for token in found.tokens if token not in old]
            larger = replace(known, tokens=(*known.tokens, *new[:room]))
            on_message(f"the vocabulary grows by {len(larger) - len(known):,} tokens to {len(larger):,}.")
            return larger

        stored = text_of(known, replace(reading, min_count=1, max_vocab=None))
        how = replace(stored, min_count=reading.min_count)
        return self.read(places, how, recipe, None, on_message, choose=grown), stored

    def check_known(self, known: Vocabulary, shape: TokenStackConfig, reading: TextConfig, recipe: TrainConfig) -> None:
        """Raise ConfigError unless network, training and text fit the vocabulary."""
        check_vocabulary_of_run(known, shape, reading)
        shape.check_level(known.level)
        recipe.check_documents(reading.documents)
        check_recipe(shape, recipe)
        _ = recipe.boundaries  # ConfigError for buckets that are none

    # ------------------------------------------------------------ training

    def trainer(
        self,
        shape: TokenStackConfig,
        parameters: np.ndarray,
        recipe: TrainConfig,
        material: Corpus,
        on_message: OnMessage,
    ) -> Trainer:
        """Make the trainer of a network of this shape."""
        if recipe.keep_statistics and len(material.train) <= FEWEST_TOKENS:
            raise ConfigError(
                f"keep_statistics needs more than {FEWEST_TOKENS} tokens to train on, got {len(material.train)}; leave it out."
            )
        return make_trainer(self.MODEL.NETWORK, shape, parameters, recipe, material)

    def training(self, names: Mapping[str, Sequence[str]], material: Corpus, trainer: Trainer) -> dict[str, Any]:
        """Return the facts of training that the model's file holds."""
        return training_facts(
            ["the demo text" if name == DEMO else name for name in names["corpus"]], material, trainer
        )

    def model(self, shape: Any, material: Corpus, parameters: np.ndarray, training: dict[str, Any]) -> TextModel:
        """Make the model of these parameters."""
        return self.MODEL(shape, material.vocabulary, parameters, training)

    def finished(
        self, model: Any, material: Corpus, recipe: TrainConfig, on_progress: Callable[[int], None]
    ) -> TextModel:
        """Return the model with the gradient statistics of the text's beginning, if they are to be kept."""
        if not recipe.keep_statistics:
            return model
        network = model.network(fastest(), recipe.threads)
        return model.with_statistics(gradient_statistics(network, material.train[:MOST_TOKENS], on_progress))

    # ------------------------------------------------------------ what is shown

    def introduce(self, material: Corpus, trainer: Trainer) -> Iterator[tuple[str, str]]:
        """Yield lines of what is trained on."""
        unit = f"{material.vocabulary.level}s"
        train = _size(material.train, material.train_offsets, unit) + " to train on" + _unknown(material.train_unknown)
        valid = _size(material.valid, material.valid_offsets, unit) + " to validate" + _unknown(material.valid_unknown)
        yield "text", f"{train}, {valid}, vocabulary {len(material.vocabulary):,}"
        if material.train_offsets is not None:
            yield from _buckets(trainer.source)
        if trainer.network.config.head == "adaptive":
            yield "head", _clusters(trainer.network.config.edges, unit)

    def batches(self, recipe: TrainConfig) -> str:
        """Say how large a batch is, and how far gradients reach."""
        batch = recipe.batch_size if recipe.tokens_per_batch is None else f"{recipe.tokens_per_batch:,} tokens"
        return f"batch {batch}, bptt {recipe.bptt}"

    def best(self, measures: Mapping[str, float]) -> str:
        """Say how good the best weights are, by loss and perplexity."""
        return f"{super().best(measures)}, perplexity {figure_text(math.exp(min(measures['loss'], 700)), 2)}"

    def doubt(self, known: Any, measures: Mapping[str, float]) -> str | None:
        """Say that a guess would be better, where it would."""
        return worse_than_guessing(measures.get("loss"), len(known.vocabulary))

    def yardstick(self, model: TextModel, path: str, encoding: str) -> Yardstick:
        """Read a text, whose loss counts."""
        text = "".join(read_text((path,), encoding))
        return Yardstick("loss", " nats per token", lambda each: each.score(text).loss)

    def next(self, shape: TokenStackConfig) -> str:
        """Return the name of the command that uses the model."""
        return "sample"

    def check_writes(self, shape: TokenStackConfig) -> None:
        """Raise ConfigError for a network that reads both ways."""
        check_writes(shape)


def _unknown(count: int) -> str:
    """Tell how many tokens the vocabulary does not have, if any."""
    return f", {count:,} of them unknown" if count else ""


def _size(ids: Any, offsets: Any, unit: str) -> str:
    """Tell how much text there is; the <end> of documents is not counted."""
    if offsets is None:
        return f"{len(ids):,} {unit}"
    return f"{len(offsets) - 1:,} documents of {len(ids) - len(offsets):,} {unit}"


def _clusters(edges: Sequence[int], unit: str) -> str:
    """Tell how an adaptive head cuts the vocabulary."""
    sizes = [f"{size:,}" for size in np.diff(edges)]
    return f"adaptive: a shortlist of {sizes[0]} {unit}, cluster{'s' * (len(sizes) > 2)} of {', '.join(sizes[1:])}"


def _buckets(buckets: Any) -> Iterator[tuple[str, str]]:
    """Tell how documents are batched, and what packing saves: on a card, time goes with the padded rectangles."""
    inside, outside = buckets.padding, padding(buckets.lengths, ())
    saved = 1 - (1 - outside) / (1 - inside)
    yield "buckets", f"up to {', '.join(f'{length:,}' for length in buckets.longest)} tokens"
    yield (
        "padding",
        f"{100 * inside:.1f} % if batches were padded, {100 * outside:.1f} % in one bucket: "
        f"{100 * saved:.1f} % of the time saved",
    )
