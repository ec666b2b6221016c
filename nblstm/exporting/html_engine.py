"""The engines of `nblstm.exporting.html`, which know no page: functions of the constants of a model."""

ENGINE = r"""
"use strict";

// Base64 as an array of a kind of numbers, little-endian.
function numbers(Kind, text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function floats(bfloats) {
  return new Float32Array(Uint32Array.from(bfloats, (half) => half << 16).buffer);
}

// The numbers of a matrix, row by row; a stored row has `stride` of them.
function unpacked(weights, [rows, columns, stride, text, scales]) {
  if (weights === "float32") return Float64Array.from(numbers(Float32Array, text));
  if (weights === "bfloat16") return Float64Array.from(floats(numbers(Uint16Array, text)));
  if (weights === "int8") {
    const scale = numbers(Float32Array, scales);
    return Float64Array.from(numbers(Int8Array, text), (number, k) => Math.fround(number * scale[Math.floor(k / stride)]));
  }
  const scale = floats(numbers(Uint16Array, scales)), packed = numbers(Uint8Array, text);
  return Float64Array.from({ length: 2 * packed.length }, (_, k) => {
    const byte = packed[16 * (k >> 5) + (k & 15)];
    return ((k & 16 ? byte >> 4 : byte & 15) - 8) * scale[k >> 5];
  });
}

// A matrix as it is multiplied with: of four rows at a time, of which there is a multiple, column after column.
function matrix(flat, [rows, columns, stride]) {
  const fours = new Float64Array(Math.ceil(rows / 4) * 4 * columns);
  for (let row = 0, place; row < rows; row++) {
    place = (row >> 2) * 4 * columns + (row & 3);
    for (let k = 0; k < columns; k++) fours[place + 4 * k] = flat[row * stride + k];
  }
  return { rows, columns, fours };
}

// y += matrix x. One place moves through the matrix, so that it is read once, in order.
function product(y, { rows, columns, fours }, x) {
  for (let row = 0, place = 0; row < rows; row += 4) {
    let a = 0, b = 0, c = 0, d = 0;
    for (let k = 0; k < columns; k++) {
      const n = x[k];
      a += fours[place] * n;
      b += fours[place + 1] * n;
      c += fours[place + 2] * n;
      d += fours[place + 3] * n;
      place += 4;
    }
    y[row] += a; // what lies behind the last row is not there, and is not written
    y[row + 1] += b;
    y[row + 2] += c;
    y[row + 3] += d;
  }
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const tanh = (x) => 1 - 2 / (1 + Math.exp(2 * x)); // in half the time of Math.tanh

// gain (x - mean) / deviation + bias
function normalized(x, gain, bias) {
  const mean = x.reduce((a, b) => a + b) / x.length;
  const scale = 1 / Math.sqrt(x.reduce((sum, n) => sum + (n - mean) ** 2, 0) / x.length + 1e-5);
  return x.map((n, k) => (n - mean) * scale * gain[k] + (bias ? bias[k] : 0));
}

// y *= tanh(c)
function squash(y, c, v) {
  if (v.gain_c) c = normalized(c, v.gain_c, v.bias_c);
  for (let k = 0; k < y.length; k++) y[k] *= tanh(c[k]);
}

// z = W x + b, u = U h; v: the vectors of the cell. y and c are written.
const CELLS = {
@cells@};

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const LETTER = "\\p{L}\\p{N}_";
const PATTERNS = {
  default: `[ ]?[${LETTER}]+(?:['\u2019][${LETTER}]+)*|[ ]?[^${LETTER}${SPACE}]|[${SPACE}]`,
  whitespace: `[^${SPACE}]+|\\n`,
};

class Network {
  constructor({ config, tokens, matrices, vectors }) {
    const count = config.layers * config.directions, table = matrices.tokens || matrices.head;
    const made = (name) => matrix(unpacked(config.weights, matrices[name]), matrices[name]);
    const vector = (name) => Float64Array.from(numbers(Float32Array, vectors[name]));
    this.config = config;
    this.tokens = tokens;
    this.table = { columns: table[1], stride: table[2], flat: unpacked(config.weights, table) };
    this.m = {}; // those of no cell; a cell's are in `cells`, their number taken off
    this.v = {};
    this.cells = Array.from({ length: count }, () => ({ m: {}, v: {} }));
    const place = (name) => [/\d/.test(name) ? this.cells[Number(name.match(/\d+$/)[0])] : this, name.replace(/\d+$/, "")];
    for (const name in matrices) if (name !== "tokens") { const [home, own] = place(name); home.m[own] = made(name); }
    for (const name in vectors) { const [home, own] = place(name); home.v[own] = vector(name); }
    this.P = this.v.h.length / count;
    this.ids = new Map(tokens.map((token, id) => [token, id]));
    if (config.end !== null) this.ids.delete(tokens[config.end]);
    this.cell = CELLS[config.cell === "rnn" ? config.nonlinearity : config.cell];
    this.pattern = config.level === "word" ? new RegExp(PATTERNS[config.tokenizer], "gu") : null;
    this.y = new Float64Array(config.hidden);
    this.z = new Float64Array(5 * config.hidden);
    this.u = new Float64Array(5 * config.hidden);
  }

  // What the first layer reads: (a token's vector, null), or (null, the pre-activations that a table holds).
  read(token) {
    const { columns, stride, flat } = this.table, rows = this.config.table_rows;
    if (rows) return [null, flat.subarray(token * rows * stride, (token + 1) * rows * stride)];
    return [flat.subarray(token * stride, token * stride + columns), null];
  }

  // The parts of `state` that belong to a cell.
  part(state, cell) {
    const H = this.config.hidden, { h, c } = state;
    return [h.subarray(cell * this.P, (cell + 1) * this.P), c.length ? c.subarray(cell * H, (cell + 1) * H) : null];
  }

  // A step of a cell: its inputs are x, or the pre-activations z; h and c become the next.
  step(cell, x, z, h, c) {
    const { m, v } = this.cells[cell];
    if (x) {
      z = this.z.subarray(0, m.input.rows);
      if (v.gain_ih) z.fill(0);
      else z.set(v.bias);
      product(z, m.input, x);
      if (v.gain_ih) z = normalized(z, v.gain_ih, v.bias);
    }
    let u = this.u;
    if (m.recurrent) {
      u = u.subarray(0, m.recurrent.rows).fill(0);
      product(u, m.recurrent, h);
      if (v.gain_hh) u = normalized(u, v.gain_hh, null);
    }
    this.cell(this.y, z, u, h, c, v);
    if (m.projection) product(h.fill(0), m.projection, this.y);
    else h.set(this.y);
  }

  // The outputs of the last layer, of whole texts: what the first one reads of each token -> a row of each.
  readLayers(rows) {
    const { layers, directions, residual } = this.config, { P } = this, T = rows.length;
    for (let layer = 0; layer < layers; layer++) {
      const outputs = rows.map(() => new Float64Array(directions * P));
      for (let way = 0; way < directions; way++) {
        const cell = layer * directions + way, [h, c] = this.part({ h: this.v.h.slice(), c: this.v.c.slice() }, cell);
        for (let k = 0; k < T; k++) {
          const t = way ? T - 1 - k : k; // the second direction reads from the end
          this.step(cell, ...rows[t], h, c);
          outputs[t].set(h, way * P);
        }
      }
      const sum = (y, x) => (residual && x && x.length === y.length ? y.map((n, k) => n + x[k]) : y);
      rows = outputs.map((y, t) => [sum(y, rows[t][0]), null]);
    }
    return rows.map((row) => row[0]);
  }

  // What each direction has read a text to.
  last(rows) {
    return rows[0].map((n, k) => (k < this.P ? rows[rows.length - 1][k] : n));
  }

  probabilities(logits) {
    const most = logits.reduce((a, b) => Math.max(a, b)), weights = logits.map((z) => Math.exp(z - most));
    const total = weights.reduce((a, b) => a + b);
    return weights.map((w) => w / total);
  }

  // The ids of a text's tokens; 0, <unk>, for those that are not known.
  encode(text) {
    if (this.config.newline === "lf") text = text.replace(/\r\n?/g, "\n");
    if (this.config.level === "byte") return Array.from(new TextEncoder().encode(text));
    const found = this.pattern ? text.match(this.pattern) || [] : Array.from(text);
    return found.map((token) => this.ids.get(token) || 0);
  }
}
"""

