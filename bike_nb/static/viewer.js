import {
  decodeF32, tokenWeights, saliency, dot, votesOf, ranking, frameEdges, nearestFrame, frameAt, step, findWindows, scaledCosine,
  linear, niceTicks, clock, spellWindow, spellWindows, number, polyline, spread, chooseFrames, rowsOfTokens, logScale, heat,
} from "./maths.js";

// The viewer of bike_nb: clip, film strip, curves, lanes and token map on one time axis. No dependency, no build step.
// Everything that comes from outside (names, titles, notes) becomes text nodes and attributes, never markup.

// ---------------------------------------------------------------- looks

// Okabe and Ito's hues, moved until each has a contrast of 3:1 on its paper; dash and marker say the same without colour
const HUES = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B95F93", "#BC8300", "#3297D3", "#757575", "#7A4E10"],
  dark: ["#4199E1", "#F07F2E", "#2CC295", "#E29AC2", "#F2B632", "#A5DBFA", "#A3A3A3", "#C79A4B"],
};
const DASHES = ["", "9 3", "2 2", "9 3 2 3", "14 4", "4 2", "14 4 4 4", "5 2 2 2 2 2"];
const MARKS = [
  (r) => `m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (r) => `m${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (r) => `m0 ${-1.2 * r}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`,
  (r) => `m0 ${-1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  (r) => `m0 ${1.2 * r}l${1.2 * r} ${-2.1 * r}h${-2.4 * r}z`,
  (r) => `m${-0.4 * r} ${-1.2 * r}h${0.8 * r}v${0.8 * r}h${0.8 * r}v${0.8 * r}h${-0.8 * r}v${0.8 * r}h${-0.8 * r}v${-0.8 * r}h${-0.8 * r}v${-0.8 * r}h${0.8 * r}z`,
  (r) => `m${-r} ${-1.3 * r}l${r} ${0.85 * r}l${r} ${-0.85 * r}v${0.75 * r}l${-0.5 * r} ${0.55 * r}l${0.5 * r} ${0.55 * r}v${0.75 * r}l${-r} ${-0.85 * r}l${-r} ${0.85 * r}v${-0.75 * r}l${0.5 * r} ${-0.55 * r}l${-0.5 * r} ${-0.55 * r}z`,
  (r) => `m0 ${-1.5 * r}l${0.45 * r} ${1.05 * r}h${1.05 * r}l${-0.85 * r} ${0.7 * r}l${0.35 * r} ${1.1 * r}l${-r} ${-0.65 * r}l${-r} ${0.65 * r}l${0.35 * r} ${-1.1 * r}l${-0.85 * r} ${-0.7 * r}h${1.05 * r}z`,
];
const ICONS = {
  play: "M4 2.5v11l9-5.5z", pause: "M4 3h3v10H4zM9 3h3v10H9z", back: "M4 3h2v10H4zM13 3v10L6.5 8z", forth: "M10 3h2v10h-2zM3 3v10l6.5-5z",
  show: "M8 3.5C4.500 3.500 2 6 .8 8c1.200 2 3.700 4.500 7.200 4.500S14 10 15.200 8C14 6 11.500 3.500 8 3.500zm0 1.300c2.500 0 4.500 1.600 5.600 3.200-1.100 1.600-3.100 3.200-5.600 3.200S3.500 9.600 2.400 8C3.500 6.400 5.500 4.800 8 4.800zM8 5.800a2.200 2.200 0 1 0 0 4.400 2.200 2.200 0 0 0 0-4.400z",
  hide: "M2.200 1.300l12.500 12.500-.9.9-2.600-2.600c-1 .4-2 .4-3.200.4C4.500 12.500 2 10 .8 8c.6-1 1.500-2.100 2.700-3L1.300 2.200zM4.400 5.900C3.500 6.500 2.900 7.300 2.400 8c1.100 1.600 3.100 3.200 5.600 3.200.8 0 1.500-.1 2.100-.4L8.900 9.700A2.200 2.200 0 0 1 6.300 7.100zM8 3.500c3.500 0 6 2.500 7.200 4.500-.5.9-1.200 1.700-2.100 2.500l-.9-.9c.6-.5 1-1.100 1.400-1.600C12.500 6.400 10.500 4.800 8 4.800c-.4 0-.8 0-1.200.1L5.700 3.800A8 8 0 0 1 8 3.500z",
  rename: "M11.300 1.500l3.200 3.200-8.800 8.800-4.200 1 1-4.200zM11.300 3.300L3.700 10.900l-.5 1.900 1.900-.5 7.600-7.600z",
  remove: "M3.400 2.500L8 7.100l4.600-4.600.9.900L8.900 8l4.600 4.600-.9.900L8 8.900l-4.600 4.600-.9-.9L7.100 8 2.500 3.400z",
  curve: "M1.500 12c3 0 3.500-8.500 6.500-8.500S10.500 10 14.500 10v1.500C9.500 11.500 9.500 5 8 5c-1.800 0-2.500 8.500-6.500 8.500z",
};
const KINDS = { s: "Start token", t: "Template words", w: "Own words", e: "End token", p: "Padding" };
const ALL = { data: true, set: true, values: true, layout: true, time: true, theme: true, map: true };
const MOST = 8;        // curves that can be told apart
const FLIP = 4;        // frames a second where nobody knows the seconds
const NO_VOTE = "No token votes: switch one on.";
const SCORES = "Score: how well the clip shows the concept, by its best frames (concept spotting); the tick is the mean over all frames alike. Compare scores of one model only.";
const LANES = "Shows most: where the cosine is in the upper half of its range in this clip. That is when, if at all: whether it shows, the scores say.";
const WEIGHTS = "Weights sum to one over the frames: they say which frames speak most for a concept, not whether it is there.";

// ---------------------------------------------------------------- small tools

// An element with attributes, listeners ("on…"), properties (".…") and children
function make(tag, props, ...children) { return fill(document.createElement(tag), props, children); }
function draw(tag, props, ...children) { return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children); }
function fill(node, props, children) {
  for (const [k, v] of Object.entries(props || {})) {
    if (k.startsWith("on")) node.addEventListener(k.slice(2), v);
    else if (k.startsWith(".")) node[k.slice(1)] = v;
    else attr(node, k, v);
  }
  for (const c of children) if (c !== null && c !== undefined) node.append(c);
  return node;
}
function attr(node, key, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(key);
  else if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value);
}
function write(node, text) { if (node.textContent !== text) node.textContent = text; }
function place(node, x, y, w, h) {
  node.style.transform = `translate(${x.toFixed(2)}px, ${y.toFixed(2)}px)`;
  if (w !== undefined) node.style.width = `${Math.max(0, w).toFixed(2)}px`;
  if (h !== undefined) node.style.height = `${Math.max(0, h).toFixed(2)}px`;
}
function short(text, most = 48) { // never half of a character
  if (text.length <= most) return text;
  const letters = Array.from(text.slice(0, 2 * most + 2));
  return letters.length > most || text.length > 2 * most ? letters.slice(0, most - 1).join("").trimEnd() + "…" : text;
}
const BIDI = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // marks that would turn the rest of a sentence round
const inside = (name) => (/^[\x20-\x7e]*$/.test(name) ? name : `\u2068${name.replace(BIDI, "")}\u2069`); // a name within a sentence
const icon = (name) => draw("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("path", { d: ICONS[name] }));
function button(label, picture, act, props) { return make("button", { type: "button", class: "tool", "aria-label": label, title: short(label, 80), onclick: act, ...props }, icon(picture)); }
function relabel(node, label, picture) {
  if (node.getAttribute("aria-label") === label) return;
  attr(node, "aria-label", label); attr(node, "title", short(label, 80));
  if (picture) node.firstChild.firstChild.setAttribute("d", ICONS[picture]);
}
const named = (cls, text = "") => make("span", { class: `name ${cls || ""}`, dir: "auto", title: text.length > 12 ? short(text, 300) : null }, text);
function rename(node, text) { if (node.textContent !== text) { node.textContent = text; attr(node, "title", short(text, 300)); } }
function clamp(x, lo, hi) { return Math.min(hi, Math.max(lo, x)); }
function same(a, b) { return a.length === b.length && a.every((x, i) => x === b[i]); }
const url = (type, base64) => `data:${type};base64,${base64}`;
function blob(type, base64) {
  const raw = atob(base64), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return URL.createObjectURL(new Blob([bytes], { type }));
}
const CLOCK = [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
function timeTicks({ start, end, unit }, most) { // in long clips at whole minutes
  const gap = CLOCK.find((s) => (end - start) / s <= most);
  if (unit === "frame" || end <= 120 || !gap) return ticksOf(start, end, most, unit === "frame");
  const first = Math.ceil(start / gap - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(end / gap + 1e-9) - first + 1) }, (_, i) => (first + i) * gap);
}
function ticksOf(lo, hi, most, whole) {
  return Array.from(niceTicks(lo, hi, Math.max(2, most), whole));
}
function decimals(ticks) { // as few as tell the ticks apart
  const gap = ticks.length > 1 ? ticks[1] - ticks[0] : ticks[0] || 1;
  for (let d = 0; d < 5; d++) if (Math.abs(gap * 10 ** d - Math.round(gap * 10 ** d)) < 1e-6) return d;
  return 5;
}
// The area under a line between two times, with the line's own height at both
function area(times, values, a, b, X, Y, base) {
  const at = (t) => {
    if (t <= times[0]) return values[0];
    let i = 1;
    while (i < times.length && times[i] < t) i++;
    if (i === times.length) return values[i - 1];
    return values[i - 1] + (values[i] - values[i - 1]) * (t - times[i - 1]) / (times[i] - times[i - 1]);
  };
  const ts = [a, ...Array.from(times).filter((t) => t > a && t < b), b];
  return `M${X(a).toFixed(2)} ${base}${ts.map((t) => `L${X(t).toFixed(2)} ${Y(at(t)).toFixed(2)}`).join("")}L${X(b).toFixed(2)} ${base}Z`;
}

// ---------------------------------------------------------------- numbers

// A concept (or attribute) in one clip. Token weights depend on the temperature alone and are kept until it changes.
class Concept {
  constructor(raw, T, isAttribute) {
    const { name, kinds, pieces, truth, unknown, tokens, weight } = raw;
    Object.assign(this, { raw, name, T, isAttribute, kinds: kinds || "", pieces: pieces || [], truth: truth || [], unknown: unknown || [] });
    this.cosine = decodeF32(raw.cosine || "");
    this.tokens = tokens ? decodeF32(tokens) : null;
    this.given = weight ? decodeF32(weight) : null;
    this.high = this.cosine.reduce((a, b) => Math.max(a, b), -Infinity);
    this.low = this.cosine.reduce((a, b) => Math.min(a, b), Infinity);
  }
  like(raw) { return raw.tokens === this.raw.tokens && raw.cosine === this.raw.cosine && raw.weight === this.raw.weight && raw.kinds === this.raw.kinds; }
  weigh(tau) {
    if (this.tau !== tau) { this.weights = tokenWeights(this.tokens, this.T, tau); this.tau = tau; }
    return this.weights;
  }
  look(view, mean) {
    if (this.tokens) {
      this.votes = votesOf(this.kinds, view.kinds, view.tokens[this.name]);
      this.weight = this.votes.some(Boolean) ? saliency(this.weigh(view.temperature), this.votes, this.T) : null;
    } else { this.votes = null; this.weight = this.given; }
    this.score = this.weight ? dot(this.weight, this.cosine) : null;
    this.mean = dot(mean, this.cosine);
  }
}

class Panel {
  constructor(raw, old) {
    Object.assign(this, { raw, title: String(raw.title ?? ""), line: raw.line || "", unit: raw.unit, times: raw.times, notes: raw.notes || [], novelty: raw.novelty });
    this.T = this.times.length;
    this.start = raw.start;
    this.end = raw.end > raw.start ? raw.end : raw.start + 1;
    this.edges = frameEdges(this.times, this.start, this.end);
    this.start = this.edges[0];
    this.end = Math.max(this.edges[this.T], this.start + 1e-6);
    this.rate = this.unit === "frame" ? FLIP : 1; // units a second of playing
    this.meanWeights = decodeF32(raw.mean);
    const read = (list, was, isAttribute) => (list || []).map((c) => {
      const kept = was && was.find((k) => k.name === c.name && k.like(c));
      if (kept) { Object.assign(kept, { raw: c, truth: c.truth || [], unknown: c.unknown || [] }); return kept; }
      return Object.assign(new Concept(c, this.T, isAttribute), { windows: null });
    });
    const reuse = old && same(old.times, this.times) ? old : null;
    this.concepts = read(raw.concepts, reuse && reuse.concepts, false);
    this.attributes = read(raw.attributes, reuse && reuse.attributes, true);
    for (const c of [...this.concepts, ...this.attributes]) if (c.cosine.length) c.windows ||= findWindows(c.cosine, this.edges);
  }
  when(c, most = 3) { return spellWindows(c.windows, this.end, this.unit, this.times, most); }
  brief(c, most) { // the first windows, and how many more
    const { windows } = c, said = windows.slice(0, most).map((w) => spellWindow(w, this.end, this.unit, this.times)).join(", ");
    return windows.length > most ? `${said} +${windows.length - most}` : said || "all alike";
  }
  clock(t) { return this.unit === "frame" ? `frame ${Math.round(t)}` : clock(t, this.end) + (this.end > 120 ? "" : " s"); }
  moment(i) { // in words
    const which = this.T > 1 ? `frame ${i + 1} of ${this.T}` : "the only frame";
    return this.unit === "frame" ? `frame ${this.times[i]}${this.T > 1 ? `, ${i + 1} of ${this.T}` : ""}` : `${this.clock(this.times[i])}, ${which}`;
  }
}

// ---------------------------------------------------------------- hosts: where data comes from and requests go

function liveHost(model) {
  const listeners = [], waiting = new Map(), offs = [];
  const on = (name, act) => { model.on(name, act); offs.push(() => model.off(name, act)); };
  let sent = "", timer = 0, last = 0, serial = 0;
  const save = () => {
    timer = 0; last = Date.now();
    sent = JSON.stringify(host.view);
    model.set("view", JSON.parse(sent));
    try { model.save_changes(); } catch { /* no kernel: the page goes on by itself */ }
  };
  const host = {
    live: true, data: model.get("data"), media: model.get("media") || [], view: model.get("view") || {}, fallback: model.get("fallback"),
    onChange: (act) => listeners.push(act),
    setView(view) { // at most four times a second
      host.view = view;
      if (!timer) timer = setTimeout(save, Math.max(120, 250 - (Date.now() - last)));
    },
    request(kind, fields) {
      const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}-${serial++}`;
      return new Promise((resolve, reject) => {
        const fail = (said) => { clearTimeout(late); waiting.delete(id); reject(new Error(said)); };
        const late = setTimeout(() => fail("The kernel does not answer: it is busy, or not running."), 60000);
        waiting.set(id, { late, resolve, fail });
        model.set("request", { id, kind, ...fields });
        try { model.save_changes(); } catch { fail("There is no kernel to ask: run the cell again."); }
      });
    },
    dispose() {
      if (timer) { clearTimeout(timer); save(); }
      for (const off of offs) off();
      for (const w of waiting.values()) clearTimeout(w.late);
    },
  };
  on("change:data", () => { host.data = model.get("data"); for (const act of listeners) act("data"); });
  on("change:view", () => {
    const view = model.get("view") || {};
    if (JSON.stringify(view) === sent || timer) return; // our own, coming back; or older than what is about to go
    host.view = view;
    for (const act of listeners) act("view");
  });
  on("change:reply", () => {
    const reply = model.get("reply") || {}, w = waiting.get(reply.id);
    if (!w) return;
    if (reply.error) return w.fail(String(reply.error));
    clearTimeout(w.late); waiting.delete(reply.id); w.resolve(reply);
  });
  return host;
}

