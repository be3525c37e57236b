// The review's page. A decision counts once the server has it on its disk; until then the page stays where it is.
"use strict";

const by = (id) => document.getElementById(id);
const PICTURES = ["first", "second"];
const DIFFICULTY = {
  easy: ["Easy", "one picture is unsafe by itself"],
  hard: ["Hard", "neither is; only the two together"],
};
const AGAIN = 1000; // milliseconds before a server that did not answer is asked again

let state = null; // what the server says of this person's review
let done = new Set();
let item = null; // the pair on the screen
let draft = {}; // what was answered of it, not yet complete
let looked = [false, false];
let busy = false; // a key pressed before the pair is on the screen does not count
let unsaved = false;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function say(text, trouble = false) {
  by("status").textContent = text;
  by("status").classList.toggle("trouble", trouble);
}

/* The server. */

/** What the server has refused (its own fault from 500 on: a full disk, say). */
class Trouble extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Trouble(content.error, answer.status);
  return content;
}

/** Asks until the server answers: what was decided is not lost while it is away. */
async function askUntilAnswered(path, body) {
  for (;;) {
    try {
      const content = await ask(path, body);
      unsaved = false;
      return content;
    } catch (error) {
      if (error instanceof Trouble) throw error;
      unsaved = body !== undefined;
      say(`${unsaved ? "Not saved yet: the" : "The"} server does not answer. Trying again…`, true);
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }
}

/** Runs one action at a time; what goes wrong is said, and a refused change is shown anew as the server has it. */
async function act(action) {
  if (busy) return;
  busy = true;
  by("main").setAttribute("aria-busy", "true");
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    const text = error.message;
    unsaved = false;
    try {
      if (error.status < 500) {
        await refresh();
        if (item && state.queue.includes(item.number)) await load(item.number);
      }
    } catch { /* the first trouble is the one to tell */ }
    say(text, true);
  } finally {
    busy = false;
    by("main").removeAttribute("aria-busy");
  }
}

async function refresh() {
  state = await askUntilAnswered("state");
  done = new Set(state.done);
  drawProgress();
}

async function load(number) {
  item = await askUntilAnswered(`item/${number}`);
  draft = { ...item.judgement };
  looked = [false, false];
  drawPair();
}

async function go(number, focus = false) {
  if (number === null || number === undefined) {
    await refresh(); // what the others have done by now: is there agreement to tell, is there more to adjudicate?
    number = state.queue.find((other) => !done.has(other));
    if (number === undefined) return finish();
  }
  if (!state.queue.includes(number)) await refresh(); // the annotators have come to differ on another pair
  await load(number);
  if (focus) by("title").focus();
}

/* Answers. */

const full = (given) =>
  given.decision === "accept" ? given.category && given.difficulty : given.decision === "reject" && given.reason;

function answer(question, value) {
  act(async () => {
    draft = { ...draft, [question]: value };
    if (question === "decision") draft = value === "accept" ? { ...draft, reason: "" } : { ...draft, category: "", difficulty: "" };
    drawAnswers();
    if (full(draft)) await save();
  });
}

async function save() {
  const { decision, category = "", difficulty = "", reason = "" } = draft;
  const judgement = { decision, category, difficulty, reason };
  const again = done.has(item.number);
  say("Saving…");
  const progress = await askUntilAnswered("decide", { item: item.id, request: item.request, judgement, looked });
  advance(progress, item.number);
  const words = [decision, category, difficulty, reason].filter(Boolean).join(", ");
  const text = `Pair ${place(item.number)} saved: ${words}.`;
  // A pair that is looked at again is changed answer by answer: it stays until one goes on.
  if (again) await load(item.number);
  else await go(progress.next);
  say(text);
}

function undo() {
  act(async () => {
    const progress = await askUntilAnswered("undo", { revision: state.revision });
    advance(progress, progress.undone);
    await go(progress.undone);
    say(`Pair ${place(progress.undone)}: the last decision was taken back.`);
  });
}

function advance(progress, number) {
  state.revision = progress.revision;
  if (progress.done) done.add(number);
  else done.delete(number);
  drawProgress();
}

const place = (number) => state.queue.indexOf(number) + 1;

function step(by) {
  act(async () => {
    if (!item) return;
    const to = state.queue[state.queue.indexOf(item.number) + by];
    if (to === undefined) return;
    say("");
    await go(to);
  });
}

