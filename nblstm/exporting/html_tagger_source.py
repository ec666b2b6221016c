"""The page of `nblstm.exporting.html` for a tagger: its engine, which knows no page, and the script of what it shows."""

from __future__ import annotations

from nblstm.reporting import theme

TAGGER_ENGINE = r"""
class Tagger extends Network {
  constructor(data) {
    super(data);
    if (data.spelling) {
      const [config, matrices, vectors] = data.spelling;
      this.spelling = new Network({ config, tokens: [], matrices, vectors });
    }
    this.letters = new Map(Array.from(data.config.characters, (letter, k) => [letter, k + 1]));
  }

  // The tag of each word of a sentence.
  tag(words) {
    const { max_length, tags, scheme } = this.config, found = [];
    for (let start = 0; start < words.length; start += max_length)
      found.push(...this.best(this.scores(words.slice(start, start + max_length))));
    const named = found.map((tag) => tags[tag]);
    return scheme === "none" ? named : rewritten(named, scheme);
  }

  // The scores of the tags of each word of a sentence, at least one.
  scores(words) {
    return this.readLayers(words.map((word) => this.readWord(word))).map((row) => {
      const scores = this.v.head_bias.slice();
      product(scores, this.m.head, row);
      return scores;
    });
  }

  // A word as it is looked up.
  lookedUp(word) {
    const { lowercase, zero_digits } = this.config;
    const known = lowercase ? word.toLowerCase() : word;
    return zero_digits ? known.replace(/\p{Nd}/gu, "0") : known;
  }

  // What the first layer reads: the vector of a word, and what its characters make.
  readWord(word) {
    const read = this.read(this.ids.get(this.lookedUp(word)) || 0);
    if (!this.spelling) return read;
    const letters = Array.from(word).slice(0, this.config.max_characters);
    const rows = letters.map((letter) => this.spelling.read(this.letters.get(letter) || 0));
    return [Float64Array.of(...read[0], ...this.spelling.last(this.spelling.readLayers(rows))), null];
  }

  // The numbers of the tags of the largest score: of a chain all together (Viterbi 1967).
  best(scores) {
    const { start, end, transitions } = this.v, K = this.config.tags.length;
    const first = (row) => row.reduce((best, score, k) => (score > row[best] ? k : best), 0);
    if (!transitions) return scores.map(first);
    let best = scores[0].map((score, j) => score + start[j]);
    const before = scores.slice(1).map((row) => { // best[j] = score[j] + max over i of best[i] + transition[i, j]
      const from = Array.from(row, (_, j) => first(best.map((score, i) => score + transitions[i * K + j])));
      best = row.map((score, j) => score + best[from[j]] + transitions[from[j] * K + j]);
      return from;
    });
    const tags = [first(best.map((score, j) => score + end[j]))];
    for (const from of before.reverse()) tags.unshift(from[tags[0]]);
    return tags;
  }
}

const typeOf = (tag) => tag.slice(2);

// Whether a span begins at a tag; whether it ends there.
function begins(before, now) {
  return "BS".includes(now[0]) || ("IE".includes(now[0]) && ("ESO".includes(before[0]) || typeOf(before) !== typeOf(now)));
}

function ends(now, after) {
  return "ES".includes(now[0]) || "BSO".includes(after[0]) || typeOf(now) !== typeOf(after);
}

// The spans of tags, as they were marked in what was learned.
function rewritten(tags, scheme) {
  return tags.map((now, t) => {
    if (now === "O") return now;
    const before = tags[t - 1] || "O", first = begins(before, now), last = ends(now, tags[t + 1] || "O");
    const letters = {
      iob1: first && typeOf(before) === typeOf(now) ? "B" : "I",
      iob2: first ? "B" : "I",
      iobes: first ? (last ? "S" : "B") : last ? "E" : "I",
    };
    return letters[scheme] + "-" + typeOf(now);
  });
}

// The spans that tags mark, [type, start, stop] each; where they mark none, each word with its tag.
function spansOf(tags, scheme) {
  if (scheme === "none") return tags.map((tag, t) => [tag, t, t + 1]);
  const spans = [];
  tags.forEach((now, t) => {
    if (now === "O") return;
    if (begins(tags[t - 1] || "O", now)) spans.push([typeOf(now), t, t + 1]);
    else spans[spans.length - 1][2] = t + 1;
  });
  return spans;
}
"""

TAGGER_PAGE_SCRIPT = rf"""
// ---------------------------------------------------------------- the page

// The words of a line, [word, whether a blank stands before it] each: what stands between blanks, marks at its ends apart
// unless it is known with them.
function cut(model, line) {{
  return (line.match(/\S+/g) || []).flatMap((part) => {{
    const known = model.ids.has(model.lookedUp(part));
    const [, left, word, right] = part.match(/^([^\p{{L}}\p{{N}}]*)(.*?)([^\p{{L}}\p{{N}}]*)$/su);
    const words = known ? [part] : [...left, word, ...right].filter((piece) => piece);
    return words.map((piece, k) => [piece, k === 0]);
  }});
}}

function show(model) {{
  const box = at("text"), view = at("view"), list = at("found"), {{ scheme }} = model.config;
  const types = [...new Set(model.config.tags.map((tag) => (scheme === "none" ? tag : typeOf(tag))))];
  const color = (type) => "mark t" + (Math.max(0, types.indexOf(type) - (scheme === "none" ? 0 : 1)) % {len(theme.LIGHT.runs)});

  // A line with its spans marked; what they are goes into `found`.
  function marked(line, found) {{
    const words = cut(model, line), row = element("p", "", "");
    const written = (start, stop) => words.slice(start, stop).map(([w, apart], k) => (k && apart ? " " : "") + w).join("");
    const gap = (t) => (t && words[t] && words[t][1] ? " " : "");
    let place = 0;
    for (const [type, start, stop] of words.length ? spansOf(model.tag(words.map(([word]) => word)), scheme) : []) {{
      if (start > place) row.append(gap(place) + written(place, start));
      const text = written(start, stop), mark = element("b", color(type), text);
      mark.append(element("small", "", type));
      row.append(gap(start), mark);
      found.set(type, (found.get(type) || new Set()).add(text));
      place = stop;
    }}
    if (words.length > place) row.append(gap(place) + written(place));
    return row;
  }}

  function draw() {{
    const found = new Map(), order = ([a], [b]) => types.indexOf(a) - types.indexOf(b);
    view.replaceChildren(...box.value.split("\n").map((line) => marked(line, found)));
    list.replaceChildren(...[...found].sort(order).map(([type, texts]) => {{
      const item = element("li", "", "");
      item.append(element("b", color(type), type), " " + [...texts].join(", "));
      return item;
    }}));
    at("none").hidden = found.size > 0;
  }}

  let timer = 0;
  box.addEventListener("input", () => {{ // a long text takes a while: once the typing pauses
    clearTimeout(timer);
    timer = setTimeout(draw, 120);
  }});
  at("clear").addEventListener("click", () => {{
    box.value = "";
    draw();
    box.focus();
  }});
  draw();
}}

if (typeof document !== "undefined") show(new Tagger(JSON.parse(document.getElementById("model").textContent)));
"""
