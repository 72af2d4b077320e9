#!/bin/sh
# Product: npm package playwright-core 1.65.1.
# Behaviour: chromium.connectOverCDP with an http address asks for json/version/ with a slash at its end, below the path and
#   with query and headers; the WebSocket then goes where the answer says, without prefix and query. chromium.connect with
#   an http address asks for json, without the headers that the caller gave, and sends them with the WebSocket only.
# Output seen: connectOverCDP: GET /p/9222/json/version/?token=t, key k; GET /ws, key k. connect: GET /p/9222/json?token=t,
#   key none; GET /p/9222/ws?token=t, key k.
# Guess before: json/version without a slash, as DevTools servers document it, and the headers with every request.
# Why it matters: a look-up protected by an access header is refused for connect and served for connectOverCDP; a stand-in
#   for DevTools or a rule for paths that knows json/version alone answers 404; over DevTools a token in the query has to
#   become a header or cookie for the second request.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cd "$dir"
echo "{}" >package.json
timeout 200 npm install --silent --no-audit --no-fund --ignore-scripts playwright-core@1.65.1
cat >run.mjs <<'END'
import http from "node:http";
import { chromium } from "playwright-core";

const seen = [];
const note = (request) => seen.push(`GET ${request.url}, key ${request.headers["x-key"] ?? "none"}`);
const server = http.createServer((request, response) => {
  note(request);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ webSocketDebuggerUrl: `ws://${host}/ws`, wsEndpointPath: "/ws" }));
});
server.on("upgrade", (request, socket) => {
  note(request);
  socket.end("HTTP/1.1 503 Enough Seen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const host = `127.0.0.1:${server.address().port}`;

const results = {};
for (const method of ["connectOverCDP", "connect"]) {
  seen.length = 0;
  const options = { headers: { "x-key": "k" }, timeout: 10_000 };
  await chromium[method](`http://${host}/p/9222?token=t`, options).catch(() => {});
  results[method] = [...seen];
  console.log(`${method}: ${seen.join("; ")}`);
}
const same =
  JSON.stringify(Object.values(results)) ===
  JSON.stringify([
    ["GET /p/9222/json/version/?token=t, key k", "GET /ws, key k"],
    ["GET /p/9222/json?token=t, key none", "GET /p/9222/ws?token=t, key k"],
  ]);
if (!same) console.error("the behaviour has changed");
process.exit(same ? 0 : 1);
END
timeout 60 node run.mjs
