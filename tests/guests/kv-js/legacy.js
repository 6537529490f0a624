// What generations 1 and 2 have in common: values and errors are resources. A `batch` and a `single` come before.

function told(act) {
  try {
    return act();
  } catch (error) {
    const payload = error.payload ?? error;
    if (typeof payload.trace === "function") throw payload.trace();
    throw error;
  }
}

const body = (value) => value.incomingValueConsumeSync();

function outgoing(value) {
  const made = OutgoingValue.newOutgoingValue();
  made.outgoingValueWriteBodySync(value);
  return made;
}

const open = (name) => told(() => Bucket.openBucket(name));
const put = (bucket, key, value) => told(() => single.set(bucket, key, outgoing(value)));
const remove = (bucket, key) => told(() => single.delete(bucket, key));
const has = (bucket, key) => told(() => single.exists(bucket, key));
const putMany = (bucket, entries) =>
  told(() => batch.setMany(bucket, entries.map(([key, value]) => [key, outgoing(value)])));
const removeMany = (bucket, keys) => told(() => batch.deleteMany(bucket, keys));