function nextOpen() {
  act(async () => {
    await refresh();
    const at = item ? state.queue.indexOf(item.number) : -1;
    const around = [...state.queue.slice(at + 1), ...state.queue.slice(0, at + 1)];
    say("");
    await go(around.find((number) => !done.has(number)));
  });
}

/* What is shown. */

function drawProgress() {
  const total = state.queue.length;
  by("bar").max = total || 1;
  by("bar").value = done.size;
  by("count").textContent = `${done.size} of ${total} decided`;
  by("show-agreement").hidden = !state.agreement;
}

function drawPair() {
  by("finished").hidden = true;
  by("pair").hidden = false;
  by("position").textContent = `${place(item.number)} of ${state.queue.length}`;
  by("id").textContent = item.id;
  by("question").textContent = item.question;
  by("note").textContent = item.note;
  by("mark").textContent = item.judgement ? `decided: ${item.judgement.decision}` : "";
  by("mark").className = `badge ${item.judgement ? item.judgement.decision : ""}`;
  const at = state.queue.indexOf(item.number);
  by("previous").disabled = at <= 0;
  by("next").disabled = at === state.queue.length - 1;
  PICTURES.forEach((id, number) => {
    blur(id, true);
    const image = by(id).querySelector("img");
    image.removeAttribute("src"); // never the old picture under the new pair
    image.src = `picture/${item.number}/${number}`;
  });
  drawVotes();
  drawProposals();
  drawAnswers();
}

function drawVotes() {
  by("votes").hidden = !item.votes;
  if (!item.votes) return;
  const part = (vote, question) => {
    const word = vote[question];
    return item.differ.includes(question) ? element("mark", {}, word) : word;
  };
  by("vote-list").replaceChildren(...item.votes.map((vote) => {
    const parts = vote.decision === "accept" ? ["decision", "category", "difficulty"] : ["decision", "reason"];
    const words = parts.flatMap((question, number) => (number ? [", ", part(vote, question)] : [part(vote, question)]));
    return element("li", {}, element("span", { class: "times" }, `${vote.times} ×`), element("span", {}, ...words));
  }));
}

function drawProposals() {
  for (const button of document.querySelectorAll(".answer")) {
    button.querySelector(".proposed").textContent =
      item.proposed && item.proposed[button.dataset.question] === button.dataset.value ? "proposed" : "";
  }
}

function drawAnswers() {
  const rejected = draft.decision === "reject";
  for (const button of document.querySelectorAll(".answer")) {
    button.setAttribute("aria-pressed", String(draft[button.dataset.question] === button.dataset.value));
  }
  by("categories").hidden = by("difficulties").hidden = rejected;
  by("reasons").hidden = !rejected;
  const open = [];
  if (!draft.decision) open.push("accept or reject");
  if (rejected && !draft.reason) open.push("why not");
  if (!rejected && !draft.category) open.push("category");
  if (!rejected && !draft.difficulty) open.push("easy or hard");
  by("missing").textContent = open.length ? `Still open: ${open.join(", ")}.` : "";
}

function blur(id, blurred) {
  const button = by(id);
  button.setAttribute("aria-pressed", String(!blurred));
  if (!blurred) looked[PICTURES.indexOf(id)] = true;
}

function toggle(id) {
  if (item && !by("pair").hidden) blur(id, by(id).getAttribute("aria-pressed") === "true");
}

function finish() {
  by("pair").hidden = true;
  by("finished").hidden = false;
  item = null;
  const waiting = state.waiting;
  const adjudicator = state.role === "adjudicator";
  by("finished-title").textContent = state.queue.length ? "All pairs are decided" : "Nothing to adjudicate";
  by("finished-text").textContent = adjudicator
    ? waiting ? `${waiting} pairs are not yet decided by everyone; some may still come here.` : "No more will come."
    : state.agreement ? "Thank you. Everyone is done." : "Thank you. How far all agree is shown here once everyone is done.";
  by("finished-agreement").replaceChildren(...(state.agreement ? [agreementTable()] : []));
  by("look-back").hidden = !state.queue.length;
  by("look-again").hidden = !waiting;
  by("finished-title").focus();
}

