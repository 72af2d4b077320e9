import { text } from "/src/widget.js";

document.querySelector("#widget").textContent = text;
window.ticks = 0;
window.report = {};

const note = (name, value) => {
  window.report[name] = value;
  const line = document.createElement("li");
  line.textContent = `${name}: ${value}`;
  document.querySelector("#report").append(line);
};

const source = new EventSource("/events");
source.onmessage = () => { window.ticks += 1; };

const call = async () => {
  const answer = await fetch("/api/echo", { method: "POST", body: "sent from the page" });
  return (await answer.json()).body;
};

window.addEventListener("load", async () => {
  note("style", getComputedStyle(document.body).color === "rgb(20, 30, 90)");
  note("image", document.querySelector("#logo").naturalWidth > 0);
  note("relative", window.relativeLoaded === true);
  try {
    note("call", (await call()) === "sent from the page");
  } catch (error) {
    note("call", String(error));
  }
});

document.querySelector("#send").addEventListener("click", async () => {
  const answer = await fetch("/upload", { method: "POST", body: document.querySelector("#file").files[0] });
  window.uploaded = await answer.json();
});
