// Generation 1: a missing key is an error, and one of them fails a whole batch. Comes before legacy.js.

import { Bucket, OutgoingValue } from "wasi:keyvalue/types";
import * as single from "wasi:keyvalue/readwrite";
import * as batch from "wasi:keyvalue/batch";

function unless(act, missing) {
  try {
    return told(act);
  } catch (error) {
    if (error === "Key not found") return missing();
    throw error;
  }
}

const list = (bucket) => batch.getKeys(bucket);
const get = (bucket, key) => unless(() => body(single.get(bucket, key)), () => undefined);
const getMany = (bucket, keys) =>
  unless(() => batch.getMany(bucket, keys).map(body), () => keys.map((key) => get(bucket, key)));
