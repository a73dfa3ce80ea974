// Live refresh: the same page is read again, and only sections that differ are put in place of the old ones.
"use strict";

const main = document.querySelector("main");
const late = document.getElementById("late");
const every = Number(main.dataset.every) * 1000;
let reading = null;

async function refresh(address) {
  reading?.abort();
  reading = new AbortController();
  const { signal } = reading;
  const response = await fetch(address, { signal, credentials: "same-origin", redirect: "error" });
  const text = await response.text();
  if (!response.ok || signal.aborted) throw new Error(String(response.status));
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const section of main.querySelectorAll("[data-live]")) {
    const next = page.getElementById(section.id);
    // What has the focus stays, so that nothing moves under a person's hands.
    if (next && next.innerHTML !== section.innerHTML && !section.contains(document.activeElement)) {
      const table = section.querySelector(".scroll");
      const left = table ? table.scrollLeft : 0;
      section.replaceChildren(...next.childNodes);
      const scrolled = section.querySelector(".scroll");
      if (scrolled) scrolled.scrollLeft = left;
    }
  }
}

async function live() {
  if (!document.hidden) {
    try {
      await refresh(location.href);
      late.hidden = true;
      main.dataset.read = String(Number(main.dataset.read || 0) + 1);
    } catch (error) {
      if (error.name !== "AbortError") late.hidden = false;
    }
  }
  setTimeout(live, every);
}

if (main.querySelector("[data-live]")) setTimeout(live, every);

// The what-if form answers while a slider moves.
const form = document.querySelector("form[data-what-if]");
if (form) {
  let waiting = 0;
  form.addEventListener("input", () => {
    for (const output of form.querySelectorAll("output")) output.value = form.elements[output.htmlFor].value;
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const address = `${location.pathname}?${new URLSearchParams(new FormData(form))}`;
      history.replaceState(null, "", address);
      try {
        await refresh(address);
      } catch (error) {
        if (error.name !== "AbortError") late.hidden = false;
      }
    }, 120);
  });
}

// `/` goes to the search, as in other tools.
document.addEventListener("keydown", (event) => {
  const search = document.querySelector("input[type=search]");
  if (event.key === "/" && search && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
    event.preventDefault();
    search.focus();
  }
});

// A slow answer is told of: a button that was pressed says so.
for (const each of document.querySelectorAll("form[method=post]")) {
  each.addEventListener("submit", () => {
    const button = each.querySelector("button");
    button.disabled = true;
    button.textContent = "Working…";
  });
}
