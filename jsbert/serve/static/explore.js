// The page: texts become vectors on the server; search and map are computed here.

import { Map2d } from "/page/map.js";
import {
  MOST_TEXTS, columnOf, floats, linesOf, npy, readTable, save, textColumn,
} from "/page/tables.js";

const SHOWN = 50; // results
const NEAR = 10; // nearest texts that the map marks
const CHUNK = 128; // texts of a request
const PAUSE = 120; // milliseconds without a key before a query is sent
const AXES_FROM = 2048; // vectors from which the axes of the map are computed

const $ = (id) => document.getElementById(id);
const state = {
  info: null, texts: [], vectors: new Float32Array(0), mean: null, axes: null, name: "",
  work: null, asking: null, results: [], selected: -1, table: null, queryVector: null,
};
let key = sessionStorage.getItem("jsbert-key") ?? "";
const map = new Map2d($("map"), pick, tell);

// ---- the server

async function ask(path, body, signal) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const options = { headers, signal };
  if (body !== undefined) {
    options.method = "POST";
    const isRaw = body instanceof Float32Array;
    options.body = isRaw ? body : JSON.stringify(body);
    headers["content-type"] = isRaw ? "application/octet-stream" : "application/json";
  }
  for (let turn = 0; ; turn += 1) {
    const answer = await fetch(path, options);
    if (answer.ok) return answer.json();
    if ((answer.status === 429 || answer.status === 503) && turn < 60) {
      await pause(1000 * Math.min(5, Number(answer.headers.get("retry-after") ?? 1)), signal);
      continue;
    }
    if (answer.status === 401) $("key-form").hidden = false;
    let message = `${answer.status} ${answer.statusText}`;
    try { message = (await answer.json()).error ?? message; } catch { /* no JSON */ }
    throw new Error(message);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function connect() {
  try {
    const info = await ask("/page/info");
    state.info = info;
    $("key-form").hidden = true;
    if (!info.model) throw new Error("The server has no bi-encoder: start it with jsbert serve MODEL.");
    const reranker = info.reranker ? `, reranker ${info.reranker}` : "";
    $("server").textContent =
      `${info.model}, ${info.dimension} dimensions, at most ${info.max_tokens} tokens${reranker}`;
    $("rerank-choice").hidden = !info.reranker;
    if (info.corpus) {
      const corpus = await ask("/page/corpus");
      await embed(corpus.texts, corpus.name);
    }
  } catch (error) {
    $("server").textContent = "Not connected";
    problem(error);
  }
}

// ---- the corpus

async function embed(texts, name) {
  state.work?.abort();
  problem(null);
  if (!state.info?.model) return problem(new Error("The server is not ready yet."));
  if (!texts.length) return problem(new Error("There is no text: give a text in each line."));
  const left = Math.max(0, texts.length - MOST_TEXTS);
  texts = texts.slice(0, MOST_TEXTS);
  const work = (state.work = new AbortController());
  const { dimension } = state.info;
  const vectors = new Float32Array(texts.length * dimension);
  const chunk = Math.min(CHUNK, state.info.max_texts);
  let done = 0, next = 0, truncated = 0;
  const started = performance.now();
  $("working").hidden = false;
  const note = () => {
    $("progress").value = done / texts.length;
    const seconds = (performance.now() - started) / 1000;
    const rate = done / seconds;
    const rest = done ? `, ${Math.ceil((texts.length - done) / rate)} s left` : "";
    $("rate").textContent = `${done.toLocaleString()} of ${texts.length.toLocaleString()}${rest}`;
  };
  const send = async () => {
    while (next < texts.length) {
      const first = next;
      const some = texts.slice(first, (next += chunk));
      const found = await ask("/page/embed", { texts: some }, work.signal);
      vectors.set(floats(found.vectors), first * dimension);
      truncated += found.truncated.length;
      done += some.length;
      note();
    }
  };
  note();
  try {
    await Promise.all([send(), send()]); // while one is computed, the other is on its way
    const step = Math.max(1, Math.floor(texts.length / AXES_FROM));
    const rows = [];
    for (let i = 0; i < texts.length && rows.length < AXES_FROM; i += step) rows.push(i);
    const sample = new Float32Array(rows.length * dimension);
    rows.forEach((row, i) =>
      sample.set(vectors.subarray(row * dimension, (row + 1) * dimension), i * dimension));
    const plane = await ask("/page/axes", sample, work.signal);
    if (work.signal.aborted) return;
    Object.assign(state, {
      texts, vectors, name, mean: floats(plane.mean), axes: floats(plane.axes),
      results: [], selected: -1,
    });
    const points = new Float32Array(2 * texts.length);
    for (let i = 0; i < texts.length; i += 1) {
      points.set(onMap(vectors.subarray(i * dimension, (i + 1) * dimension)), 2 * i);
    }
    map.show(points);
    $("query").disabled = false;
    $("saves").hidden = false;
    const limit = state.info.max_tokens;
    const cut = truncated ? ` ${truncated} are longer than ${limit} tokens and were cut there.` : "";
    const over = left ? ` ${left.toLocaleString()} more were left out: the page takes ${MOST_TEXTS.toLocaleString()}.` : "";
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    $("status").textContent =
      `${texts.length.toLocaleString()} texts of ${name} in ${seconds} s.${cut}${over}`;
    await search();
  } catch (error) {
    if (work.signal.aborted) $("status").textContent = "Stopped.";
    else problem(error);
  } finally {
    if (state.work === work) $("working").hidden = true;
  }
}

function onMap(vector) {
  const { mean, axes } = state;
  let x = 0, y = 0;
  for (let i = 0; i < mean.length; i += 1) {
    const value = vector[i] - mean[i];
    x += value * axes[i];
    y += value * axes[mean.length + i];
  }
  return [x, y];
}

async function readFile(file) {
  try {
    const content = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    const kind = file.name.toLowerCase().split(".").pop();
    $("column-choice").hidden = true;
    if (kind !== "csv" && kind !== "tsv") return embed(linesOf(content), file.name);
    const table = readTable(content, kind === "csv" ? "," : "\t");
    if (!table.header.length) throw new Error(`${file.name} is empty.`);
    state.table = { ...table, name: file.name };
    const place = textColumn(table.header);
    $("column").replaceChildren(...table.header.map((name, i) => new Option(name || i + 1, i)));
    $("column").value = place;
    $("column-choice").hidden = table.header.length < 2;
    return embed(columnOf(table, place), file.name);
  } catch (error) {
    const isCoding = error instanceof TypeError;
    return problem(isCoding ? new Error(`${file.name} is not UTF-8 text.`) : error);
  }
}

// ---- search

let timer = 0;
function searchSoon() {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE);
}

