#!/bin/sh
# Product: npm package undici 7.30.2 (what is behind fetch in Node.js).
# Behaviour: it takes 2 seconds off what a server promises in "Keep-Alive: timeout=N". With N of 1 or 2 nothing is left and
#   no connection is used twice, without any message.
# Output seen: connections for 5 requests one after the other: no promise 2, timeout=1 5, timeout=2 5, timeout=3 2.
# Guess before: a connection is reused within the time promised; with timeout=2 five quick requests share one or two.
# Why it matters: a gateway that keeps idle clients short and says so honestly makes every fetch of Node.js pay for a new
#   connection and its TLS handshake. Say 3 seconds or more, or nothing.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cd "$dir"
echo "{}" >package.json
timeout 200 npm install --silent --no-audit --no-fund undici@7.30.2
cat >run.mjs <<'END'
import net from "node:net";
import { fetch } from "undici";

async function connections(promise) {
  let count = 0;
  const server = net.createServer((socket) => {
    count++;
    socket.on("error", () => {});
    socket.on("data", () => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${promise}\r\nok`));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  for (let i = 0; i < 5; i++) await (await fetch(`http://127.0.0.1:${server.address().port}/`)).text();
  return count;
}
const seen = { none: await connections("") };
for (const seconds of [1, 2, 3]) seen[`timeout=${seconds}`] = await connections(`Keep-Alive: timeout=${seconds}\r\n`);
console.log("connections for 5 requests:", JSON.stringify(seen));
// The first request may or may not leave its connection in time for the second: fewer than 5 is reuse.
const same = seen["timeout=1"] === 5 && seen["timeout=2"] === 5 && seen["timeout=3"] < 4 && seen.none < 4;
if (!same) console.error("the behaviour has changed");
process.exit(same ? 0 : 1);
END
timeout 60 node run.mjs
