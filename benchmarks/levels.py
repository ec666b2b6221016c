"""Characters, sub-words, words and bytes as tokens: bits per character of texts after equal times of training.

    python benchmarks/levels.py TRAIN [TEST] [--minutes 2] [--levels char subword word byte] [--json]

Every level trains the package's default network on TRAIN for so many minutes, kernels compiled before, and is then scored
on TEST, in one stream; without TEST on the last tenth of TRAIN, which then is not learned from. Bits per character count
what the text has, whatever its tokens are, so levels compare. A level of words does not say which word an unknown one is:
its figure holds for a text with <unk> in these places, and the column `unknown` tells how many.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import nblstm

LEVELS = ("char", "subword", "word", "byte")
SIZE = 2000  # tokens of the sub-words' vocabulary


def halves(train: Path, test: Path | None) -> tuple[str, str]:
    """The text to train on and the one to score."""
    text = train.read_text(encoding="utf-8")
    if test is not None:
        return text, test.read_text(encoding="utf-8")
    return text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]


def row(level: str, texts: tuple[str, str], minutes: float, threads: int) -> dict[str, Any]:
    """What a level comes to."""
    settings = {"max_vocab": SIZE} if level == "subword" else {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("train.txt", "test.txt")]
        for file, text in zip(files, texts):
            file.write_text(text, encoding="utf-8")
        last: list[Any] = []
        model = nblstm.train(
            files[0], Path(folder, "model.safetensors"), level=level, minutes=minutes, threads=threads, on_report=last.append,
            **settings,
        )  # fmt: skip
        read = texts[1].encode() if level == "byte" else texts[1]
        score = model.score(read)
    return {
        "level": level, "vocabulary": len(model.vocabulary), "parameters": model.config.num_parameters,
        "epochs": round(last[-1].epoch, 2), "tokens": score.tokens, "unknown": score.unknown,
        "bits/character": f"{score.bits_per_character:.4f}", "bits/byte": f"{score.bits_per_byte:.4f}",
    }  # fmt: skip


def main() -> None:
    p = common.parser(__doc__, 0)
    p.add_argument("train", type=Path)
    p.add_argument("test", type=Path, nargs="?")
    p.add_argument("--minutes", type=float, default=2.0, help="of training, each (default %(default)s)")
    p.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    args = p.parse_args()
    texts = halves(args.train, args.test)
    rows = [row(level, texts, args.minutes, args.threads) for level in args.levels]
    note = f"{len(texts[0]):,} characters to learn from, {len(texts[1]):,} scored in one stream; default networks"
    common.report(f"levels after {args.minutes:g} minutes each", args, rows, [note])


if __name__ == "__main__":
    main()