function pageHost({ data, media, view }) {
  const listeners = [], all = data;
  const without = (removed) => ({ ...all, panels: all.panels.map((p) => ({ ...p, concepts: p.concepts.filter((c) => !removed.includes(c.name)) })) });
  const host = {
    live: false, data: without((view && view.removed) || []), media: media || [], view: view || {},
    onChange: (act) => listeners.push(act),
    setView(next) { host.view = next; },
    async request(kind, { name }) {
      const fold = (s) => s.trim().replace(/\s+/g, " ").toLowerCase();
      const removed = host.view.removed || [];
      const back = removed.find((n) => fold(n) === fold(name));
      if (kind === "add" && host.data.panels[0].concepts.some((c) => fold(c.name) === fold(name))) throw new Error(`“${short(name)}” is there already.`);
      if (kind === "add" && back === undefined) throw new Error("Typing new concepts needs the notebook: this page holds only what was looked for when it was written.");
      host.view = { ...host.view, removed: kind === "add" ? removed.filter((n) => n !== back) : [...removed, name] };
      host.data = without(host.view.removed);
      for (const act of listeners) act("data");
      return { name: back };
    },
    dispose() {},
  };
  return host;
}

// ---------------------------------------------------------------- the parts of a panel

// The picture: the video where it plays, else the frames
class Stage {
  constructor(viewer, show, media) {
    Object.assign(this, { viewer, show, media, images: new Map(), sought: NaN });
    this.canvas = make("canvas", { class: "picture", role: "img", width: media.width, height: media.height });
    this.node = make("div", { class: "stage" }, this.canvas);
    this.indices = media.frames.map(([i]) => i);
    for (const [i, data] of media.frames) {
      const image = new Image();
      image.onload = () => { if (this.drawn === undefined || this.nearest(show.frame) === i) this.paint(show.frame); };
      image.src = url("image/jpeg", data);
      this.images.set(i, image);
    }
    if (media.video) this.open(media.video);
  }
  open({ type, data, offset }) {
    const video = make("video", { class: "picture", muted: "", playsinline: "", preload: "auto", "aria-hidden": "true", tabindex: "-1", ".muted": true, ".hidden": true });
    if (!video.canPlayType || !video.canPlayType(type)) return;
    const drop = () => { video.remove(); this.video = null; this.canvas.classList.remove("under"); this.paint(this.show.frame); };
    try { this.blob = blob(type, data); } catch { return; }
    video.addEventListener("error", drop);
    video.addEventListener("loadeddata", () => { video.hidden = false; this.canvas.classList.add("under"); this.seek(true); });
    video.addEventListener("seeked", () => { // the cursor may have gone on meanwhile, or been dragged
      const { late } = this;
      this.late = false;
      if (late || !this.viewer.playing) this.seek(late);
    });
    video.src = this.blob;
    this.video = video; this.offset = offset || 0;
    this.node.append(video);
  }
  get ready() { return this.video && this.video.readyState >= 2 && !this.video.hidden; }
  get running() { return this.ready && !this.video.paused && !this.video.ended; }
  get clock() { return this.video.currentTime + this.offset; }
  nearest(i) { return this.indices.length ? this.indices[nearestFrame(this.indices, i)] : null; }
  paint(i) {
    const image = this.images.get(this.nearest(i));
    if (!image || !image.complete || !image.naturalWidth) return;
    this.canvas.getContext("2d").drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    this.drawn = i;
  }
  seek(force) { // one at a time: when it is done, it is seen whether another one is needed
    if (this.video && this.video.seeking) this.late ||= force; // it may not be ready meanwhile
    if (!this.ready || this.video.seeking) return;
    const t = clamp(this.show.time - this.offset, 0, Math.max(0, (this.video.duration || 0) - 0.001));
    if (!force && (Math.abs(this.video.currentTime - t) < 0.004 || Math.abs(this.sought - t) < 0.004)) return;
    this.video.currentTime = this.sought = t;
  }
  run() { const p = this.video.play(); if (p) p.catch(() => {}); }
  play() { if (this.ready) { this.seek(); this.sought = NaN; this.run(); } }
  jump() { // while it plays; a clip that had come to its end plays again
    this.seek(true);
    if (this.video && !this.video.hidden && this.video.paused && this.show.time < this.show.panel.end) this.run();
  }
  pause() { if (this.video) this.video.pause(); }
  update(what) {
    if (what.layout) this.resize();
    if (this.drawn !== this.show.frame) this.paint(this.show.frame);
    if (what.time && !this.viewer.playing) this.seek();
    if (!this.viewer.playing) attr(this.canvas, "aria-label", `The clip at ${this.show.panel.moment(this.show.frame)}`);
  }
  resize() {
    const { width, height } = this.media, room = this.show.stageRoom, most = this.show.width < 480 ? 240 : 300;
    const w = Math.max(40, Math.min(room, most * width / height)), h = w * height / width;
    for (const n of [this.node, this.canvas, this.video]) if (n) { n.style.width = `${w.toFixed(1)}px`; n.style.height = `${h.toFixed(1)}px`; }
  }
  dispose() { if (this.video) { this.pause(); this.video.removeAttribute("src"); this.video.load(); } if (this.blob) URL.revokeObjectURL(this.blob); }
}

// What each concept gets at the moment shown
class Now {
  constructor(viewer, show) {
    Object.assign(this, { viewer, show, rows: new Map() });
    this.time = make("div", { class: "moment" });
    this.list = make("div", { class: "rows" });
    this.head = make("div", { class: "small" });
    this.node = make("div", { class: "now", "aria-hidden": "true" }, this.time, this.head, this.list); // the status line says the same
  }
  update(what) {
    const { viewer, show } = this, { panel } = show;
    this.node.hidden = show.nowRoom < 190;
    if (this.node.hidden) return;
    const shown = show.shown.slice(0, 10);
    if (what.data || what.set || what.layout || !this.rows.size) {
      this.rows = new Map(shown.map((c) => [c.name, { bar: make("div", { class: "value" }), text: make("span", { class: "figure" }) }]));
      this.list.replaceChildren(...shown.map((c) => {
        const { bar, text } = this.rows.get(c.name), look = viewer.lookOf(c.name);
        bar.style.background = look.hue;
        return make("div", { class: "row" }, viewer.swatch(c.name), named(c.isAttribute ? "found" : "", viewer.label(c.name)), make("div", { class: "track" }, bar), text);
      }));
      this.frame = null;
    }
    if (what.time && !what.values && this.frame === show.frame) return;
    this.frame = show.frame;
    write(this.time, panel.unit === "frame" ? `frame ${panel.times[show.frame]}` : `${panel.clock(panel.times[show.frame])}`);
    write(this.head, `${panel.unit === "frame" ? "" : `frame ${show.frame + 1} of ${panel.T} · `}${viewer.view.scale} here`);
    const hi = Math.max(1e-6, viewer.range[1]);
    for (const c of shown) {
      const { bar, text } = this.rows.get(c.name), v = viewer.curve(c);
      bar.style.transform = `scaleX(${v ? clamp(v[show.frame] / hi, 0, 1).toFixed(4) : 0})`;
      write(text, v ? number(v[show.frame], 3) : "–");
    }
  }
}

