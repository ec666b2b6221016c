"""Format html: a model of text as one page that needs no network: a person types, the model goes on, or sorts.

As in a report, all that comes from a model is escaped, and the page's content security policy allows its own style and
script alone, by their hashes.
"""

from __future__ import annotations

import json
import os
from html import escape

from nblstm.exporting import html_engine as engine
from nblstm.exporting import html_source as source
from nblstm.exporting import packing
from nblstm.exporting.page_parts import BARS, EXPORT_STYLE, WRITING, WRITING_BODY
from nblstm.exporting.plan import Plan
from nblstm.reporting.parts import content_policy
from nblstm.tasks.classification.model import TextClassifier

WRITER_SCRIPT = engine.ENGINE + engine.WRITER + WRITING + source.PAGE_SCRIPT
CLASSIFIER_SCRIPT = engine.ENGINE + engine.CLASSIFIER_ENGINE + BARS + source.CLASSIFIER_PAGE_SCRIPT


def render_html(plan: Plan, file: str, name: str = "nblstm") -> str:
    """Write the page. file: its name, whose stem is the title; `name` means nothing here."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    classifies = isinstance(plan.model, TextClassifier)
    script = CLASSIFIER_SCRIPT if classifies else WRITER_SCRIPT
    title = escape(os.path.splitext(file)[0].encode("utf-8", "replace").decode())
    data = {
        "config": packing.config(plan), "tokens": list(vocabulary.tokens), "matrices": packing.matrices(plan),
        "vectors": packing.vectors(plan),
    }  # fmt: skip
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
{CLASSIFIER_BODY if classifies else WRITING_BODY}
<script type="application/json" id="model">{model}</script>
<script>{script}</script>
</body>
</html>
"""


CLASSIFIER_BODY = """\
<main>
<div>
<textarea id="text" aria-label="Text" placeholder="Type, or paste a text." spellcheck="false"></textarea>
<div class="controls"><button id="clear" class="quiet">Clear</button></div>
</div>
<aside class="card"><h2>What it is</h2><ul id="bars" class="wide" aria-label="The most probable labels"></ul></aside>
</main>"""
