// The released npm package: node drive.mjs DOMAIN KEY IMAGE USE_SERVER_PROXY; prints one JSON object.
import { ConnectionConfig, Sandbox, SandboxManager } from "@alibaba-group/opensandbox";
import { createHash, randomBytes } from "node:crypto";

const LARGE = 8 * 1024 * 1024;
const [domain, apiKey, image, useServerProxy] = process.argv.slice(2);
const connectionConfig = new ConnectionConfig({ domain, apiKey, useServerProxy: useServerProxy === "true" });
const metadata = { by: "node", run: String(process.pid) };
const sandbox = await Sandbox.create({ connectionConfig, image, timeoutSeconds: 300, metadata });
const manager = SandboxManager.create({ connectionConfig });
const said = { id: sandbox.id };
const texts = (lines) => lines.map((line) => line.text.trim());
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function commands() {
  const execution = await sandbox.commands.run("echo said; echo wrong >&2");
  said.stdout = texts(execution.logs.stdout);
  said.stderr = texts(execution.logs.stderr);
  // A line arrives before the command is done: the command ends only after the line has been answered.
  const streamed = [];
  const script = "echo ready; until [ -e /root/answer ]; do sleep 0.05; done; echo done";
  await sandbox.commands.run(script, undefined, {
    onStdout: async (message) => {
      streamed.push(message.text.trim());
      if (streamed.length === 1) await sandbox.files.writeFiles([{ path: "/root/answer", data: "go" }]);
    },
  });
  said.streamed = streamed;
  const background = await sandbox.commands.run("sleep 600", { background: true });
  said.running = (await sandbox.commands.getCommandStatus(background.id)).running;
  await sandbox.commands.interrupt(background.id);
  const session = await sandbox.commands.createSession({ workingDirectory: "/usr" });
  said.session = texts((await sandbox.commands.runInSession(session, "pwd")).logs.stdout);
  await sandbox.commands.deleteSession(session);
}

async function files() {
  await sandbox.files.writeFiles([{ path: "/root/a.txt", data: "text ünïcode" }]);
  said.file = await sandbox.files.readFile("/root/a.txt");
  const content = randomBytes(LARGE);
  await sandbox.files.writeFiles([{ path: "/root/large", data: content }]);
  const inside = texts((await sandbox.commands.run("sha256sum /root/large")).logs.stdout)[0].split(" ")[0];
  const down = sha256(await sandbox.files.readBytes("/root/large"));
  said.large = inside === sha256(content) && down === inside;
  const found = await sandbox.files.search({ path: "/root", pattern: "*.txt" });
  said.found = found.map((entry) => entry.path);
}

async function life() {
  said.state = (await sandbox.getInfo()).status.state;
  said.endpoint = (await sandbox.getEndpoint(8000)).endpoint;
  said.processors = (await sandbox.getMetrics()).cpuCount;
  said.patched = (await sandbox.patchMetadata({ new: "1" })).metadata;
  const listed = await manager.listSandboxInfos({ states: ["Running"], metadata });
  said.listed = listed.items.map((info) => info.id);
  const other = await Sandbox.connect({ connectionConfig, sandboxId: sandbox.id });
  said.connected = texts((await other.commands.run("echo found")).logs.stdout);
  await other.close();
  said.renewed = Boolean(await sandbox.renew(600));
  await sandbox.pause();
  said.paused = (await sandbox.getInfo()).status.state;
  const resumed = await sandbox.resume();
  said.resumed = (await resumed.getInfo()).status.state;
  said.kept = await resumed.files.readFile("/root/a.txt");
}

async function snapshots() {
  const snapshot = await manager.createSnapshot(sandbox.id, { name: "kept" });
  while ((await manager.getSnapshot(snapshot.id)).status.state !== "Ready");
  const restored = await Sandbox.create({ connectionConfig, snapshotId: snapshot.id, timeoutSeconds: 300 });
  said.restored = await restored.files.readFile("/root/a.txt");
  await restored.kill();
  await restored.close();
  await manager.deleteSnapshot(snapshot.id);
}

try {
  for (const part of [commands, files, life, snapshots]) await part();
} finally {
  // The resumed object shares this one's connections, so only one of them is closed.
  await sandbox.kill();
  await sandbox.close();
  await manager.close();
}
console.log(JSON.stringify(said));
