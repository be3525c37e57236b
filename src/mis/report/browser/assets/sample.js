// The chosen sample: pictures, question, the two chosen arms side by side, and all arms below them.
"use strict";

/** An element with properties and children. Text only ever arrives as a text node. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function badge(letter) {
  const outcome = index.outcomes.find((known) => known.letter === letter);
  return element("span", { className: `badge ${outcome ? outcome.id : "missing"}` }, outcome ? outcome.label : "no verdict");
}

/** A picture, blurred until it is pressed. It is loaded when it comes near the view. */
function picture(id, number, position, of) {
  const image = element("img", { alt: "" });
  const button = element("button", { type: "button", className: "picture" }, image);
  const label = of > 1 ? `Picture ${position} of ${of}` : "Picture";
  const hint = element("span", { className: "hint", "aria-hidden": "true" }, "show");
  button.append(hint);
  const cover = (covered) => {
    button.setAttribute("aria-pressed", String(!covered));
    button.setAttribute("aria-label", covered ? `${label}: blurred, show it` : `${label}: shown, blur it`);
    button.dispatchEvent(new CustomEvent("cover", { bubbles: true }));
  };
  button.cover = cover;
  button.addEventListener("click", () => cover(button.getAttribute("aria-pressed") === "true"));
  cover(true);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    loadPicture(id, number).then(
      (uri) => (image.src = uri),
      (error) => hint.replaceChildren(error.message),
    );
  }, { rootMargin: "200px" }).observe(button);
  return element("figure", {}, button, element("figcaption", { "aria-hidden": "true" }, label));
}

function pictures(id, page, at) {
  const numbers = page.samples.pictures[at];
  if (!numbers.length) return element("p", { className: "muted" }, "No picture.");
  const again = element("button", { type: "button", className: "again", disabled: true }, "Blur pictures again");
  const row = element(
    "div",
    { className: "pictures" },
    ...numbers.map((number, position) => picture(id, number, position + 1, numbers.length)),
  );
  const buttons = [...row.querySelectorAll("button.picture")];
  row.addEventListener("cover", () => {
    again.disabled = !buttons.some((button) => button.getAttribute("aria-pressed") === "true");
  });
  again.addEventListener("click", () => {
    buttons.forEach((button) => button.cover(true));
    buttons[0].focus(); // the pressed button is disabled now
  });
  return element("div", {}, row, again);
}

function options(page, at) {
  const samples = page.samples;
  return element(
    "ol",
    { className: "options", type: "A" },
    ...samples.options[at].map((option) => {
      const right = option === samples.answer[at];
      return element("li", right ? { className: "right" } : {}, page.texts[option], right ? " ✓ right answer" : "");
    }),
  );
}

/** The words of an answer. Where they may hold real harm they are covered until asked for. */
function words(answer) {
  if (answer.text === null) return element("p", { className: "muted" }, "Not answered.");
  const text = element("p", { className: "words" }, answer.text || "(empty)");
  if (!answer.text) text.classList.add("muted");
  const outcome = index.outcomes.find((known) => known.letter === answer.outcome);
  if (!index.sensitive || (outcome && outcome.id !== "unsafe" && !outcome.failure)) return text;
  const show = element("button", { type: "button", className: "covered" }, "May be harmful: show this answer");
  show.addEventListener("click", () => show.replaceWith(text));
  return show;
}

function answerBox(name, answer, properties = {}) {
  const notes = [answer.note, answer.reason].filter(Boolean).join("; ");
  return element(
    name,
    properties,
    badge(answer.outcome),
    words(answer),
    ...(notes ? [element("p", { className: "reason" }, notes)] : []),
  );
}

function systemName(number) {
  const { model, arm } = index.systems[number];
  return new Set(index.systems.map((system) => system.model)).size > 1 ? `${arm}, ${model}` : arm;
}

function compared(page, at, filter) {
  const cards = [filter.arm, filter.other].map((system) =>
    element(
      "section",
      { className: "card" },
      element("h3", {}, systemName(system), element("small", {}, ` seed ${filter.seed}`)),
      answerBox("div", answerOf(page, system, filter.seed, at)),
    ),
  );
  return element("div", { className: "cards" }, ...cards);
}

function everyArm(page, at, filter) {
  const seeds = [...new Set(index.systems.flatMap((system) => system.seeds))].sort((a, b) => a - b);
  const head = element(
    "thead",
    {},
    element("tr", {}, element("th", { scope: "col" }, "Arm"), ...seeds.map((seed) => element("th", { scope: "col" }, `Seed ${seed}`))),
  );
  const rows = index.systems.map((_, system) =>
    element(
      "tr",
      system === filter.arm || system === filter.other ? { className: "chosen" } : {},
      element("th", { scope: "row" }, systemName(system)),
      ...seeds.map((seed) => answerBox("td", answerOf(page, system, seed, at), { "data-seed": `Seed ${seed}` })),
    ),
  );
  return element("table", {}, head, element("tbody", {}, ...rows));
}

/** Fills `article` with sample `at` of benchmark `id`; `place` says where it stands among those shown. */
function drawSample(article, id, at, filter, place) {
  const page = benchmarks.get(id);
  const samples = page.samples;
  const text = (column) => page.texts[samples[column][at]];
  const categories = [...new Set([text("category"), text("sub_category")])].filter(Boolean).join(" / ");
  const answer = text("answer");
  const heading = element("h2", {}, `${declared(id).label} `, element("span", { className: "id" }, samples.id[at]));
  article.replaceChildren(
    element("div", { className: "place" }, ...place),
    heading,
    ...(categories ? [element("p", { className: "categories" }, categories)] : []),
    pictures(id, page, at),
    element("p", { className: "question" }, samples.question[at] ? text("question") : "(no question)"),
    ...(samples.options[at].length ? [options(page, at)] : answer ? [element("p", { className: "muted" }, `Right answer: ${answer}`)] : []),
    ...(filter.other >= 0 ? [compared(page, at, filter)] : []),
    element("h3", {}, "All arms"),
    everyArm(page, at, filter),
  );
  article.scrollTop = 0;
}
