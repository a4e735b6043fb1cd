// The review page. Gradio runs this once, with `element` (where it is drawn) and `server.ask` (Reviewing.ask in view.py).
// What rows, models and people wrote is only ever set as text: there is no innerHTML in this file.

const stage = element.querySelector("#act");
const COMMANDS = {
  u: ["Undo", "take back the last answer (or Backspace)"],
  s: ["Skip", "leave the row open and go on"],
  c: ["Comment", "write one; it goes along with the answer (Esc leaves the box)"],
  r: ["Reasons", "what the annotator and the critic said"],
  "?": ["Keys", "show this list"],
};
const RETRY = 1500; // milliseconds between tries where the server does not answer
const LOOK_AGAIN = 10000; // milliseconds between looks for rows that others have before them

let review = null; // what does not change: instruction, labels
let view = null; // what is shown
let person = null;
let busy = false;
let comment = "";
let filter = "";
let chosen = 0; // in the list of labels found
let shownAt = 0;
let hiddenFor = 0;
let hiddenAt = null;
let looking = null;

// ---- small parts

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const key = (sign) => make("kbd", { "aria-hidden": "true" }, sign);
// Text of others stands on its own: its direction does not turn round what is beside it.
const foreign = (text, tag = "bdi") => make(tag, { dir: "auto" }, text);
// With blanks that do not break.
function percent(share) {
  if (share > 0.995 && share < 1) return ">\u00a099\u00a0%";
  return share > 0 && share < 0.005 ? "<\u00a01\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
}
const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
const find = (selector) => stage.querySelector(selector);
const isMouse = (event) => event.detail > 0;

