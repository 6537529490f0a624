// Makes components: of a script, or of a core module built for WASI's first preview.

import { readFile, writeFile } from "node:fs/promises";

const [kind, source, wit, world, out] = process.argv.slice(2);
let component;
if (kind === "script") {
  const { componentize } = await import("@bytecodealliance/componentize-js");
  const options = { witPath: wit, worldName: world, sourceName: "guest.js", disableFeatures: ["http", "fetch-event"] };
  ({ component } = await componentize(await readFile(source, "utf8"), options));
} else {
  const { componentEmbed, componentNew, preview1AdapterReactorPath } = await import("@bytecodealliance/jco");
  const binary = await readFile(source);
  const embedded = await componentEmbed({ binary, witPath: wit, world, stringEncoding: "utf8" });
  const adapter = await readFile(preview1AdapterReactorPath());
  component = await componentNew(embedded, [["wasi_snapshot_preview1", adapter]]);
}
await writeFile(out, component);
