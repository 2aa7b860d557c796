// The page around the model: what is drawn and asked, and how the answers are shown. The model is in model.wasm.gz.
import init, { Model } from "./glassbox_browser.js";

const at = (id) => document.getElementById(id);
const COLOURS = { red: [214, 40, 40], green: [42, 157, 74], blue: [38, 84, 205], yellow: [243, 200, 30], purple: [140, 55, 180], black: [32, 32, 34] };
const SHAPES = ["circle", "square", "triangle", "star"];
const SIGNS = { circle: "●", square: "■", triangle: "▲", star: "★" };

let model, size, across;
let base; // the picture without marks: ImageData
let tool = "cover", colour = "red";
let last; // the last answer
const question = { written: [], covered: [], zeroed: null, untrained: false };

function ask() {
  last = JSON.parse(model.step(new Uint8Array(base.data.buffer), JSON.stringify(question)));
  show();
}

function show() {
  paint();
  at("text").textContent = last.text.trim() || "…";
  const rows = last.top.map((token, index) => {
    const row = document.createElement("tr");
    const button = document.createElement("button");
    button.textContent = token.ends ? `${token.text} (the end)` : token.text.replaceAll("▁", " ");
    button.disabled = token.ends;
    button.onclick = () => take(token);
    const bar = document.createElement("div");
    bar.style.width = `${100 * token.probability}%`;
    const number = `${(100 * token.probability).toFixed(1)}%`;
    for (const [name, content] of [["", button], ["bar", bar], ["number", number]]) {
      const cell = document.createElement("td");
      cell.className = name;
      cell.append(content);
      row.append(cell);
    }
    row.dataset.rank = index + 1;
    return row;
  });
  at("top").replaceChildren(...rows);
  at("strip").innerHTML = last.strip; // written by the model's own code, every text in it escaped
  showAttention();
}

function take(token) {
  question.written.push(token.id);
  ask();
}

// The most probable token, until the caption ends.
function write() {
  if (last.top[0].ends) {
    question.written = [];
    ask();
  }
  for (let count = 0; count < 40 && !last.top[0].ends; count += 1) {
    question.written.push(last.top[0].id);
    last = JSON.parse(model.step(new Uint8Array(base.data.buffer), JSON.stringify(question)));
  }
  show();
}

function weights() {
  const layer = at("layer").value, head = at("head").value;
  const layers = layer === "all" ? last.attention : [last.attention[Number(layer)]];
  const rows = layers.flatMap((heads) => (head === "all" ? heads : [heads[Number(head)]]));
  return rows[0].map((_, place) => rows.reduce((sum, row) => sum + row[place], 0) / rows.length);
}

function showAttention() {
  const all = weights();
  const [onClass, ...patches] = all;
  const canvas = at("attention"), pen = canvas.getContext("2d"), side = canvas.width / across;
  pen.drawImage(at("picture"), 0, 0, canvas.width, canvas.height);
  const most = Math.max(...patches);
  patches.forEach((weight, index) => {
    // One scale whatever the token: full colour at a fifth of the whole attention.
    pen.fillStyle = `rgba(200, 0, 60, ${0.85 * Math.min(1, weight / 0.2)})`;
    pen.fillRect((index % across) * side, Math.floor(index / across) * side, side, side);
  });
  const sum = patches.reduce((a, b) => a + b, 0);
  at("share").textContent = `Of the attention of the place that predicts the next token, ${(100 * sum).toFixed(0)}% goes to the 25 patches (the strongest takes ${(100 * most).toFixed(1)}%), ${(100 * onClass).toFixed(0)}% to the class token, the rest to words and learned vectors. Full red is 20% on one patch.`;
}

function paint() {
  const pen = at("picture").getContext("2d"), side = size / across;
  pen.putImageData(base, 0, 0);
  pen.fillStyle = "rgb(128, 128, 128)";
  for (const patch of question.covered) {
    pen.fillRect((patch % across) * side, Math.floor(patch / across) * side, side, side);
  }
  pen.strokeStyle = "rgba(0, 0, 0, .18)";
  pen.lineWidth = 0.5;
  for (let line = 1; line < across; line += 1) {
    pen.beginPath();
    pen.moveTo(line * side, 0);
    pen.lineTo(line * side, size);
    pen.moveTo(0, line * side);
    pen.lineTo(size, line * side);
    pen.stroke();
  }
}

function renew(pixels, captions) {
  base = new ImageData(new Uint8ClampedArray(pixels), size, size);
  question.covered = [];
  question.written = [];
  at("captions").textContent = captions.length ? `A right caption: “${captions[0]}”` : "";
  ask();
}

function scene(number) {
  renew(model.scene(number), JSON.parse(model.captions(number)));
}

