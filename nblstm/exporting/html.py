"""Format html: a model of text as one page that needs no network: a person types, the model goes on, sorts or tags.

As in a report, all that comes from a model is escaped, and the page's content security policy allows its own style and
script alone, by their hashes.
"""

from __future__ import annotations

import json
import os
from html import escape

from nblstm.exporting import html_engine as engine
from nblstm.exporting import html_source as source
from nblstm.exporting import html_tagger_source as tagging
from nblstm.exporting import packing
from nblstm.exporting.page_parts import BARS, EXPORT_STYLE, WRITING, WRITING_BODY
from nblstm.exporting.plan import Plan
from nblstm.reporting.parts import content_policy
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.tagging.model import Tagger

READING_CONTROLS = """\
<main>
<div>
<textarea id="text" aria-label="Text" placeholder="Type, or paste a text." spellcheck="false"></textarea>
<div class="controls"><button id="clear" class="quiet">Clear</button></div>"""

CLASSIFIER_BODY = f"""\
{READING_CONTROLS}
</div>
<aside class="card"><h2>What it is</h2><ul id="bars" class="wide" aria-label="The most probable labels"></ul></aside>
</main>"""

TAGGER_BODY = f"""\
{READING_CONTROLS}
<section class="card"><h2>The text, a sentence a line</h2><div id="view" class="reading" role="status"></div></section>
</div>
<aside class="card"><h2>What is found</h2><p id="none" class="soft">Nothing yet.</p><ul id="found"></ul></aside>
</main>"""

KINDS_OF_PAGE = (  # of a model: (what a page shows, its script)
    (LanguageModel, WRITING_BODY, engine.ENGINE + engine.WRITER + WRITING + source.PAGE_SCRIPT),
    (TextClassifier, CLASSIFIER_BODY, engine.ENGINE + engine.CLASSIFIER_ENGINE + BARS + source.CLASSIFIER_PAGE_SCRIPT),
    (Tagger, TAGGER_BODY, engine.ENGINE + tagging.TAGGER_ENGINE + BARS + tagging.TAGGER_PAGE_SCRIPT),
)


def render_html(plan: Plan, file: str, name: str = "nblstm") -> str:
    """Write the page. file: its name, whose stem is the title; `name` means nothing here."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    body, script = next(parts for kind, *parts in KINDS_OF_PAGE if isinstance(plan.model, kind))
    title = escape(os.path.splitext(file)[0].encode("utf-8", "replace").decode())
    data = {
        "config": packing.config(plan),
        "tokens": list(vocabulary.tokens),
        "matrices": packing.matrices(plan),
        "vectors": packing.vectors(plan),
        "spelling": packing.spelling(plan),
    }
    model = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # in which no tag can begin or end
    facts = f"{c.description}: {c.num_parameters:,} parameters, {len(vocabulary):,} tokens, weights {plan.weights}"
    return f"""<!doctype html>
<!-- Made by nblstm export. -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy(EXPORT_STYLE, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{EXPORT_STYLE}</style>
</head>
<body>
<header><h1>{title}</h1><p class="soft">{escape(facts)}. It runs in this page; nothing is sent anywhere.</p></header>
{body}
<script type="application/json" id="model">{model}</script>
<script>{script}</script>
</body>
</html>
"""
