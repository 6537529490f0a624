// Makes a component of a script that uses `fetch`.

import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, witPath, out] = process.argv.slice(2);
const options = { witPath, worldName: "guest", sourceName: "guest.js", disableFeatures: ["fetch-event"] };
const { component } = await componentize(await readFile(source, "utf8"), options);
await writeFile(out, component);