function duration(seconds) {
  if (seconds < 90) return `${Math.max(5, 5 * Math.round(seconds / 5))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// ---- who this is: a name for the person, and one for this tab, which a reload keeps and a second tab does not share

function remembered(store, name) {
  try {
    return store.getItem(name);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function remember(store, name, value) {
  try {
    store.setItem(name, value);
  } catch {
    // asked again next time
  }
}

// Not crypto.randomUUID, which browsers have only for https and this machine.
const unique = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const tab = remembered(sessionStorage, "act_hf_tab") || unique();
remember(sessionStorage, "act_hf_tab", "");
window.addEventListener("pagehide", () => remember(sessionStorage, "act_hf_tab", tab));

// ---- asking

function say(text, kind = "error") {
  const line = find(".act-say");
  if (!line) return;
  line.textContent = text;
  line.dataset.kind = kind;
  line.hidden = !text;
}

// The answer of the server, tried until there is one. A key makes sure that an answer counts once however often it is sent.
async function ask(request) {
  for (;;) {
    const got = await server.ask({ person, page: tab, ...request }); // undefined where it failed, for whatever reason
    if (got) {
      say("");
      return got;
    }
    if (await isLockedOut()) {
      say("The page was started anew, with another address: open the one that was printed. This step is not saved.");
      return null;
    }
    say("The server does not answer. This step is not saved yet; trying again …");
    await new Promise((later) => setTimeout(later, RETRY));
  }
}

// Whether there is a server that does not know this browser: it has another token.
async function isLockedOut() {
  try {
    return [401, 403].includes((await fetch(location.pathname, { method: "HEAD", cache: "no-store" })).status);
  } catch {
    return false;
  }
}

async function step(request) {
  if (busy) return;
  busy = true;
  stage.setAttribute("aria-busy", "true");
  clearTimeout(looking);
  try {
    const got = await ask({ key: unique(), ...request });
    if (!got) return;
    if (got.error) {
      say(got.error);
      return;
    }
    const taken = request.do === "undo" && view && got.row && view.row && got.row.id === view.row.id;
    view = got;
    comment = view.row ? view.row.comment : "";
    filter = "";
    chosen = 0;
    draw();
    if (taken) say("There is nothing to take back.", "note");
  } finally {
    busy = false;
    stage.setAttribute("aria-busy", "false");
  }
}

function seconds() {
  return Math.max(0, (performance.now() - shownAt - hiddenFor) / 1000);
}

const answer = (label) => step({ do: "label", row: view.row.id, label, name: review.labels[label].name, comment, seconds: seconds() });
const skip = () => step({ do: "skip", row: view.row.id, comment, seconds: seconds() });
const undo = () => step({ do: "undo" });

function accept() {
  if (view.row.label === null) say("The machine gave this row no label: choose one.", "note");
  else answer(view.row.label);
}

// ---- drawing

function draw() {
  const row = view && view.row;
  const focus = row ? ".act-row" : ".act-end";
  stage.replaceChildren(top(), row ? rowOf(row) : end(), row ? dock(row) : make("span", { hidden: true }), keys());
  shownAt = performance.now();
  hiddenFor = 0;
  find(focus).focus({ preventScroll: true });
  if (!row && view.waiting) looking = setTimeout(() => step({ do: "next" }), LOOK_AGAIN);
}

function top() {
  const made = view.progress;
  const share = made.rows ? made.done / made.rows : 0;
  return make(
    "header",
    { class: "act-top" },
    make("h1", { title: review.instruction }, foreign(review.instruction)),
    make("p", { class: "act-count" }, make("strong", {}, made.done.toLocaleString("en")), ` of ${count(made.rows, "row")} done`),
    review.person
      ? make("span", { class: "act-person" }, foreign(view.person))
      : make("button", { class: "act-person", type: "button", title: "Answer under another name", onclick: welcome }, foreign(view.person)),
    make("button", { class: "act-help", type: "button", "aria-label": "Keys", onclick: help }, key("?")),
    make(
      "div",
      { class: "act-bar", role: "progressbar", "aria-label": "Rows done", "aria-valuemin": 0, "aria-valuemax": made.rows, "aria-valuenow": made.done },
      make("i", { style: `width: ${100 * share}%` }),
    ),
  );
}

function rowOf(row) {
  const long = row.parts.reduce((sum, part) => sum + (part.text || "").length, 0);
  const size = long <= 140 ? "short" : long <= 700 ? "medium" : "long";
  const image = row.parts.some((part) => part.kind === "image");
  return make(
    "main",
    { class: "act-row", tabindex: "-1", "aria-label": "The row", "data-size": size, "data-image": image ? "yes" : "no" },
    make("div", { class: "act-page" }, make("div", { class: "act-parts" }, row.parts.map((part) => partOf(part, row.parts.length > 1)), reasons(row))),
  );
}

function partOf(part, named) {
  const name = named && part.kind !== "image" ? make("figcaption", {}, foreign(part.name)) : null;
  if (part.problem) return make("figure", { class: "act-part" }, make("p", { class: "act-problem" }, foreign(part.problem)));
  if (part.kind === "image") {
    return make("figure", { class: "act-part act-image" }, make("img", { src: part.source, decoding: "sync", alt: `image of the column ${part.name}` }));
  }
  const text = part.text ? foreign(part.text, "pre") : make("p", { class: "act-problem" }, "no text");
  return make("figure", { class: `act-part act-${part.kind}` }, name, text);
}

function reasons(row) {
  const doubt = row.error_prob === null ? null : `${percent(row.error_prob)} probable that the machine label is wrong`;
  const said = [
    ["Annotator", row.rationale || null, null],
    ["Critic", row.critique || null, doubt],
  ].filter(([, text, fact]) => text || fact);
  if (!said.length) said.push(["", null, "Neither the annotator nor a critic said why."]);
  return make(
    "section",
    { class: "act-reasons", hidden: true, "aria-label": "Reasons" },
    said.map(([who, text, fact]) =>
      make("div", {}, make("h2", {}, who), fact ? make("p", { class: "act-fact" }, fact) : null, text ? foreign(text, "pre") : null),
    ),
  );
}

function dock(row) {
  return make(
    "footer",
    { class: "act-dock" },
    make("p", { class: "act-say", role: "alert", hidden: true }),
    review.labels[0].key === null ? search(row) : buttons(row),
    make("textarea", {
      class: "act-comment",
      rows: 2,
      maxlength: 10000,
      "aria-label": "Comment",
      placeholder: "A comment that goes along with the answer. Esc leaves it.",
      hidden: !comment,
      oninput: (event) => (comment = event.target.value),
    }, comment),
    make(
      "div",
      { class: "act-foot" },
      make("nav", { class: "act-commands", "aria-label": "Commands" }, Object.keys(COMMANDS).slice(0, 4).map(command)),
      make("p", { class: "act-facts" }, mine()),
    ),
    confirmed(),
  );
}

function command(sign) {
  return make(
    "button",
    { type: "button", "data-key": sign, title: COMMANDS[sign][1], onclick: (event) => { press(sign); if (isMouse(event) && sign === "r") find(".act-row").focus(); } },
    key(sign.toUpperCase()),
    COMMANDS[sign][0],
  );
}

// A long name may be broken where its words meet.
const breakable = (name) => name.split(/(?<=[_/.:-])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));

function labelButton(row, number, more = {}) {
  const label = review.labels[number];
  const machine = row.label === number;
  const tags = [
    machine ? make("span", { class: "act-tag act-machine" }, row.label_prob === null ? "machine" : `machine, ${percent(row.label_prob)}`) : null,
    row.said === number ? make("span", { class: "act-tag" }, "your answer before") : null,
  ];
  return make(
    "button",
    { type: "button", class: "act-label", "data-label": number, "data-machine": machine ? "yes" : "no", onclick: () => answer(number), ...more },
    label.key ? key(label.key.toUpperCase()) : null,
    make("span", { class: "act-names" }, make("bdi", { class: "act-name", dir: "auto" }, breakable(label.name)), tags),
    machine ? key("↵") : null,
  );
}

function buttons(row) {
  const longest = Math.max(...review.labels.map((label) => label.name.length));
  return make(
    "div",
    { class: "act-labels", role: "group", "aria-label": "Labels", "data-wide": longest > 24 ? "yes" : "no" },
    review.labels.map((_, number) => labelButton(row, number)),
  );
}

// ---- many labels: type to find one

function found(row) {
  const wanted = filter.trim().toLowerCase();
  const names = review.labels.map((label) => label.name.toLowerCase());
  const all = names.map((_, number) => number).filter((number) => names[number].includes(wanted));
  const rank = (number) => (wanted ? (names[number] === wanted ? 0 : names[number].startsWith(wanted) ? 1 : 2) : number === row.label ? 0 : 1);
  return all.sort((one, other) => rank(one) - rank(other) || one - other);
}

function search(row) {
  const box = make("input", {
    class: "act-search",
    type: "text",
    role: "combobox",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Find a label",
    "aria-expanded": "true",
    "aria-controls": "act-found",
    placeholder: `Find one of ${review.labels.length} labels`,
    value: filter,
    oninput: (event) => { filter = event.target.value; chosen = 0; list(row); },
    onfocus: () => list(row),
    onblur: () => list(row),
  });
  const frame = make("div", { class: "act-find" }, key("/"), box);
  const shown = make("div", { id: "act-found", class: "act-found", role: "listbox", "aria-label": "Labels" });
  queueMicrotask(() => list(row));
  return make("div", { class: "act-many" }, frame, shown);
}

function list(row) {
  const shown = find(".act-found");
  if (!shown) return;
  const numbers = found(row);
  const active = document.activeElement === find(".act-search");
  chosen = Math.min(chosen, Math.max(0, numbers.length - 1));
  const options = numbers.map((number, place) =>
    labelButton(row, number, { role: "option", tabindex: "-1", id: `act-option-${number}`, "aria-selected": active && place === chosen ? "true" : "false" }),
  );
  shown.replaceChildren(...(options.length ? options : [make("p", { class: "act-problem" }, "No label has that in its name.")]));
  find(".act-search").setAttribute("aria-activedescendant", active && options.length ? options[chosen].id : "");
  if (active && options.length) options[chosen].scrollIntoView({ block: "nearest" });
}

function inSearch(event) {
  const numbers = found(view.row);
  if (event.key === "Enter") {
    event.preventDefault();
    if (numbers.length && !event.repeat) filter.trim() || chosen ? answer(numbers[chosen]) : accept();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    chosen = Math.min(Math.max(chosen + (event.key === "ArrowDown" ? 1 : -1), 0), Math.max(numbers.length - 1, 0));
    list(view.row);
  } else if (event.key === "Escape") {
    filter = "";
    chosen = 0;
    event.target.value = "";
    event.target.blur();
    find(".act-row").focus();
  }
}

// ---- how far

function mine() {
  const made = view.progress;
  const parts = [`You: ${made.answered.toLocaleString("en")} answered`];
  if (made.skipped) parts.push(`${made.skipped.toLocaleString("en")} skipped`);
  if (made.seconds !== null && made.left) parts.push(`about ${duration(made.seconds * made.left)} left`);
  return parts.join(" · ");
}

function confirmed() {
  const made = view.progress;
  if (!made.judged) return null;
  const share = `Machine label confirmed so far: ${percent(made.confirmed / made.judged)} of ${count(made.judged, "answer")}. `;
  const settled = review.per_row > 1 ? "; a row with one answer counts as settled" : "";
  const whole = made.accuracy
    ? `Accuracy of all machine labels: between ${percent(made.accuracy[0])} and ${percent(made.accuracy[1])}, whatever the answers to come${settled} (95\u00a0%).`
    : "The most doubtful come first, so this is not the accuracy of the set.";
  return make("p", { class: "act-facts act-confirmed" }, share, whole);
}

// ---- before and after the rows

function welcome() {
  clearTimeout(looking);
  const start = (event) => {
    event.preventDefault();
    const name = find(".act-who").value.trim();
    if (!name) return;
    person = name;
    step({ do: "next" }).then(() => {
      if (view && view.person) {
        person = view.person;
        remember(localStorage, "act_hf_person", person);
      }
    });
  };
  view = null;
  stage.replaceChildren(
    make(
      "form",
      { class: "act-end act-welcome", onsubmit: start },
      make("h1", {}, foreign(review.instruction)),
      make("p", {}, "One row at a time, the most doubtful first. Every answer is kept before the next row is shown."),
      make("label", { for: "act-who" }, "Your name"),
      make("input", { id: "act-who", class: "act-who", type: "text", maxlength: 80, autocomplete: "off", spellcheck: "false", value: remembered(localStorage, "act_hf_person") || "" }),
      make("p", { class: "act-hint" }, "It is kept with your answers, and tells them from those of others."),
      make("p", { class: "act-say", role: "alert", hidden: true }),
      make("button", { class: "act-start", type: "submit" }, "Start", key("↵")),
    ),
  );
  find(".act-who").focus();
}

function end() {
  const made = view.progress;
  const skipped = made.skipped
    ? make("button", { type: "button", "data-key": "s", onclick: () => press("s") }, key("S"), `Look again at the ${count(made.skipped, "row")} you skipped`)
    : null;
  const title = view.waiting ? "Nothing for you just now" : "Done";
  const text = view.waiting
    ? "Others have the last rows before them. This page looks again by itself."
    : `You answered ${count(made.answered, "row")}. Everything is saved; you can close this page.`;
  return make(
    "main",
    { class: "act-end", tabindex: "-1" },
    make("h1", {}, title),
    make("p", {}, text),
    make("p", { class: "act-say", role: "alert", hidden: true }),
    made.answered + made.skipped || skipped
      ? make("nav", { class: "act-commands" }, make("button", { type: "button", "data-key": "u", onclick: () => press("u") }, key("U"), "Undo the last answer"), skipped)
      : null,
    make("p", { class: "act-facts" }, mine()),
    confirmed(),
    view.waiting ? null : make("div", { class: "act-next" }, make("p", {}, "To take the answers back into the data set:"), make("code", { dir: "auto" }, `act-hf review pull DATASET ${review.file} REVIEWED`)),
  );
}

function keys() {
  const line = (signs, what) => make("div", {}, make("dt", {}, signs.map(key)), make("dd", {}, what));
  const labels = review.labels[0].key
    ? line([review.labels[0].key, "…"], "the label with that key")
    : line(["/"], "find a label: type, ↑ ↓, Enter");
  return make(
    "dialog",
    { class: "act-keys", "aria-label": "Keys" },
    make("h2", {}, "Keys"),
    make("dl", {}, labels, line(["↵", "Space"], "the machine's label"), Object.entries(COMMANDS).map(([sign, [, what]]) => line([sign.toUpperCase()], what))),
    make("p", {}, "Every answer is on disk before the next row is shown. The page can be closed at any time, and goes on from there."),
    make("form", { method: "dialog" }, make("button", { class: "act-start" }, "Close", key("Esc"))),
  );
}

// ---- keys

function help() {
  const shown = find(".act-keys");
  if (shown && !shown.open) shown.showModal();
}

function press(sign) {
  if (sign === "?") help();
  else if (sign === "u") undo();
  else if (!view.row) sign === "s" && view.progress.skipped && step({ do: "again" });
  else if (sign === "s") skip();
  else if (sign === "r") find(".act-reasons").hidden = !find(".act-reasons").hidden;
  else if (sign === "c") {
    find(".act-comment").hidden = false;
    find(".act-comment").focus();
  }
  const open = find(".act-reasons");
  const toggle = find('[data-key="r"]');
  if (open && toggle) {
    toggle.setAttribute("aria-expanded", String(!open.hidden));
    if (sign === "r" && !open.hidden) open.scrollIntoView({ block: "nearest" });
  }
}

function inComment(event) {
  if (event.key !== "Escape" && !(event.key === "Enter" && event.ctrlKey)) return;
  event.preventDefault();
  event.target.hidden = !comment.trim();
  find(".act-row").focus();
}

function onKey(event) {
  if (!document.contains(stage)) return document.removeEventListener("keydown", onKey);
  if (!view || find(".act-keys").open) return;
  const target = event.target;
  if (target.matches?.(".act-comment")) return inComment(event);
  if (target.matches?.(".act-search")) return inSearch(event);
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  const sign = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onButton = target.closest?.("button, a, input, textarea");
  if ((sign === "Enter" || sign === " ") && onButton) return;
  const taken = act(sign);
  if (taken) event.preventDefault();
}

// Whether the key means something.
function act(sign) {
  if (sign === "Backspace") sign = "u";
  if (sign in COMMANDS) return press(sign), true;
  if (!view.row) return false;
  if (sign === "Enter" || sign === " ") return accept(), true;
  if (sign === "/" && find(".act-search")) return find(".act-search").focus(), true;
  const number = review.labels.findIndex((label) => label.key === sign);
  if (number >= 0) answer(number);
  return number >= 0;
}

document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = performance.now();
  else if (hiddenAt !== null) {
    hiddenFor += performance.now() - hiddenAt;
    hiddenAt = null;
  }
});

// ---- begin

async function begin() {
  stage.replaceChildren(make("p", { class: "act-say", role: "alert", hidden: true }));
  const got = await ask({ do: "begin" });
  if (!got) return;
  if (got.error) return say(got.error);
  review = got;
  person = review.person || remembered(localStorage, "act_hf_person");
  // Who answered here before goes on; a new tab is the same person unless they say otherwise.
  if (person) await step({ do: "next" });
  if (!view) welcome();
}

begin();