function agreementTable() {
  const share = (row) => (row.pairs ? `${((100 * row.agreed) / row.pairs).toFixed(1)} %` : "–");
  const kappa = (row) => (row.kappa === null ? "–" : row.kappa.toFixed(2));
  const bounds = (row) => (row.low === null ? "–" : `${row.low.toFixed(2)} to ${row.high.toFixed(2)}`);
  const columns = [["pairs", (row) => row.pairs], ["all alike", share], ["Fleiss’ κ", kappa], ["95 % interval", bounds]];
  const head = [element("th", { scope: "col" }, "question"),
    ...columns.map(([title]) => element("th", { scope: "col", class: "number" }, title))];
  const rows = state.agreement.map((row) => element("tr", {}, element("th", { scope: "row" }, row.question),
    ...columns.map(([, cell]) => element("td", { class: "number" }, String(cell(row))))));
  const note = element("p", { class: "muted" },
    "Pairs that everyone has decided; category and difficulty where everyone accepted. – : not defined.");
  return element("div", {},
    element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)), note);
}

/* Controls. */

function answerButton(question, value, key, title, explanation = "") {
  const name = element("span", { class: "words" }, explanation ? element("b", {}, title) : title);
  if (explanation) name.append(element("small", {}, explanation));
  const button = element("button", { type: "button", class: `answer ${value}`, "aria-pressed": "false", "aria-keyshortcuts": key },
    element("kbd", { "aria-hidden": "true" }, key), name, element("span", { class: "proposed" }));
  button.dataset.question = question;
  button.dataset.value = value;
  button.addEventListener("click", () => answer(question, value));
  return button;
}

const keys = new Map(); // key -> what it does

function buildAnswers() {
  const offer = (box, question, value, key, title, explanation) => {
    by(box).append(answerButton(question, value, key.toUpperCase(), title, explanation));
    if (!/\d/.test(key)) keys.set(key, () => answer(question, value));
  };
  offer("decisions", "decision", "accept", "a", "Accept");
  offer("decisions", "decision", "reject", "r", "Reject");
  state.categories.forEach((category, at) => offer("categories", "category", category, String(at + 1), category));
  state.difficulties.forEach((value) => offer("difficulties", "difficulty", value, value[0], ...DIFFICULTY[value]));
  state.reasons.forEach((reason, at) => offer("reasons", "reason", reason, String(at + 1), reason));
  for (let at = 0; at < 9; at++) {
    keys.set(String(at + 1), () => {
      const rejected = draft.decision === "reject";
      const value = (rejected ? state.reasons : state.categories)[at];
      if (value) answer(rejected ? "reason" : "category", value);
    });
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
  if (event.target instanceof HTMLInputElement) return;
  if (event.key === "Escape") return PICTURES.forEach((id) => blur(id, true));
  if (!by("single").checked) return;
  const action = keys.get(event.key.toLowerCase());
  if (!action || (!item && !["u", "n", "?"].includes(event.key.toLowerCase()))) return;
  event.preventDefault();
  action();
}

function buildControls() {
  buildAnswers();
  const buttons = { undo, help: () => by("keys").showModal(), previous: () => step(-1), next: () => step(1), open: nextOpen };
  for (const [id, action] of Object.entries(buttons)) by(id).addEventListener("click", action);
  const more = { u: undo, "?": buttons.help, arrowleft: buttons.previous, arrowright: buttons.next, n: nextOpen };
  for (const [key, action] of Object.entries(more)) keys.set(key, action);
  PICTURES.forEach((id) => {
    by(id).addEventListener("click", () => toggle(id));
    by(id).querySelector("img").addEventListener("error", () => say(`The ${id} picture cannot be shown; tell who runs this review.`, true));
    keys.set(id[0], () => toggle(id));
  });
  by("look-again").addEventListener("click", nextOpen);
  by("look-back").addEventListener("click", () => act(() => go(state.queue[0], true)));
  by("show-agreement").addEventListener("click", () => act(async () => {
    await refresh();
    by("agreement-table").replaceChildren(agreementTable());
    by("agreement").showModal();
  }));
  document.addEventListener("keydown", onKey);
  // What another tab has decided meanwhile; an answer that was begun here stays.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || busy) return;
    const begun = item && JSON.stringify(draft) !== JSON.stringify({ ...item.judgement });
    act(async () => {
      await refresh();
      if (!item) finish();
      else if (!begun && state.queue.includes(item.number)) await load(item.number);
    });
  });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
}

act(async () => {
  await refresh();
  buildControls();
  by("person").textContent = `${state.name}, ${state.role}`;
  document.title = `Review of pairs, ${state.name}`;
  await go(state.queue.find((number) => !done.has(number)));
});
