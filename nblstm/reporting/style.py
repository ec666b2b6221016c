"""The style of a report's page: its colours are the theme's, its shapes are here."""

from nblstm.reporting import theme

COLORS = """\
:root { background: @paper; color: @ink; }
a { color: @accent; }
header p, .soft, dt, th, figcaption, footer, .panel .rank { color: @soft; }
section, td, th { border-color: @line; }
.card, .panel, .sample, .reading { background: @card; border-color: @line; }
.good { border-left-color: @good; } .good .word::before { background: @good; }
.fair { border-left-color: @fair; } .fair .word::before { background: @fair; }
.poor { border-left-color: @poor; } .poor .word::before { background: @poor; }
.unknown { border-left-color: @soft; } .unknown .word::before { background: @soft; }
.reading b.here, .reading b:focus { outline-color: @ink; }
.pill span { border-color: @line; background: @card; }
.pill input:checked + span { background: @ink; color: @paper; border-color: @ink; }
.pill input:focus-visible + span { outline-color: @accent; }
:focus-visible { outline-color: @accent; }
summary { color: @accent; }
.bar { background: @accent; }"""

SHAPES = """\
*, *::before, *::after { box-sizing: border-box; }
:root { color-scheme: light dark; font: 16px/1.6 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 72rem; padding: 3.5rem clamp(1rem, 4vw, 3rem) 4rem; overflow-wrap: break-word; }
h1, h2 { font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif; font-weight: 600;
  line-height: 1.2; letter-spacing: -0.01em; text-wrap: balance; }
h1 { font-size: clamp(1.8rem, 5vw, 2.6rem); margin: 0 0 0.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.5rem; margin: 0 0 0.9rem; }
h3 { font-size: 1rem; margin: 0; font-weight: 600; }
p { margin: 0 0 0.9rem; max-width: 44rem; }
header { margin-bottom: 2.5rem; }
header p { font-size: 1.05rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.4rem; list-style: none; margin: 1.2rem 0 0; padding: 0; }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
section { padding: 2.5rem 0 2rem; border-top: 1px solid; }
footer { font-size: 0.9rem; padding-top: 1rem; }
code, .mono, .sample pre, .reading, .label, dd { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; font-size: 0.875rem; }
code { white-space: nowrap; }
.grid { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.flow { display: flex; flex-wrap: wrap; gap: 1.25rem; } .flow > * { flex: 1 1 20rem; }
.card, .panel, .sample, .reading { border: 1px solid; border-radius: 10px; padding: 1.25rem 1.4rem; min-width: 0; }
.card { border-left-width: 5px; }
.card p { margin: 0.6rem 0; }
.word { font-size: 1.3rem; font-weight: 600; margin: 0.1rem 0 0.4rem; }
.word::before { content: ""; display: inline-block; width: 0.65rem; height: 0.65rem; border-radius: 50%;
  margin-right: 0.55rem; vertical-align: 0.08em; }
dl { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: 0.45rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.35rem 1.2rem 0.35rem 0; font-weight: 400; vertical-align: baseline;
  border-bottom: 1px solid; }
.card table { width: 100%; margin-bottom: 1rem; } .card td { padding-right: 0; }
th { font-size: 0.875rem; }
td.number { text-align: right; white-space: nowrap; }
td .label { overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; }
.wide { overflow-x: auto; }
.heat { overflow-x: auto; } .heat th[scope=col] { writing-mode: vertical-rl; padding: 0.35rem; }
.heat td.number { padding: 0.2rem 0.35rem; min-width: 2rem; }
figcaption { font-size: 0.9rem; margin-top: 0.6rem; max-width: 44rem; }
.chart { display: block; max-width: 100%; height: auto; border-radius: 10px; }
.chart.narrow { display: none; } .chart.dot { display: inline; border-radius: 0; vertical-align: -0.05em; }
.sample { margin: 0; } pre.mono { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; } .command { margin-top: 1.2rem; }
.early { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: 0.8rem; line-height: 1.4; }
.cell figcaption { margin: 0 0 0.4rem; }
.sample pre { margin: 0.7rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; }
.reading { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.75; }
.reading { columns: 28rem 2; column-gap: 2.5rem; }
.reading b { font-weight: 400; padding: 0.12em 0; }
.reading b.here, .reading b:focus { outline: 2px solid; }
.reading .mark { border-radius: 4px; padding: 0.12em 0.3em; } .reading .mark small { margin-left: 0.4em; }
.tagged { margin-bottom: 1.2rem; } .tagged .reading { columns: auto; } .tagged th { width: 4rem; }
table + h3 { margin-top: 1.2rem; }
[data-surprise] b { cursor: default; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) 17rem; gap: 1.25rem; align-items: start; }
.panel { position: sticky; top: 1rem; min-height: 17rem; }
.panel p { margin: 0; } .panel .token { display: flex; justify-content: space-between; gap: 1rem; font-size: 1.15rem; }
.panel .token .label { font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.panel .rank { font-size: 0.9rem; margin-bottom: 0.8rem; }
.best { list-style: none; margin: 0; padding: 0; }
.best li { display: grid; grid-template-columns: 4.5rem minmax(0, 1fr) 4.2rem; gap: 0.6rem; align-items: center;
  padding: 0.15rem 0; }
.best .label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.best .own .label { text-decoration: underline; text-underline-offset: 3px; }
.best .p { text-align: right; font-variant-numeric: tabular-nums; font-size: 0.875rem; white-space: nowrap; }
.bar { height: 0.5rem; border-radius: 2px; min-width: 1px; }
.key { display: flex; flex-wrap: wrap; gap: 0.3rem; list-style: none; padding: 0; margin: 0 0 1rem; font-size: 0.875rem; }
.key li { padding: 0.1rem 0.7rem; border-radius: 4px; }
fieldset { border: 0; padding: 0; margin: 0 0 1.2rem; display: flex; flex-wrap: wrap; gap: 0.5rem; min-width: 0; }
legend { padding: 0; margin-bottom: 0.5rem; }
.pill { position: relative; }
.pill input { position: absolute; opacity: 0; inset: 0; margin: 0; width: 100%; height: 100%; cursor: pointer; }
.pill span { display: block; border: 1px solid; border-radius: 1.2rem; padding: 0.3rem 0.9rem; font-size: 0.9rem; }
.pill input:focus-visible + span { outline: 3px solid; outline-offset: 2px; }
.scatters { display: flex; flex-wrap: wrap; gap: 1.25rem; }
details { margin-top: 1rem; } summary { cursor: pointer; }
@media (max-width: 46rem) {
  body { padding-top: 2rem; }
  .beside { grid-template-columns: minmax(0, 1fr); }
  .panel { bottom: 0.5rem; top: auto; min-height: 0; padding: 0.8rem 1rem; box-shadow: 0 4px 18px rgb(0 0 0 / 25%); }
  .card, .sample, .reading { padding: 1rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: 0.6rem; }
  .chart.wide { display: none; } .chart.narrow { display: block; }
  th, td { padding-right: 0.7rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, fieldset, .panel { display: none; } .beside { display: block; }
  .reading b, .key li, .chart { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .reading b.here { outline: 0; }
  .grid, .flow, .scatters { gap: 0.8rem; }
  .card, figure, .sample { break-inside: avoid; } section { break-inside: auto; } h2, h3 { break-after: avoid; }
}"""


def page_style() -> str:
    """Return all rules of the page, those of its charts among them."""
    return f"{SHAPES}\n{theme.both(f'{COLORS}{chr(10)}{_tints()}')}\n{theme.chart_style()}"


def _tints() -> str:
    """Write a rule for each level of surprise (.u0 ...), of a cell (.c0 ...) and each kind (.t0 ...), for the theme to fill."""
    surprise = [f".u{k} {{ background: @u{k}; }}" for k in range(len(theme.SURPRISE_BITS) + 1)]
    cells = [f".c{k} {{ background: @c{k}; }}" for k in range(2 * theme.CELL_LEVELS + 1)]
    kinds = [f".t{k} {{ background: @t{k}; }}" for k in range(len(theme.LIGHT.runs))]
    return "\n".join(surprise + cells + kinds)
