// What the page does beside htmx: it shows whether it is connected, does not refresh while its tab is hidden, copies
// commands, and lets a text field grow.
"use strict";

const live = document.getElementById("live");
const connected = (text) => {
  live.textContent = text;
  live.classList.toggle("on", text === "connected");
};
document.body.addEventListener("htmx:sseOpen", () => connected("connected"));
document.body.addEventListener("htmx:sseError", () => connected("not connected"));

// Each refresh reads the deployment, which costs something. A tab that is shown again catches up. It stops the event
// before htmx sees it, whose throttle would discard the next one.
let missed = false;
document.addEventListener("sse:change", (event) => {
  if (!document.hidden) return;
  missed = true;
  event.stopPropagation();
}, true);
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !missed) return;
  missed = false;
  for (const part of document.querySelectorAll('[hx-trigger^="sse:change"]')) htmx.trigger(part, "sse:change");
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
