// Live refresh: the same page is read again, and what differs is changed in place.
"use strict";

const main = document.querySelector("main");
const late = document.getElementById("late");
const every = Number(main.dataset.every) * 1000;
let reading = null;

// Make a node the same as another one, and touch nothing that is the same already: what is selected, scrolled to or
// pointed at stays.
function renew(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeName !== next.nodeName) return old.replaceWith(next);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const present = [...old.childNodes];
  const wanted = [...next.childNodes];
  wanted.forEach((child, place) => (place < present.length ? renew(present[place], child) : old.append(child)));
  present.slice(wanted.length).forEach((child) => child.remove());
}

// What has the focus stays, so that no link becomes another one under a person's hands. A table itself has no link.
const isHeld = (section) => section.contains(document.activeElement) && !document.activeElement.matches(".scroll");

function say(words, link, address) {
  late.replaceChildren(words);
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = address;
    anchor.textContent = link;
    late.append(" ", anchor);
  }
  late.hidden = false;
}

// Answers are text, or null when what is shown has to stay as it is; the page says why.
async function read(address, signal) {
  try {
    const response = await fetch(address, { signal, credentials: "same-origin", redirect: "manual" });
    const text = await response.text();
    if (signal.aborted) return null;
    if (response.ok) return text;
    if (response.type === "opaqueredirect") say("This session is over, for the dashboard was started again.", "Sign in", "/login");
    else if (response.status === 503) say("The database does not answer. The figures are those of before; this page keeps trying.");
    else say(`This page cannot be read again (HTTP ${response.status}). The figures are those of before.`);
  } catch (error) {
    if (error.name !== "AbortError") say("The dashboard does not answer. The figures are those of before; this page keeps trying.");
  }
  return null;
}

async function refresh(address) {
  reading?.abort();
  reading = new AbortController();
  const text = await read(address, reading.signal);
  if (text === null) return;
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const section of main.querySelectorAll("[data-live]")) {
    const next = page.getElementById(section.id);
    if (next && !isHeld(section)) renew(section, next);
  }
  late.hidden = true;
  main.dataset.read = String(Number(main.dataset.read || 0) + 1);
}

async function live() {
  if (!document.hidden) {
    const address = new URL(location.href);
    // The doctor reads the whole company: once, and not every few seconds.
    address.searchParams.delete("doctor");
    await refresh(address);
  }
  setTimeout(live, every);
}

async function again() {
  const response = document.hidden ? null : await fetch(location.href, { redirect: "manual" }).catch(() => null);
  if (response && (response.ok || response.type === "opaqueredirect")) location.reload();
  else setTimeout(again, every);
}

if (main.querySelector("[data-live]")) setTimeout(live, every);
if (main.querySelector("[data-again]")) setTimeout(again, every);

// The what-if form answers while a slider moves.
const form = document.querySelector("form[data-what-if]");
if (form) {
  let waiting = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    for (const output of form.querySelectorAll("output")) {
      output.value = Number(form.elements[output.htmlFor].value).toLocaleString("en").replaceAll(",", "\u202f");
    }
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const address = `${location.pathname}?${new URLSearchParams(new FormData(form))}`;
      history.replaceState(null, "", address);
      refresh(address);
    }, 120);
  });
}

// A question is asked in a dialog, which keeps the focus, is closed by Escape and gives the focus back. Without this
// script, and when the question cannot be read, the link leads to a page of its own.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-ask], a[data-close]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const open = link.closest("dialog");
  if (link.matches("[data-close]")) {
    if (open) {
      event.preventDefault();
      open.close();
    }
    return;
  }
  event.preventDefault();
  const response = await fetch(link.href, { redirect: "manual" }).catch(() => null);
  const page = new DOMParser().parseFromString(response?.ok ? await response.text() : "", "text/html");
  const question = page.getElementById("ask");
  if (!question) {
    location.assign(link.href);
    return;
  }
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  dialog.append(question);
  dialog.addEventListener("close", () => dialog.remove());
  link.focus();
  document.body.append(dialog);
  dialog.showModal();
});

// `/` goes to the search, as in other tools.
document.addEventListener("keydown", (event) => {
  const search = document.querySelector("input[type=search]");
  if (event.key === "/" && search && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
    event.preventDefault();
    search.focus();
  }
});

// A slow answer is told of: what was pressed says so, until the page is left or shown again.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  const button = event.target.querySelector("button");
  button.disabled = true;
  button.textContent = "Working…";
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a.main");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) link.textContent = "Working…";
});
window.addEventListener("pageshow", (event) => event.persisted && location.reload());