// The time axis itself, which is the slider
class Ruler {
  constructor(viewer, show) {
    Object.assign(this, { viewer, show });
    this.ticks = draw("svg", { class: "ticks", "aria-hidden": "true" });
    this.thumb = make("div", { class: "thumb" });
    this.label = make("div", { class: "gutter" });
    this.slider = make("div", { class: "slider", role: "slider", tabindex: "0", "aria-label": "Time", "aria-orientation": "horizontal" }, this.thumb);
    this.node = make("div", { class: "ruler" }, this.label, this.ticks, this.slider);
  }
  update(what) {
    const { show } = this, { panel, lay } = show;
    if (what.layout || what.data) {
      const long = panel.unit === "s" && panel.end > 120, most = Math.floor((lay.width - lay.left - lay.right) / 60);
      const ticks = timeTicks(panel, most), digits = decimals(ticks);
      show.ticks = ticks;
      write(this.label, panel.unit === "frame" ? "frame" : long ? "time" : "time (s)");
      attr(this.ticks, "width", lay.width); attr(this.ticks, "height", 28);
      this.ticks.replaceChildren(...ticks.flatMap((t) => {
        const text = draw("text", { x: lay.x.to(t).toFixed(1), y: 13, "text-anchor": "middle" });
        text.textContent = long ? clock(t, panel.end) : t.toFixed(digits);
        return [draw("line", { x1: lay.x.to(t).toFixed(1), x2: lay.x.to(t).toFixed(1), y1: 21, y2: 27 }), text];
      }), draw("line", { x1: lay.left, x2: lay.width - lay.right, y1: 27, y2: 27 }));
      this.slider.style.left = `${lay.left - 7}px`;
      this.slider.style.width = `${lay.width - lay.left - lay.right + 14}px`;
      attr(this.slider, "aria-valuemin", panel.start.toFixed(3)); attr(this.slider, "aria-valuemax", panel.end.toFixed(3));
    }
    place(this.thumb, show.x - lay.left, 0);
    if (this.viewer.playing) return;
    attr(this.slider, "aria-valuenow", show.time.toFixed(3));
    attr(this.slider, "aria-valuetext", panel.moment(show.frame));
  }
}

// The film strip: as many frames as fit, each joined to its time by a thin line
class Strip {
  constructor(viewer, show, media) {
    Object.assign(this, { viewer, show, media, items: [] });
    this.lines = draw("svg", { class: "leaders", "aria-hidden": "true" });
    this.node = make("div", { class: "strip", "aria-hidden": "true" }, make("div", { class: "gutter" }, "frames"), this.lines);
  }
  layout() {
    const { panel, lay } = this.show, { frames, width, height } = this.media;
    for (const item of this.items) item.node.remove();
    const room = lay.width - lay.left - lay.right, shape = width / height, most = room < 420 ? 52 : 76;
    const every = Math.min(most, 0.96 * room / frames.length / shape), high = every >= 34 ? every : Math.min(46, room / 4 / shape);
    const n = every >= 34 ? frames.length : Math.max(1, Math.floor(0.97 * room / (high * shape)));
    const index = new Map(frames), have = frames.map(([i]) => i).filter((i) => i < panel.T);
    const strength = this.show.shown.filter((c) => c.weight).map((c) => Float64Array.from(have, (i) => c.weight[i]));
    const chosen = n >= have.length || !strength.length ? spaced(have, n) : Array.from(chooseFrames(strength, n), (k) => have[k]);
    const wide = high * shape, xs = spread(chosen.map((i) => lay.x.to(panel.times[i])), wide + 3, lay.left, lay.width - lay.right);
    this.items = chosen.map((i, k) => {
      const node = make("div", { class: "thumbnail" }, make("img", { src: url("image/jpeg", index.get(i)), alt: "", draggable: "false" }));
      place(node, xs[k] - wide / 2, 2, wide, high);
      this.node.append(node);
      return { i, node };
    });
    attr(this.lines, "width", lay.width); attr(this.lines, "height", high + 16);
    this.lines.replaceChildren(draw("path", { d: chosen.map((i, k) => `M${xs[k].toFixed(1)} ${(high + 2).toFixed(1)}v3L${lay.x.to(panel.times[i]).toFixed(1)} ${(high + 13).toFixed(1)}v3`).join("") }));
    this.node.style.height = `${(high + 16).toFixed(1)}px`;
  }
  update(what) {
    if (what.layout || what.data) this.layout();
    if (what.layout || what.data || what.set || what.values) this.borders();
    if (this.frame === this.show.frame && !what.layout && !what.data) return;
    this.frame = this.show.frame;
    for (const item of this.items) item.node.classList.toggle("current", item.i === this.frame);
  }
  borders() { // the best frame of a concept that fits has a border of its colour
    const { show, viewer } = this, best = new Map();
    for (const c of [...show.shown].reverse()) {
      if (!c.weight || !show.scaled.has(c.name)) continue;
      const i = c.weight.indexOf(Math.max(...c.weight));
      if (show.scaled.get(c.name)[i] > 1 / 3) best.set(i, viewer.lookOf(c.name).hue);
    }
    for (const { i, node } of this.items) node.style.setProperty("--best", best.get(i) || "transparent");
  }
}
function spaced(items, n) { return n >= items.length ? items : Array.from({ length: n }, (_, k) => items[Math.floor((k + 0.5) * items.length / n)]); }

// The curves, with names where they end
class Curves {
  constructor(viewer, show) {
    Object.assign(this, { viewer, show, groups: new Map() });
    this.grid = draw("g", { class: "grid" });
    this.body = draw("g");
    this.dots = draw("g", { class: "dots" });
    this.svg = draw("svg", { role: "img" }, this.grid, this.body, this.dots);
    this.axis = make("div", { class: "axis", "aria-hidden": "true" });
    this.names = make("div", { class: "names", "aria-hidden": "true" });
    this.empty = make("p", { class: "empty", ".hidden": true }, NO_VOTE);
    this.title = make("div", { class: "gutter" });
    this.node = make("div", { class: "curves" }, this.title, this.svg, this.axis, this.names, this.empty);
  }
  sync() { // one group a curve
    const { viewer, show } = this, want = new Set(show.shown.map((c) => c.name));
    for (const [name, g] of this.groups) if (!want.has(name)) { g.group.remove(); g.dot.remove(); g.label.remove(); this.groups.delete(name); }
    for (const c of show.shown) {
      let g = this.groups.get(c.name);
      if (!g) {
        g = { path: draw("path", { class: "curve", "data-name": c.name }), marks: draw("path", { class: "marks" }), lead: draw("path", { class: "lead" }),
              dot: draw("circle", { r: 4.5 }), text: named("") };
        g.group = draw("g", null, g.lead, g.path, g.marks);
        g.label = make("div", { class: "label" }, g.text);
        this.groups.set(c.name, g);
        this.body.prepend(g.group); this.dots.append(g.dot); this.names.append(g.label);
      }
      const look = viewer.lookOf(c.name);
      for (const part of [g.path, g.lead]) attr(part, "stroke", look.hue);
      attr(g.path, "stroke-dasharray", look.dash || null);
      attr(g.group, "class", c.isAttribute ? "attribute" : null);
      attr(g.marks, "fill", look.hollow ? viewer.paper : look.hue); attr(g.marks, "stroke", look.hollow ? look.hue : viewer.paper);
      attr(g.dot, "stroke", look.hue); attr(g.dot, "fill", viewer.paper);
      g.mark = look.mark;
      rename(g.text, viewer.label(c.name));
      attr(g.label, "class", c.isAttribute ? "label found" : "label");
    }
    this.told = null;
    for (const c of [...show.shown].reverse()) this.body.append(this.groups.get(c.name).group); // the first lies on top
  }
  update(what) {
    if (what.data || what.set || what.theme) this.sync();
    if (what.data || what.set || what.values || what.layout || what.theme) { this.scale(); this.trace(); this.frame = null; }
    if (this.told !== this.viewer.view.scale) {
      this.told = this.viewer.view.scale;
      attr(this.svg, "aria-label", `${this.told === "weight" ? "Weights" : "Cosines"} over time: ${this.show.shown.map((c) => short(this.viewer.label(c.name), 60)).join(", ") || "nothing is shown"}. The numbers are in the table below.`);
    }
    if (this.frame === this.show.frame) return;
    this.frame = this.show.frame;
    const { lay, panel, shown } = this.show, x = lay.x.to(panel.times[this.frame]).toFixed(2);
    for (const c of shown) {
      const v = this.viewer.curve(c), { dot: node } = this.groups.get(c.name);
      attr(node, "visibility", v ? null : "hidden");
      if (v) { attr(node, "cx", x); attr(node, "cy", this.y.to(v[this.frame]).toFixed(2)); }
    }
  }
  scale() {
    const { lay, panel } = this.show, { viewer } = this, [lo, hi] = viewer.range;
    const high = lay.narrow ? 150 : viewer.many ? 160 : 190;
    this.high = high;
    this.y = linear(lo, hi, high - 8, 10);
    const key = [lo, hi, lay.width, panel.start, panel.end, viewer.view.scale, viewer.theme].join();
    if (key === this.key) return;
    this.key = key;
    attr(this.svg, "width", lay.width); attr(this.svg, "height", high); this.node.style.height = `${high}px`;
    write(this.title, viewer.view.scale);
    const ticks = ticksOf(lo, hi, 5), digits = decimals(ticks), right = lay.width - lay.right;
    const across = ticks.map((v) => draw("line", { x1: lay.left, x2: right, y1: this.y.to(v).toFixed(1), y2: this.y.to(v).toFixed(1) }));
    const down = this.show.ticks.map((t) => draw("line", { x1: lay.x.to(t).toFixed(1), x2: lay.x.to(t).toFixed(1), y1: 0, y2: high }));
    const even = viewer.view.scale === "weight" ? draw("line", { class: "even", x1: lay.left, x2: right, y1: this.y.to(1 / panel.T).toFixed(1), y2: this.y.to(1 / panel.T).toFixed(1) }) : null;
    this.grid.replaceChildren(...down, ...across, ...(even ? [even] : []));
    this.axis.replaceChildren(...ticks.map((v) => {
      const label = make("div", { class: "tick" }, v.toFixed(digits));
      place(label, 0, this.y.to(v) - 8, lay.left - 7);
      return label;
    }));
    if (even && panel.T > 1) {
      const label = make("div", { class: "tick evenly", title: "the weight that every frame would have if all were alike" }, `1/${panel.T}`);
      const y = this.y.to(1 / panel.T), free = ticks.every((v) => Math.abs(this.y.to(v) - y) > 13); // in the gutter where there is room
      if (free) place(label, 0, y - 8, lay.left - 7); else if (lay.narrow || viewer.many) label.hidden = true; else { label.classList.add("in"); place(label, lay.left + 4, y - 17); }
      this.axis.append(label);
    }
  }
  trace() {
    const { show, viewer } = this, { lay, panel, shown } = show, xs = show.xs, ends = [];
    const dense = (lay.width - lay.left - lay.right) / panel.T < 11, r = dense ? 2.2 : 3.2;
    let any = false;
    for (const c of shown) {
      const g = this.groups.get(c.name), v = viewer.curve(c);
      if (!v) { attr(g.path, "d", null); attr(g.marks, "d", null); attr(g.lead, "d", null); g.label.hidden = true; continue; }
      any = true;
      const ys = new Float64Array(panel.T);
      for (let i = 0; i < panel.T; i++) ys[i] = this.y.to(v[i]);
      g.path.setAttribute("d", polyline(xs, ys));
      const mark = MARKS[g.mark](r);
      let d = "";
      const every = panel.T > 96 ? Math.ceil(panel.T / 48) : 1;
      for (let i = 0; i < panel.T; i += every) d += `M${xs[i].toFixed(1)} ${ys[i].toFixed(1)}${mark}`;
      g.marks.setAttribute("d", d);
      ends.push({ g, y: ys[panel.T - 1] });
    }
    this.empty.hidden = any || !shown.length;
    if (!this.empty.hidden) write(this.empty, viewer.view.scale === "weight" && shown.some((c) => c.tokens) ? NO_VOTE : "No weights are known: choose the cosine.");
    this.name(ends);
  }
  name(ends) {
    const { lay, xs, panel } = this.show, right = lay.width - lay.right, room = lay.named;
    this.names.hidden = !room;
    if (!room) { for (const { g } of ends) attr(g.lead, "d", null); return; }
    ends.sort((a, b) => a.y - b.y);
    const ys = ends.length ? spread(ends.map((e) => e.y), 17, 0, this.high) : [];
    ends.forEach(({ g, y }, k) => {
      g.label.hidden = false;
      g.lead.setAttribute("d", `M${xs[panel.T - 1].toFixed(1)} ${y.toFixed(1)}L${right + 2} ${ys[k].toFixed(1)}h8`);
      place(g.label, right + 13, ys[k] - 9, lay.right - 13);
    });
  }
}

