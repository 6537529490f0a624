// Makes a component of a script that uses `fetch`, or that is told of requests by a `fetch` event.

import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, witPath, out, ...disableFeatures] = process.argv.slice(2);
const options = { witPath, worldName: "guest", sourceName: "guest.js", disableFeatures };
const { component } = await componentize(await readFile(source, "utf8"), options);
await writeFile(out, component);
