// Generations 3 and 4 differ only in the version that they are imported by and in the cursor's type.

import { open as openStore } from "wasi:keyvalue/store@VERSION";
import * as batch from "wasi:keyvalue/batch@VERSION";

function told(act) {
  try {
    return act();
  } catch (error) {
    const payload = error.payload ?? error;
    if (payload.tag === "no-such-store") throw "no such store";
    if (payload.tag === "access-denied") throw "access denied";
    if (payload.tag === "other") throw payload.val;
    throw error;
  }
}

const open = (name) => told(() => openStore(name));
const get = (bucket, key) => told(() => bucket.get(key));
const put = (bucket, key, value) => told(() => bucket.set(key, value));
const remove = (bucket, key) => told(() => bucket.delete(key));
const has = (bucket, key) => told(() => bucket.exists(key));
const getMany = (bucket, keys) =>
  told(() => batch.getMany(bucket, keys).map((entry) => (entry === undefined ? undefined : entry[1])));
const putMany = (bucket, entries) => told(() => batch.setMany(bucket, entries));
const removeMany = (bucket, keys) => told(() => batch.deleteMany(bucket, keys));

function list(bucket) {
  const found = [];
  let cursor;
  do {
    const page = told(() => bucket.listKeys(cursor));
    found.push(...page.keys);
    cursor = page.cursor;
  } while (cursor !== undefined);
  return found;
}
