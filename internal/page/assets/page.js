// What the page does beside htmx: it shows whether it is connected, copies commands, and lets a text field grow.
"use strict";

const live = document.getElementById("live");
const connected = (text) => {
  live.textContent = text;
  live.classList.toggle("on", text === "connected");
};
document.body.addEventListener("htmx:sseOpen", () => connected("connected"));
document.body.addEventListener("htmx:sseError", () => connected("not connected"));

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
