"""The page that a server shows: a person types, the model goes on, and both are tinted by surprise.

All that comes from the model goes into it as text. Its policy allows its own style and script alone, by their hashes,
and requests to its own server.
"""

from __future__ import annotations

from html import escape

from nblstm.exporting.page_parts import EXPORT_STYLE, WRITING_BODY
from nblstm.reporting.parts import content_policy
from nblstm.reporting.tokens import printable
from nblstm.serving.page_script import SERVED_SCRIPT
from nblstm.tasks.language.model import LanguageModel

POLICY = content_policy(
    EXPORT_STYLE, SERVED_SCRIPT, "connect-src 'self'", "img-src data:", "base-uri 'none'", "frame-ancestors 'none'"
)  # an image is the page's icon, which is empty: else a browser asks for one


def served_page(model: LanguageModel, name: str) -> bytes:
    """Render the page of a model."""
    c, title = model.config, escape(printable(name))
    facts = f"{c.description}: {c.num_parameters:,} parameters, {len(model.vocabulary):,} tokens"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{EXPORT_STYLE}</style>
</head>
<body>
<header><h1>{title}</h1><p class="soft">{escape(facts)}. Programs ask it at <code>/v1/completions</code>.</p></header>
{WRITING_BODY}
<script>{SERVED_SCRIPT}</script>
</body>
</html>
""".encode("utf-8", "replace")
