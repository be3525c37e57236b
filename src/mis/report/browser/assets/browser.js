// The page: controls, the address that names a filter and a sample, and what follows from a change of either.
"use strict";

const ALL = "all";
const by = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 760px)");

let filter = null;
let shown = { rows: [], counts: [new Map(), new Map()] };
let chosen = -1; // a position in shown.rows
let turn = 0; // a later change overtakes an earlier one that still loads

/* The address. Only what differs from the start is written; what the run does not know is said, not guessed. */

function start() {
  const arm = index.start;
  return {
    benchmark: index.benchmarks[0].id, category: "", search: "", arm, other: arm === 0 ? -1 : 0, differs: false,
    outcomes: new Set(), otherOutcomes: new Set(), seed: index.systems[arm].seeds[0], sample: null,
  };
}

function letters(text, unknown) {
  const known = new Map(index.outcomes.map((outcome) => [outcome.id, outcome.letter]));
  known.set("none", "-");
  const given = text.split(",").filter(Boolean);
  unknown.push(...given.filter((id) => !known.has(id)));
  return new Set(given.filter((id) => known.has(id)).map((id) => known.get(id)));
}

function outcomeId(letter) {
  return letter === "-" ? "none" : index.outcomes.find((outcome) => outcome.letter === letter).id;
}

function readAddress(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const read = start();
  const unknown = [];
  const system = (id) => index.systems.findIndex((known) => known.id === id);
  for (const [key, value] of given) {
    if (key === "benchmark" && (value === ALL || declared(value))) read.benchmark = value;
    else if ((key === "arm" || key === "with") && system(value) >= 0) read[key === "arm" ? "arm" : "other"] = system(value);
    else if (key === "with" && value === "none") read.other = -1;
    else if (key === "seed" && index.systems.some((known) => known.seeds.includes(Number(value)))) read.seed = Number(value);
    else if (key === "category" || key === "search" || key === "sample") read[key] = value;
    else if (key === "outcome") read.outcomes = letters(value, unknown);
    else if (key === "with-outcome") read.otherOutcomes = letters(value, unknown);
    else if (key === "differs") read.differs = value === "yes";
    else unknown.push(`${key}=${value}`);
  }
  if (read.category && !categories(read.benchmark).includes(read.category)) {
    unknown.push(`category=${read.category}`);
    read.category = "";
  }
  return { read, unknown };
}

function address() {
  const first = start();
  const given = new URLSearchParams();
  given.set("benchmark", filter.benchmark);
  given.set("arm", index.systems[filter.arm].id);
  if (filter.other !== first.other || filter.arm !== first.arm) {
    given.set("with", filter.other < 0 ? "none" : index.systems[filter.other].id);
  }
  given.set("seed", filter.seed);
  for (const key of ["category", "search"]) if (filter[key]) given.set(key, filter[key]);
  if (filter.outcomes.size) given.set("outcome", [...filter.outcomes].map(outcomeId).join(","));
  if (filter.otherOutcomes.size) given.set("with-outcome", [...filter.otherOutcomes].map(outcomeId).join(","));
  if (filter.differs) given.set("differs", "yes");
  if (filter.sample) given.set("sample", filter.sample);
  return `#${given.toString().replaceAll("%2F", "/").replaceAll("%2C", ",")}`;
}

function keyOf([id, at]) {
  return `${id}/${benchmarks.get(id).samples.id[at]}`;
}

/* Controls. */

function categories(benchmark) {
  const of = benchmark === ALL ? index.benchmarks : [declared(benchmark)];
  return [...new Set(of.flatMap((known) => known.categories))].sort();
}

function option(value, label) {
  return element("option", { value }, label);
}

function grouped(items, group, make) {
  const groups = new Map();
  for (const item of items) groups.set(group(item), [...(groups.get(group(item)) ?? []), make(item)]);
  return [...groups].map(([label, made]) => {
    const out = element("optgroup", {}, ...made);
    out.label = label;
    return out;
  });
}

