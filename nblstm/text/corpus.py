"""Corpus: the text of files to token ids on disk, split for training and validation.

A corpus may be larger than memory. It is read in chunks of about a million characters: once, and where a part of it is
kept for validation once more, for its length. (That of a folder's files their first bytes are looked at is not counted.)

It is one stream of text, or many documents (`nblstm.text.documents`), whose ids then stand one after the other with
the vocabulary's <end> before, between and behind them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain

from nblstm.config import DEFAULT_MAX_VOCAB
from nblstm.errors import ConfigError, TextError
from nblstm.text.cutting import anywhere, border_of, cut_in_two
from nblstm.text.lines import translated
from nblstm.text.reading import read_chunks, read_documents
from nblstm.text.sources import AnyPath, Paths, Source, rereadable, texts_in
from nblstm.text.tables import Columns
from nblstm.text.token_file import TokenFile, fingerprint_of
from nblstm.text.vocabulary import Vocabulary

MOST_UNKNOWN = 0.99  # share of a training text's tokens that may be unknown: above it there is nothing to learn
UNKNOWN_TOLD = 0.05  # share that a person is told of who trains with a vocabulary that was given


class Corpus:
    """A vocabulary and the token ids of a training and a validation text.

    train, valid: (tokens,) of vocabulary.dtype, read-only, mapped from disk; valid may be empty.
    train_offsets, valid_offsets: (documents + 1,) int64, see `TokenFile`; None where the text is one stream.
    train_tokens: how many tokens the training text has, without any <end>.
    train_characters, valid_characters: lengths of the texts before tokenisation (bytes at byte level).
    train_unknown, valid_unknown: how many of the ids are unk_id.
    fingerprint: hex digest of the vocabulary and all ids, which tells whether a corpus is still the same.
    train_fingerprint: `fingerprint_of` the ids of the training text.
    contexts: those of the documents, in order; none where they have none.
    """

    def __init__(
        self, vocabulary: Vocabulary, train: TokenFile, valid: TokenFile, contexts: Iterable[str] = ()
    ) -> None:
        self.vocabulary = vocabulary
        self.train, self.train_characters, self.train_unknown = train.ids, train.characters, train.unknown
        self.valid, self.valid_characters, self.valid_unknown = valid.ids, valid.characters, valid.unknown
        self.train_offsets, self.valid_offsets = train.offsets, valid.offsets
        self.train_tokens = len(train.ids) - (0 if train.offsets is None else len(train.offsets))
        everything = json.dumps(vocabulary.to_dict()).encode() + train.digest + valid.digest
        self.fingerprint = hashlib.blake2b(everything, digest_size=16).hexdigest()
        self.train_fingerprint = fingerprint_of(train.digest)
        self.contexts, self._files = tuple(sorted(contexts)), (train, valid)

    def release(self) -> None:
        """Give back the memory of the ids read so far; call it now and then when going through a large corpus."""
        for file in self._files:
            file.release()


def load_corpus(
    paths: Paths,
    *,
    valid_paths: Paths = (),
    valid_fraction: float = 0.1,
    level: str = "char",
    tokenizer: str = "default",
    min_count: int = 1,
    max_vocab: int | None = None,
    encoding: str = "utf-8",
    documents: str | None = None,
    include: str = "*",
    newline: str | None = None,
    vocabulary: Vocabulary | None = None,
    choose: Callable[[Vocabulary], Vocabulary] | None = None,
    split_at: str = "token",
    text_column: str | None = None,
    context_column: str | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> Corpus:
    """Read, split and encode the text of the paths; `find_sources` says what a path may be.

    documents: their kind (see `nblstm.text.documents`); None reads the text as one stream. text_column: of "row", the
    column that is the text of a document; context_column: the one that stands above it, in a line of its own.
    include: a pattern of the names that files in folders have, such as *.txt; but at byte level, those that hold no
    text are left out.
    newline: "lf" reads CRLF and CR as LF, "keep" as they are; None means "lf", at byte level "keep".
    The validation text is that of valid_paths, or without any the last valid_fraction of the documents, or of the
    stream's characters (of the bytes at byte level; of words and sub-words the split moves back to the last border of two
    tokens, or where split_at is "line", as runs were split once, to the last newline). The vocabulary is built from the
    training text, see `Vocabulary.build`, with up to DEFAULT_MAX_VOCAB tokens where max_vocab does not say it, unless
    one is given: it is used as it is, and its level is the level. choose: called with the vocabulary that was built,
    returns the one to use, which may have other tokens as well. on_message: told in a sentence what the user should know.
    Raises TextError if a text cannot be read or changes meanwhile, the training text has fewer than 2 tokens or nearly
    none that the vocabulary knows, or the disk is full, and ConfigError if a setting is out of its range, or the
    vocabulary is for documents and the text a stream.
    """
    if not 0 <= valid_fraction < 1:
        raise ConfigError(f"valid_fraction must be at least 0 and less than 1, got {valid_fraction}.")
    columns = named_columns(documents, text_column, context_column)
    if vocabulary is None:
        most = DEFAULT_MAX_VOCAB if max_vocab is None and level != "subword" else max_vocab
        encoder = Vocabulary.counter(level, tokenizer, min_count, most, documents is not None)
    else:
        check_ends(vocabulary, documents)
        encoder, level, tokenizer = vocabulary, vocabulary.level, vocabulary.tokenizer
        newline = vocabulary.newline
    reading = _Reading(level, encoding, documents, newline or ("keep" if level == "byte" else "lf"), columns)
    paths, valid_paths = (texts_in(part, include, level, on_message) for part in (paths, valid_paths))
    if columns is None:
        _tell_tables([*paths, *valid_paths], on_message)
    with ExitStack() as open_files:
        texts, valid_texts = _texts(paths, valid_paths, None if level == "byte" else encoding, open_files)
        if valid_texts or valid_fraction == 0:
            train, valid = reading(texts), reading(valid_texts) if valid_texts else iter(())
        else:
            border = border_of(level, tokenizer, split_at) if documents is None else anywhere
            train, valid = cut_in_two(reading(texts), int(reading.length(texts) * (1 - valid_fraction)), border)
        trained = TokenFile(encoder, train, lambda found: (choose or _same)(reading.vocabulary(found)))
        contexts = () if columns is None else columns.contexts
        corpus = Corpus(trained.vocabulary, trained, TokenFile(trained.vocabulary, valid), contexts)
    _check_length(corpus)
    _check_known(corpus, vocabulary is not None)
    if reading.changed:
        ends = f"{reading.changed:,} line end{'s' * (reading.changed != 1)}"
        on_message(f'{ends} of Windows or old Macs (CRLF, CR) read as LF; newline="keep" keeps them.')
    is_given = vocabulary is not None or choose is not None
    _tell_unknown(corpus, is_given, not is_given and max_vocab is None, on_message)
    return corpus


def _tell_tables(paths: Iterable[AnyPath], on_message: Callable[[str], None]) -> None:
    """Tell that a table, by the ending of its name, is read with its commas, quotes and names of columns."""
    names = (os.fspath(path) for path in paths if isinstance(path, (str, os.PathLike)))
    tables = [name for name in names if name.lower().removesuffix(".gz").endswith((".csv", ".jsonl"))]
    if tables:
        on_message(f"{tables[0]} is read as it stands; text_column names the column whose texts to learn.")


def named_columns(documents: str | None, text_column: str | None, context_column: str | None) -> Columns | None:
    """Return the columns that make documents of rows; None for others. ConfigError where one of these lacks the other."""
    if documents == "row" and text_column is not None:
        return Columns(text_column, context_column)
    if documents == "row" or text_column is not None or context_column is not None:
        raise ConfigError("documents=row and text_column belong together, and context_column to them; give both.")
    return None


def _check_length(corpus: Corpus) -> None:
    """Raise TextError if there is too little to learn from."""
    if len(corpus.train) >= 2:
        return
    if corpus.train_offsets is not None and corpus.valid_offsets is not None:
        rule, found = "must have at least 1 document with a token in it, got 0", len(corpus.valid_offsets) - 1
        kept = f"; of {found} in all, valid_fraction keeps {found} for validation" if found else ""
        raise TextError(f"the training text {rule}{kept}; add text or lower valid_fraction.")
    rule = f"must have at least 2 tokens, one to predict the other from, got {len(corpus.train)}"
    characters = corpus.train_characters + corpus.valid_characters
    if corpus.vocabulary.level == "word" and len(corpus.train) + len(corpus.valid) == 1 and characters > 1:
        raise TextError(
            f"the training text {rule}: all of the text is one word of {characters:,} characters, with no blank in it; "
            "choose level char or byte, or separate the words by blanks."
        )
    raise TextError(f"the training text {rule}; add text or lower valid_fraction.")


def _check_known(corpus: Corpus, given: bool) -> None:
    """Raise TextError if nearly all of the training text is unknown to the vocabulary, which may have been given."""
    if len(corpus.vocabulary) == (2 if corpus.vocabulary.ends else 1):
        raise TextError("no token of the training text occurs min_count times; lower min_count or add text.")
    unknown, tokens = corpus.train_unknown, corpus.train_tokens
    if unknown > MOST_UNKNOWN * tokens:
        found = f"{unknown:,} of the training text's {tokens:,} tokens are not in the vocabulary"
        raise TextError(
            f"{found} of the model that training starts from; start a new model for this text."
            if given
            else f"{found}; lower min_count, raise max_vocab, or choose another level."
        )


def _same(found: Vocabulary) -> Vocabulary:
    """Return the vocabulary itself."""
    return found


def _tell_unknown(corpus: Corpus, is_given: bool, is_default: bool, on_message: Callable[[str], None]) -> None:
    """Tell that many tokens are not in a vocabulary that is given, or that the room that there is by default is full."""
    unknown, num_tokens = corpus.train_unknown, len(corpus.vocabulary)
    if is_default and num_tokens == DEFAULT_MAX_VOCAB and unknown:
        on_message(
            f"the vocabulary keeps the {DEFAULT_MAX_VOCAB:,} most frequent tokens, {unknown:,} others of "
            "the training text become <unk>; set max_vocab for more or fewer."
        )
    elif is_given and unknown > UNKNOWN_TOLD * corpus.train_tokens:
        share = 100 * unknown / corpus.train_tokens
        on_message(f"the vocabulary does not know {share:.1f} % of the training text's tokens; they are read as <unk>.")


def check_ends(vocabulary: Vocabulary, documents: str | None) -> None:
    """Raise ConfigError unless the vocabulary has a token <end> where there are documents, and only there."""
    if vocabulary.ends and documents is None:
        raise ConfigError("documents must say what a text of its own is: the vocabulary has a token <end> for them.")
    if documents is not None and not vocabulary.ends:
        raise ConfigError("documents needs a vocabulary with a token <end>, which this one lacks; leave documents out.")


def _texts(
    paths: list[AnyPath], valid_paths: list[AnyPath], encoding: str | None, open_files: ExitStack
) -> tuple[list[Source], list[Source]]:
    """Return the files of both texts, which may be read until open_files is closed; arguments as in `rereadable`."""
    files = rereadable([*paths, *valid_paths], encoding, open_files)
    return [*chain.from_iterable(files[: len(paths)])], [*chain.from_iterable(files[len(paths) :])]


@dataclass
class _Reading:
    """How the files of a text are read; called with them: its chunks, or lists of its documents, for a vocabulary.

    changed: how many line ends were made LF so far.
    """

    level: str
    encoding: str
    documents: str | None
    newline: str
    columns: Columns | None = None
    changed: int = 0

    def __call__(self, sources: list[Source]) -> Iterator:
        if self.documents is None:
            chunks = read_chunks(sources, self.level, self.encoding)
            return translated(chunks, self._count) if self.newline == "lf" else chunks
        texts = read_documents(sources, self.level, self.documents, self.encoding, self.columns)
        return map(self._translated, texts) if self.newline == "lf" else texts

    def vocabulary(self, found: Vocabulary) -> Vocabulary:
        """Return the vocabulary for a text that is read so."""
        return found if found.newline == self.newline else replace(found, newline=self.newline)

    def length(self, sources: list[Source]) -> int:
        """Count what is to be cut in two: characters (bytes at byte level), or documents."""
        return sum(map(len, replace(self)(sources)))

    def _translated(self, texts: list) -> list:
        """Translate documents, each a text of its own."""
        return [text[:0].join(translated([text], self._count)) for text in texts]

    def _count(self, ends: int) -> None:
        self.changed += ends
