// Elements are made of text and attributes only; nothing that data say is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") made.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function signed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  if (!Number(text)) return "0";
  return (value < 0 ? "−" : "+") + text;
}

export async function asked(question, parameters, signal) {
  const answer = await fetch(`/api/${question}?${new URLSearchParams(parameters)}`, { signal });
  const document = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(document.hint ? `${document.error} (${document.hint})` : document.error);
  return document;
}