// A lane a concept: its cosine, in full colour where it shows most, the truth as a thin line
class Lanes {
  constructor(viewer, show) {
    Object.assign(this, { viewer, show });
    this.svg = draw("svg", { "aria-hidden": "true" });
    this.labels = make("div", { "aria-hidden": "true" });
    this.node = make("div", { class: "lanes" }, this.labels, this.svg);
  }
  update(what) {
    if (!(what.data || what.set || what.layout || what.theme)) return;
    const { show, viewer } = this, { lay, panel, shown } = show, high = shown.length < 5 ? 28 : 24;
    const grid = show.ticks.map((t) => draw("line", { class: "down", x1: lay.x.to(t).toFixed(1), x2: lay.x.to(t).toFixed(1), y1: 0, y2: high * shown.length + 3 }));
    const rows = shown.flatMap((c, k) => {
      const v = show.scaled.get(c.name), base = (k + 1) * high - 3, Y = (s) => base - 1 - s * (high - 7), { hue } = viewer.lookOf(c.name);
      const part = (a, b, cls) => draw("path", { class: cls, fill: hue, d: area(panel.times, v, a, b, lay.x.to, Y, base) });
      const truth = c.truth.map(([a, b]) => draw("rect", { class: "truth", x: lay.x.to(a).toFixed(1), y: base + 0.5, width: Math.max(1, lay.x.to(b) - lay.x.to(a)).toFixed(1), height: 2 }));
      return [part(panel.start, panel.end, "faint"), ...c.windows.map(([a, b]) => part(a, b, "most")), draw("line", { class: "base", x1: lay.left, x2: lay.width - lay.right, y1: base, y2: base }), ...truth];
    });
    this.svg.replaceChildren(...grid, ...rows);
    attr(this.svg, "width", lay.width); attr(this.svg, "height", high * shown.length + 3);
    this.node.style.height = `${high * shown.length + 3}px`;
    this.labels.replaceChildren(...shown.flatMap((c, k) => {
      const left = make("div", { class: `lane ${c.isAttribute ? "found" : ""}` }, named("", viewer.label(c.name)), viewer.swatch(c.name, true));
      place(left, 0, k * high, lay.left - 4, high);
      if (!lay.named) return [left];
      const said = panel.brief(c, lay.right > 130 && c.windows.length === 2 ? 2 : 1), right = make("div", { class: "lane when", title: panel.when(c, 20) }, said);
      place(right, lay.width - lay.right + 13, k * high, lay.right - 13, high);
      return [left, right];
    }));
  }
}

// One clip (of several): everything on its own time axis
class Show {
  constructor(viewer, i) {
    Object.assign(this, { viewer, i, frame: 0, parts: [], scaled: new Map() });
    const media = (viewer.host.media && viewer.host.media[i]) || {};
    this.media = { width: media.width || 4, height: media.height || 3, frames: media.frames || [], video: media.video };
    this.title = viewer.heading(viewer.host.data.panels.length > 1 ? 1 : 0, "title");
    this.line = make("p", { class: "small" });
    this.timeline = make("div", { class: "timeline" });
    this.cursor = make("div", { class: "cursor" });
    this.node = make("div", { class: "panel", role: "group" }, make("div", { class: "heading" }, this.title, this.line));
    this.top = make("div", { class: "top" });
    if (this.media.frames.length || this.media.video) this.stage = this.add(new Stage(viewer, this, this.media), this.top);
    this.now = this.add(new Now(viewer, this), this.top);
    this.node.append(this.top);
    this.ruler = this.add(new Ruler(viewer, this), this.timeline);
    if (this.media.frames.length) this.add(new Strip(viewer, this, this.media), this.timeline);
    this.add(new Curves(viewer, this), this.timeline);
    this.add(new Lanes(viewer, this), this.timeline);
    this.timeline.append(this.cursor);
    this.node.append(this.timeline);
    dragging(this.timeline, (x) => viewer.seek(this, this.lay.x.from(x)), () => { this.ruler.slider.focus({ preventScroll: true }); viewer.hold(true); }, () => viewer.hold(false));
    if (this.stage) this.stage.node.addEventListener("click", () => { this.ruler.slider.focus({ preventScroll: true }); viewer.toggle(); });
  }
  add(part, into) { this.parts.push(part); into.append(part.node); return part; }
  get time() { return clamp(this.panel.start + this.viewer.clock * this.panel.rate, this.panel.start, this.panel.end); }
  get x() { return this.lay.x.to(this.viewer.playing && this.viewer.still.matches ? this.panel.times[this.frame] : this.time); } // of the cursor
  measure(width) {
    const { panel, viewer } = this;
    this.width = width;
    this.lay = layOf(width, panel, viewer.many);
    this.xs = Float64Array.from(panel.times, (t) => this.lay.x.to(t));
    const { width: w, height: h } = this.media, picture = this.stage ? Math.min(width, (width < 480 ? 240 : 300) * w / h) : 0;
    this.nowRoom = width - picture - 20;
    this.stageRoom = width;
    if (!viewer.many && this.nowRoom < 190 && width >= 480) { this.stageRoom = width - 230; this.nowRoom = 210; } // wide pictures make room
  }
  select() {
    const { panel, viewer } = this;
    this.shown = viewer.pick(panel);
    const scaled = scaledCosine(this.shown.map((c) => c.cosine), Math.max(...panel.attributes.map((a) => a.raw.score)));
    this.scaled = new Map(this.shown.map((c, k) => [c.name, scaled[k]]));
  }
  update(what) {
    const { panel, viewer } = this;
    this.frame = frameAt(panel.edges, this.time);
    if (what.data) {
      const badge = viewer.many ? make("span", { class: "badge" }, viewer.letter(this.i)) : null;
      this.title.replaceChildren(...(badge ? [badge] : []), named("", panel.title));
      write(this.line, panel.line);
      attr(this.node, "aria-label", viewer.many ? `Viewer of ${panel.title}` : null);
      if (!viewer.many) this.node.removeAttribute("role");
    }
    for (const part of this.parts) part.update(what);
    place(this.cursor, this.x, 0);
  }
  dispose() { for (const part of this.parts) if (part.dispose) part.dispose(); }
}

// The shared axis: gutters to both sides of it hold what belongs to a row
function layOf(width, panel, many) {
  const narrow = width < 480, left = narrow ? 88 : width < 700 ? 108 : 112, named = width >= 560 && !(many && width < 620);
  const right = named ? width < 760 ? 104 : 140 : 12;
  return { width, narrow, left, right, named, x: linear(panel.start, panel.end, left, width - right) };
}
// Pointer down, moves and up as one gesture; x from the left edge of the node
function dragging(node, move, start, stop) {
  let held = null;
  const at = (e) => e.clientX - node.getBoundingClientRect().left;
  node.addEventListener("pointerdown", (e) => {
    if (e.button || held !== null) return;
    held = e.pointerId;
    try { node.setPointerCapture(held); } catch { /* it was let go already */ }
    start(); move(at(e));
    e.preventDefault();
  });
  node.addEventListener("pointermove", (e) => { if (e.pointerId === held) move(at(e)); });
  const end = (e) => { if (e.pointerId === held) { held = null; stop(); } };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) node.addEventListener(name, end);
}

// ---------------------------------------------------------------- the token map

