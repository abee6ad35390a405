// One picture with its regions, the words of a caption, and what they add to the score.

import { asked, byId, drawn, element, signed } from "./dom.js";

const STRONGEST = 0.52, FAINT = 0.12, LABELLED = 5;
const share = (value, largest) => (largest ? Math.abs(value) / largest : 0);
const largest = (values) => Math.max(0, ...values.map(Math.abs));
const sign = (value) => (value > 0 ? "plus" : value < 0 ? "minus" : "none");

// The picture that is open: what is known of it, the caption it is explained with, the words that are off, the
// column of the table that is drawn (0 for the whole caption), and the explanation.
let open = { about: null, text: "", off: new Set(), column: 0, found: null, whole: null };
let latest = 0;

export async function show(row, text, off, changed) {
  const number = ++latest;
  const about = open.about && open.about.row === row ? open.about : await asked("picture", { row });
  if (number !== latest) return;
  if (open.about !== about || open.text !== text) open = { about, text, off: new Set(off), column: 0, found: null, whole: null, changed };
  open.changed = changed;
  byId("one-title").textContent = about.file_name || about.id;
  drawCaptions();
  if (!text) return drawWithout("");
  await explainAgain(number);
}

async function explainAgain(number = ++latest) {
  const { about, text, off } = open;
  try {
    const found = await asked("explain", { row: about.row, q: text, off: [...off].sort((a, b) => a - b).join(",") });
    if (number !== latest) return;
    open.found = found;
    if (!off.size) open.whole = found.score;
    else if (open.whole === null) open.whole = (await asked("explain", { row: about.row, q: text })).score;
    drawAll();
  } catch (fault) {
    if (number === latest) drawWithout(fault.message);
  }
}

function drawAll() {
  drawWords();
  drawMatrix();
  drawStage();
}

function drawWithout(reason) {
  open.found = null;
  byId("one-score").textContent = reason ? "" : open.about.captions[0] || "";
  byId("words").replaceChildren();
  byId("words-note").textContent = reason ? `No explanation: ${reason}` : "Choose a caption to see why it has its score.";
  byId("matrix").replaceChildren();
  byId("matrix").hidden = true;
  drawStage();
}

function drawWords() {
  const { found, off, whole } = open;
  const most = largest(found.word_changes);
  byId("one-score").textContent = `score ${found.score.toFixed(3)} with “${off.size ? found.words.filter((_, place) => !off.has(place)).join(" ") : found.caption}”`;
  byId("words").replaceChildren(...found.words.map((word, place) => {
    const button = element("button", {
      type: "button", "aria-pressed": String(!off.has(place)),
      title: off.has(place) ? "left out; click to put it back" : `adds ${signed(found.word_changes[place], 3)}; click to leave it out`,
      click: () => toggle(place),
    }, word);
    tint(button, found.word_changes[place], most);
    if (found.unknown_words.includes(word)) button.classList.add("unknown");
    return button;
  }));
  const missing = found.words.filter((_, place) => off.has(place));
  const unknown = found.unknown_words.length ? `Unknown to the model: ${found.unknown_words.join(", ")}. ` : "";
  byId("words-note").textContent = unknown + (missing.length
    ? `Without “${missing.join(" ")}” the score is ${found.score.toFixed(3)}; with all words it is ${whole.toFixed(3)}.`
    : "Click a word to leave it out of the caption.");
}

function toggle(place) {
  const { off } = open;
  if (off.has(place)) off.delete(place); else off.add(place);
  if (off.size === open.found.words.length) off.delete(place);
  open.column = 0;
  open.changed([...off]);
  explainAgain().then(() => byId("words").children[place]?.focus());
}

function drawMatrix() {
  const { found, off } = open;
  const words = found.words.map((word, place) => ({ word, place })).filter(({ place }) => !off.has(place));
  const changes = found.regions.map((region) => region.score_change);
  const order = changes.map((_, region) => region).sort((a, b) => changes[b] - changes[a]);
  const most = largest(found.interaction.flat());
  const choose = (column, name) => element("th", { scope: "col" }, element("button", {
    type: "button", "aria-pressed": String(open.column === column),
    click: () => { open.column = column; drawMatrix(); drawStage(); byId("matrix").querySelectorAll("th button")[at(column, words)].focus(); },
  }, name));
  const rows = order.map((region) => element("tr", {},
    element("th", { scope: "row" }, crop(region), ` ${region + 1}`),
    cell(changes[region], largest(changes), 3),
    ...words.map(({ place }) => cell(found.interaction[place][region], most, 2))));
  byId("matrix").hidden = false;
  byId("matrix").replaceChildren(element("table", {},
    element("caption", { class: "hidden" }, "Regions in rows, the strongest first; the whole caption and its words in columns"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "region"), choose(0, "whole caption"),
      ...words.map(({ word, place }) => choose(place + 1, word)))),
    element("tbody", {}, ...rows)));
}

