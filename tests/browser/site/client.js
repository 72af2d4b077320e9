// The part of a development server that lives in the page: it listens for updates and takes them without a reload.
const scheme = location.protocol === "https:" ? "wss" : "ws";
const socket = new WebSocket(`${scheme}://${location.host}/@dev/socket`, "dev-updates");
window.updates = [];
socket.onmessage = async (event) => {
  const message = JSON.parse(event.data);
  window.updates.push(message.type);
  if (message.type === "update") {
    const module = await import(`${message.path}?t=${Date.now()}`);
    document.querySelector("#widget").textContent = module.text;
  }
};
socket.onclose = (event) => { window.socketClosed = { code: event.code, reason: event.reason }; };
window.devSocket = socket;