class TokenMap {
  constructor(viewer) {
    Object.assign(this, { viewer, unfolded: false, cell: { row: 0, frame: null }, high: 24, buttons: new Map(), i: 0 });
    this.concepts = make("select", { "aria-label": "Concept of the map", onchange: () => viewer.commit({ chosen: this.concepts.value }, { map: true }) });
    this.panels = make("select", { "aria-label": "Panel of the map", onchange: () => { this.i = Number(this.panels.value); viewer.redraw({ map: true, layout: true, set: true }); } });
    this.fold = make("button", { type: "button", class: "plain", onclick: () => { this.unfolded = !this.unfolded; viewer.redraw({ map: true }); } });
    this.boxes = Object.fromEntries(Object.keys(KINDS).map((k) => [k, make("input", { type: "checkbox", onchange: (e) => viewer.voteKind(k, e.target.checked) })]));
    this.kinds = make("div", { class: "kinds", role: "group", "aria-label": "Tokens that vote" }, make("span", { class: "small", "aria-hidden": "true" }, "votes:"), ...Object.entries(KINDS).map(([k, said]) => make("label", null, this.boxes[k], said)));
    this.legendMax = make("span", { class: "figure" });
    this.ramp = make("canvas", { width: 64, height: 8, "aria-hidden": "true" });
    this.legend = make("div", { class: "legend small", "aria-hidden": "true" }, "weight 0", this.ramp, this.legendMax);
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.outline = make("div", { class: "outline" });
    this.cursor = make("div", { class: "cursor" });
    this.app = make("div", { class: "cells", role: "application", tabindex: "0" }, this.canvas, this.cursor, this.outline);
    this.labels = make("div", { class: "tokens" });
    this.axis = draw("svg", { class: "ticks", "aria-hidden": "true" });
    this.readout = make("div", { class: "readout", "aria-hidden": "true" });
    this.picture = make("img", { alt: "", ".hidden": true });
    this.words = make("div", { class: "words" });
    this.readout.append(this.picture, this.words);
    this.missing = make("p", { class: "small" }, "The tokens of this concept were not kept: there is only its curve.");
    this.body = make("div", { class: "body" }, this.labels, this.app, this.axis, this.readout);
    this.head = make("div", { class: "maphead" }, viewer.heading(1, "part", "Tokens × frames"), make("div", { class: "choice" }, this.panels, this.concepts), this.legend);
    this.node = make("section", { class: "map", "aria-label": "Tokens and frames" }, this.head, make("div", { class: "maphead" }, this.kinds, this.fold), this.missing, this.body);
    this.app.addEventListener("pointermove", (e) => this.point(e, false));
    this.app.addEventListener("pointerleave", () => { this.hover = null; this.mark(); });
    this.app.addEventListener("pointerdown", (e) => { if (!e.button) { this.point(e, true); this.app.focus({ preventScroll: true }); e.preventDefault(); } });
    this.app.addEventListener("keydown", (e) => this.key(e));
    this.app.addEventListener("focus", () => this.mark());
  }
  get show() { return this.viewer.shows[this.i] || this.viewer.shows[0]; }
  get concept() {
    const list = this.viewer.listed(this.show.panel), name = this.viewer.chosen();
    return list.find((c) => c.name === name) || list[0];
  }
  point(e, press) {
    const box = this.canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
    if (!this.rows.length || y < 0 || y >= this.rows.length * this.high) return;
    const t = this.lay.x.from(x + this.lay.left), at = { row: Math.floor(y / this.high), frame: frameAt(this.show.panel.edges, t) };
    if (press) { this.cell.row = at.row; this.viewer.seek(this.show, this.show.panel.times[at.frame]); this.tell(); }
    this.hover = at;
    this.mark();
  }
  key(e) {
    const turn = { ArrowUp: -1, ArrowDown: 1 }[e.key];
    if (!turn || e.altKey || e.ctrlKey || e.metaKey || !this.rows.length) return; // left and right are the viewer's
    this.hover = null;
    this.cell.row = clamp(this.cell.row + turn, 0, this.rows.length - 1);
    this.mark(); this.tell();
    e.preventDefault(); e.stopPropagation();
  }
  tell() { this.entitle(); this.viewer.tellSoon(true); }
  tokenName(c, row) { return row.tokens.length > 1 ? `padding ×${row.tokens.length}` : c.pieces[row.tokens[0]] || (c.kinds[row.tokens[0]] === "p" ? "padding" : "blank"); }
  value(row, frame) {
    const c = this.concept, w = c.weights;
    return row.tokens.reduce((s, j) => s + w[j * c.T + frame], 0) / row.tokens.length;
  }
  spell(r, frame) {
    const row = this.rows[r];
    if (!row) return "";
    return `${this.show.panel.moment(frame)}: token ${short(this.tokenName(this.concept, row), 30)}, weight ${number(this.value(row, frame), 3)}`;
  }
  update(what) {
    const { viewer } = this, { panel } = this.show;
    if (what.data || what.set) this.choices();
    if (what.data || what.set || what.values || what.map) this.checks();
    if (what.layout || what.data) this.measure();
    const redo = what.data || what.set || what.map || what.layout || what.theme;
    if (redo) this.build();
    if (redo || what.values) this.paint();
    if (!this.rows || !this.rows.length) return;
    place(this.cursor, this.lay.x.to(this.lay.x === this.show.lay.x ? this.show.lay.x.from(this.show.x) : this.show.time) - this.lay.left, 0);
    this.mark();
    if (!viewer.playing) this.entitle();
    if (this.axisOf !== panel || what.layout) this.drawAxis();
  }
  entitle() {
    attr(this.app, "aria-label", `Weights of tokens and frames of ${short(this.viewer.label(this.concept.name))}: ${this.spell(this.cell.row, this.show.frame)}. Arrow keys move.`);
  }
  choices() {
    const { viewer } = this, list = viewer.listed(this.show.panel);
    const key = JSON.stringify(list.map((c) => [c.name, viewer.label(c.name)]));
    if (key !== this.listKey) {
      this.listKey = key;
      this.concepts.replaceChildren(...list.map((c) => make("option", { value: c.name, dir: "auto" }, short(viewer.label(c.name), 40))));
    }
    if (this.concept) this.concepts.value = this.concept.name;
    this.panels.hidden = !viewer.many;
    if (viewer.many) {
      this.i = clamp(this.i, 0, viewer.shows.length - 1);
      this.panels.replaceChildren(...viewer.shows.map((s, i) => make("option", { value: i, dir: "auto" }, `${viewer.letter(i)} · ${short(s.panel.title, 30)}`)));
      this.panels.value = String(this.i);
    }
  }
  checks() { // a kind of which some tokens were switched by hand is neither on nor off
    const { view } = this.viewer, c = this.concept, own = c && view.tokens[c.name];
    for (const k of Object.keys(KINDS)) {
      const odd = own ? Object.entries(own).some(([j, on]) => c.kinds[j] === k && on !== view.kinds[k]) : false;
      this.boxes[k].checked = !!view.kinds[k]; this.boxes[k].indeterminate = odd;
    }
  }
  measure() {
    const { show, viewer } = this;
    this.lay = viewer.many ? layOf(viewer.full, show.panel, false) : show.lay;
    const { left, right, width, named } = this.lay;
    this.wide = width - left - right;
    this.labels.style.width = `${left - 6}px`;
    this.app.style.marginLeft = `${left}px`; this.app.style.width = `${this.wide}px`;
    this.readout.classList.toggle("beside", named);
    this.readout.style.left = named ? `${width - right + 13}px` : ""; this.readout.style.width = named ? `${right - 13}px` : "";
  }
  build() {
    const c = this.concept, { viewer } = this, none = !c || !c.tokens;
    this.body.hidden = none; this.kinds.hidden = this.fold.hidden = this.legend.hidden = none;
    this.missing.hidden = !c || !!c.tokens;
    if (this.concept) this.concepts.value = this.concept.name;
    if (none) { this.rows = []; return; }
    c.weigh(viewer.view.temperature);
    const padded = [...c.kinds].filter((k) => k === "p").length;
    write(this.fold, this.unfolded ? "Fold padding" : "Unfold padding");
    this.fold.hidden = padded < 2;
    attr(this.fold, "aria-expanded", String(this.unfolded));
    const rows = rowsOfTokens(c.kinds, this.unfolded), key = `${c.name}\n${this.unfolded}\n${c.kinds}\n${c.pieces.join("\n")}`;
    this.rows = rows;
    if (key !== this.known) {
      if (this.known === undefined || !this.known.startsWith(`${c.name}\n`)) this.cell.row = Math.max(0, rows.map((r) => c.kinds[r.tokens[0]]).lastIndexOf("w"));
      this.known = key;
      this.cell.row = clamp(this.cell.row, 0, rows.length - 1);
      this.buttons.clear();
      this.labels.replaceChildren(...rows.map((row) => {
        const many = row.tokens.length > 1, said = this.tokenName(c, row), j = row.tokens[0];
        if (many) return make("div", { class: "token folded" }, make("span", { class: "name" }, said));
        const node = make("button", { type: "button", class: `token kind-${c.kinds[j]}`, "aria-label": `Token ${said}, position ${j}`, title: `${said}, position ${j}`, onclick: () => viewer.voteToken(c.name, j) }, named("", { s: "start", e: "end" }[c.kinds[j]] || said));
        this.buttons.set(j, node);
        return node;
      }));
    }
  }
  paint() {
    const c = this.concept, { viewer, high, wide } = this;
    if (!this.rows.length || !c.tokens) return;
    const w = c.weigh(viewer.view.temperature), { T } = c, values = new Float64Array(this.rows.length * T), on = [];
    let top = 0;
    this.rows.forEach((row, r) => {
      for (const j of row.tokens) for (let t = 0; t < T; t++) values[r * T + t] += w[j * T + t] / row.tokens.length;
      for (let t = 0; t < T; t++) top = Math.max(top, values[r * T + t]);
      on.push(row.tokens.some((j) => c.votes[j]));
      const node = this.buttons.get(row.tokens[0]);
      if (node && row.tokens.length === 1) attr(node, "aria-pressed", String(on[r])); else this.labels.children[r].classList.toggle("off", !on[r]);
    });
    const ratio = window.devicePixelRatio || 1, H = this.rows.length * high;
    const size = [Math.round(wide * ratio), Math.round(H * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
      this.canvas.style.width = `${wide}px`; this.canvas.style.height = `${H}px`;
      this.app.style.height = this.labels.style.height = `${H}px`;
    }
    // one pixel a cell, then stretched column by column: a call a column instead of one a cell
    const R = this.rows.length, { ramp } = viewer, pixels = new ImageData(T, R), paper = ramp.paper, ctx = this.canvas.getContext("2d");
    for (let k = 0; k < R * T; k++) {
      const rgb = ramp[Math.round(255 * values[k] / (top || 1))], share = on[Math.floor(k / T)] ? 1 : 0.25;
      for (let i = 0; i < 3; i++) pixels.data[4 * k + i] = paper + share * (rgb[i] - paper);
      pixels.data[4 * k + 3] = 255;
    }
    this.small ||= document.createElement("canvas");
    this.small.width = T; this.small.height = R;
    this.small.getContext("2d").putImageData(pixels, 0, 0);
    const { x, left } = this.lay, cuts = Array.from(this.show.panel.edges, (e) => Math.round((x.to(e) - left) * ratio));
    const tall = Math.round(high * ratio), gap = Math.max(1, Math.round(ratio));
    ctx.imageSmoothingEnabled = false;
    for (let t = 0; t < T; t++) ctx.drawImage(this.small, t, 0, 1, R, cuts[t], 0, cuts[t + 1] - cuts[t], R * tall);
    ctx.fillStyle = viewer.paper;
    for (let r = 1; r <= R; r++) ctx.fillRect(0, r * tall - gap, size[0], gap);
    for (let t = 1; t <= T; t++) if (cuts[t] - cuts[t - 1] > 6) ctx.fillRect(cuts[t] - gap, 0, gap, size[1]);
    write(this.legendMax, number(top, 3));
    if (this.rampOf !== viewer.theme) {
      this.rampOf = viewer.theme;
      const g = this.ramp.getContext("2d");
      for (let k = 0; k < 64; k++) { g.fillStyle = `rgb(${ramp[Math.round(k * 255 / 63)].join(",")})`; g.fillRect(k, 0, 1, 8); }
    }
    this.marked = null;
  }
  drawAxis() {
    this.axisOf = this.show.panel;
    const { panel } = this.show, { lay } = this, long = panel.unit === "s" && panel.end > 120;
    const ticks = timeTicks(panel, Math.floor(this.wide / 60)), digits = decimals(ticks);
    attr(this.axis, "width", lay.width); attr(this.axis, "height", 22);
    this.axis.replaceChildren(...ticks.flatMap((t) => {
      const text = draw("text", { x: lay.x.to(t).toFixed(1), y: 17, "text-anchor": "middle" });
      text.textContent = long ? clock(t, panel.end) : t.toFixed(digits);
      return [draw("line", { x1: lay.x.to(t).toFixed(1), x2: lay.x.to(t).toFixed(1), y1: 0, y2: 5 }), text];
    }));
  }
  mark() { // outline and readout of the cell pointed at, else of the moment shown
    const at = this.hover || { row: this.cell.row, frame: this.show.frame };
    if (!this.rows || !this.rows[at.row]) return;
    const key = `${at.row} ${at.frame}`;
    if (key === this.marked) return;
    this.marked = key;
    const { panel, stage } = this.show, { x, left } = this.lay, a = x.to(panel.edges[at.frame]) - left, b = x.to(panel.edges[at.frame + 1]) - left;
    place(this.outline, a - 1, at.row * this.high - 1, b - a + 1, this.high + 1);
    const c = this.concept, row = this.rows[at.row], j = row.tokens[0], one = row.tokens.length === 1;
    const lines = [["", short(this.tokenName(c, row), 40)], ["", panel.unit === "frame" ? `frame ${panel.times[at.frame]}` : panel.clock(panel.times[at.frame])], ["weight", number(this.value(row, at.frame), 3)]];
    if (one) lines.push(["cosine", number(c.tokens[j * c.T + at.frame], 3)]);
    this.words.replaceChildren(...lines.map(([k, v], n) => make("div", { class: n ? "" : "strong" }, k ? make("span", { class: "small" }, `${k} `) : null, n ? make("span", { class: "figure" }, v) : named("", v))));
    const image = stage && stage.images.get(stage.nearest(at.frame));
    this.picture.hidden = !image;
    if (image && this.picture.src !== image.src) this.picture.src = image.src;
  }
}

// ---------------------------------------------------------------- the side: concepts, attributes, notes, numbers

class Concepts {
  constructor(viewer) {
    Object.assign(this, { viewer, rows: new Map(), order: [] });
    this.list = make("ol", { class: "concepts" });
    this.count = make("span", { class: "small" });
    this.input = make("input", { type: "text", "aria-label": "Add a concept", placeholder: "a new concept", autocomplete: "off", spellcheck: "false", dir: "auto", maxlength: "20000" });
    this.go = make("button", { type: "submit", class: "plain" }, "Add");
    this.error = make("p", { class: "error", role: "alert", dir: "auto" });
    this.form = make("form", { class: "add", novalidate: "", onsubmit: (e) => { e.preventDefault(); this.add(); } }, this.input, this.go);
    this.none = make("p", { class: "small" }, "No concept: add one.");
    this.node = make("section", { class: "side-concepts", "aria-label": "Concepts" }, viewer.heading(1, "part", "Concepts", this.count), this.list, this.none, this.form, this.error);
    this.input.addEventListener("input", () => this.complain(""));
  }
  complain(said) { write(this.error, said); attr(this.input, "aria-invalid", said ? "true" : null); }
  async add() {
    const { viewer } = this, name = this.input.value.trim().replace(/\s+/g, " ");
    if (this.busy) return;
    if (!name) return this.complain("Type a word or a phrase first.");
    this.complain("");
    this.busy = true; attr(this.go, "aria-disabled", "true");
    viewer.announce(`looking for “${inside(short(name))}”`);
    try {
      const reply = await viewer.host.request("add", { name });
      if (viewer.gone) return;
      this.input.value = "";
      viewer.welcome(reply.name ?? name);
      viewer.announce(`“${inside(short(name))}” is there.`);
    } catch (e) {
      if (viewer.gone) return;
      this.complain(e.message);
      viewer.announce("");
    } finally { this.busy = false; attr(this.go, "aria-disabled", null); }
  }
  row(name) {
    const { viewer } = this, r = { cells: [] };
    r.rank = make("span", { class: "rank" });
    r.swatch = make("span");
    r.name = named("");
    r.hide = button("", "show", () => viewer.hide(name));
    r.edit = button("", "rename", () => this.rename(name));
    r.drop = button("", "remove", () => this.drop(name));
    r.line = make("div", { class: "line" }, r.rank, r.swatch, r.name, make("div", { class: "set" }, r.hide, r.edit, r.drop));
    r.bars = make("div", { class: "bars" });
    r.when = make("div", { class: "small when" });
    r.note = make("div", { class: "small warn" });
    r.node = make("li", null, r.line, r.bars, r.when, r.note);
    return r;
  }
  async drop(name) {
    const { viewer } = this, at = this.order.indexOf(name);
    viewer.announce(`removing “${inside(short(viewer.label(name)))}”`);
    try {
      await viewer.host.request("remove", { name });
      if (viewer.gone) return;
      const next = this.rows.get(this.order[Math.min(at, this.order.length - 1)]); // the focus stays near
      (next ? next.drop : this.input).focus();
      viewer.announce(`“${inside(short(name))}” is removed.`);
    } catch (e) { if (!viewer.gone) { this.complain(e.message); viewer.announce(""); } }
  }
  rename(name) {
    const { viewer } = this, r = this.rows.get(name);
    if (r.box) return;
    const box = make("input", { type: "text", class: "rename", "aria-label": `New name of ${short(viewer.label(name), 200)}`, ".value": viewer.label(name), dir: "auto" });
    const done = (keep) => {
      if (r.box !== box) return;
      r.box = null;
      const said = box.value.trim().replace(/\s+/g, " "), back = box === document.activeElement || box.contains(document.activeElement);
      box.replaceWith(r.name);
      if (keep) { const labels = { ...viewer.view.labels }; if (said && said !== name) labels[name] = said; else delete labels[name]; viewer.commit({ labels }, { set: true }); }
      if (back) r.edit.focus();
    };
    box.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === "Escape") { e.preventDefault(); e.stopPropagation(); done(e.key === "Enter"); } });
    box.addEventListener("blur", () => done(true));
    r.box = box;
    r.name.replaceWith(box);
    box.focus(); box.select();
  }
  update(what) {
    if (!(what.data || what.set || what.values || what.theme)) return;
    const { viewer } = this, { shows } = viewer, order = viewer.order, base = shows[0].panel;
    this.none.hidden = order.length > 0;
    const seen = order.filter((n) => !viewer.isHidden(n)).length;
    write(this.count, seen < order.length ? ` by score · ${seen} of ${order.length} shown` : " by score");
    this.list.classList.toggle("long", order.length > 12);
    if (!same(order, this.order)) {
      for (const name of this.order) if (!order.includes(name)) { this.rows.get(name).node.remove(); this.rows.delete(name); }
      for (const name of order) if (!this.rows.has(name)) { this.rows.set(name, this.row(name)); what = { ...what, set: true }; }
      const focus = this.list.contains(document.activeElement) ? document.activeElement : null;
      this.list.append(...order.map((n) => this.rows.get(n).node));
      if (focus && focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true });
      this.order = [...order];
    }
    order.forEach((name, k) => {
      const r = this.rows.get(name);
      write(r.rank, String(k + 1));
      if (what.data || what.set || what.theme) this.dress(r, name);
      shows.forEach(({ panel }, i) => this.measure(r.cells[i], panel.concepts.find((c) => c.name === name)));
      const c = base.concepts.find((x) => x.name === name);
      write(r.note, [c.unknown.length ? `never taught: ${short(c.unknown.join(", "), 80)}` : "", c.tokens && !c.weight ? NO_VOTE : ""].filter(Boolean).join(" · "));
      r.note.hidden = !r.note.textContent;
    });
  }
  dress(r, name) {
    const { viewer } = this, hidden = viewer.isHidden(name), label = viewer.label(name), { hue } = viewer.lookOf(name);
    attr(r.node, "class", hidden ? "off" : null);
    r.swatch.replaceChildren(viewer.swatch(name));
    rename(r.name, label);
    relabel(r.hide, `${hidden ? "Show" : "Hide"} ${label}`, hidden ? "hide" : "show");
    relabel(r.edit, `Rename ${label}`); relabel(r.drop, `Remove ${label}`);
    if (r.cells.length !== viewer.shows.length) {
      r.cells = viewer.shows.map((_, i) => { const c = scoreBar(); if (viewer.many) c.node.prepend(make("span", { class: "badge" }, viewer.letter(i))); return c; });
      r.bars.replaceChildren(...r.cells.map((c) => c.node));
    }
    for (const c of r.cells) c.bar.style.background = hidden ? "" : hue;
    const { panel } = viewer.shows[0], c = panel.concepts.find((x) => x.name === name);
    r.when.hidden = viewer.many;
    write(r.when, `shows most ${panel.when(c)}`.replace("most equally", "equally"));
  }
  measure(cell, c) {
    const share = (v) => clamp(v / this.viewer.longest, 0, 1); // what is below zero has no bar
    cell.bar.style.transform = `scaleX(${c.score === null ? 0 : share(c.score).toFixed(4)})`;
    cell.tick.style.left = `${(100 * share(c.mean)).toFixed(2)}%`;
    write(cell.text, c.score === null ? "–" : number(c.score, 3));
    attr(cell.track, "title", `score ${c.score === null ? "–" : number(c.score, 3)}, mean ${number(c.mean, 3)}`);
  }
}
function scoreBar() {
  const bar = make("div", { class: "value" }), tick = make("div", { class: "mean" }), text = make("span", { class: "figure" });
  const track = make("div", { class: "track" }, bar, tick);
  return { bar, tick, text, track, node: make("div", { class: "bar" }, track, text) };
}

