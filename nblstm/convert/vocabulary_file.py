"""A vocabulary from a file: tokens in the order of their ids, as other programs store them."""

from __future__ import annotations

import json
from typing import Any

from nblstm import checks
from nblstm.errors import ModelFileError
from nblstm.files.safetensors import Path
from nblstm.text.sources import regular
from nblstm.text.vocabulary import LEVELS, TOKENIZERS, UNK, Vocabulary

LINE_ENDS = ("<eos>", "</s>")  # what stands for a line end in vocabularies of words
MAX_BYTES = 1 << 28
MAX_DIGITS = 9  # of an id


def read_vocabulary(path: Path, level: str | None, tokenizer: str) -> tuple[Vocabulary, list[int]]:
    """Read (the vocabulary, its ids in the file: for each token of ours theirs, -1 for an <unk> that the file lacks).

    The file holds a JSON list of tokens, a JSON object token -> id (or id -> token), what `Vocabulary.to_dict` gives,
    or a token on each line. level: None for characters where every token is one, else words. An <unk> goes to the
    front. <eos> is a line end, unless the file has one. ModelFileError says what is wrong with the file.
    """
    if level is not None:
        checks.choice("level", level, LEVELS)
    checks.choice("tokenizer", tokenizer, TOKENIZERS)
    found = _parsed(_text(path))
    if isinstance(found, dict) and "tokens" in found and "level" in found:
        ours = _vocabulary(found, path)
        return ours, list(range(len(ours)))
    if level == "subword":
        raise ModelFileError(f"{path} must hold what Vocabulary.to_dict gives, for level subword.")
    tokens = _in_order(found, path)
    if level == "byte":
        if len(tokens) != 256:
            raise ModelFileError(f"{path} must have the 256 bytes as its tokens, got {len(tokens):,}.")
        return Vocabulary.build([], "byte"), list(range(256))
    if level is None:
        level = "char" if all(len(token) == 1 for token in tokens if token != UNK) else "word"
    if level == "word" and "\n" not in tokens:
        end = next((end for end in LINE_ENDS if end in tokens), None)
        tokens = ["\n" if token == end else token for token in tokens]
    order = [tokens.index(UNK) if UNK in tokens else -1]
    order += [id for id, token in enumerate(tokens) if token != UNK]
    fields = {"level": level, "tokenizer": tokenizer, "tokens": [UNK, *(tokens[id] for id in order[1:])]}
    return _vocabulary(fields, path), order


def _vocabulary(fields: dict[str, Any], path: Path) -> Vocabulary:
    try:
        return Vocabulary.from_dict(fields)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _text(path: Path) -> str:
    try:
        with open(checks.path("vocabulary", path), encoding="utf-8-sig", opener=regular) as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ModelFileError(f"{path} must be UTF-8, and is not.") from None
    if len(text) > MAX_BYTES:
        raise ModelFileError(f"{path} is longer than {MAX_BYTES:,} characters; it is no vocabulary.")
    return text


def _parsed(text: str) -> Any:
    """The JSON value, or the lines where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, (dict, list)) else text.splitlines()


def _in_order(found: Any, path: Path) -> list[str]:
    """The tokens by id."""
    if isinstance(found, dict):
        pairs = list(found.items())
        numbered = all(key.isdecimal() and len(key) <= MAX_DIGITS for key, _ in pairs)
        if pairs and numbered and all(isinstance(value, str) for _, value in pairs):
            pairs = [(token, int(id)) for id, token in pairs]
        ids = {id: token for token, id in pairs if checks.is_whole(id, 0, len(pairs) - 1)}
        if len(ids) != len(pairs):
            raise ModelFileError(f"{path} must give its {len(pairs):,} tokens the ids from 0 on, each to one token.")
        found = [ids[id] for id in range(len(ids))]
    if not found or not all(isinstance(token, str) for token in found):
        raise ModelFileError(f"{path} must hold a list of tokens, in the order of their ids.")
    return found