/** The change to two arms: a changed arm asks for no outcome, and chosen twice they change places. */
function arms(arm, other) {
  return {
    arm, other, differs: filter.differs && other >= 0,
    outcomes: arm === filter.arm ? filter.outcomes : new Set(),
    otherOutcomes: other === filter.other ? filter.otherOutcomes : new Set(),
  };
}

function systemOptions() {
  const numbered = index.systems.map((system, number) => ({ ...system, number }));
  return grouped(numbered, (system) => system.model, (system) => option(system.number, system.arm));
}

function buildControls() {
  by("scale").textContent = `Scale ${index.scale}: ${index.note}`;
  document.title = `Samples and answers, ${index.scale}`;
  const total = index.benchmarks.reduce((sum, benchmark) => sum + benchmark.samples, 0);
  by("benchmark").append(
    ...grouped(index.benchmarks, (known) => known.task, (known) => option(known.id, `${known.label} (${known.samples})`)),
    option(ALL, `All benchmarks (${total}; loads everything)`),
  );
  by("arm").append(...systemOptions());
  by("other").append(option(-1, "nothing"), ...systemOptions());
  const seeds = [...new Set(index.systems.flatMap((system) => system.seeds))].sort((a, b) => a - b);
  by("seed").append(...seeds.map((seed) => option(seed, seed)));
  by("seed-label").hidden = seeds.length < 2;

  const changes = {
    benchmark: (value) => ({ benchmark: value, category: "" }),
    category: (value) => ({ category: value }),
    arm: (value) => arms(Number(value), Number(value) === filter.other ? filter.arm : filter.other),
    other: (value) => arms(Number(value) === filter.arm && filter.other >= 0 ? filter.other : filter.arm, Number(value)),
    seed: (value) => ({ seed: Number(value) }),
  };
  for (const [id, change] of Object.entries(changes)) {
    by(id).addEventListener("change", () => refine(change(by(id).value)));
  }
  by("differs").addEventListener("change", () => refine({ differs: by("differs").checked }));
  let timer = 0;
  by("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => refine({ search: by("search").value }), 150);
  });
  by("form").addEventListener("submit", (event) => event.preventDefault());
  by("reset").addEventListener("click", () =>
    refine({ category: "", search: "", outcomes: new Set(), otherOutcomes: new Set(), differs: false }),
  );
}

function drawControls() {
  by("benchmark").value = filter.benchmark;
  by("category").replaceChildren(option("", "all"), ...categories(filter.benchmark).map((name) => option(name, name)));
  by("category").value = filter.category;
  if (by("search").value.trim() !== filter.search.trim()) by("search").value = filter.search;
  by("arm").value = filter.arm;
  by("other").value = filter.other;
  by("seed").value = filter.seed;
  by("differs").checked = filter.differs;
  by("differs-label").hidden = filter.other < 0;
  by("other-outcomes").hidden = filter.other < 0;
  drawOutcomes(by("outcomes"), shown.counts[0], "outcomes");
  drawOutcomes(by("other-outcomes"), shown.counts[1], "otherOutcomes");
}

/** A button an outcome that occurs (or is asked for), with its count; several can be pressed. */
function drawOutcomes(box, counts, key) {
  const focused = box.contains(document.activeElement) ? document.activeElement.value : null;
  const letters = [...index.outcomes.map((outcome) => outcome.letter), "-"];
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const buttons = letters
    .filter((letter) => counts.has(letter) || filter[key].has(letter))
    .map((letter) => {
      const count = counts.get(letter) ?? 0;
      const share = total ? (100 * count) / total : 0;
      const percent = element("span", { className: "share" }, `${share.toFixed((share > 0 && share < 1) || (share > 99 && share < 100) ? 1 : 0)} %`);
      const made = element(
        "button",
        { type: "button", value: letter, "aria-pressed": filter[key].has(letter) },
        badge(letter), element("span", { className: "number" }, String(count)), percent,
      );
      made.addEventListener("click", () => {
        const pressed = new Set(filter[key]);
        if (!pressed.delete(letter)) pressed.add(letter);
        refine({ [key]: pressed });
      });
      return made;
    });
  box.replaceChildren(...buttons);
  buttons.find((made) => made.value === focused)?.focus();
}

