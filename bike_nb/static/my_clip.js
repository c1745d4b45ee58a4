// The form of "My clip": which clip, and what to look for. A chosen file goes to Python in pieces, the next one when the last has arrived.

const PIECE = 1e6;

export const megabytes = (n) => n >= 9.95e6 || !n ? String(Math.round(n / 1e6)) : (n / 1e6).toFixed(1);
export const size = (n) => n < 1e5 ? `${Math.max(1, Math.round(n / 1e3))} kB` : `${megabytes(n)} MB`;

export const refusal = (file, most) => {                 // why a file is not sent; most: megabytes
  if (!file) return "There is no file yet: choose one, or drop it on the form.";
  if (!file.size) return `${file.name} is empty: choose a video file.`;
  if (file.size > most * 1e6) return `${file.name} has ${size(file.size)}, and this form takes ${most} MB at most: cut it, or copy it to the kernel's machine and choose it there.`;
  return "";
};

function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) if (v !== false && v != null) e.setAttribute(k, v === true ? "" : v);
  e.append(...children);
  return e;
}

function theme(root) {                                   // follow Jupyter, VS Code, or the system
  const media = matchMedia("(prefers-color-scheme: dark)"), body = document.body;
  const set = () => {
    const lab = body.dataset.jpThemeLight, code = /vscode-(dark|high-contrast)(?!-light)/.test(body.className);
    const dark = lab ? lab === "false" : body.className.includes("vscode-") ? code : media.matches;
    root.dataset.theme = dark ? "dark" : "light";
  };
  const watch = new MutationObserver(set);
  watch.observe(body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
  media.addEventListener("change", set);
  set();
  return () => { watch.disconnect(); media.removeEventListener("change", set); };
}

// A text box that suggests: any text may be typed (WAI-ARIA's editable combobox).
function combobox(id, label, choices, placeholder, changed) {
  const list = h("ul", { role: "listbox", id: `${id}-list`, "aria-label": label, popover: "manual", hidden: true });
  const box = h("input", { id, type: "text", role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id,
                           autocomplete: "off", spellcheck: "false", placeholder });
  const arrow = h("button", { type: "button", tabindex: "-1", "aria-label": `Choices for ${label}` }, "▾");
  let at = -1;
  const items = () => [...list.children];
  const mark = (i) => {
    at = i;
    items().forEach((li, j) => li.setAttribute("aria-selected", String(j === i)));
    if (i < 0) return box.removeAttribute("aria-activedescendant");
    box.setAttribute("aria-activedescendant", items()[i].id);
    items()[i].scrollIntoView({ block: "nearest" });
  };
  const place = () => {                                  // in the top layer, for outputs of notebooks cut off what is larger than they are
    const r = box.getBoundingClientRect(), below = innerHeight - r.bottom > list.offsetHeight + 8 || r.top < innerHeight - r.bottom;
    Object.assign(list.style, { left: `${r.left}px`, width: `${r.width}px`, top: below ? `${r.bottom + 2}px` : "auto", bottom: below ? "auto" : `${innerHeight - r.top + 2}px` });
  };
  const moved = (e) => { if (!list.contains(e.target)) close(); };
  const listen = (on) => { for (const kind of ["scroll", "resize"]) window[on ? "addEventListener" : "removeEventListener"](kind, moved, true); };
  const close = () => {
    if (!list.hidden) { list.hidePopover?.(); listen(false); }
    list.hidden = true;
    box.setAttribute("aria-expanded", "false");
    mark(-1);
  };
  const choose = (text) => { box.value = text; close(); changed(); };
  const open = (part = "") => {
    const shown = choices().filter((c) => c.toLowerCase().includes(part.toLowerCase()));
    list.replaceChildren(...shown.map((c, i) => h("li", { role: "option", id: `${id}-${i}`, title: c, "aria-selected": "false" }, c)));
    items().forEach((li, i) => li.addEventListener("mousedown", (e) => { e.preventDefault(); choose(shown[i]); }));
    if (!shown.length) return close();
    if (list.hidden) { list.hidden = false; list.showPopover?.(); listen(true); }
    if (list.showPopover) place();
    box.setAttribute("aria-expanded", "true");
    mark(-1);
  };
  box.addEventListener("input", () => { open(box.value); changed(); });
  box.addEventListener("blur", close);
  box.addEventListener("keydown", (e) => {
    const n = items().length;
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (list.hidden) open();
      if (items().length) mark(e.key === "ArrowDown" ? (at + 1) % items().length : (at <= 0 ? items().length : at) - 1);
    } else if (e.key === "Enter" && !list.hidden && at >= 0 && at < n) { e.preventDefault(); choose(items()[at].textContent); }
    else if (e.key === "Escape" && !list.hidden) { e.preventDefault(); e.stopPropagation(); close(); }
  });
  arrow.addEventListener("mousedown", (e) => { e.preventDefault(); list.hidden ? open() : close(); box.focus(); });
  return { box, close, node: h("div", { class: "field" }, h("label", { for: id }, label), h("div", { class: "combo" }, box, arrow, list)) };
}

