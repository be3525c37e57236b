// What the folder holds, loaded when asked for, and which samples a filter leaves.
"use strict";

/* Loading. A page opened from a folder may not fetch, but it may add scripts: each data file is one call of a
   receive function. */

let index = null;
const benchmarks = new Map(); // id -> {texts, samples, runs, packs, ...} as written by pages.py
const packs = new Map(); // "id number" -> list of data URIs
const loading = new Map(); // file -> promise

function receiveIndex(received) {
  index = received;
}

function receiveBenchmark(id, page) {
  benchmarks.set(id, page);
}

function receivePictures(id, number, uris) {
  packs.set(`${id} ${number}`, uris);
}

function load(file) {
  if (!loading.has(file)) {
    loading.set(
      file,
      new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = file;
        script.onload = resolve;
        script.onerror = () => {
          loading.delete(file); // so that another attempt asks again
          reject(new Error(`${file} is missing beside this page; run "mis browser" again`));
        };
        document.head.append(script);
      }),
    );
  }
  return loading.get(file);
}

function declared(id) {
  return index.benchmarks.find((benchmark) => benchmark.id === id);
}

async function loadBenchmarks(ids) {
  await Promise.all(ids.map((id) => load(`data/${declared(id).file}.js`)));
}

async function loadPicture(id, number) {
  const starts = benchmarks.get(id).packs;
  let pack = starts.length - 1;
  while (starts[pack] > number) pack -= 1;
  await load(`pictures/${declared(id).file}.${pack}.js`);
  return packs.get(`${id} ${pack}`)[number - starts[pack]];
}

/* Reading. */

/** What a system of a seed said to sample `at`: {text: null if it was not asked, note, outcome: letter, reason}. */
function answerOf(page, system, seed, at) {
  const run = page.runs[`${system}.${seed}`];
  const number = run && run.text.length ? run.text[at] : -1;
  return {
    text: number < 0 ? null : page.texts[number],
    note: run && run.note.length ? page.texts[run.note[at]] : "",
    outcome: run ? run.outcome[at] : "-",
    reason: run && run.reason.length ? page.texts[run.reason[at]] : "",
  };
}

/** Which of a benchmark's texts hold the lower-case `words`, as a byte a text. */
function textsWith(page, words) {
  page.lower ??= page.texts.map((text) => text.toLowerCase());
  return Uint8Array.from(page.lower, (text) => text.includes(words));
}

/** The samples that `filter` leaves, as [benchmark, position] pairs in the order of the files, and counts of outcomes.
 *  `counts[k]` counts arm k's outcomes (letter -> samples) under all filters but its own outcomes', so that a reader
 *  sees what another choice would give. */
function select(filter) {
  const rows = [];
  const counts = [new Map(), new Map()];
  const words = filter.search.trim().toLowerCase();
  for (const id of filter.benchmarks) {
    const page = benchmarks.get(id);
    const samples = page.samples;
    const runs = [filter.arm, filter.other].map((system) => page.runs[`${system}.${filter.seed}`]);
    const found = words ? textsWith(page, words) : null;
    for (let at = 0; at < samples.id.length; at += 1) {
      if (filter.category && page.texts[samples.category[at]] !== filter.category) continue;
      if (found && !matches(page, at, runs, found, words)) continue;
      const outcome = runs.map((run) => (run ? run.outcome[at] : "-"));
      if (filter.differs && filter.other >= 0 && outcome[0] === outcome[1]) continue;
      const wanted = [
        !filter.outcomes.size || filter.outcomes.has(outcome[0]),
        filter.other < 0 || !filter.otherOutcomes.size || filter.otherOutcomes.has(outcome[1]),
      ];
      if (wanted[1]) counts[0].set(outcome[0], (counts[0].get(outcome[0]) ?? 0) + 1);
      if (wanted[0]) counts[1].set(outcome[1], (counts[1].get(outcome[1]) ?? 0) + 1);
      if (wanted[0] && wanted[1]) rows.push([id, at]);
    }
  }
  return { rows, counts };
}

function matches(page, at, runs, found, words) {
  const samples = page.samples;
  return (
    found[samples.question[at]] ||
    samples.id[at].toLowerCase().includes(words) ||
    samples.options[at].some((option) => found[option]) ||
    runs.some((run) => run && run.text.length && run.text[at] >= 0 && found[run.text[at]])
  );
}