const at = (column, words) => (column === 0 ? 0 : 1 + words.findIndex(({ place }) => place + 1 === column));

function cell(value, most, digits) {
  const text = signed(value, digits);
  const made = element("td", {}, text === "0" && digits === 2 ? "·" : text);
  tint(made, value, most);
  return made;
}

function tint(made, value, most) {
  made.classList.add("tinted", sign(value));
  made.style.setProperty("--strength", (STRONGEST * share(value, most)).toFixed(3));
}

function geometry() {
  const { about } = open;
  const boxes = about.boxes || [];
  const [width, height] = about.size || [2, 3].map((side) => Math.max(1, ...boxes.map((box) => box[side])));
  return { boxes, width, height, unit: Math.max(width, height) / 100 };
}

function photo(width, height) {
  const { about } = open;
  return about.shown
    ? drawn("image", { href: `/picture/${about.row}/large?v=${about.identity}`, width, height, preserveAspectRatio: about.size ? "none" : "xMidYMid meet" })
    : drawn("rect", { width, height, class: "blank" });
}

function crop(region) {
  const { boxes, width, height } = geometry();
  if (!boxes.length) return "";
  const [x1, y1, x2, y2] = boxes[region];
  return drawn("svg", { class: "crop", viewBox: `${x1} ${y1} ${Math.max(x2 - x1, 0.1)} ${Math.max(y2 - y1, 0.1)}`, "aria-hidden": "true" }, photo(width, height));
}

function drawStage() {
  const { about, found, column } = open;
  const { boxes, width, height, unit } = geometry();
  const values = !found ? null : column ? found.interaction[column - 1] : found.regions.map((region) => region.score_change);
  const marks = values && boxes.length ? layer(values, boxes, unit)
    : drawn("g", { class: "outline" }, ...boxes.map((box) => rectangle(box, "")));
  byId("stage").replaceChildren(drawn("svg", {
    class: "stage", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": about.captions[0] || `Picture ${about.id}`,
  }, photo(width, height), marks));
  document.querySelector(".legend").hidden = !values;
  byId("shown").textContent = !values ? (about.shown ? "" : "The picture is not there; only its regions are drawn.")
    : !boxes.length ? "The features came without boxes, so regions are only numbered."
    : column ? `What each region and “${found.words[column - 1]}” add together.`
    : "What each region adds to the score.";
}

function layer(values, boxes, unit) {
  const most = largest(values);
  const order = values.map((_, region) => region).sort((a, b) => Math.abs(values[a]) - Math.abs(values[b]));
  const labelled = new Set(order.slice(-LABELLED).filter((region) => share(values[region], most) > 0.2));
  return drawn("g", { class: "layer" }, ...order.map((region) => {
    const [x1, y1, x2] = boxes[region];
    const tagWidth = unit * (2.2 + 2.4 * String(region + 1).length);
    const tagX = x1 + (region % 2) * Math.max(0, x2 - x1 - tagWidth);
    const tag = !labelled.has(region) ? [] : [
      drawn("rect", { class: "tag", x: tagX, y: y1, width: tagWidth, height: unit * 5 }),
      drawn("text", { x: tagX + tagWidth / 2, y: y1 + unit * 3.75, "font-size": unit * 3.7, "text-anchor": "middle" }, String(region + 1)),
    ];
    return drawn("g", { class: sign(values[region]), opacity: (FAINT + (1 - FAINT) * share(values[region], most) ** 0.75).toFixed(3) },
      drawn("title", {}, `region ${region + 1}: ${signed(values[region], 3)}`),
      rectangle(boxes[region], "halo"), rectangle(boxes[region], "box"), ...tag);
  }));
}

function rectangle([x1, y1, x2, y2], kind) {
  return drawn("rect", { class: kind, x: x1, y: y1, width: Math.max(x2 - x1, 0.1), height: Math.max(y2 - y1, 0.1) });
}

function drawCaptions() {
  const { about, text, changed } = open;
  const line = (caption, score) => element("li", {}, element("button", {
    type: "button", "aria-current": caption === text ? "true" : null, title: "explain the score with this caption",
    click: () => changed([], caption),
  }, caption), element("span", { class: "soft small" }, score === null ? "" : score.toFixed(3)));
  const list = (title, lines) => (lines.length ? [element("h3", {}, title), element("ul", {}, ...lines)] : []);
  byId("captions").replaceChildren(
    ...list("Its captions", about.captions.map((caption) => line(caption, null))),
    ...list("Captions found for it", about.found_captions.map((found) => line(found.text, found.score))));
}