function render({ model, el }) {
  const uid = `bike-clip-${Math.random().toString(36).slice(2)}`, id = (name) => `${uid}-${name}`;
  const options = () => model.get("options");
  let file = null, job = null, waiting = null, received = null, timer = 0;

  // ---- what is in it
  const text = (name, label, placeholder, more = {}) => {
    const box = h("input", { id: id(name), type: "text", autocomplete: "off", placeholder, ...more });
    box.addEventListener("input", typed);
    return { box, node: h("div", { class: "field" }, h("label", { for: box.id }, label), box) };
  };
  const radio = (value, label) => {
    const box = h("input", { type: "radio", name: id("source"), value, id: id(value) });
    box.addEventListener("change", () => { shown(); typed(); });
    return { box, node: h("label", { class: "choice", for: box.id }, box, label) };
  };
  const upload = radio("upload", "Upload a file"), there = radio("path", "A file where the kernel runs");
  const picker = h("input", { type: "file", id: id("file"), accept: "video/*,.mkv,.avi,.mov,.mp4,.webm,.gif", class: "hidden-input" });
  const chosen = h("p", { class: "chosen", dir: "auto" });
  const drop = h("div", { class: "drop" }, h("label", { class: "button", for: picker.id }, "Choose a video file", picker), h("span", { class: "or" }, "or drop it here"), chosen);
  const path = combobox(id("path-box"), "Path of the file", () => options().videos, "clips/my.mp4", typed);
  path.node.classList.add("path");
  const concepts = h("textarea", { id: id("concepts"), rows: "4", placeholder: "flying a kite\na person", dir: "auto", "aria-describedby": id("concepts-hint") });
  concepts.addEventListener("input", typed);
  const lines = h("div", { class: "field" }, h("label", { for: concepts.id }, "Concepts"), concepts,
                  h("p", { class: "hint", id: id("concepts-hint") }, "One a line. Empty: the attributes that are found."));
  const named = combobox(id("model"), "Model", () => options().models, "tiny", typed);
  const lexicon = combobox(id("lexicon"), "Lexicon", () => options().lexicons, "as fits the model", typed);
  const frames = text("frames", `Frames (1–${options().most_frames})`, "16", { inputmode: "numeric" });
  const start = text("start", "Start (s)", "0", { inputmode: "decimal" }), end = text("end", "End (s)", "to the end", { inputmode: "decimal" });
  const look = h("button", { type: "submit", class: "button main" }, "Look"), cancel = h("button", { type: "button", class: "button", hidden: true }, "Cancel");
  const bar = h("progress", { max: "1", "aria-label": "Upload", hidden: true }), status = h("span", { role: "status" });
  const alert = h("p", { role: "alert", class: "error", dir: "auto" });
  const form = h("form", { novalidate: true, "aria-label": "My clip" },
    h("div", { class: "two" }, h("fieldset", {}, h("legend", {}, "Clip"), h("div", { class: "choices" }, upload.node, there.node), drop, path.node), lines),
    h("div", { class: "row" }, named.node, lexicon.node, frames.node, start.node, end.node),
    h("div", { class: "foot" }, look, cancel, bar, status), alert);
  const root = h("div", { class: "bike-clip", "data-lm-suppress-shortcuts": "true" }, form);
  const fields = { path: path.box, concepts, model: named.box, lexicon: lexicon.box, frames: frames.box, start: start.box, end: end.box };

  // ---- what was typed
  function values() {
    const typed = Object.fromEntries(Object.entries(fields).map(([k, box]) => [k, box.value]));
    return { ...typed, source: there.box.checked ? "path" : "upload" };
  }
  function keep() { clearTimeout(timer); timer = 0; model.set("values", values()); model.save_changes(); }
  function typed() { clearTimeout(timer); timer = setTimeout(keep, 400); }
  function shown() { drop.hidden = there.box.checked; path.node.hidden = !there.box.checked; }
  function fill() {
    if (timer) return;                                   // someone is typing
    const v = model.get("values");
    for (const [k, box] of Object.entries(fields)) if (box.value !== v[k]) box.value = v[k];
    (v.source === "path" ? there : upload).box.checked = true;
    shown();
  }

  // ---- what is said
  const busy = () => job ? "upload" : waiting ? "look" : model.get("busy") === "look" ? "look" : "";  // an upload of another view may be replaced
  function show() {
    const now = busy();
    look.setAttribute("aria-disabled", String(!!now));
    root.setAttribute("aria-busy", String(!!now));
    cancel.hidden = !job;
    bar.hidden = !job;
    if (received) bar.value = received.now / received.all;
    if (!job) status.textContent = waiting ? "Waiting for the kernel…" : model.get("status");
  }
  let said = -1e9;
  function progress(now, all) {
    received = { now, all };
    if (now >= all || performance.now() - said > 900) {  // once a second, for those who listen
      status.textContent = `Receiving ${megabytes(now)} of ${size(all)}…`;
      said = performance.now();
    }
    show();
  }
  function complain(sentence) {
    alert.textContent = sentence;
    if (sentence) model.set("status", "");
    show();
  }
  const gone = "The kernel was restarted or is gone: run this cell again.";
  const silence = () => `The kernel has not answered for ${options().patience} seconds. If it is busy, wait and press Look again; if it was restarted, run this cell again.`;

  // ---- talking to Python
  const stopped = Symbol("stopped");
  function send(content, buffers) {
    try { model.send({ ...content }, undefined, buffers); } catch { throw new Error(gone); }
  }
  function answer(mine) {                                // the acknowledgement of the last piece
    return new Promise((resolve, reject) => {
      let clock;
      mine.alive = () => { clearTimeout(clock); clock = setTimeout(() => reject(new Error(silence())), options().patience * 1e3); };
      mine.alive();
      mine.end = (error) => { clearTimeout(clock); reject(error); };
      mine.hear = (m) => { clearTimeout(clock); m.kind === "ack" ? resolve(m.received) : reject(new Error(m.error)); };
    });
  }
  async function pass(mine, content, buffers) {
    const reply = answer(mine);
    try { send({ ...content, upload: mine.id }, buffers); } catch (error) { mine.end(error); }
    return reply;
  }
  async function transfer() {
    said = -1e9;
    const mine = job = { id: `${uid}-${Math.random().toString(36).slice(2)}` }, sent = file;
    const over = new Promise((_, reject) => { mine.stop = () => { mine.end?.(stopped); reject(stopped); }; });
    over.catch(() => {});
    try {
      progress(0, sent.size);
      let got = await pass(mine, { kind: "start", name: sent.name, size: sent.size, values: values() });
      for (let index = 0; got < sent.size; index++) {
        const piece = await Promise.race([over, sent.slice(got, got + PIECE).arrayBuffer().catch(() => { throw new Error(`${sent.name} cannot be read any more: was it moved or changed? Choose it again.`); })]);
        got = await pass(mine, { kind: "chunk", index }, [piece]);
        progress(got, sent.size);
      }
    } catch (error) {
      try { send({ kind: "cancel", upload: mine.id }); } catch { /* nobody is there */ }
      if (error !== stopped) complain(error.message);
    } finally { if (job === mine) job = received = null; show(); }
  }
  function ask() {                                       // for a file that is there already
    waiting = setTimeout(() => { waiting = null; complain(silence()); }, options().patience * 1e3);
    try { send({ kind: "look", values: values() }); } catch (error) { answered(); complain(error.message); }
    show();
  }
  function answered() { clearTimeout(waiting); waiting = null; }

  // ---- what people do
  function take(f) {
    file = f;
    chosen.textContent = f ? `${f.name}, ${size(f.size)}` : "";
    chosen.title = f ? f.name : "";
    upload.box.checked = true;
    shown(); typed();
    complain(f ? refusal(f, options().max_mb) : "");
  }
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    if (busy()) return;
    keep();
    const why = there.box.checked ? "" : refusal(file, options().max_mb);
    complain(why);
    if (!why) there.box.checked ? ask() : transfer();
  });
  cancel.addEventListener("click", () => { job?.stop(); look.focus(); });
  picker.addEventListener("change", () => { if (picker.files[0]) take(picker.files[0]); picker.value = ""; });
  for (const kind of ["dragenter", "dragover"]) root.addEventListener(kind, (e) => {
    if (![...e.dataTransfer.types].includes("Files")) return;
    e.preventDefault(); e.stopPropagation();
    root.classList.add("over");
  });
  root.addEventListener("dragleave", (e) => { if (!root.contains(e.relatedTarget)) root.classList.remove("over"); });
  root.addEventListener("drop", (e) => {
    if (!e.dataTransfer.files.length) return;
    e.preventDefault(); e.stopPropagation();
    root.classList.remove("over");
    if (busy()) return;
    if (e.dataTransfer.files.length > 1) return complain(`These are ${e.dataTransfer.files.length} files: drop one at a time.`);
    take(e.dataTransfer.files[0]);
  });

  // ---- what Python does
  const on = {
    "msg:custom": (m) => { if (job && m.upload === job.id) job.hear?.(m); },
    "change:values": fill,
    "change:busy": () => { answered(); show(); },
    "change:status": () => { answered(); job?.alive?.(); show(); },
    "change:error": () => { answered(); complain(model.get("error")); },
    "comm_live_update": () => {                          // the kernel went away
      if (!busy()) return;
      job?.stop(); answered();
      model.set("busy", "");
      complain(gone);
    },
  };
  for (const [k, f] of Object.entries(on)) model.on(k, f);
  const unfollow = theme(root);
  fill();
  complain(model.get("error"));
  el.append(root);
  for (const still of document.querySelectorAll(".bike-clip-still:not(:has(iframe))"))   // where JupyterLab's classes are not, and so no rule of CSS
    if (!still.closest(".jp-OutputArea")) still.hidden = true;
  return () => {
    job?.stop(); answered(); clearTimeout(timer);
    unfollow();
    for (const c of [path, named, lexicon]) c.close();
    for (const [k, f] of Object.entries(on)) model.off(k, f);
  };
}

export default { render };