class Attributes {
  constructor(viewer) {
    this.viewer = viewer;
    this.lists = make("div", { class: "attributes" });
    this.node = make("section", { class: "side-attributes", "aria-label": "Attributes" }, viewer.heading(1, "part", "Attributes", make("span", { class: "small" }, " the words that fit best, by cosine")), this.lists);
  }
  update(what) {
    if (!(what.data || what.set || what.theme)) return;
    const { viewer } = this, focus = this.lists.contains(document.activeElement) ? document.activeElement.getAttribute("data-key") : null;
    const any = viewer.shows.some((s) => s.panel.attributes.length);
    this.node.hidden = !any;
    this.lists.replaceChildren(...viewer.shows.map(({ panel }, i) => {
      const scores = panel.attributes.map((a) => a.raw.score), hi = Math.max(1e-6, ...scores);
      const rows = panel.attributes.map((a, k) => {
        const on = viewer.isShown(a.name), label = viewer.label(a.name), { bar, tick, text, node } = scoreBar();
        tick.remove(); write(text, number(scores[k], 3));
        bar.style.transform = `scaleX(${clamp(scores[k] / hi, 0, 1).toFixed(4)})`;
        if (on) bar.style.background = viewer.lookOf(a.name).hue;
        const said = `Show when ${label} is visible`;
        if (!a.cosine.length && !viewer.isConcept(a.name)) return make("li", null, make("span", { class: "attribute" }, named("", label)), node); // only its score is known
        return make("li", null, make("button", { type: "button", class: "attribute", "aria-pressed": String(on), "aria-label": said, "data-key": `${i} ${k}`, title: short(said, 120), onclick: () => viewer.toggleAttribute(a.name) },
          on ? viewer.swatch(a.name) : icon("curve"), named("", label)), node);
      });
      return make("div", null, viewer.many ? make("div", { class: "small clip" }, make("span", { class: "badge" }, viewer.letter(i)), named("", panel.title)) : null, make("ol", null, ...rows));
    }));
    if (focus !== null) { const again = this.lists.querySelector(`[data-key="${focus}"]`); if (again) again.focus({ preventScroll: true }); }
  }
}

class Notes {
  constructor(viewer) {
    this.viewer = viewer;
    this.list = make("ul");
    this.node = make("section", { class: "notes small", "aria-label": "Notes" }, this.list);
  }
  update(what) {
    if (!what.data) return;
    const { viewer } = this, said = [];
    viewer.shows.forEach(({ panel }, i) => { for (const n of new Set([...panel.notes, panel.novelty].filter(Boolean))) said.push([i, n]); });
    const line = ([i, n]) => make("li", { class: "own", dir: "auto" }, viewer.many ? make("span", { class: "badge" }, viewer.letter(i)) : null, n.replace(BIDI, ""));
    this.list.replaceChildren(...said.map(line), ...[SCORES, LANES, WEIGHTS].map((n) => make("li", null, n)));
  }
}

