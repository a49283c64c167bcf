// Runs a classifier in the browser: picks, draws or pastes an input, shows the probability of each class.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const [channels, height, width] = facts.shape;
const isImage = height > 1;
const count = channels * height * width;
const element = (id) => document.getElementById(id);
const canvas = element("drawing");
const values = new Float32Array(count).fill(Math.min(Math.max(0, facts.low), facts.high));
let session = null;
let samples = [];
let shown = null; // the sample that is drawn, null once it was changed
let running = Promise.resolve();

function say(text) {
  element("message").textContent = text;
  element("message").hidden = text === "";
}

// --- the model -----------------------------------------------------------------------------------------------------

async function load() {
  if (location.protocol === "file:") {
    throw new Error("a browser reads no model from a file:// page; serve this folder: python -m http.server");
  }
  if (typeof ort === "undefined") {
    throw new Error("onnxruntime-web could not be loaded; without a network connection, export with runtime=bundled");
  }
  ort.env.wasm.numThreads = 1; // more needs headers that a plain server does not send
  ort.env.wasm.wasmPaths = new URL(facts.runtime, location.href).href;
  session = await ort.InferenceSession.create(facts.model, { executionProviders: ["wasm"] });
  await session.run({ input: new ort.Tensor("float32", new Float32Array(count), [1, ...facts.input_shape]) }); // warm-up
}

async function predict() {
  const input = new ort.Tensor("float32", Float32Array.from(values), [1, ...facts.input_shape]);
  const start = performance.now();
  const output = await session.run({ input });
  const took = performance.now() - start;
  show(Array.from(output.probabilities.data), took);
}

function update() {
  draw();
  if (session === null) {
    return;
  }
  document.body.dataset.state = "running";
  running = running.then(predict).then(
    () => { document.body.dataset.state = "done"; },
    (error) => { document.body.dataset.state = "failed"; say(String(error.message || error)); },
  );
}

// --- the prediction --------------------------------------------------------------------------------------------------

function makeBars() {
  for (const name of facts.class_names) {
    const item = document.createElement("li");
    for (const part of ["name", "track", "share"]) {
      const cell = document.createElement("span");
      cell.className = part;
      item.append(cell);
    }
    const bar = document.createElement("div");
    bar.className = "bar";
    item.children[0].textContent = name;
    item.children[1].append(bar);
    element("classes").append(item);
  }
}

function show(probabilities, took) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  probabilities.forEach((p, c) => {
    const item = element("classes").children[c];
    item.dataset.probability = String(p);
    item.classList.toggle("best", c === best);
    item.querySelector(".bar").style.width = `${100 * p}%`;
    item.querySelector(".share").textContent = `${(100 * p).toFixed(1)} %`;
  });
  const truth = shown === null ? "" : `; its label is ${samples[shown].label}`;
  element("said").textContent = `Most likely ${facts.class_names[best]}${truth}.`;
  element("time").textContent = `One prediction took ${took.toFixed(2)} ms here.`;
}

// --- the input -------------------------------------------------------------------------------------------------------

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const channel = () => Number(element("channel").value || 0);

function draw() {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (isImage) {
    drawImage(context);
  } else {
    for (let c = 0; c < lines(); c++) {
      drawLine(context, c);
    }
  }
}

// A row of numbers without an order in time is drawn as one line as well: channels of one number each.
const lines = () => (width > 1 ? channels : 1);
const points = () => (width > 1 ? width : channels);

function drawImage(context) {
  const span = facts.high - facts.low || 1;
  const wide = canvas.width / width;
  const high = canvas.height / height;
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const shade = [0, 1, 2].map((c) => {
        const value = values[(Math.min(c, channels - 1) * height + i) * width + j];
        return Math.round(255 * Math.min(1, Math.max(0, (value - facts.low) / span)));
      });
      context.fillStyle = channels >= 3 ? `rgb(${shade})` : `rgb(${shade[0]},${shade[0]},${shade[0]})`;
      context.fillRect(j * wide, i * high, wide + 1, high + 1);
    }
  }
}

function drawLine(context, c) {
  const last = Math.max(1, points() - 1);
  const span = facts.high - facts.low || 1;
  context.strokeStyle = c === channel() ? color("--ink") : color("--soft");
  context.lineWidth = c === channel() ? 3 : 1.5;
  context.beginPath();
  for (let j = 0; j < points(); j++) {
    const share = (values[c * points() + j] - facts.low) / span;
    const x = 10 + (j / last) * (canvas.width - 20);
    const y = canvas.height - 10 - share * (canvas.height - 20);
    j === 0 ? context.moveTo(x, y) : context.lineTo(x, y);
  }
  context.stroke();
}

