"""The script of a server's page."""

from nblstm.exporting.page_parts import WRITING

SERVED_SCRIPT = (
    """
"use strict";
"""
    + WRITING
    + r"""

// Events of a stream, as the objects in their data, out of pieces of text that are cut anywhere.
class Events {
  constructor() { this.held = ""; }
  feed(text) {
    const parts = (this.held + text).split("\n\n");
    this.held = parts.pop();
    return parts.filter((part) => part.startsWith("data: ") && part !== "data: [DONE]").map((part) => JSON.parse(part.slice(6)));
  }
}

// A text and its tokens: offsets count characters, not halves of them as JavaScript does.
class Reading {
  constructor() { this.letters = []; this.tokens = []; }
  add({ text, logprobs }) {
    this.letters.push(...text);
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs;
    tokens.forEach((name, k) => this.tokens.push(
      { name, bits: -(token_logprobs[k] ?? 0) / Math.LN2, best: top_logprobs[k], offset: text_offset[k] }));
  }
  text() { return this.letters.join(""); }
  // [text, token] of each token; what stands before the first one goes with it.
  pieces() {
    return this.tokens.map((token, k) => {
      const from = k ? token.offset : 0, to = k + 1 < this.tokens.length ? this.tokens[k + 1].offset : this.letters.length;
      return [this.letters.slice(from, to).join(""), token];
    });
  }
}

function show() {
  const box = at("text"), view = at("view"), bars = at("bars"), go = at("go"), note = at("note"), head = at("head");
  let asking = null, timer = 0, writing = false, next = {};

  function drawBars(title, best) {
    head.textContent = title;
    const sorted = Object.entries(best || {}).sort((a, b) => b[1] - a[1]);
    bars.replaceChildren(...sorted.map(([name, nats]) => barOf(spelled(name), Math.exp(nats))));
  }

  function draw(reading) {
    const marks = reading.pieces().map(([text, token]) => {
      const mark = markOf(text, token.bits);
      mark.addEventListener("pointerenter", () => { if (token.best) drawBars("Expected in its place", token.best); });
      mark.addEventListener("pointerleave", () => drawBars("What comes next", next));
      return mark;
    });
    view.replaceChildren(...marks);
    note.textContent = summary(reading.tokens.map((token) => token.bits));
  }

  // Ask the server; `take` is given each piece. Another question ends this one.
  async function ask(question, take) {
    if (asking) asking.abort();
    const mine = asking = new AbortController();
    try {
      const answer = await fetch("/v1/completions", {
        method: "POST", headers: { "Content-Type": "application/json" }, signal: mine.signal,
        body: JSON.stringify({ prompt: box.value, echo: true, logprobs: 5, stream: true, ...question }),
      });
      if (!answer.ok) throw new Error((await answer.json()).error.message);
      const events = new Events(), reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        for (const event of events.feed(part.value)) {
          if (event.error) throw new Error(event.error.message);
          for (const choice of event.choices) take(choice);
        }
      }
      return true;
    } catch (error) {
      if (error.name !== "AbortError") note.textContent = error.message;
      return false;
    }
  }

  // Judge what stands in the box, and see what would come next.
  async function judge() {
    const reading = new Reading(), length = [...box.value].length;
    const done = await ask({ max_tokens: 1, temperature: 0 }, (choice) => reading.add(choice));
    if (!done) return;
    const last = reading.tokens[reading.tokens.length - 1];
    next = {};
    if (last && last.offset >= length) {
      reading.tokens.pop();
      reading.letters.length = length;
      next = last.best;
    }
    draw(reading);
    drawBars("What comes next", next);
  }

  async function write() {
    const reading = new Reading(), { count, temperature, seed } = asked();
    const question = { max_tokens: count, temperature };
    if (/^\d{1,15}$/.test(seed)) question.seed = Number(seed);
    clearTimeout(timer);
    writing = box.readOnly = true;
    go.textContent = "Stop";
    const done = await ask(question, (choice) => {
      reading.add(choice);
      box.value = reading.text();
      box.scrollTop = box.scrollHeight;
      draw(reading);
    });
    writing = box.readOnly = false;
    go.textContent = "Go on";
    if (done) judge();
  }

  go.addEventListener("click", () => { if (writing) asking.abort(); else write(); });
  at("clear").addEventListener("click", () => {
    if (asking) asking.abort();
    box.value = "";
    judge();
    box.focus();
  });
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(judge, 250); });
  judge();
}

if (typeof document !== "undefined") show();
"""
)