WRITER = r"""
class Model extends Network {
  // The state before a text: what `feed` changes.
  start() {
    return { h: this.v.h.slice(), c: this.v.c.slice(), top: null };
  }

  feed(state, token) {
    const { layers, residual, head } = this.config;
    let [x, z] = this.read(token), c;
    for (let layer = 0; layer < layers; layer++) {
      let h;
      [h, c] = this.part(state, layer);
      const below = x;
      this.step(layer, x, z, h, c);
      x = h.slice();
      if (residual && below && below.length === x.length) for (let k = 0; k < x.length; k++) x[k] += below[k];
    }
    state.top = head === "cell" ? Float64Array.of(...x, ...c) : x;
  }

  logits(state) {
    const logits = this.v.head_bias.slice();
    product(logits, this.m.head, state.top);
    return logits;
  }

  // The text of a token behind another one, or behind nothing (null). Of bytes, see `texts`.
  text(before, id) {
    const { level, tokenizer, end } = this.config, token = id === end ? "" : this.tokens[id];
    if (level !== "word" || tokenizer !== "whitespace") return token;
    const last = before === null || before === end ? "\n" : this.tokens[before];
    return last === "\n" || token === "\n" || !token ? token : " " + token;
  }

  // What each of some ids adds to the text; a character of several bytes comes with its last.
  texts(ids) {
    if (this.config.level !== "byte") return ids.map((id, k) => this.text(k ? ids[k - 1] : null, id));
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return ids.map((id, k) => decoder.decode(Uint8Array.of(id), { stream: k + 1 < ids.length }));
  }

  // The next token; temperature 0 takes the most likely.
  draw(logits, temperature, random) {
    const banned = this.config.banned;
    let most = -Infinity, best = 0;
    logits.forEach((z, id) => { if (id !== banned && z > most) { most = z; best = id; } });
    if (!(temperature > 0)) return best;
    const weights = logits.map((z, id) => (id === banned ? 0 : Math.exp((z - most) / temperature)));
    const goal = random.random() * weights.reduce((a, b) => a + b);
    let total = 0;
    for (let id = 0; id < weights.length; id++) {
      total += weights[id];
      if (total > goal) return id;
    }
    return best;
  }
}

// NumPy's default_rng(seed).random(): PCG64, seeded by SeedSequence.
class Random {
  constructor(seed) {
    const u32 = (n) => BigInt.asUintN(32, n), words = [];
    let hash = 0x43B0D7E5n, rest = BigInt(seed);
    do { words.push(u32(rest)); rest >>= 32n; } while (rest > 0n);
    const hashed = (word, multiplier) => {
      word ^= hash;
      hash = u32(hash * multiplier);
      word = u32(word * hash);
      return word ^ (word >> 16n);
    };
    const pool = [0, 1, 2, 3].map((k) => hashed(words[k] || 0n, 0x931E8875n));
    const mix = (place, word) => {
      const mixed = u32(0xCA01F9DDn * pool[place] - 0x4973F715n * hashed(word, 0x931E8875n));
      pool[place] = mixed ^ (mixed >> 16n);
    };
    for (let k = 0; k < 4; k++) for (let j = 0; j < 4; j++) if (j !== k) mix(j, pool[k]);
    for (const word of words.slice(4)) for (let j = 0; j < 4; j++) mix(j, word);
    hash = 0x8B51F9DDn;
    const made = Array.from({ length: 8 }, (_, k) => hashed(pool[k % 4], 0x58F38DEDn));
    const wide = (k) => (made[k + 1] << 96n) | (made[k] << 64n) | (made[k + 3] << 32n) | made[k + 2];
    this.step = BigInt.asUintN(128, (wide(4) << 1n) | 1n);
    this.state = 0n;
    this.advance();
    this.state += wide(0);
    this.advance();
  }

  advance() {
    this.state = BigInt.asUintN(128, this.state * 0x2360ED051FC65DA44385DF649FCCF645n + this.step);
  }

  random() {
    this.advance();
    const mixed = (this.state >> 64n) ^ BigInt.asUintN(64, this.state), turn = this.state >> 122n;
    const turned = BigInt.asUintN(64, (mixed >> turn) | (mixed << (64n - turn)));
    return Number(turned >> 11n) / 9007199254740992;
  }
}
"""

