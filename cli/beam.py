"""The --beam options of nblstm sample: the most likely texts instead of drawn ones."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from nblstm.cli.options import echo_json, given, setting
from nblstm.cli.shown import echo, safe_text

from nblstm.config import BeamConfig
from nblstm.errors import ConfigError

SHARED = ("n", "num_samples", "seed", "backend")  # settings of sample that mean the same for a beam
QUICK = 1.0  # seconds without a word before progress is shown


def beam_options(command: Any) -> Any:
    """Add the options of a beam search; all but --beam need it."""
    options = [
        click.option("--beam", type=int, help="Search the most likely texts, keeping so many at every step."),
        setting(BeamConfig, "length_penalty", "With --beam: 0 favours short texts, 1 is about the mean per token."),
        setting(BeamConfig, "groups", "With --beam: split it into so many groups that avoid each other's tokens."),
        setting(BeamConfig, "diversity", "With --groups: nats a token costs for each use in an earlier group."),
        click.option("--stochastic", is_flag=True, default=None, help="With --beam: draw texts, no text twice."),
        click.option("--scores", is_flag=True, default=None, help="With --beam: print how likely each text is."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def beam_config(
    settings: dict[str, Any], stop: tuple[str, ...], drawing_only: dict[str, Any]
) -> tuple[BeamConfig | None, bool]:
    """Take the options of `beam_options` out of a command's settings: (the search or None, whether to print scores).

    ConfigError if one of them comes without --beam, or --beam with an option of drawing.
    """
    names = ("beam", "length_penalty", "groups", "diversity", "stochastic", "scores")
    own = {name: value for name in names if (value := settings.pop(name)) is not None}
    scores = own.pop("scores", False)
    if "beam" not in own:
        for name in [*own, *["scores"] * scores]:
            raise ConfigError(f"--{name.replace('_', '-')} needs --beam.")
        return None, False
    for name in [*given(settings), *(name for name, value in drawing_only.items() if value)]:
        if name not in SHARED:
            flag = {"typical_p": "typical"}.get(name, name).replace("_", "-")
            raise ConfigError(f"--{flag} has no meaning with --beam, which does not draw token by token.")
    if "diversity" in own and own.get("groups", 1) == 1:
        raise ConfigError("--diversity needs --groups of at least 2.")
    return BeamConfig.from_dict(own | given(settings) | {"stop": stop}), scores


def write_beam(
    model: Any, prompt: str, shown: str, before: Any, config: BeamConfig, scores: bool, json: bool = False
) -> None:
    """Search, then print the texts behind the shown prompt, the best first, as sample does; with scores below each.

    json: as JSON objects instead.
    """
    from nblstm.cli.progress import Progress

    progress, started = Progress(sys.stderr), time.monotonic()

    def report(tokens: int) -> None:
        if time.monotonic() - started > QUICK:
            progress.tell(f"token {tokens:,}/{config.n:,}", tokens / config.n)

    try:
        found = model.beam(prompt, state=before, on_progress=report, **config.to_dict())
    finally:
        progress.close()
    for text in found:
        if json:
            echo_json({"text": text.text, "log_probability": text.log_probability, "score": text.score}, indent=None)
            continue
        echo(safe_text()(shown + text.text))
        if scores:
            echo(f"log-probability {text.log_probability:.4f}  score {text.score:.4f}")
        if config.num_samples > 1 and model.vocabulary.end_id is None:
            echo("-" * 20)
    if len(found) < config.num_samples:
        click.echo(f"the search found {len(found)} different texts, not {config.num_samples}; raise --beam.", err=True)
