"use strict";
const { heads, inputTypes, examples } = JSON.parse(document.getElementById("facts").textContent);
const MOST_BARS = 12;
// By type of input: its fields and their titles.
const FIELDS = {
  text: { text: "Text" },
  pair: { text: "Text", text_pair: "Second text" },
  question: { question: "Question", context: "Context" },
  choices: { text: "Text", choices: "Choices, one per line" },
};
const find = (id) => document.getElementById(id);
let inputType = inputTypes[0];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function showFields(values = {}) {
  find("fields").replaceChildren(...Object.entries(FIELDS[inputType]).map(([key, title]) => {
    const label = element("label", "", title);
    const area = element("textarea");
    area.name = key;
    area.rows = key === "context" ? 6 : 3;
    area.value = Array.isArray(values[key]) ? values[key].join("\n") : values[key] ?? "";
    label.append(area);
    return label;
  }));
}

function currentInput() {
  const input = {};
  for (const area of find("fields").querySelectorAll("textarea")) {
    input[area.name] = area.name === "choices" ? area.value.split("\n").filter((line) => line.trim()) : area.value;
  }
  return input;
}

function typeOf(input) {
  if (typeof input === "string") return "text";
  return Object.keys(FIELDS).reverse().find((name) => Object.keys(FIELDS[name]).every((key) => key in input)) ?? "text"; // `text` fits most
}

// Offsets count characters of Python (code points), not the UTF-16 units of JavaScript.
function slices(text, spans) {
  const points = Array.from(text);
  const parts = [];
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start > at) parts.push([points.slice(at, span.start).join(""), null]);
    parts.push([points.slice(Math.max(span.start, at), span.end).join(""), span.label]);
    at = Math.max(at, span.end);
  }
  parts.push([points.slice(at).join(""), null]);
  return parts;
}

function highlighted(text, spans, labels) {
  const line = element("p", "text");
  for (const [part, label] of slices(text, spans)) {
    if (label === null) { line.append(part); continue; }
    const mark = element("mark", `c${Math.max(labels.indexOf(label), 0) % 8}`, part);
    mark.append(element("small", "", label));
    line.append(mark);
  }
  return line;
}

function bars(probabilities, chosen) {
  const pairs = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const shown = pairs.slice(0, MOST_BARS).map(([label, share]) => {
    const bar = element("div", chosen.includes(label) ? "bar is-chosen" : "bar");
    const meter = element("meter");
    meter.value = share;
    bar.append(element("b", "", label), meter, element("span", "", `${(100 * share).toFixed(1)}%`));
    return bar;
  });
  if (pairs.length > MOST_BARS) shown.push(element("p", "note", `and ${pairs.length - MOST_BARS} less likely ones`));
  return shown;
}

function shownPrediction(found, output, labels) {
  if (found.entities) {
    const types = [...new Set(labels.map((label) => label.replace(/^[BI]-/, "")))];
    const note = found.entities.length ? [] : [element("p", "note", "no entity found")];
    return [highlighted(output.text, found.entities, types), ...note];
  }
  if (found.tags) {
    return found.words.map((word, i) => {
      const box = element("span", "word", word);
      box.append(element("small", "", found.tags[i] ?? "not read"));
      return box;
    });
  }
  if ("answer" in found) {
    if (found.answer === null) return [element("p", "note", "no answer in this context")];
    return [highlighted(output.context, [{ ...found, label: "answer" }], ["answer"])];
  }
  if ("choice" in found) {
    const named = Object.fromEntries(found.probabilities.map((share, i) => [output.choices[i], share]));
    return bars(named, [found.text]);
  }
  if (found.probabilities) return bars(found.probabilities, found.labels ?? [found.label ?? found.value]);
  return [element("p", "text", String(found.value ?? JSON.stringify(found)))];
}

function showOutput(output) {
  const boxes = [];
  for (const [task, byHead] of Object.entries(output.predictions)) {
    for (const [head, found] of Object.entries(byHead)) {
      const box = element("div", "head");
      const title = element("h2", "", `${task} `);
      title.append(element("small", "", head));
      box.append(title, ...shownPrediction(found, output, heads[task]?.[head]?.labels ?? []));
      boxes.push(box);
    }
  }
  if (output.truncated) boxes.push(element("p", "note", "The text is longer than the model reads: its end was left out."));
  find("outputs").replaceChildren(...boxes);
}

async function predict(event) {
  event?.preventDefault();
  const button = document.querySelector("button");
  const body = JSON.stringify({ inputs: [currentInput()] });
  const quoted = `'${body.replaceAll("'", "'\\''")}'`;
  find("command").textContent = `curl ${location.origin}/predict -H 'Content-Type: application/json' -d ${quoted}`;
  button.disabled = true;
  find("error").hidden = true;
  const started = performance.now();
  try {
    const answer = await fetch("predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error ?? `status ${answer.status}`);
    showOutput(found.outputs[0]);
    find("took").textContent = `${Math.round(performance.now() - started)} ms`;
  } catch (error) {
    find("error").textContent = error.message;
    find("error").hidden = false;
    find("outputs").replaceChildren();
  }
  button.disabled = false;
}

function choose(name, values) {
  inputType = name;
  for (const box of find("types").querySelectorAll("input")) box.checked = box.value === name;
  showFields(values);
}

const TITLES = { text: "one text", pair: "two texts", question: "question and context", choices: "text and choices" };
find("types").hidden = inputTypes.length < 2;
find("types").append(...inputTypes.map((name) => {
  const label = element("label", "", TITLES[name]);
  const box = element("input");
  Object.assign(box, { type: "radio", name: "type", value: name });
  box.addEventListener("change", () => choose(name, currentInput()));
  label.prepend(box, " ");
  return label;
}));
const list = find("examples");
list.hidden = examples.length === 0;
list.append(element("option", "", "examples from the test set"), ...examples.map((example) =>
  element("option", "", (example.text ?? example.question ?? String(example)).slice(0, 80))));
list.addEventListener("change", () => {
  const example = examples[list.selectedIndex - 1];
  if (example === undefined) return;
  choose(typeOf(example), typeof example === "string" ? { text: example } : example);
  predict();
});
find("form").addEventListener("submit", predict);
find("form").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) predict(event); });
choose(inputTypes[0]);
