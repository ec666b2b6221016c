"""The few lines of script in a report's page. Without them it still shows everything but a token's alternatives and the
other cells."""

SCRIPT = """\
"use strict";
// Surprise: the token under the pointer, the finger or the keyboard's focus is explained in the panel beside the text.
for (const text of document.querySelectorAll("[data-surprise]")) {
  const {labels, rows} = JSON.parse(document.getElementById(text.dataset.surprise).textContent);
  const tokens = [...text.querySelectorAll("b")];
  const panel = document.getElementById(text.dataset.panel);
  let current = null;
  for (const token of tokens) token.tabIndex = -1;
  function element(name, className, content) {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = content;
    return made;
  }
  function percent(p) { return p >= 9.995 ? p.toFixed(0) + " %" : p >= 0.01 ? p.toFixed(2) + " %" : "< 0.01 %"; }
  function show(token) {
    const row = rows[tokens.indexOf(token)];
    if (!row || token === current) return;
    if (current) { current.classList.remove("here"); current.tabIndex = -1; }
    current = token;
    token.classList.add("here");
    token.tabIndex = 0;
    const [own, bits, rank, ...best] = row;
    const head = element("p", "token", "");
    head.append(element("span", "label", labels[own]), element("span", "bits", bits.toFixed(2) + " bits"));
    const list = element("ol", "best", "");
    for (let k = 0; k < best.length; k += 2) {
      const item = element("li", best[k] === own ? "own" : "", "");
      const bar = element("span", "bar", "");
      bar.style.width = best[k + 1] + "%";
      item.append(element("span", "label", labels[best[k]]), bar, element("span", "p", percent(best[k + 1])));
      list.append(item);
    }
    const place = rank === 1 ? "its first guess" : "its guess number " + rank.toLocaleString("en");
    panel.replaceChildren(head, element("p", "rank", percent(100 * 2 ** -bits) + ", " + place), list);
  }
  text.addEventListener("pointerover", event => { if (event.target.matches("b")) show(event.target); });
  text.addEventListener("click", event => { if (event.target.matches("b")) event.target.focus(); });
  text.addEventListener("focusin", event => { if (event.target.matches("b")) show(event.target); });
  text.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    const next = step && tokens[tokens.indexOf(current) + step];
    if (next) { event.preventDefault(); next.focus(); }
  });
  if (tokens.length) show(tokens.find(token => token.matches(".u5")) || tokens[0]);
}
// Cells: each chosen cell colours the text; several stand one below the other.
for (const chooser of document.querySelectorAll("[data-cells]")) {
  const levels = JSON.parse(document.getElementById(chooser.dataset.cells).textContent);
  const texts = document.getElementById("cell-texts"), model = texts.querySelector(".cell");
  const boxes = [...chooser.querySelectorAll("input")];
  function coloured(box) {
    const figure = model.cloneNode(true), tokens = [...figure.querySelectorAll("b")];
    figure.querySelector("figcaption").textContent = box.parentElement.textContent;
    [...levels[box.value]].forEach((level, k) => { tokens[k].className = "c" + parseInt(level, 36); });
    return figure;
  }
  chooser.addEventListener("change", event => {
    if (!boxes.some(box => box.checked)) event.target.checked = true;
    texts.replaceChildren(...boxes.filter(box => box.checked).map(coloured));
  });
}
"""
