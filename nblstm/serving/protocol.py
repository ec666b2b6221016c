"""The protocol: completions as OpenAI's clients ask for them, JSON in and JSON out. Nothing here computes.

A request is refused with OpenAI's error object. What it may hold beyond OpenAI's fields: those of `SampleConfig`, such
as top_k.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nblstm import checks
from nblstm.config import MAX_TOKENS, SampleConfig, said
from nblstm.errors import ConfigError, NblstmError

DEFAULT_TOKENS = 16  # OpenAI's
MOST_CHOICES, MOST_STOPS, MOST_BEST = 128, 16, 5  # texts of a request, stop strings, likely tokens in a place
SAMPLING = SampleConfig.names() - {"n", "num_samples", "backend", "seed"}
IGNORED = {"model", "user", "metadata", "store"}
OFF: dict[str, tuple[Any, ...]] = {  # of OpenAI's fields that do nothing here: the values that ask for nothing
    "best_of": (1,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
}
KNOWN = {
    "prompt", "max_tokens", "n", "stop", "logprobs", "seed", "echo", "stream", "stream_options",
    *SAMPLING, *IGNORED, *OFF,
}  # fmt: skip
STATUS_TYPES = {404: "not_found_error", 429: "rate_limit_error"}  # of an error, by its status; others by their hundreds


class RequestError(NblstmError):
    """A request that is refused: the status of the answer, and what OpenAI's error object says."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        kind = STATUS_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def unavailable(message: str, code: str) -> RequestError:
    """Return the error of a server that cannot take a request now."""
    return RequestError(503, message, code=code)


class Token(NamedTuple):
    """A token of a text that is answered with."""

    name: str
    offset: int  # where it begins in the text
    log_probability: float | None  # None: it is given
    best: dict[str, float] | None  # the likely ones in its place, and itself: name -> log-probability


class Piece(NamedTuple):
    """What is new of one text."""

    choice: int
    text: str
    tokens: list[Token]
    finish: str | None  # "stop" or "length" with its last piece


@dataclass(frozen=True)
class CompletionRequest:
    """A request that is in order.

    prompts: at least one. sampling: of each prompt, its n tokens at most and num_samples texts. stop: strings that end
    a text. logprobs: how many likely tokens are named in each place; None for no log-probabilities. echo: whether the
    prompt is repeated. stream, usage: whether pieces come as they are made, and behind them what was counted.
    """

    prompts: tuple[str, ...]
    sampling: SampleConfig
    stop: tuple[str, ...]
    logprobs: int | None
    echo: bool
    stream: bool
    usage: bool


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse the body of a request. RequestError unless it is a JSON object in UTF-8."""
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise RequestError(400, f"the body must be JSON in UTF-8: {reason[:200]}.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise RequestError(400, 'the body must be a JSON object such as {"prompt": "To be"}.', code="invalid_json")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def parse_request(fields: Mapping[str, Any], model: str, backend: str) -> CompletionRequest:
    """Make the request of its fields, null being the same as none. RequestError names a wrong one.

    model: the name of the one that is served. backend: what it computes with.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    _check_names(fields, model)
    prompts = _prompts(fields.get("prompt", ""))
    choices = _whole(fields, "n", 1, MOST_CHOICES // len(prompts), 1)
    options = fields.get("stream_options", {})
    if not isinstance(options, dict):
        raise _wrong("stream_options", "an object", options)
    return CompletionRequest(
        prompts,
        _sampling(fields, num_samples=choices, backend=backend),
        _strings(fields, "stop"),
        _whole(fields, "logprobs", 0, MOST_BEST, None),
        _flag(fields, "echo"),
        _flag(fields, "stream"),
        _flag(options, "include_usage"),
    )


def _check_names(fields: Mapping[str, Any], model: str) -> None:
    """Raise RequestError for a field that is not known, one that does nothing here and asks for something, a wrong model."""
    for name, value in fields.items():
        if name not in KNOWN:
            raise RequestError(400, f"there is no field {said(name)} in a request.", name[:80], "unknown_field")
        if name in OFF and name not in SAMPLING and (isinstance(value, bool) or value not in OFF[name]):
            raise RequestError(400, f"{name} is not supported here; leave it out.", name, "unsupported_field")
    asked = fields.get("model", model)
    if asked != model:
        message = f"the model {said(asked)} is not served here, only {said(model)}; /v1/models names it."
        raise RequestError(404, message, "model", "model_not_found")


def _prompts(prompt: Any) -> tuple[str, ...]:
    """Return the prompts of a request: those of a string or a list."""
    prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt) if isinstance(prompt, list) else ()
    if not prompts or not all(isinstance(part, str) for part in prompts):
        rule = "a string or a list of strings (ids of tokens are another tokenizer's)"
        raise _wrong("prompt", rule, prompt)
    if len(prompts) > MOST_CHOICES:
        raise RequestError(400, f"prompt must be at most {MOST_CHOICES} strings, got {len(prompts):,}.", "prompt")
    for part in prompts:
        _check_text("prompt", part)
    return prompts


