// The tests' functions over wasi:keyvalue; what comes before is the module of one generation, with `open`, `get`, `put`,
// `remove`, `has`, `list`, `getMany`, `putMany` and `removeMany`. See ../wit/kv.wit.

let counted = 0n;

function look(bucket, key) {
  const keys = list(bucket);
  return {
    value: get(bucket, key),
    inBatch: getMany(bucket, [key])[0],
    exists: has(bucket, key),
    listed: keys.includes(key),
    keys: keys.length,
  };
}

export const kv = {
  get: (bucket, key) => get(open(bucket), key),
  set: (bucket, key, value) => put(open(bucket), key, value),
  delete: (bucket, key) => remove(open(bucket), key),
  exists: (bucket, key) => has(open(bucket), key),
  keys: (bucket) => list(open(bucket)),
  getMany: (bucket, keys) => getMany(open(bucket), keys),
  setMany: (bucket, entries) => putMany(open(bucket), entries),
  deleteMany: (bucket, keys) => removeMany(open(bucket), keys),
  rewrite(bucket, view, key, value) {
    const [written, seen] = [open(bucket), open(view)];
    const before = look(seen, key);
    put(written, key, value);
    const after = look(seen, key);
    remove(written, key);
    return [before, after, look(seen, key)];
  },
  increment(bucket, key) {
    const opened = open(bucket);
    const found = get(opened, key);
    const text = found === undefined ? "0" : new TextDecoder().decode(found);
    if (!/^[0-9]+$/.test(text)) throw "not a number";
    const number = BigInt(text) + 1n;
    put(opened, key, new TextEncoder().encode(String(number)));
    counted += 1n;
    return number;
  },
  calls: () => counted,
};
