// What the page does beside htmx: it shows whether it is connected, and copies commands.
"use strict";

const live = document.getElementById("live");
const connected = (text) => {
  live.textContent = text;
  live.classList.toggle("on", text === "live");
};
document.body.addEventListener("htmx:sseOpen", () => connected("live"));
document.body.addEventListener("htmx:sseError", () => connected("not connected"));

document.body.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  navigator.clipboard.writeText(button.previousElementSibling.textContent).then(
    () => { button.textContent = "Copied"; },
    () => { button.textContent = "Not copied"; });
});
