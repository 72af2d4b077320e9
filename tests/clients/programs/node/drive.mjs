// The core calls by the released npm package: node drive.mjs DOMAIN KEY IMAGE USE_SERVER_PROXY; prints one JSON object.
import { ConnectionConfig, Sandbox } from "@alibaba-group/opensandbox";

const [domain, apiKey, image, useServerProxy] = process.argv.slice(2);
const connectionConfig = new ConnectionConfig({ domain, apiKey, useServerProxy: useServerProxy === "true" });
const sandbox = await Sandbox.create({ connectionConfig, image, timeoutSeconds: 300, metadata: { by: "node" } });
const said = { id: sandbox.id };
try {
  said.state = (await sandbox.getInfo()).status.state;
  said.endpoint = (await sandbox.getEndpoint(8000)).endpoint;
  const execution = await sandbox.commands.run("echo said; echo wrong >&2");
  said.stdout = execution.logs.stdout.map((line) => line.text.trim());
  said.stderr = execution.logs.stderr.map((line) => line.text.trim());
  await sandbox.files.writeFiles([{ path: "/root/a.txt", data: "text ünïcode" }]);
  said.file = await sandbox.files.readFile("/root/a.txt");
  said.renewed = Boolean(await sandbox.renew(600));
  await sandbox.pause();
  said.paused = (await sandbox.getInfo()).status.state;
  const resumed = await sandbox.resume();
  said.resumed = (await resumed.getInfo()).status.state;
} finally {
  // The resumed object shares this one's connections, so only one of them is closed.
  await sandbox.kill();
  await sandbox.close();
}
console.log(JSON.stringify(said));