function changed() {
  shown = null;
  if (element("sample")) {
    element("sample").value = "";
  }
  update();
}

let previous = null;

function stroke(event) {
  const box = canvas.getBoundingClientRect();
  const x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const y = Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
  isImage ? paint(x, y) : bend(x, y);
  changed();
}

function paint(x, y) {
  const i = Math.min(height - 1, Math.floor(y * height));
  const j = Math.min(width - 1, Math.floor(x * width));
  const broad = Math.min(height, width) >= 20 ? 1 : 0; // a pen of three pixels on large images
  for (let p = Math.max(0, i - broad); p <= Math.min(height - 1, i + broad); p++) {
    for (let q = Math.max(0, j - broad); q <= Math.min(width - 1, j + broad); q++) {
      const strength = p === i && q === j ? 1 : 0.6;
      for (let c = 0; c < channels; c++) {
        const at = (c * height + p) * width + q;
        values[at] = Math.max(values[at], facts.low + strength * (facts.high - facts.low));
      }
    }
  }
}

function bend(x, y) {
  const at = Math.round(Math.min(1, Math.max(0, (x * canvas.width - 10) / (canvas.width - 20))) * (points() - 1));
  const share = Math.min(1, Math.max(0, (canvas.height - 10 - y * canvas.height) / (canvas.height - 20)));
  const value = facts.low + share * (facts.high - facts.low);
  const start = previous === null ? { at, value } : previous;
  const steps = Math.max(1, Math.abs(at - start.at));
  for (let n = 0; n <= steps; n++) {
    const j = start.at + Math.sign(at - start.at) * Math.min(n, Math.abs(at - start.at));
    values[channel() * points() + j] = start.value + (value - start.value) * (n / steps);
  }
  previous = { at, value };
}

function pick(number) {
  shown = number;
  values.set(samples[number].x);
  element("sample").value = String(number);
  say("");
  update();
}

function paste() {
  const words = element("numbers").value.split(/[\s,;]+/).filter((word) => word !== "");
  const wrong = words.findIndex((word) => !Number.isFinite(Number(word)));
  if (wrong >= 0) {
    say(`Number ${wrong + 1}, "${words[wrong].slice(0, 20)}", is no number.`);
  } else if (words.length !== count) {
    say(`${words.length} numbers are there, ${count} are needed.`);
  } else {
    say("");
    values.set(words.map(Number));
    changed();
  }
}

function explain() {
  const [low, high] = [facts.low, facts.high].map((value) => String(Number(value.toPrecision(3))));
  const what = isImage ? `black is ${low}, white is ${high}` : `${points()} numbers from left to right, ${low} at the bottom, ${high} at the top`;
  element("hint").textContent = `Draw on it to change it: ${what}.`;
}

function listen() {
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); previous = null; stroke(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) { stroke(event); } });
  element("clear").addEventListener("click", () => { values.fill(Math.min(Math.max(0, facts.low), facts.high)); changed(); });
  element("use").addEventListener("click", paste);
  element("channel").addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  if (element("sample")) {
    element("sample").addEventListener("change", (event) => { if (event.target.value !== "") { pick(Number(event.target.value)); } });
    element("random").addEventListener("click", () => pick(Math.floor(Math.random() * samples.length)));
  }
}

function offerChannels() {
  if (isImage || lines() < 2) {
    return;
  }
  for (let c = 0; c < lines(); c++) {
    element("channel").add(new Option(String(c + 1), String(c)));
  }
  element("channel").hidden = element("channel-label").hidden = false;
}

async function offerSamples() {
  if (!element("sample")) {
    return;
  }
  const answer = await fetch("samples.json");
  if (!answer.ok) {
    throw new Error(`samples.json: ${answer.status}`);
  }
  samples = await answer.json();
  element("sample").add(new Option("drawn or pasted", ""));
  samples.forEach((sample, n) => element("sample").add(new Option(`${n + 1}: ${sample.label}`, String(n))));
}

async function start() {
  if (isImage) {
    canvas.classList.add("image");
    canvas.width = 320;
    canvas.height = Math.round((320 * height) / width);
  }
  makeBars();
  explain();
  offerChannels();
  listen();
  draw();
  await load();
  await offerSamples();
  samples.length > 0 ? pick(0) : update();
}

start().catch((error) => { document.body.dataset.state = "failed"; say(String(error.message || error)); });
