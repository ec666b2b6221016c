"""What a network has found of sources, as texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nblstm.nn.network import Network
from nblstm.tasks.classification.batches import as_read
from nblstm.tasks.translation.config import TranslateConfig
from nblstm.tasks.translation.decoding import Found, Translating
from nblstm.tasks.translation.pairs import Vocabularies, network_sources
from nblstm.text.vocabulary import END, Vocabulary


@dataclass(frozen=True)
class Translation:
    """A translation of a source.

    tokens: as the model wrote them, and source_tokens as it read them, <end> behind each. attention (tokens, source
    tokens): how much each looked at each, rows sum to 1; None without attention. log_probability: in nats. score: what it
    was ranked by, see `nblstm.tasks.translation.decoding`.
    """

    text: str
    tokens: tuple[str, ...]
    source_tokens: tuple[str, ...]
    attention: np.ndarray | None
    log_probability: float
    score: float


def write_translations(
    network: Network, vocabularies: Vocabularies, sources: list[str] | np.ndarray, config: TranslateConfig
) -> list[list[Translation]]:
    """Find the best translations of each source, or draw some; sources of like length share a batch."""
    (source, target), shape = vocabularies, network.config
    same_level = source is not None and source.level == target.level
    replaced = config.replace_unknown and same_level and shape.attention != "none"
    banned = np.array([] if replaced else target.never_written, np.int64)
    encoded = network_sources(sources, source, shape)
    found: list[list[Translation]] = [[] for _ in range(len(sources))]
    order = np.argsort(-encoded.lengths, kind="stable")
    with network.scratch() as scratch:
        for start in range(0, len(order), config.batch_size):
            texts = order[start : start + config.batch_size]
            batch = Translating(network, scratch, encoded, texts, config, (target.end_id, banned)).run()
            for text, ones in zip(texts.tolist(), batch):
                read = () if source is None else source_tokens(source, sources[text], shape.max_length)
                found[text] = [_translation(read, one, target) for one in ones]
    return found


def source_tokens(vocabulary: Vocabulary, source: str, max_length: int) -> tuple[str, ...]:
    """Split a source into the tokens that are read of it, <end> behind them."""
    return (*vocabulary.split(as_read(source, vocabulary.level))[: max_length - 1], END)


def _translation(read: tuple[str, ...], found: Found, vocabulary: Vocabulary) -> Translation:
    """Make the translation of what was found; read: the source's tokens, of which one takes the place of each <unk>."""
    attention, tokens = found.attention, [vocabulary.tokens[id] for id in found.tokens.tolist()]
    if attention is not None and len(read) > 1 and vocabulary.unk_id is not None:
        for place in np.flatnonzero(found.tokens == vocabulary.unk_id):
            tokens[place] = read[int(attention[place, :-1].argmax())]
    shown = tokens[:-1] if len(tokens) and found.tokens[-1] == vocabulary.end_id else tokens
    text = vocabulary.decode(found.tokens) if vocabulary.by_bytes else _joined(shown, vocabulary)
    return Translation(text.strip(), tuple(tokens), read, attention, found.log_probability, found.score)


def _joined(tokens: list[str], vocabulary: Vocabulary) -> str:
    """Join tokens, as they stand in a text."""
    return (" " if vocabulary.level == "word" and vocabulary.tokenizer == "whitespace" else "").join(tokens)
