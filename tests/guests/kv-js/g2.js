// Generation 2: a missing key is undefined. Comes before legacy.js.

import { Bucket, OutgoingValue } from "wasi:keyvalue/types@0.1.0";
import * as single from "wasi:keyvalue/eventual@0.1.0";
import * as batch from "wasi:keyvalue/eventual-batch@0.1.0";

const found = (value) => (value === undefined ? undefined : body(value));
const list = (bucket) => told(() => batch.keys(bucket));
const get = (bucket, key) => told(() => found(single.get(bucket, key)));
const getMany = (bucket, keys) => told(() => batch.getMany(bucket, keys).map(found));
