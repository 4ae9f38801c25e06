// What the page does beside htmx: it shows whether it is connected, refreshes what has changed, copies commands, and
// lets a text field grow.
"use strict";

const live = document.getElementById("live");
const connected = (text) => {
  live.textContent = text;
  live.classList.toggle("on", text === "connected");
};
document.body.addEventListener("htmx:sseOpen", () => connected("connected"));
document.body.addEventListener("htmx:sseError", () => connected("not connected"));

// The server sends an event when something may have changed. A refresh reads the deployment, which costs something. So
// it comes at most every 300 ms, not during another request, and not while the tab is hidden. A later one shows what
// changed meanwhile. htmx's throttle and its queue would drop the last event.
let changed = false, pausing = false;
const refresh = () => {
  if (!changed || pausing || document.hidden) return;
  pausing = true;
  setTimeout(() => { pausing = false; refresh(); }, 300);
  if (document.querySelector(".htmx-request")) return;
  changed = false;
  htmx.trigger("#content", "refresh");
};
document.addEventListener("sse:change", () => { changed = true; refresh(); });
document.addEventListener("visibilitychange", refresh);

// A filter that was chosen meanwhile replaces the content. htmx would drop its answer if a refresh came first.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { requestConfig } = event.detail;
  if (requestConfig.elt.id === "content" && document.querySelector("form.htmx-request")) event.detail.shouldSwap = false;
});

// The content has the rows as they were last read. They are read after it, because it would replace newer ones.
document.body.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.target.id !== "content") return;
  if (document.hidden) { changed = true; return; }
  for (const row of document.querySelectorAll('[hx-trigger^="refresh-row"]')) htmx.trigger(row, "refresh-row");
});

document.body.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  navigator.clipboard.writeText(button.previousElementSibling.textContent).then(
    () => { button.textContent = "Copied"; },
    () => { button.textContent = "Not copied"; });
});

if (!CSS.supports("field-sizing", "content")) {
  document.body.addEventListener("input", (event) => {
    const field = event.target;
    if (!field.matches("textarea.text")) return;
    field.style.height = "auto";
    field.style.height = field.scrollHeight + 2 + "px";
  });
}