CLASSIFIER_ENGINE = r"""
class Classifier extends Network {
  // The probability of every label of a text.
  classify(text) {
    const { level, max_length, end } = this.config;
    const trimmed = () => text.replace(new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g"), "");
    const ids = this.encode(level === "word" ? " " + trimmed() : text).slice(0, max_length);
    return this.probabilities(this.logits(ids.length ? ids : [end]));
  }

  // The logits of the labels of a text, at least one token.
  logits(ids) {
    const rows = this.readLayers(ids.map((id) => this.read(id)));
    const logits = this.v.head_bias.slice();
    product(logits, this.m.head, this[this.config.pooling](rows));
    return logits;
  }

  mean(rows) {
    return rows.reduce((sum, row) => sum.map((n, k) => n + row[k])).map((n) => n / rows.length);
  }

  max(rows) {
    return rows.reduce((most, row) => most.map((n, k) => Math.max(n, row[k])));
  }

  // The sum of a x, a = softmax of query . tanh(W x + b).
  attention(rows) {
    const scores = rows.map((row) => {
      const hidden = this.v.attention_bias.slice();
      product(hidden, this.m.attention, row);
      return hidden.reduce((sum, n, k) => sum + tanh(n) * this.v.query[k], 0);
    });
    const shares = this.probabilities(scores);
    return rows[0].map((_, k) => rows.reduce((sum, row, t) => sum + shares[t] * row[k], 0));
  }
}
"""
