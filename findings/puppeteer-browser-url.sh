#!/bin/sh
# Product: npm package puppeteer-core 24.43.1.
# Behaviour: of browserURL only host and port are used: path and query are dropped when it asks for /json/version, and the
#   "headers" option is sent neither there nor with the WebSocket that follows. With browserWSEndpoint all of it is kept.
# Output seen: browserURL: GET /json/version, key none; GET /devtools/browser/1, key none. browserWSEndpoint:
#   GET /p/9222/devtools/browser/1?token=t, key k.
# Guess before: GET /p/9222/json/version?token=t, with the headers, and the headers with the WebSocket too.
# Why it matters: a browser in a sandbox behind a path prefix, a token in the query or an access header cannot be reached
#   with browserURL, whatever the gateway does; it takes a host name per port, or browserWSEndpoint with an address built by hand.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cd "$dir"
echo "{}" >package.json
timeout 200 npm install --silent --no-audit --no-fund puppeteer-core@24.43.1
cat >run.mjs <<'END'
import http from "node:http";
import puppeteer from "puppeteer-core";

const seen = [];
const note = (request) => seen.push(`GET ${request.url}, key ${request.headers["x-key"] ?? "none"}`);
const server = http.createServer((request, response) => {
  note(request);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ webSocketDebuggerUrl: `ws://${host}/devtools/browser/1` }));
});
server.on("upgrade", (request, socket) => {
  note(request);
  socket.end("HTTP/1.1 503 Enough Seen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const host = `127.0.0.1:${server.address().port}`;

async function requests(options) {
  seen.length = 0;
  await puppeteer.connect({ ...options, headers: { "x-key": "k" } }).catch(() => {});
  return [...seen];
}
const results = {
  browserURL: await requests({ browserURL: `http://${host}/p/9222?token=t` }),
  browserWSEndpoint: await requests({ browserWSEndpoint: `ws://${host}/p/9222/devtools/browser/1?token=t` }),
};
for (const [option, lines] of Object.entries(results)) console.log(`${option}: ${lines.join("; ")}`);
const same =
  JSON.stringify(Object.values(results)) ===
  JSON.stringify([
    ["GET /json/version, key none", "GET /devtools/browser/1, key none"],
    ["GET /p/9222/devtools/browser/1?token=t, key k"],
  ]);
if (!same) console.error("the behaviour has changed");
process.exit(same ? 0 : 1);
END
timeout 60 node run.mjs
