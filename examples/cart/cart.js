// A shopping cart over HTTP. Each instance is a customer: what the host gets at /http/alice/… is for alice's cart.
//
// A request is one durable call. What it writes, into whatever buckets, and its response become durable in one commit:
// an order is never placed without the cart being emptied. The same request under the same Idempotency-Key is answered
// with the response that was stored.

import { open } from "wasi:keyvalue/store@0.2.0-draft";
import { instance } from "perdure:durable/context@0.1.0";

const ITEMS = "items"; // the one key in `carts`: [[sku, quantity], …]
const MOST = 999; // of one item

// What a client is told of its mistakes. It is a response like any other, and what was written before it would stay: so
// all checks come before the first write. Any other error traps: the client gets a 500, and nothing was written.
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Web frameworks bring their own routers; here a switch will do.
async function route(request) {
  const [, what, sku] = new URL(request.url).pathname.split("/");
  switch (`${request.method} /${what}${sku === undefined ? "" : "/…"}`) {
    case "GET /":
      return reply(200, shown(load()));
    case "POST /items":
      return reply(200, add(await body(request)));
    case "DELETE /items/…":
      return reply(200, remove(decoded(sku)));
    case "POST /checkout":
      return reply(201, checkOut());
    default:
      throw new Refusal(404, "there are GET /, POST /items, DELETE /items/{sku} and POST /checkout");
  }
}

function add({ sku, quantity }) {
  if (typeof sku !== "string") throw new Refusal(400, "sku must be a string");
  if (!Number.isInteger(quantity) || quantity < 1) throw new Refusal(400, "quantity must be a number from 1 on");
  if (price(sku) === undefined) throw new Refusal(404, `there is no ${sku}`);
  const cart = load();
  const wanted = (cart.get(sku) ?? 0) + quantity;
  if (wanted > MOST) throw new Refusal(409, `at most ${MOST} of ${sku}`);
  cart.set(sku, wanted);
  return shown(save(cart));
}

function remove(sku) {
  const cart = load();
  cart.delete(sku);
  return shown(save(cart));
}

// Two buckets, one commit. The id is random, and that too is in the journal: a call that goes on after a crash, and its
// retry, have the same one.
function checkOut() {
  const cart = load();
  if (cart.size === 0) throw new Refusal(409, "the cart is empty");
  const order = { customer: instance(), ...shown(cart) };
  const id = crypto.randomUUID();
  write(open("orders"), id, order);
  save(new Map());
  return { order: id, total: order.total };
}

function load() {
  return new Map(read(open("carts"), ITEMS) ?? []);
}

function save(cart) {
  write(open("carts"), ITEMS, [...cart]);
  return cart;
}

function shown(cart) {
  const total = [...cart].reduce((sum, [sku, quantity]) => sum + (price(sku) ?? 0) * quantity, 0);
  return { items: Object.fromEntries(cart), total };
}

// In cents. The shop sets prices: `perdure keys set prices tea 450`.
function price(sku) {
  return read(open("prices"), sku);
}

function read(bucket, key) {
  const value = bucket.get(key);
  return value === undefined ? undefined : JSON.parse(new TextDecoder().decode(value));
}

function write(bucket, key, value) {
  bucket.set(key, new TextEncoder().encode(JSON.stringify(value)));
}

async function body(request) {
  try {
    return Object(await request.json());
  } catch {
    throw new Refusal(400, "the body must be JSON");
  }
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Refusal(400, "the path is not percent-encoded UTF-8");
  }
}

function reply(status, value) {
  return new Response(`${JSON.stringify(value)}\n`, { status, headers: { "content-type": "application/json" } });
}

async function answer(request) {
  try {
    return await route(request);
  } catch (error) {
    if (error instanceof Refusal) return reply(error.status, { error: error.message });
    // Errors of wasi:keyvalue are variants: { tag: "no-such-store" }, { tag: "other", val: "in words" }.
    if (error.payload) throw new Error(`wasi:keyvalue: ${error.payload.val ?? error.payload.tag}`);
    throw error;
  }
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