class Numbers {
  constructor(viewer) {
    this.viewer = viewer;
    this.body = make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Numbers of all frames" });
    this.node = make("details", { class: "numbers", ontoggle: () => this.update({ data: true }) }, make("summary", null, "Table of numbers"), this.body);
  }
  update(what) {
    if (!this.node.open || !(what.data || what.set || what.values)) return;
    const { viewer } = this, cell = (x, tag = "td", props = null) => make(tag, props, x);
    this.body.replaceChildren(...viewer.shows.map(({ panel, shown }, i) => make("table", null,
      make("caption", { dir: "auto" }, `${viewer.many ? `${viewer.letter(i)} · ` : ""}${short(panel.title, 80)}: weight and cosine of each frame`),
      make("thead", null, make("tr", null, cell(panel.unit === "frame" ? "frame" : "time", "th", { scope: "col", rowspan: "2" }), ...shown.map((c) => make("th", { scope: "colgroup", colspan: "2" }, named("", short(viewer.label(c.name), 40))))),
        make("tr", null, ...shown.flatMap(() => [cell("weight", "th", { scope: "col" }), cell("cosine", "th", { scope: "col" })]))),
      make("tbody", null, ...panel.times.map((t, k) => make("tr", null, cell(panel.clock(t), "th", { scope: "row" }),
        ...shown.flatMap((c) => [cell(c.weight ? number(c.weight[k], 4) : "–"), cell(number(c.cosine[k], 3))])))))));
  }
}

// Play, scale, temperature: what all panels share
class Tools {
  constructor(viewer) {
    this.viewer = viewer;
    this.scale = logScale(0.005, 1, 200);
    this.play = button("Play", "play", () => viewer.toggle());
    this.play.classList.add("play");
    const scale = (name, key) => make("button", { type: "button", onclick: () => viewer.commit({ scale: key }, { values: true }) }, name);
    this.scales = { weight: scale("Weight", "weight"), cosine: scale("Cosine", "cosine") };
    this.slider = make("input", { type: "range", min: "0", max: "200", step: "1", "aria-label": "Temperature" });
    this.value = make("span", { class: "figure tau" });
    this.slider.addEventListener("input", () => viewer.change({ temperature: this.scale.value(Number(this.slider.value)) }, { values: true }));
    this.slider.addEventListener("change", () => viewer.save());
    this.slider.addEventListener("pointerdown", () => viewer.hold(true));
    for (const name of ["pointerup", "pointercancel"]) this.slider.addEventListener(name, () => viewer.hold(false));
    this.reset = make("button", { type: "button", class: "plain", title: "Temperature and tokens as they were", onclick: () => viewer.reset() }, "Reset");
    this.node = make("div", { class: "tools" },
      make("div", { class: "set" }, button("Previous frame", "back", () => viewer.stepBy(-1)), this.play, button("Next frame", "forth", () => viewer.stepBy(1))),
      make("div", { class: "set segments", role: "group", "aria-label": "Scale" }, this.scales.weight, this.scales.cosine),
      make("div", { class: "set temperature" }, make("span", { "aria-hidden": "true" }, "Temperature"), this.slider, this.value, this.reset));
  }
  update(what) {
    const { viewer } = this, { temperature, scale } = viewer.view;
    relabel(this.play, viewer.playing ? "Pause" : "Play", viewer.playing ? "pause" : "play");
    if (!(what.values || what.data)) return;
    if (this.scale.value(Number(this.slider.value)) !== temperature) this.slider.value = String(this.scale.index(temperature));
    const said = spellTemperature(temperature);
    write(this.value, said); attr(this.slider, "aria-valuetext", said);
    for (const [k, b] of Object.entries(this.scales)) attr(b, "aria-pressed", String(k === scale));
  }
}
function spellTemperature(t) { return String(Number(t.toPrecision(t < 0.1 ? 2 : 3))); }

// ---------------------------------------------------------------- the viewer

class Viewer {
  constructor(host, el) {
    Object.assign(this, { host, offs: [], slots: new Map(), clock: 0, playing: false, order: [] });
    this.root = make("div", { class: "bike-viewer", role: "region", "data-lm-suppress-shortcuts": "true" });
    this.root.bikeViewer = { values: () => this.values(0), panel: (i) => this.values(i) };
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.watchTheme();
    el.replaceChildren(this.root);
    this.build();
    host.onChange((what) => (what === "data" ? this.reload() : this.adopt()));
    this.listen(this.root, "keydown", (e) => this.key(e));
    const sizes = new ResizeObserver(() => { const w = this.root.clientWidth; if (w && w !== this.size) this.redraw({ layout: true }); });
    sizes.observe(this.root);
    this.offs.push(() => sizes.disconnect());
    this.started = true;
    this.redraw(ALL);
  }
  listen(target, name, act) { target.addEventListener(name, act); this.offs.push(() => target.removeEventListener(name, act)); }
  get many() { return this.shows.length > 1; }
  heading(depth, cls, ...said) { return make(`h${(this.host.live ? 3 : 1) + depth}`, { class: cls }, ...said); }
  letter(i) { return i < 26 ? String.fromCharCode(65 + i) : String(i + 1); }

  // --- building and loading
  build() {
    const { host, root } = this;
    for (const s of this.shows || []) s.dispose();
    this.shows = [];
    this.view = this.complete(host.view);
    host.data.panels.forEach((_, i) => { this.shows.push(new Show(this, i)); });
    this.load();
    this.status = make("p", { class: "status small", role: "status" });
    this.tools = new Tools(this);
    this.map = new TokenMap(this);
    this.parts = [this.tools, this.map, new Concepts(this), new Attributes(this), new Notes(this), new Numbers(this)];
    const [, , concepts, attributes, notes, numbers] = this.parts, grid = make("div", { class: "panels" }, ...this.shows.map((s) => s.node));
    this.concepts = concepts;
    const side = make("div", { class: "side" }, concepts.node, attributes.node, notes.node);
    root.replaceChildren(grid, side, this.map.node, numbers.node);
    if (this.many) root.prepend(this.heading(0, "unseen", "Comparison"), this.tools.node, this.status); else this.shows[0].top.after(this.tools.node, this.status);
    root.classList.toggle("many", this.many);
    const titles = this.shows.map((s) => s.panel.title);
    attr(root, "aria-label", this.many ? `Comparison of ${titles.join(", ")}` : `Viewer of ${titles[0]}`);
    this.fresh = typeof this.view.time !== "number"; // nobody has moved yet: the first frame is shown, and playing begins before it
    this.goTo(this.fresh ? this.shows[0].panel.times[0] : this.view.time);
  }
  goTo(t) { const { panel } = this.shows[0]; this.clock = Math.max(0, (t - panel.start) / panel.rate); }
  load() {
    this.host.data.panels.forEach((raw, i) => { this.shows[i].panel = new Panel(raw, this.shows[i].panel); });
    if (this.view.hidden === null) { // more than can be told apart: the best are shown
      this.compute();
      this.view.hidden = this.order.slice(MOST);
    }
  }
  complete(view) { // what the kernel or page leaves open
    const { data } = this.host, kinds = { s: true, t: true, w: true, e: true, p: true };
    if (data.mask === "sentence") kinds.p = false;
    if (data.mask === "words") for (const k of "step") kinds[k] = false;
    this.initial = { temperature: data.temperature, kinds, tokens: {} };
    return { time: null, hidden: null, labels: {}, chosen: null, attributes: [], scale: "weight", removed: [], ...this.initial, ...(view || {}), kinds: { ...kinds, ...((view && view.kinds) || {}) } };
  }
  reload() {
    if (this.gone) return;
    if (this.host.data.panels.length !== this.shows.length) { this.stop(); this.build(); } else {
      if (!this.host.live) this.view.removed = this.host.view.removed;
      this.load();
    }
    this.redraw(ALL);
  }
  adopt() { // the kernel changed the view
    if (this.gone || this.held) return;
    this.view = this.complete(this.host.view);
    if (this.view.hidden === null) this.view.hidden = [];
    if (typeof this.view.time === "number" && !this.playing) { this.fresh = false; this.goTo(this.view.time); }
    this.redraw({ set: true, values: true, time: true });
  }

  // --- the view: change now, tell the host when the user lets go
  change(patch, what) { Object.assign(this.view, patch); this.redraw(what); }
  commit(patch, what) { this.change(patch, what); this.save(); }
  save() {
    if (this.held || this.playing) { this.unsaved = true; return; }
    this.unsaved = false;
    const known = Object.entries(this.view).filter(([k, v]) => v !== null && !(k === "removed" && this.host.live));
    this.host.setView(Object.fromEntries(known));
  }
  hold(on) { this.held = on; if (!on && this.unsaved) this.save(); }
  label(name) { return this.view.labels[name] || name; }
  isHidden(name) { return this.view.hidden.includes(name); }
  isConcept(name) { return this.shows.some((s) => s.panel.concepts.some((c) => c.name === name)); }
  isShown(name) { return this.isConcept(name) ? !this.isHidden(name) : this.view.attributes.includes(name); }
  hide(name) {
    const hidden = this.isHidden(name) ? this.view.hidden.filter((n) => n !== name) : [...this.view.hidden, name];
    this.commit({ hidden }, { set: true, values: true });
  }
  toggleAttribute(name) { // one that is looked for as a concept has its curve already
    if (this.isConcept(name)) return this.hide(name);
    const { attributes } = this.view;
    this.commit({ attributes: attributes.includes(name) ? attributes.filter((n) => n !== name) : [...attributes, name] }, { set: true, values: true });
  }
  welcome(name) { // a new concept is to be seen
    const fold = (s) => s.toLowerCase(), found = this.shows[0].panel.concepts.find((c) => fold(c.name) === fold(name));
    if (!found) return;
    this.commit({ hidden: this.view.hidden.filter((n) => n !== found.name), chosen: found.name }, { set: true, values: true, map: true });
  }
  voteKind(kind, on) { // the kind decides again for tokens that were switched by hand
    const tokens = {};
    for (const [name, own] of Object.entries(this.view.tokens)) {
      const c = this.find(name), kept = Object.entries(own).filter(([j]) => c && c.kinds[j] !== kind);
      if (kept.length) tokens[name] = Object.fromEntries(kept);
    }
    this.commit({ kinds: { ...this.view.kinds, [kind]: on }, tokens }, { values: true });
  }
  voteToken(name, j) {
    const c = this.map.concept, own = { ...this.view.tokens[name] }, on = !c.votes[j];
    if (on === !!this.view.kinds[c.kinds[j]]) delete own[j]; else own[j] = on;
    const tokens = { ...this.view.tokens, [name]: own };
    if (!Object.keys(own).length) delete tokens[name];
    this.commit({ tokens }, { values: true });
  }
  reset() {
    const { temperature, kinds } = this.initial;
    this.commit({ temperature, kinds: { ...kinds }, tokens: {} }, { values: true });
  }
  find(name) { for (const { panel } of this.shows) { const c = [...panel.concepts, ...panel.attributes].find((x) => x.name === name); if (c) return c; } return null; }

