"""The page that a server shows: a person types, the model goes on, and both are tinted by surprise.

All that comes from the model goes into it as text. Its policy allows its own style and script alone, by their hashes,
and requests to its own server.
"""

from __future__ import annotations

from html import escape

from nblstm.exporting.html_source import EXPORT_COLORS, EXPORT_SHAPES
from nblstm.reporting import theme
from nblstm.reporting.parts import content_policy, surprise_key
from nblstm.reporting.tokens import printable
from nblstm.serving.page_script import SERVED_SCRIPT
from nblstm.tasks.language.model import LanguageModel

STYLE = f"{EXPORT_SHAPES}\n{theme.both(EXPORT_COLORS)}"
POLICY = content_policy(STYLE, SERVED_SCRIPT, "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'")


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
<style>{STYLE}</style>
</head>
<body>
<header><h1>{title}</h1><p class="soft">{escape(facts)}. Programs ask it at <code>/v1/completions</code>.</p></header>
<main>
<div>
<textarea id="text" aria-label="Text" placeholder="Type, or let it begin." spellcheck="false"></textarea>
<div class="controls">
<button id="go">Go on</button><button id="clear" class="quiet">Clear</button>
<label>Temperature <span id="shown">0.80</span>
<input id="temperature" type="range" min="0" max="1.5" step="0.05" value="0.8"></label>
<label>Tokens <input id="count" inputmode="numeric" value="200"></label>
<label>Seed <input id="seed" inputmode="numeric" placeholder="random"></label>
</div>
<section class="card"><h2>Surprise: <span id="note" role="status"></span></h2>
<div id="view" role="group" aria-label="The text, tinted by surprise"></div>
{surprise_key()}</section>
</div>
<aside class="card"><h2 id="head">What comes next</h2><ul id="bars" aria-labelledby="head"></ul></aside>
</main>
<script>{SERVED_SCRIPT}</script>
</body>
</html>
""".encode("utf-8", "replace")
