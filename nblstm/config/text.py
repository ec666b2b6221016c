"""How text becomes tokens."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config.checks import Config, at_least, check_types, fraction, one_of
from nblstm.config.vocabulary import LEVELS, NEWLINES, TOKENIZERS
from nblstm.errors import ConfigError

DOCUMENTS = ("line", "blank-line", "file", "row")
PADDINGS = ("pre", "post")
DEFAULT_SUBWORDS = 4000  # tokens of a new vocabulary of sub-words
DEFAULT_MAX_VOCAB = 300_000  # tokens of a new vocabulary: each has a row of the embedding and one of the head


@dataclass(frozen=True)
class TextConfig(Config):
    """How text becomes tokens and is split; stored in the checkpoint."""

    level: str = "char"  # char | word | byte | subword
    tokenizer: str = "default"  # default | whitespace, at word level
    min_count: int = 1  # tokens that are rarer become <unk>
    max_vocab: int | None = None  # most tokens, <unk> (and <end>) included; None: DEFAULT_MAX_VOCAB (_SUBWORDS)
    encoding: str = "utf-8"  # of the files; byte level reads them as they are
    newline: str | None = None  # keep | lf: CRLF and CR are read as LF; None means lf, at byte level keep
    valid_fraction: float = 0.1  # share of the text (or of the documents), at its end, kept for validation
    include: str = "*"  # names that files in folders have, such as *.txt
    documents: str | None = None  # line | blank-line | file | row: each a text of its own; None: one stream of text

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "level", LEVELS)
        one_of(self, "tokenizer", TOKENIZERS)
        if self.newline is not None:
            one_of(self, "newline", NEWLINES)
        if self.documents is not None:
            one_of(self, "documents", DOCUMENTS)
        if not self.include:
            raise ConfigError("include must be a pattern of file names such as *.txt, got ''.")
        at_least(self, 1, "min_count")
        at_least(self, 2 if self.documents is None else 3, "max_vocab")
        fraction(self, "valid_fraction")


@dataclass(frozen=True)
class CorpusConfig(TextConfig):
    """How the text of a language model is read: as a stream, or as documents, which may be the rows of tables."""

    text_column: str | None = None  # of tables: which column is the text of a document, a row
    context_column: str | None = None  # and which stands above it, in a line of its own

    def __post_init__(self) -> None:
        if self.documents is None and self.text_column is not None:
            object.__setattr__(self, "documents", "row")
        super().__post_init__()
        if self.documents == "row" and self.text_column is None:
            raise ConfigError("documents=row needs text_column, the name of the column that has the texts.")
        if self.documents != "row" and self.text_column is not None:
            raise ConfigError(f"text_column makes a document of a row, got documents={self.documents}; leave that out.")
        if self.context_column is not None and self.context_column == self.text_column:
            raise ConfigError(
                f"context_column must be another column than the text's, got {self.context_column!r:.40}."
            )
        if self.context_column is not None and self.text_column is None:
            raise ConfigError("context_column stands above the text of a row, and needs text_column.")