  // --- what is shown, and how
  listed(panel) { return [...panel.concepts, ...panel.attributes.filter((a) => a.cosine.length && this.view.attributes.includes(a.name) && !panel.concepts.some((c) => c.name === a.name))]; }
  pick(panel) { return this.listed(panel).filter((c) => c.isAttribute || !this.isHidden(c.name)); }
  chosen() {
    const list = this.listed(this.map.show.panel), { chosen } = this.view;
    if (list.some((c) => c.name === chosen)) return chosen;
    const best = this.order.find((n) => !this.isHidden(n)) || this.order[0];
    return list.some((c) => c.name === this.first) ? this.first : (this.first = best);
  }
  assign() { // a style for every name, kept as long as it is needed
    const names = [...new Set(this.shows.flatMap(({ panel }) => this.listed(panel).map((c) => c.name)))];
    for (const name of this.slots.keys()) if (!names.includes(name)) this.slots.delete(name);
    const seen = names.filter((n) => this.isShown(n)), crowded = names.length > MOST;
    if (crowded) for (const name of names) if (!seen.includes(name)) this.slots.delete(name);
    for (const name of crowded ? seen : names) {
      if (this.slots.has(name)) continue;
      const used = Array(MOST).fill(0);
      for (const s of this.slots.values()) used[s]++;
      this.slots.set(name, used.indexOf(Math.min(...used)));
    }
  }
  lookOf(name) {
    const slot = this.slots.get(name), hollow = !this.isConcept(name);
    if (slot === undefined) return { hue: this.soft, dash: "", mark: 0, hollow };
    return { hue: HUES[this.theme][slot], dash: DASHES[slot], mark: slot, hollow };
  }
  swatch(name, mini) { // line and marker, as in the curves
    const { hue, dash, mark, hollow } = this.lookOf(name), w = mini ? 12 : 30;
    return draw("svg", { class: "swatch", width: w, height: 14, viewBox: `0 0 ${w} 14`, "aria-hidden": "true" },
      mini ? null : draw("path", { d: `M1 7h${w - 2}`, stroke: hue, "stroke-width": hollow ? 1.3 : 2, "stroke-dasharray": dash || null, fill: "none" }),
      draw("path", { d: `M${w / 2} 7${MARKS[mark](3.4)}`, fill: hollow ? this.paper : hue, stroke: hollow ? hue : this.paper, "stroke-width": hollow ? 1.4 : 0.8 }));
  }
  curve(c) { return this.view.scale === "cosine" ? c.cosine : c.weight; }

  // --- numbers: all that depends on temperature and tokens
  compute() {
    const { view, shows } = this;
    let top = 0, low = Infinity, high = -Infinity, hi = 1e-6;
    for (const { panel } of shows) {
      for (const a of panel.attributes) hi = Math.max(hi, a.raw.score);
      for (const c of this.listed(panel)) {
        c.look(view, panel.meanWeights);
        hi = Math.max(hi, c.high);
        if (!c.isAttribute && view.hidden && this.isHidden(c.name)) continue;
        low = Math.min(low, c.low); high = Math.max(high, c.high);
        if (c.weight) for (const w of c.weight) if (w > top) top = w;
      }
    }
    const names = shows[0].panel.concepts.map((c) => c.name);
    const scores = names.map((n) => {
      const all = shows.map((s) => s.panel.concepts.find((c) => c.name === n)).filter((c) => c && c.score !== null);
      return all.length ? all.reduce((sum, c) => sum + c.score, 0) / all.length : -Infinity;
    });
    this.order = Array.from(ranking(scores), (i) => names[i]);
    this.longest = hi; // the score whose bar is full, a concept's or an attribute's; all bars start at zero
    const pad = Math.max((high - low) * 0.06, 1e-3);
    this.range = view.scale === "cosine" ? (high >= low ? [low - pad, high + pad] : [0, 1]) : [0, (top || 1) * 1.08];
  }
  values(i) {
    const { panel } = this.shows[i], by = (key) => Object.fromEntries(this.listed(panel).map((c) => [c.name, key(c)]));
    const scores = panel.concepts.map((c) => c.score ?? -Infinity);
    return { weights: by((c) => c.weight && Array.from(c.weight)), scores: by((c) => c.score), means: by((c) => c.mean),
      order: Array.from(ranking(scores), (k) => panel.concepts[k].name), time: this.shows[i].time, playing: this.playing };
  }

  // --- the one way to draw
  redraw(what) {
    if (this.gone || !this.started) return;
    if (!this.size) { // not to be seen yet: all is drawn when it is
      if (!this.root.clientWidth) return;
      what = ALL;
    }
    const { shows } = this;
    if (what.data || what.set || what.values) this.compute();
    if (what.data || what.set) { this.assign(); for (const s of shows) s.select(); }
    if (what.layout) {
      this.size = this.root.clientWidth || this.size;
      attr(this.root, "data-size", this.size >= 900 ? "wide" : this.size < 480 ? "narrow" : "medium");
      this.full = this.map.node.clientWidth;
      const widths = shows.map((s) => s.node.clientWidth);
      shows.forEach((s, i) => s.measure(Math.max(220, widths[i])));
    }
    for (const s of shows) s.update(what);
    for (const part of this.parts) part.update(what);
    if (what.values || what.set || what.data) this.tellSoon();
  }

  // --- time
  get length() { return Math.max(...this.shows.map(({ panel }) => (panel.end - panel.start) / panel.rate)); }
  seek(show, t) {
    this.lead = show.i;
    this.clock = clamp((t - show.panel.start) / show.panel.rate, 0, this.length);
    this.moved();
  }
  moved() {
    if (this.playing) for (const { stage } of this.shows) if (stage) stage.jump();
    this.since = null; this.fresh = false;
    this.view.time = Number(this.shows[0].time.toFixed(4));
    this.redraw({ time: true });
    this.tellSoon(true);
    this.save();
  }
  stepBy(n) {
    this.stop();
    const show = this.shows[this.lead || 0], i = step(show.panel.times, show.panel.times[show.frame], n);
    this.seek(show, show.panel.times[i]);
  }
  ends(last) {
    this.stop();
    const show = this.shows[this.lead || 0], { times, T } = show.panel;
    this.seek(show, times[last ? T - 1 : 0]);
  }
  toggle() { if (this.playing) this.stop(); else this.start(); }
  start() {
    if (this.fresh || this.clock >= this.length - 1e-3) this.clock = 0;
    this.playing = true; this.fresh = false; this.since = null;
    for (const { stage } of this.shows) if (stage) stage.play();
    this.redraw({ time: true });
    write(this.status, "playing");
    const tick = (now) => {
      if (!this.playing || this.gone) return;
      this.advance(now);
      if (this.clock >= this.length - 1e-6) return this.stop();
      this.redraw({ time: true });
      this.raf = requestAnimationFrame(tick);
    };
    this.raf = requestAnimationFrame(tick);
  }
  advance(now) { // the first video that runs is the clock; without one, the clock on the wall
    const lead = this.shows.find((s) => s.stage && s.stage.running && !s.stage.video.seeking && !s.stage.late);
    const wall = this.since === null ? this.clock : this.clock + Math.min(0.25, (now - this.since) / 1000);
    this.since = now;
    if (!lead) { this.clock = Math.min(this.length, wall); return; }
    const led = (lead.stage.clock - lead.panel.start) / lead.panel.rate;
    this.clock = clamp(led, 0, this.length);
    if (lead.stage.clock >= lead.panel.end) lead.stage.pause();
    for (const s of this.shows) {
      if (s === lead || !s.stage || !s.stage.running) continue;
      if (s.time >= s.panel.end) s.stage.pause();
      else if (Math.abs(s.stage.clock - s.time) > 0.25) s.stage.seek();
    }
  }
  stop() {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.raf);
    for (const { stage } of this.shows) if (stage) stage.pause();
    this.moved();
  }

  // --- words for those who listen
  announce(text) {
    clearTimeout(this.speech);
    write(this.status, text);
    this.said = text ? Date.now() : 0;
  }
  tellSoon(soon) { // after the last of many changes, and not over a message that nobody can have read
    if (this.playing || this.concepts.busy) return;
    clearTimeout(this.speech);
    const wait = soon ? 200 : Math.max(200, 2500 - (Date.now() - (this.said || 0)));
    this.speech = setTimeout(() => { if (!this.playing && !this.concepts.busy && !this.gone) write(this.status, this.sentence()); }, wait);
  }
  sentence() {
    if (document.activeElement === this.map.app && this.map.rows.length) return this.map.spell(this.map.cell.row, this.map.show.frame);
    const show = this.shows[this.lead || 0], { panel, shown } = show, most = 5;
    const values = shown.slice(0, most).map((c) => { const v = this.curve(c); return `${inside(short(this.label(c.name), 24))} ${v ? number(v[show.frame], 3) : "–"}`; });
    if (shown.length > most) values.push(`and ${shown.length - most} more`);
    return [`${this.many ? `${this.letter(show.i)}: ` : ""}${panel.moment(show.frame)}`, values.length ? `${this.view.scale} ${values.join(", ")}` : ""].filter(Boolean).join(" · ");
  }

  // --- keys: what is handled here goes no further, what is typed is left alone
  key(e) {
    const target = e.target, tag = target.tagName, typed = tag === "TEXTAREA" || (tag === "INPUT" && !["range", "checkbox", "radio"].includes(target.type));
    if (typed) { e.stopPropagation(); return; }
    if (e.altKey || e.ctrlKey || e.metaKey || tag === "SELECT") return;
    const range = tag === "INPUT" && target.type === "range", scroll = target.classList.contains("scroll");
    const act = { ArrowLeft: () => this.stepBy(-1), ArrowRight: () => this.stepBy(1), Home: () => this.ends(false), End: () => this.ends(true) }[e.key];
    const play = e.key === " " && !["BUTTON", "SUMMARY", "A"].includes(tag) && target.type !== "checkbox" && !scroll;
    const slides = target.getAttribute("role") === "slider", big = slides && { PageUp: 5, PageDown: -5, ArrowUp: 1, ArrowDown: -1 }[e.key];
    if (range && e.key !== " ") { e.stopPropagation(); return; }
    if (scroll && !play) return;
    if (play) { if (!e.repeat) this.toggle(); } else if (act) act(); else if (big) this.stepBy(big); else return;
    e.preventDefault(); e.stopPropagation();
  }

  // --- themes
  watchTheme() {
    const system = matchMedia("(prefers-color-scheme: dark)"), { body } = document;
    const dark = () => {
      const lab = body.getAttribute("data-jp-theme-light");
      if (lab) return lab === "false";
      if (body.classList.contains("vscode-high-contrast-light") || body.classList.contains("vscode-light")) return false;
      return body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast") || system.matches;
    };
    const set = () => {
      const theme = dark() ? "dark" : "light";
      if (theme === this.theme) return;
      this.theme = theme;
      attr(this.root, "data-theme", theme);
      [this.paper, this.soft] = theme === "dark" ? ["#111111", "#a3a8ad"] : ["#ffffff", "#5f6368"];
      this.ramp = Array.from({ length: 256 }, (_, k) => heat(k / 255, theme === "dark"));
      this.ramp.paper = theme === "dark" ? 17 : 255; // grey, of the paper
      if (this.shows) this.redraw({ theme: true, set: true });
    };
    const watch = new MutationObserver(set);
    watch.observe(body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
    this.offs.push(() => watch.disconnect());
    this.listen(system, "change", set);
    set();
  }
  dispose() {
    if (this.gone) return;
    this.stop();
    this.gone = true;
    clearTimeout(this.speech);
    for (const off of this.offs) off();
    for (const s of this.shows) s.dispose();
    this.host.dispose();
    this.root.remove();
  }
}

// ---------------------------------------------------------------- entrances

// In a notebook the static picture steps back once the viewer runs
function hideFallback(id) {
  if (!id) return;
  for (const node of document.querySelectorAll(`[data-bike-static="${CSS.escape(String(id))}"]`)) {
    const cell = node.closest(".jp-OutputArea-child");
    (cell || node).hidden = true;
    (cell || node).style.display = "none"; // JupyterLab's own rule is stronger than the attribute
  }
}

function render({ model, el }) {
  const viewer = new Viewer(liveHost(model), el);
  hideFallback(viewer.host.fallback);
  return () => viewer.dispose();
}

export function mountPage() {
  const held = JSON.parse(document.getElementById("bike-data").textContent);
  return new Viewer(pageHost(held), document.getElementById("bike-viewer"));
}

export default { render };