def _check_text(name: str, text: str) -> None:
    """Raise RequestError for half a character, which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(400, f"{name} must be text; it holds half of a surrogate pair.", name) from None


def _strings(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the strings of a field, which may be one or a list of them."""
    value = fields.get(name, [])
    strings = [value] if isinstance(value, str) else value
    rule = f"a string or a list of up to {MOST_STOPS} strings, none of them empty"
    if not isinstance(strings, list) or len(strings) > MOST_STOPS:
        raise _wrong(name, rule, value)
    for text in strings:
        if not isinstance(text, str) or not text:
            raise _wrong(name, rule, text)
        _check_text(name, text)
    return tuple(strings)


def _sampling(fields: Mapping[str, Any], **settings: Any) -> SampleConfig:
    """Return how the texts are drawn. A seed is chosen where none is given, so that the answer can name it."""
    seed = _whole(fields, "seed", 0, 2**64, None)
    settings |= {name: fields[name] for name in SAMPLING & set(fields)}
    try:
        return SampleConfig(
            n=_whole(fields, "max_tokens", 0, MAX_TOKENS, DEFAULT_TOKENS),
            seed=secrets.randbits(32) if seed is None else seed,
            **settings,
        )
    except ConfigError as error:
        param = str(error).split(" ")[0]
        raise RequestError(400, str(error), param if param in KNOWN else None) from None


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int, default: Any) -> Any:
    """Return a whole number of the fields, or the default."""
    value = fields.get(name, default)
    if value is default or checks.is_whole(value, low, high):
        return value
    raise _wrong(name, f"a whole number from {low} to {high}", value)


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    """Return a truth of the fields; false where it is not there."""
    value = fields.get(name, False)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong(name, "true or false", value)


def _wrong(name: str, rule: str, value: Any) -> RequestError:
    return RequestError(400, f"{name} must be {rule}, got {said(value)}.", name)


# ---------------------------------------------------------------- answers


def new_id() -> str:
    """Make the id of an answer."""
    return f"cmpl-{secrets.token_hex(12)}"


def to_json(value: Any) -> bytes:
    """Write a value as JSON, ASCII alone."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def choice_object(index: int, text: str, tokens: list[Token] | None, finish: str | None) -> dict[str, Any]:
    """Return a text, or a piece of one. tokens: None for no log-probabilities."""
    logprobs = None if tokens is None else {
        "tokens": [token.name for token in tokens],
        "token_logprobs": [token.log_probability for token in tokens],
        "top_logprobs": [token.best for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }  # fmt: skip
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def usage_object(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return what was counted."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def joined(pieces: Iterable[Piece], judged: bool) -> list[dict[str, Any]]:
    """Join the pieces of all texts, and return the texts in order. judged: whether log-probabilities are asked for."""
    texts: dict[int, tuple[list[str], list[Token], list[str | None]]] = {}
    for piece in pieces:
        parts, tokens, finish = texts.setdefault(piece.choice, ([], [], [None]))
        parts.append(piece.text)
        tokens.extend(piece.tokens)
        finish[0] = piece.finish
    return [
        choice_object(index, "".join(parts), tokens if judged else None, finish[0])
        for index, (parts, tokens, finish) in sorted(texts.items())
    ]