/* What follows from a change. */

async function refine(change) {
  filter = { ...filter, ...change };
  say("");
  await apply();
}

/** Loads what the filter needs and draws everything. Keeps the sample if the filter leaves it, else takes the first. */
async function apply() {
  const mine = (turn += 1);
  const ids = filter.benchmark === ALL ? index.benchmarks.map((known) => known.id) : [filter.benchmark];
  by("samples").setAttribute("aria-busy", "true");
  try {
    await loadBenchmarks(ids);
  } catch (error) {
    if (mine === turn) say(error.message);
    return;
  }
  if (mine !== turn) return;
  shown = select({ ...filter, benchmarks: ids });
  const total = ids.reduce((sum, id) => sum + declared(id).samples, 0);
  by("count").textContent = `${shown.rows.length} of ${total} samples`;
  const kept = filter.sample ? shown.rows.findIndex((row) => keyOf(row) === filter.sample) : -1;
  chosen = kept >= 0 ? kept : shown.rows.length ? 0 : -1;
  list.fill(shown.rows.length, chosen);
  drawControls();
  drawChosen();
  by("samples").removeAttribute("aria-busy");
}

function say(text) {
  by("status").textContent = text;
}

function drawRow(row, number) {
  const [id, at] = shown.rows[number];
  const page = benchmarks.get(id);
  const outcomes = [filter.arm, ...(filter.other >= 0 ? [filter.other] : [])].map((system) =>
    badge(answerOf(page, system, filter.seed, at).outcome),
  );
  const label = filter.benchmark === ALL ? `${declared(id).label} ${page.samples.id[at]}` : page.samples.id[at];
  row.append(
    element("div", { className: "line" }, element("span", { className: "id" }, label), ...outcomes),
    element("div", { className: "excerpt" }, page.texts[page.samples.question[at]].slice(0, 200) || "(no question)"),
  );
}

function choose(number, how) {
  chosen = number;
  list.mark(number);
  drawChosen();
  if (how === "enter" || (how === "click" && narrow.matches)) {
    document.body.classList.add("reading");
    by("sample").focus();
  }
}

function leave() {
  document.body.classList.remove("reading");
  list.mark(chosen); // a hidden list could not scroll
  by("list").focus();
}

function drawChosen() {
  if (chosen < 0) {
    filter.sample = null;
    by("sample").replaceChildren(element("p", { className: "muted" }, "No sample passes the filters."));
  } else {
    const [id, at] = shown.rows[chosen];
    filter.sample = keyOf(shown.rows[chosen]);
    const step = (text, by) => {
      const made = element("button", { type: "button", disabled: !(chosen + by in shown.rows) }, text);
      made.addEventListener("click", () => choose(chosen + by, "step"));
      return made;
    };
    const back = element("button", { type: "button", className: "back" }, "To the list");
    back.addEventListener("click", leave);
    const link = element("a", { className: "link", href: address() }, "Link to this sample");
    drawSample(by("sample"), id, at, filter, [
      back, step("Previous", -1), step("Next", 1),
      element("span", { className: "muted" }, `${chosen + 1} of ${shown.rows.length}`), link,
    ]);
  }
  history.replaceState(null, "", address());
}

async function followAddress() {
  const { read, unknown } = readAddress(location.hash);
  const asked = read.sample;
  filter = read;
  say(unknown.length ? `This run does not know ${unknown.join(", ")} of the link.` : "");
  await apply();
  document.body.classList.toggle("reading", Boolean(asked) && filter.sample === asked);
  if (asked && filter.sample !== asked) say(`The link's sample ${asked} is not among those that its filters leave.`);
}

const list = new List(by("list"), by("rows"), drawRow, choose);
by("sample").addEventListener("keydown", (event) => {
  if (event.key === "Escape") leave();
});
narrow.addEventListener("change", () => (by("filters").open = !narrow.matches));
by("filters").open = !narrow.matches;
window.addEventListener("hashchange", followAddress);
load("data/index.js").then(
  () => {
    buildControls();
    return followAddress();
  },
  (error) => say(error.message),
);