async function search() {
  const query = $("query").value.trim();
  state.asking?.abort();
  if (!query || !state.texts.length) {
    map.mark(null, []);
    return show([], "");
  }
  const asking = (state.asking = new AbortController());
  try {
    const started = performance.now();
    const found = await ask("/page/embed", { texts: [query], query: true }, asking.signal);
    const vector = floats(found.vectors);
    const { vectors, texts } = state;
    const scores = new Float32Array(texts.length);
    for (let i = 0; i < texts.length; i += 1) {
      let sum = 0;
      const start = i * vector.length;
      for (let j = 0; j < vector.length; j += 1) sum += vectors[start + j] * vector[j];
      scores[i] = sum;
    }
    let results = best(scores, SHOWN).map((place) => ({ place, score: scores[place] }));
    map.mark(onMap(vector), results.slice(0, NEAR).map((result) => result.place));
    const cut = found.truncated.length ? " The query was cut: it is too long." : "";
    const told = () => `${results.length} of ${texts.length.toLocaleString()} texts, ` +
      `${Math.round(performance.now() - started)} ms.${cut}`;
    show(results, told());
    if ($("rerank").checked && !$("rerank-choice").hidden) {
      const body = { query, texts: results.map((result) => texts[result.place]) };
      const ranks = await ask("/rerank", body, asking.signal);
      results = ranks.map((rank) => ({ place: results[rank.index].place, score: rank.score }));
      show(results, `Reranked. ${told()}`);
    }
    problem(null);
  } catch (error) {
    if (!asking.signal.aborted) problem(error);
  }
}

// The places of the `count` largest scores, largest first, ties in order.
function best(scores, count) {
  const places = Array.from(scores.keys());
  places.sort((a, b) => scores[b] - scores[a] || a - b);
  return places.slice(0, count);
}

function show(results, told) {
  state.results = results;
  state.selected = -1;
  $("found").textContent = told;
  $("results").removeAttribute("aria-activedescendant");
  $("results").replaceChildren(...results.map(({ place, score }, i) => {
    const item = document.createElement("li");
    item.id = `result-${i}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    const [number, text] = [document.createElement("span"), document.createElement("span")];
    number.className = "score";
    number.textContent = score.toFixed(4);
    text.textContent = state.texts[place];
    item.append(number, text);
    item.addEventListener("click", () => pick(place));
    return item;
  }));
}

// Select a text: in the results if it is there, and on the map.
function pick(place) {
  state.selected = state.results.findIndex((result) => result.place === place);
  [...$("results").children].forEach((item, i) => {
    item.setAttribute("aria-selected", String(i === state.selected));
    if (i === state.selected) item.scrollIntoView({ block: "nearest" });
  });
  if (state.selected >= 0) {
    $("results").setAttribute("aria-activedescendant", `result-${state.selected}`);
  } else $("results").removeAttribute("aria-activedescendant");
  map.pick(place);
  tell(place);
}

function tell(place) {
  const shown = place >= 0 ? place : map.picked;
  $("tip").textContent = shown >= 0 ? state.texts[shown] : "";
}

function problem(error) {
  $("problem").textContent = error ? error.message : "";
}

// ---- what the user does

$("embed").addEventListener("click", () => embed(linesOf($("texts").value), "the lines above"));
$("file").addEventListener("change", () => {
  if ($("file").files[0]) readFile($("file").files[0]);
  $("file").value = "";
});
$("column").addEventListener("change", () =>
  embed(columnOf(state.table, Number($("column").value)), state.table.name));
$("cancel").addEventListener("click", () => state.work?.abort());
$("query").addEventListener("input", searchSoon);
$("rerank").addEventListener("change", search);
$("save-vectors").addEventListener("click", () =>
  save(npy(state.vectors, state.info.dimension), "vectors.npy"));
$("save-texts").addEventListener("click", () =>
  save(new Blob([state.texts.join("\n") + "\n"], { type: "text/plain" }), "texts.txt"));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  sessionStorage.setItem("jsbert-key", key);
  problem(null);
  connect();
});
for (const element of [$("results"), $("query")]) {
  element.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !state.results.length) return;
    event.preventDefault();
    const last = state.results.length - 1;
    pick(state.results[Math.min(last, Math.max(0, state.selected + step))].place);
  });
}
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !isTyping && !$("query").disabled) {
    event.preventDefault();
    $("query").focus();
  }
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) readFile(event.dataTransfer.files[0]);
  });
}

connect();
