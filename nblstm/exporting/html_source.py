"""The scripts of the pages of `nblstm.exporting.html`, which let a person write with a model, or sort texts."""

PAGE_SCRIPT = r"""
// ---------------------------------------------------------------- the page

function show(model) {
  const box = at("text"), view = at("view"), bars = at("bars"), go = at("go"), note = at("note");
  const start = model.config.start, always = model.config.end !== null;
  let ids = [], states = [], bits = [], random = null, left = 0, timer = 0, seen = null;

  // What has been read of the first `count` tokens, as one state; states[k] is that behind token k.
  const copied = (state) => ({ h: state.h.slice(), c: state.c.slice(), top: state.top });
  const first = () => {
    const state = model.start();
    model.feed(state, start);
    return state;
  };
  const origin = first();
  const before = (k) => {
    if (k > 0) return states[k - 1];
    return always || !ids.length ? origin : null;
  };

  function read(id) {
    const state = before(ids.length);
    const cost = state ? -Math.log2(model.probabilities(model.logits(state))[id]) : 0;
    const next = copied(always || ids.length ? state : model.start());
    model.feed(next, id);
    ids.push(id);
    states.push(next);
    bits.push(ids.length === 1 && !always ? 0 : cost);
  }

  function reread() {
    const wanted = model.encode(box.value);
    let same = 0;
    while (same < ids.length && same < wanted.length && ids[same] === wanted[same]) same++;
    ids.length = states.length = bits.length = same;
    for (const id of wanted.slice(same)) read(id);
    draw();
  }

  function draw() {
    view.replaceChildren(...model.texts(ids).map((text, k) => markOf(text, bits[k])));
    note.textContent = summary(bits);
    drawBars();
  }

  function label(id) {
    if (id === model.config.end) return "end";
    return model.config.level === "byte" && id > 126 ? "0x" + id.toString(16) : spelled(model.tokens[id]);
  }

  function drawBars() {
    const state = ids.length ? states[ids.length - 1] : origin;
    const chances = Array.from(model.probabilities(model.logits(state)), (p, id) => [p, id]);
    const best = chances.sort((a, b) => b[0] - a[0]).slice(0, 8);
    bars.replaceChildren(...best.map(([p, id]) => barOf(label(id), p)));
  }

  function stop() {
    clearTimeout(timer);
    left = 0;
    go.textContent = "Go on";
    box.readOnly = false;
  }

  function write() {
    const until = performance.now() + 12, { temperature } = asked();
    while (left > 0 && performance.now() < until) {
      const state = ids.length ? states[ids.length - 1] : origin;
      const id = model.draw(model.logits(state), temperature, random);
      if (id === model.config.end) left = 0;
      else {
        if (!ids.length && !always) states.push(copied(state)), ids.push(id), bits.push(0), model.feed(states[0], id);
        else read(id);
        left--;
      }
    }
    box.value = model.texts(ids).join("");
    draw();
    box.scrollTop = box.scrollHeight;
    if (left > 0) timer = setTimeout(write, 4);
    else stop();
  }

  go.addEventListener("click", () => {
    if (left > 0) return stop();
    const { seed, count } = asked();
    if (seed !== seen || !random) {
      const fresh = () => crypto.getRandomValues(new Uint32Array(1))[0];
      random = new Random(/^\d+$/.test(seed) ? seed : fresh());
      seen = seed;
    }
    left = count;
    go.textContent = "Stop";
    box.readOnly = true;
    write();
  });
  at("clear").addEventListener("click", () => {
    stop();
    box.value = "";
    random = null;
    reread();
    box.focus();
  });
  box.addEventListener("input", reread);
  reread();
}

if (typeof document !== "undefined") show(new Model(JSON.parse(document.getElementById("model").textContent)));
"""

CLASSIFIER_PAGE_SCRIPT = r"""
// ---------------------------------------------------------------- the page

function show(model) {
  const box = at("text"), bars = at("bars");

  function draw() {
    const shares = Array.from(model.classify(box.value), (p, k) => [p, model.config.labels[k]]);
    bars.replaceChildren(...shares.sort((a, b) => b[0] - a[0]).slice(0, 12).map(([p, label]) => barOf(label, p)));
  }

  let timer = 0;
  box.addEventListener("input", () => { // a long text takes a while: once the typing pauses
    clearTimeout(timer);
    timer = setTimeout(draw, 120);
  });
  at("clear").addEventListener("click", () => {
    box.value = "";
    draw();
    box.focus();
  });
  draw();
}

if (typeof document !== "undefined") show(new Classifier(JSON.parse(document.getElementById("model").textContent)));
"""
