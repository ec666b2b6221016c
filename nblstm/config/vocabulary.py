"""What a vocabulary is made of, and how it reads a text."""

from __future__ import annotations

LEVELS = ("char", "word", "byte", "subword")
TOKENIZERS = ("default", "whitespace")
NEWLINES = ("keep", "lf")