function stamp(x, y) {
  const canvas = new OffscreenCanvas(size, size), pen = canvas.getContext("2d"), r = size * 0.13;
  pen.putImageData(base, 0, 0);
  pen.fillStyle = `rgb(${COLOURS[colour].join(",")})`;
  pen.beginPath();
  if (tool === "circle") pen.arc(x, y, r, 0, 2 * Math.PI);
  if (tool === "square") pen.rect(x - r, y - r, 2 * r, 2 * r);
  const corners = { triangle: 3, star: 10 }[tool] ?? 0;
  for (let corner = 0; corner < corners; corner += 1) {
    const angle = (2 * Math.PI * corner) / corners - Math.PI / 2;
    const far = (tool === "star" && corner % 2 ? 0.42 : 1) * r * 1.15;
    pen.lineTo(x + far * Math.cos(angle), y + far * Math.sin(angle));
  }
  pen.fill();
  base = pen.getImageData(0, 0, size, size);
  at("captions").textContent = "";
}

function clicked(event) {
  const box = at("picture").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * size, y = ((event.clientY - box.top) / box.height) * size;
  if (tool === "cover") {
    const place = (value) => Math.max(0, Math.min(across - 1, Math.floor((value / size) * across)));
    const patch = place(y) * across + place(x);
    const covered = question.covered.indexOf(patch);
    if (covered < 0) question.covered.push(patch);
    else question.covered.splice(covered, 1);
  } else {
    stamp(x, y);
  }
  // The same words are asked about the other picture.
  ask();
}

function pick(buttons, chosen) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
}

function tools() {
  const group = (items, label, chosen, choose) => {
    const buttons = items.map((item) => {
      const button = document.createElement("button");
      button.title = item;
      button.setAttribute("aria-label", item);
      label(button, item);
      button.onclick = () => {
        choose(item);
        pick(buttons, button);
      };
      return button;
    });
    pick(buttons, buttons[items.indexOf(chosen)]);
    at("stamps").append(...buttons, document.createElement("br"));
  };
  group(["cover", ...SHAPES], (button, item) => { button.textContent = SIGNS[item] ?? "cover a patch"; }, "cover", (item) => { tool = item; });
  group(Object.keys(COLOURS), (button, item) => {
    const dot = document.createElement("i");
    dot.style.background = `rgb(${COLOURS[item].join(",")})`;
    button.append(dot);
  }, "red", (item) => { colour = item; });
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, label]) => new Option(label, value, false, value === chosen)));
}

async function start() {
  try {
    const packed = await fetch("model.wasm.gz");
    if (!packed.ok) throw new Error(`model.wasm.gz: ${packed.status} ${packed.statusText}`);
    const program = new Response(packed.body.pipeThrough(new DecompressionStream("gzip")));
    await init({ module_or_path: await program.arrayBuffer() });
    model = new Model();
  } catch (error) {
    const opened = location.protocol === "file:" ? " A browser loads no model from a file: open this folder through a web server, for example with python3 -m http.server in it." : "";
    at("state").textContent = `The model could not be loaded: ${error.message ?? error}.${opened}`;
    return;
  }
  size = model.size();
  across = model.across();
  tools();
  at("all").hidden = false;
  at("state").textContent = "";
  const number = Number(new URLSearchParams(location.search).get("scene") ?? 3);
  options(at("layer"), [["0", "layer 0"]], "0");
  options(at("head"), [["all", "mean of the heads"]], "all");
  options(at("zero"), [["", "none"]], "");
  scene(Number.isFinite(number) ? number : 3);
  const layers = last.attention.length, heads = last.attention[0].length;
  const numbers = (count, word) => [...Array(count).keys()].map((index) => [String(index), `${word} ${index}`]);
  options(at("layer"), [...numbers(layers, "layer"), ["all", "all layers"]], String(layers - 1));
  options(at("head"), [["all", "mean of the heads"], ...numbers(heads, "head")], "all");
  const every = numbers(layers, "layer").flatMap(([layer]) => numbers(heads, "head").map(([head]) => [`${layer} ${head}`, `layer ${layer}, head ${head}`]));
  options(at("zero"), [["", "none"], ...every], "");
  showAttention();
  at("layer").onchange = at("head").onchange = showAttention;
  at("zero").onchange = (event) => {
    question.zeroed = event.target.value ? event.target.value.split(" ").map(Number) : null;
    ask();
  };
  at("untrained").onchange = (event) => {
    question.untrained = event.target.checked;
    question.written = [];
    ask();
  };
  at("shuffle").onclick = () => scene(Math.floor(Math.random() * 100000));
  at("empty").onclick = () => renew(new Uint8ClampedArray(size * size * 4).fill(245).map((value, index) => (index % 4 === 3 ? 255 : value)), []);
  at("write").onclick = write;
  at("one").onclick = () => { if (!last.top[0].ends) take(last.top[0]); };
  at("back").onclick = () => { question.written.pop(); ask(); };
  at("clear").onclick = () => { question.written = []; ask(); };
  at("picture").onclick = clicked;
  if (new URLSearchParams(location.search).has("write")) write();
  document.body.dataset.ready = "yes";
}

start();
