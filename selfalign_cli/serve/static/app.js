// Search, the grid of pictures, and the address, which always says what is seen.

import { asked, byId, element } from "./dom.js";
import { show } from "./explain.js";

const PAGE = 48;
const dialog = byId("one");
// What is asked for (a text or a picture to be like), the hits so far, and the level of unrelated captions.
let seen = { q: "", like: "", hits: [], of: 0, unrelated: null, identity: "", line: false };
let running = new AbortController();

const state = () => Object.fromEntries(new URLSearchParams(location.search));

function go(changes, replace = false) {
  const next = Object.entries({ ...state(), ...changes }).filter(([, value]) => value !== "" && value !== null);
  const address = next.length ? `?${new URLSearchParams(next)}` : "/";
  history[replace ? "replaceState" : "pushState"](null, "", address);
  return follow();
}

async function follow() {
  const { q = "", like = "", p, w, off = "" } = state();
  if (q !== seen.q || like !== seen.like) await search(q, like);
  if (p === undefined) {
    if (dialog.open) dialog.close();
    return;
  }
  const row = Number(p);
  if (!dialog.open) dialog.showModal();
  const place = seen.hits.findIndex((hit) => hit.row === row);
  byId("before").disabled = place <= 0;
  byId("after").disabled = place < 0 || place + 1 >= seen.hits.length;
  await show(row, w ?? q, off ? off.split(",").map(Number) : [], (words, caption) =>
    go({ off: words.join(","), ...(caption === undefined ? {} : { w: caption }) }, caption === undefined)
  ).catch((fault) => { byId("one-title").textContent = fault.message; });
}

async function search(q, like) {
  running.abort();
  running = new AbortController();
  seen = { q, like, hits: [], of: 0, unrelated: null, identity: "", line: false };
  byId("q").value = q;
  byId("hits").replaceChildren();
  byId("more").hidden = true;
  byId("like").hidden = !like;
  byId("like").textContent = like ? `Pictures like ${like}` : "";
  document.title = q || like ? `${q || `like ${like}`} · selfalign` : "selfalign";
  if (!q && !like) return welcome();
  await page();
}

async function page() {
  const { signal } = running;
  const focus = seen.hits.length;
  byId("status").textContent = "Searching …";
  try {
    const found = await asked("search", { ...(seen.q ? { q: seen.q } : { image: seen.like }), k: PAGE, from: focus }, signal);
    if (signal.aborted) return;
    if (seen.unrelated === null) seen.unrelated = found.unrelated;
    Object.assign(seen, { of: found.of, identity: found.identity });
    found.hits.forEach(add);
    const unknown = found.queries[0].unknown_words;
    byId("status").textContent = `${seen.hits.length.toLocaleString("en")} of ${found.of.toLocaleString("en")} pictures, ${found.milliseconds} ms`
      + (unknown.length ? ` · unknown to the model: ${unknown.join(", ")}` : "");
    byId("more").hidden = !found.hits.length || seen.hits.length >= found.of;
    if (focus) byId("hits").querySelectorAll("button")[focus]?.focus({ preventScroll: true });
  } catch (fault) {
    if (!signal.aborted) byId("status").textContent = fault.message;
  }
}

function add(hit) {
  const below = seen.unrelated !== null && hit.score < seen.unrelated;
  if (below && !seen.line) {
    seen.line = true;
    byId("hits").append(element("li", { class: "line" },
      `From here on, scores are no higher than those of captions of other pictures (${seen.unrelated.toFixed(3)})`));
  }
  seen.hits.push(hit);
  const text = hit.captions[0] || hit.file_name || hit.id;
  const image = element("img", { src: `/picture/${hit.row}/small?v=${seen.identity}`, alt: "", loading: "lazy", decoding: "async", width: 320, height: 320 });
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "none" }, "picture not there")), { once: true });
  const meter = element("span", {});
  meter.style.setProperty("--part", part(hit.score).toFixed(3));
  byId("hits").append(element("li", { class: below ? "below" : null }, element("button", {
    type: "button", "aria-label": `${seen.hits.length}. ${text}, score ${hit.score.toFixed(3)}`,
    click: () => go({ p: hit.row, w: "", off: "" }),
  }, image, element("span", { class: "note" }, element("span", { class: "text" }, text),
    element("span", { class: "foot" }, element("span", { class: "id" }, hit.file_name || hit.id), element("span", {}, hit.score.toFixed(3))),
    element("span", { class: "meter" }, meter)))));
}

// The first hit is full; half of the level of unrelated captions, or of nothing, is empty.
function part(score) {
  const top = seen.hits[0].score, floor = seen.unrelated === null ? top - Math.abs(top) : seen.unrelated / 2;
  return top > floor ? Math.min(1, Math.max(0, (score - floor) / (top - floor))) : 1;
}

async function welcome() {
  try {
    const about = await asked("about", {});
    byId("status").textContent = `${about.pictures.toLocaleString("en")} pictures and ${about.captions.toLocaleString("en")} captions in ${about.index}`
      + (about.model ? "" : " · without a model: only similar pictures can be searched");
  } catch (fault) {
    byId("status").textContent = fault.message;
  }
}

function step(by) {
  const place = seen.hits.findIndex((hit) => hit.row === Number(state().p)) + by;
  if (seen.hits[place]) go({ p: seen.hits[place].row, off: "" }, true);
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = byId("q").value.trim();
  if (q) go({ q, like: "", p: "", w: "", off: "" });
});
byId("more").addEventListener("click", page);
byId("before").addEventListener("click", () => step(-1));
byId("after").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => go({ p: "", w: "", off: "" }));
byId("similar").addEventListener("click", async () => {
  const { id } = await asked("picture", { row: state().p });
  go({ q: "", like: id, p: "", w: "", off: "" });
});
dialog.addEventListener("cancel", (event) => { event.preventDefault(); go({ p: "", w: "", off: "" }); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) go({ p: "", w: "", off: "" }); });
dialog.addEventListener("keydown", (event) => {
  const inTable = event.target.closest("#matrix");
  if (!inTable && event.key === "ArrowRight") step(1);
  if (!inTable && event.key === "ArrowLeft") step(-1);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !dialog.open && event.target.tagName !== "INPUT") { event.preventDefault(); byId("q").focus(); }
});
addEventListener("popstate", follow);

const first = state();
if (first.q || first.like) follow(); else { welcome(); if (first.p) follow(); else byId("q").focus(); }
