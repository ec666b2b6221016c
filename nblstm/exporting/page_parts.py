"""What pages to write on share, an exported one and a server's: style, controls, and the script of what they show."""

from __future__ import annotations

from nblstm.reporting import theme
from nblstm.reporting.parts import surprise_key

EXPORT_COLORS = """\
:root { background: @paper; color: @ink; }
.soft, label, h2 { color: @soft; }
.card, textarea, input { background: @card; border-color: @line; color: @ink; }
button { background: @accent; color: @paper; border-color: @accent; }
button.quiet { background: @card; color: @ink; border-color: @line; }
:focus-visible { outline-color: @accent; }
.bar { background: @accent; } .track { background: @paper; }
input[type=range] { accent-color: @accent; }
.u0 { background: @u0; } .u1 { background: @u1; } .u2 { background: @u2; }
.u3 { background: @u3; } .u4 { background: @u4; } .u5 { background: @u5; }
""" + "\n".join(f".t{k} {{ background: @t{k}; }}" for k in range(len(theme.LIGHT.runs)))

EXPORT_SHAPES = """\
*, *::before, *::after { box-sizing: border-box; }
:root { color-scheme: light dark; font: 16px/1.6 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 66rem; padding: 2.5rem clamp(1rem, 4vw, 3rem) 3rem; overflow-wrap: break-word; }
h1 { font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif; font-weight: 600;
  font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
h2 { font-size: 0.9rem; font-weight: 600; margin: 0 0 0.6rem; }
header { margin-bottom: 1.5rem; } header p { margin: 0; }
main { display: grid; grid-template-columns: minmax(0, 1fr) 18rem; gap: 1.25rem; align-items: start; }
.card, textarea { border: 1px solid; border-radius: 10px; padding: 1.1rem 1.25rem; min-width: 0; }
textarea { display: block; width: 100%; min-height: 10rem; resize: vertical; line-height: 1.55; }
textarea, #view, .label { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.9rem; }
.controls { display: flex; flex-wrap: wrap; gap: 0.8rem 1rem; align-items: end; margin: 1rem 0 1.25rem; }
label { display: block; font-size: 0.875rem; }
label input { display: block; margin-top: 0.15rem; }
input { font: inherit; border: 1px solid; border-radius: 6px; padding: 0.3rem 0.6rem; width: 5.5rem; }
input[type=range] { margin: 0.15rem 0 0; padding: 0; width: 8.5rem; height: 2.1rem; border: 0; background: none; }
button { font: inherit; border: 1px solid; border-radius: 6px; padding: 0.35rem 1.1rem; cursor: pointer;
  min-width: 6rem; }
:focus-visible { outline: 2px solid; outline-offset: 2px; }
#view { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.75; min-height: 3rem; }
#view b { font-weight: 400; padding: 0.12em 0; }
ul { list-style: none; padding: 0; margin: 0; }
#bars li { display: grid; grid-template-columns: 4.5rem minmax(0, 1fr) 4rem; gap: 0.6rem; align-items: center;
  padding: 0.15rem 0; }
.label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#bars.wide li { grid-template-columns: minmax(0, 1fr) 5rem 4rem; }
.wide .label { white-space: normal; overflow-wrap: anywhere; }
.track { height: 0.6rem; border-radius: 2px; }
.bar { display: block; height: 100%; border-radius: 2px; min-width: 1px; }
.p { text-align: right; font-variant-numeric: tabular-nums; font-size: 0.875rem; white-space: nowrap; }
.key { display: flex; flex-wrap: wrap; gap: 0.3rem; margin-top: 0.9rem; font-size: 0.875rem; }
.key li { padding: 0.1rem 0.6rem; border-radius: 4px; }
.reading#view { white-space: normal; font-family: inherit; font-size: 1rem; line-height: 2; }
.reading p { margin: 0; min-height: 1em; }
.mark { font-weight: 400; border-radius: 4px; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.mark, #view .mark { padding: 0.12em 0.35em; } .mark small { margin-left: 0.45em; }
#found li { padding: 0.2rem 0; } #none { margin: 0; }
aside { position: sticky; top: 1rem; }
@media (max-width: 46rem) {
  body { padding-top: 1.5rem; } main { grid-template-columns: minmax(0, 1fr); } aside { position: static; }
  .controls label { flex: 1 1 7rem; } .controls button { flex: 1 1 40%; } .controls label:first-of-type { flex-basis: 100%; }
  input, input[type=range] { width: 100%; }
}"""

EXPORT_STYLE = f"{EXPORT_SHAPES}\n{theme.both(EXPORT_COLORS)}"

WRITING_BODY = f"""\
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
</main>"""

READING_CONTROLS = """\
<main>
<div>
<textarea id="text" aria-label="Text" placeholder="Type, or paste a text." spellcheck="false"></textarea>
<div class="controls"><button id="clear" class="quiet">Clear</button></div>"""

BARS = r"""
// ---------------------------------------------------------------- parts of a page

const at = (id) => document.getElementById(id);

function element(name, className, content) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = content;
  return made;
}

// A row of a chart: a name, a bar and a percentage.
function barOf(name, p) {
  const item = document.createElement("li"), bar = element("span", "bar", ""), track = element("span", "track", "");
  const percent = (100 * p).toFixed(1);
  bar.style.width = percent + "%";
  track.append(bar);
  item.append(element("span", "label", name), track, element("span", "p", percent + " %"));
  return item;
}
"""

WRITING = (
    BARS
    + rf"""
// A token as a label: white space has signs.
const spelled = (text) => text.replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5").replace(/ /g, "\u2423");

// A token in its text, tinted by its bits.
function markOf(text, bits) {{
  const level = {list(theme.SURPRISE_BITS)}.filter((limit) => bits >= limit).length;
  const mark = element("b", "u" + level, text.replace(/\n/g, "\u21b5\n"));
  mark.title = bits.toFixed(2) + " bits";
  return mark;
}}

// How many tokens there are, and their mean.
function summary(bits) {{
  const sum = bits.reduce((a, b) => a + b, 0), count = bits.length;
  return count ? `${{count}} tokens, ${{(sum / count).toFixed(2)}} bits each` : "nothing is written yet";
}}

// What the controls say.
function asked() {{
  const count = Math.max(1, Math.min(10000, Math.round(Number(at("count").value)) || 200));
  return {{ count, temperature: Number(at("temperature").value), seed: at("seed").value.trim() }};
}}

if (typeof document !== "undefined") at("temperature").addEventListener("input", () => {{
  at("shown").textContent = asked().temperature.toFixed(2);
}});
"""
)
