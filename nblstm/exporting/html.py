"""Format html: a model of text as one page that needs no network: a person types, the model goes on, sorts or tags.

As in a report, all that comes from a model is escaped, and the page's content security policy allows its own style and
script alone, by their hashes.
"""

from __future__ import annotations

import json
import os
from html import escape

from nblstm.exporting import packing
from nblstm.exporting.cells import EXPORTED_CELLS
from nblstm.exporting.page_parts import EXPORT_STYLE
from nblstm.exporting.plan import Plan
from nblstm.reporting.parts import content_policy


def render_html(plan: Plan, file: str, name: str = "nblstm") -> str:
    """Write the page. file: its name, whose stem is the title; `name` means nothing here."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    body, script = plan.kind.html
    script = script.replace("@cells@", "".join(cell.html or "" for cell in EXPORTED_CELLS.values()))
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
