"""The shape of a network that gives each word of a sentence a tag."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from nblstm.config.checks import MAX_SIZE, at_least, at_most, check_types, one_of, said, strings
from nblstm.config.network import TokenStackConfig
from nblstm.errors import ConfigError
from nblstm.nn.crf import chain_shapes
from nblstm.nn.spelling import PREFIX
from nblstm.tasks.tagging.spans import OUTSIDE, SCHEMES, mark_of, outputs_of, types_of

TAG_HEADS = ("crf", "softmax")


@dataclass(frozen=True)
class SpellingConfig(TokenStackConfig):
    """A layer that reads the characters of a word in both directions."""

    directions: ClassVar[int] = 2

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer."""
        return {"embedding.weight": (self.vocab_size, self.embedding_size), **self.stack_shapes}


@dataclass(frozen=True)
class TaggerConfig(TokenStackConfig):
    """A stack between words, their spelling among them, and a chain of tags; stored in its file."""

    _: KW_ONLY
    tags: tuple[str, ...]  # the outputs in their order: of spans, those of iobes
    scheme: str = "none"  # none | iob1 | iob2 | iobes: how spans were marked in what was learned
    characters: str = ""  # those that are known
    char_embedding_size: int = 25  # size of a character's vector
    char_hidden_size: int = 25  # units that read a word's characters, in each direction; 0: spellings are not read
    lowercase: bool = True  # words are looked up in lower case; their spelling keeps its capitals
    zero_digits: bool = True  # and with a 0 for every digit
    max_characters: int = 50  # of a word that are read, from its start
    max_length: int = 1000  # words that are read together; a longer sentence is read in parts
    bidirectional: bool = True  # every layer reads a sentence in both directions
    head: str = "crf"  # crf: tags are chosen together | softmax: each by itself
    hidden_size: int = 100
    num_layers: int = 1
    dropout: float = 0.5
    input_dropout: float = 0.5  # of words and spellings
    output_dropout: float = 0.5  # of what the head sees

    KEY: ClassVar[str] = "nblstm_tagger"
    heads: ClassVar[tuple[str, ...]] = TAG_HEADS

    def __post_init__(self) -> None:
        strings(self, "tags")
        check_types(self)
        at_least(self, 1, "char_embedding_size", "max_characters", "max_length")
        at_least(self, 0, "char_hidden_size")
        super().__post_init__()
        one_of(self, "scheme", SCHEMES)
        at_most(self, MAX_SIZE, "char_embedding_size", "char_hidden_size", "max_characters", "max_length")
        if self.tie:
            raise ConfigError("the head of a tagger is its own; leave tie out.")
        if len(self.tags) < 2 or len(set(self.tags)) < len(self.tags):
            raise ConfigError(f"tags must be at least two, all different, got {said(self.tags)}.")
        if self.scheme != "none" and self.tags != outputs_of(types_of(self.tags)):
            raise ConfigError(f"tags must be O and B, I, E and S of each type of span, got {said(self.tags)}.")
        if len(set(self.characters)) < len(self.characters):
            raise ConfigError(f"characters must be all different, got {said(self.characters)}.")

    @property
    def spelling(self) -> SpellingConfig | None:
        """The config of the stack that reads characters, 0 an unknown one; None where they are not read."""
        if self.char_hidden_size == 0:
            return None
        return SpellingConfig(
            len(self.characters) + 1,
            self.char_embedding_size,
            hidden_size=self.char_hidden_size,
            num_layers=1,
            dropout=0.0,
            dtype=self.dtype,
        )

    @property
    def directions(self) -> int:  # type: ignore[override]
        """In how many directions a layer reads."""
        return 2 if self.bidirectional else 1

    @property
    def input_size(self) -> int:
        """How many numbers the first layer reads at a word."""
        return self.embedding_size + 2 * self.char_hidden_size

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """How many logits the head makes: one a tag."""
        return len(self.tags)

    @property
    def types(self) -> list[str]:
        """The types of spans; none where tags mark no spans."""
        return [] if self.scheme == "none" else types_of(self.tags)

    def knows(self, tag: str) -> bool:
        """Tell whether a tag, in whatever scheme, is one that was learned."""
        if self.scheme == "none":
            return tag in self.tags
        return tag == OUTSIDE or mark_of(tag)[1] in self.types

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer."""
        spelling = {} if self.spelling is None else {PREFIX + name: s for name, s in self.spelling.shapes.items()}
        chain = chain_shapes(len(self.tags)) if self.head == "crf" else {}
        embedding = {"embedding.weight": (self.vocab_size, self.embedding_size)}
        return {**embedding, **spelling, **self.stack_shapes, **self.head_shapes, **chain}

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 1 x 100, bidirectional, characters 2 x 25, crf, 17 tags"."""
        read = f", characters 2 x {self.char_hidden_size}" if self.char_hidden_size else ""
        return f"{super().description}{read}, {self.head}, {len(self.tags)} tags"
