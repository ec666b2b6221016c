"""Facts of a model: its shape, its making and its losses, as names and values for a reader."""

from __future__ import annotations

import os
from typing import Any

from nblstm.config import TokenStackConfig
from nblstm.files.fields import AMOUNT, COUNT, STRINGS, optional
from nblstm.nn.sparsity import count_blocks
from nblstm.reporting.durations import size_text
from nblstm.tasks.registry import run_of_model

LEAST_SPARSITY = 0.01  # that is worth a line
COUNTED = ("documents", "texts", "pairs", "sentences", "tokens")  # of what a model was trained on
TRAINING = {  # facts under `training` that are shown, and what they must be; a file may hold anything there
    "corpus": STRINGS, **dict.fromkeys(COUNTED, COUNT), "steps": COUNT, "epochs": AMOUNT, "seconds": AMOUNT,
    "valid_loss": optional(AMOUNT),
}  # fmt: skip


def type_of_weights(model: Any) -> str:
    """Name the numbers that a model's matrices are stored as: "float32", "float64" or "int8"."""
    return "int8" if getattr(model, "int8", False) else model.config.dtype


def model_facts(path: str | os.PathLike[str], model: Any) -> list[tuple[str, str]]:
    """Return (name, value) of what the model in a file is, in the order to be read."""
    c, run = model.config, run_of_model(model)
    return [
        ("file", f"{path} ({size_text(os.path.getsize(path))})"),
        ("network", f"{c.description}, embedding {c.embedding_size}"),
        ("parameters", f"{c.num_parameters:,} {type_of_weights(model)}"),
        *_zeros(model),
        (
            "dropout",
            f"{c.dropout:g} between layers, {c.input_dropout:g} on the input, {c.output_dropout:g} on the output",
        ),
        *run.describe(model),
        *_training_facts(model, run),
    ]


def sparsity_of(model: Any) -> float:
    """Return the share of a model's recurrent weights that stands in blocks of zeros; 0 of one without any."""
    if not isinstance(model.config, TokenStackConfig):
        return 0.0
    zero, blocks = count_blocks(model.config, model.parameters)
    return zero / max(1, blocks)


def _zeros(model: Any) -> list[tuple[str, str]]:
    """Return (name, value) of how much is zero, where there is something."""
    share = sparsity_of(model)
    return [("sparsity", f"{100 * share:.1f} % zero of the recurrent weights")] if share >= LEAST_SPARSITY else []


def _training_facts(model: Any, run: Any) -> list[tuple[str, str]]:
    """Return (name, value) of how a model was made, as far as its file says so in the way that training does."""
    training, rules = model.training, {**TRAINING, **{f"valid_{name}": AMOUNT for name in run.MEASURES}}
    fits = {name: rule.holds(training[name]) for name, rule in rules.items() if name in training}
    t = {name: training[name] for name, good in fits.items() if good}
    facts = []
    if t.get("corpus"):
        counts = ", ".join(f"{t[name]:,} {name}" for name in COUNTED if name in t) or "0 tokens"
        facts.append(("trained on", f"{', '.join(t['corpus'])}: {counts}"))
        seconds = f", {t['seconds']:.0f} s" if "seconds" in t else ""
        facts.append(("for", f"{t.get('steps', 0):,} steps, {t.get('epochs', 0):g} epochs{seconds}"))
    if t.get("valid_loss") is not None:
        measures = {name.removeprefix("valid_"): value for name, value in t.items() if name.startswith("valid_")}
        facts.append(("validation", run.best(measures)))
        if (found := run.doubt(model, measures)) is not None:
            facts.append(("warning", found))
    if not all(fits.values()):
        wrong = ", ".join(name for name, good in fits.items() if not good)
        facts.append(("not shown", f"{wrong}: the file has another kind of value than training writes"))
    return facts
