"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const language = document.documentElement.lang;
const byKey = new Map(data.cells.map(cell => [`${cell[0]},${cell[1]}`, cell]));
const element = id => document.getElementById(id);

function fill(sentence, values) {
  return data.words[sentence].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function make(tag, text, parent) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent?.append(made);
  return made;
}

function pair(label, taken) {
  const sentence = label === taken ? "{label} recognised" : "{label} taken for {taken}";
  return fill(sentence, { label: data.names[label], taken: data.names[taken] });
}

function describe(label, taken) {
  const count = byKey.get(`${label},${taken}`)?.[2] ?? 0;
  const share = (count / Math.max(data.support[label], 1))
    .toLocaleString(language, { style: "percent", maximumFractionDigits: 1 });
  const values = { count: count.toLocaleString(language), share, label: data.names[label] };
  return `${pair(label, taken)}: ${fill("{count} examples, {share} of {label}", values)}`;
}

// Lays heat over the pictures that have some, or takes it off: from yellow to red, as `explain.overlay` does.
let isWarm = false;
function warm() {
  for (const place of document.querySelectorAll(".thumbnail")) {
    place.querySelector("canvas")?.remove();
    const [width, levels] = data.heat[place.dataset.position] ?? [];
    if (!isWarm || !levels) continue;
    const heat = Uint8Array.from(atob(levels), letter => letter.charCodeAt(0));
    const canvas = make("canvas", "", place);
    canvas.width = width;
    canvas.height = heat.length / width;
    canvas.setAttribute("aria-hidden", "true");
    const pixels = new ImageData(width, canvas.height);
    heat.forEach((level, i) => pixels.data.set([255, 255 - level, 0, 0.65 * level], 4 * i));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }
  for (const button of document.querySelectorAll("button.heat")) button.ariaPressed = isWarm;
}

for (const button of document.querySelectorAll("button.heat"))
  button.onclick = () => { isWarm = !isWarm; warm(); };

function showCell(label, taken) {
  const cell = byKey.get(`${label},${taken}`);
  if (!cell) return;
  const [, , count, positions] = cell;
  element("cell-heading").textContent = pair(label, taken);
  element("cell-remark").textContent = fill("{shown} of {count} are shown", {
    shown: positions.length.toLocaleString(language), count: count.toLocaleString(language) });
  element("cell-pictures").replaceChildren(...positions.map(position => {
    const [file, probability, jpeg] = data.examples[position];
    const figure = document.createElement("figure");
    figure.title = file;
    const place = make("span", "", figure);
    place.className = "thumbnail";
    place.dataset.position = position;
    const image = make("img", "", place);
    image.src = `data:image/jpeg;base64,${jpeg}`;
    image.alt = file;
    const caption = make("figcaption", "", figure);
    make("b", probability, caption);
    make("bdi", file, make("small", "", caption));
    return figure;
  }));
  warm();
  element("cell").hidden = false;
  element("cell-heading").focus({ preventScroll: true });
  element("cell").scrollIntoView({ block: "nearest" });
}

for (const button of document.querySelectorAll("[data-cell]")) {
  const [label, taken] = button.dataset.cell.split(",").map(Number);
  const tell = () => { element("cell-words").textContent = describe(label, taken); };
  button.onclick = () => showCell(label, taken);
  button.onfocus = button.onpointerenter = tell;
}

const canvas = element("matrix");
if (canvas) {
  const count = data.names.length, side = Math.max(4, Math.ceil(720 / count));
  let label = 0, taken = 0;
  canvas.width = canvas.height = count * side;
  const draw = () => {
    const style = getComputedStyle(document.documentElement), context = canvas.getContext("2d");
    const colours = ["--right", "--wrong", "--text"].map(name => style.getPropertyValue(name));
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const [row, column, times] of data.cells) {
      context.globalAlpha = 0.15 + 0.85 * Math.sqrt(times / data.support[row]);
      context.fillStyle = colours[row === column ? 0 : 1];
      context.fillRect(column * side, row * side, side, side);
    }
    context.globalAlpha = 1;
    context.strokeStyle = colours[2];
    context.lineWidth = 2;
    context.strokeRect(taken * side - 1, label * side - 1, side + 2, side + 2);
  };
  const move = (row, column) => {
    label = Math.min(Math.max(row, 0), count - 1);
    taken = Math.min(Math.max(column, 0), count - 1);
    element("cell-words").textContent = describe(label, taken);
    draw();
  };
  canvas.onpointermove = event => {
    const box = canvas.getBoundingClientRect();
    move(Math.floor((event.clientY - box.top) / box.height * count),
         Math.floor((event.clientX - box.left) / box.width * count));
  };
  canvas.onclick = event => { canvas.onpointermove(event); showCell(label, taken); };
  canvas.onkeydown = event => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Enter" || event.key === " ") showCell(label, taken);
    else if (steps[event.key]) move(label + steps[event.key][0], taken + steps[event.key][1]);
    else return;
    event.preventDefault();
  };
  matchMedia("(prefers-color-scheme: dark)").onchange = draw;
  draw();
}
