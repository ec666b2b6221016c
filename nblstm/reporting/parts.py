"""What all pages have: the policy that keeps them to themselves, and the legend of the tints of surprise."""

from __future__ import annotations

import base64
import hashlib

from nblstm.reporting import theme


def content_policy(style: str, script: str, *others: str) -> str:
    """Return a content security policy: nothing is loaded; styles and scripts with these hashes are used.

    others: what is allowed besides, such as connect-src 'self'.
    """
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return "; ".join(
        ["default-src 'none'", f"style-src 'sha256-{hashes[0]}'", f"script-src 'sha256-{hashes[1]}'", *others]
    )


def surprise_key() -> str:
    """Render the legend of the tints of surprise: their bits."""
    limits = ["0", *map(str, theme.SURPRISE_BITS)]
    names = [f"{low}–{high}" for low, high in zip(limits, limits[1:])] + [f"{limits[-1]} bits and more"]
    items = "".join(f'<li class="u{k}">{name}</li>' for k, name in enumerate(names))
    return f'<ul class="key" aria-label="Bits of surprise">{items}</ul>'
