#!/bin/sh
# Product: npm package @modelcontextprotocol/sdk 1.32.2, the client over streamable HTTP.
# Behaviour: the event stream that answers a tool call ends, or is cut, before the response came. The client does not fail
#   the call: its caller waits for the whole timeout of the request (60 seconds unless set) and is told "timed out". A 502
#   instead of the stream fails the call at once.
# Output seen: with a timeout of 3 s: ended after 3.0 s "MCP error -32001: Request timed out"; cut after 3.0 s, the same;
#   502 after 0.2 s.
# Guess before: an error as soon as the stream is over, as the Python SDK 2.3.0 gives.
# Why it matters: an agent hangs for a minute each time a sandbox dies or a gateway's idle timeout ends its stream, and
#   the message hides why. A gateway that can still choose should answer 502 and not begin the stream.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cd "$dir"
echo "{}" >package.json
timeout 200 npm install --silent --no-audit --no-fund @modelcontextprotocol/sdk@1.32.2
cat >run.mjs <<'END'
import http from "node:http";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const SECONDS = 3;
const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const message = body ? JSON.parse(body) : {};
  if (request.method !== "POST") return response.writeHead(405).end();
  if (message.id === undefined) return response.writeHead(202).end();
  if (message.method === "initialize") {
    const result = {
      protocolVersion: message.params.protocolVersion,
      capabilities: { tools: {} },
      serverInfo: { name: "server", version: "1" },
    };
    response.writeHead(200, { "content-type": "application/json", "mcp-session-id": "1" });
    return response.end(JSON.stringify({ jsonrpc: "2.0", id: message.id, result }));
  }
  if (message.params.name === "502") return response.writeHead(502, { "content-type": "text/plain" }).end("no sandbox");
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(": working\n\n");
  setTimeout(() => (message.params.name === "ended" ? response.end() : response.destroy()), 50);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const client = new Client({ name: "client", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${server.address().port}/mcp`)));
const waited = {};
for (const name of ["ended", "cut", "502"]) {
  const start = Date.now();
  const error = await client.callTool({ name, arguments: {} }, undefined, { timeout: SECONDS * 1000 }).catch((e) => e);
  waited[name] = (Date.now() - start) / 1000;
  console.log(`${name} after ${waited[name].toFixed(1)} s:`, error.message);
}
const same = waited.ended >= SECONDS - 0.1 && waited.cut >= SECONDS - 0.1 && waited["502"] < SECONDS - 1;
if (!same) console.error("the behaviour has changed");
process.exit(same ? 0 : 1);
END
timeout 60 node run.mjs
