// A script that is asked over HTTP as scripts on the web are: by an event. Its engine has one event for all its life, so
// that each request needs memory of its own.

import { open } from "wasi:keyvalue/store@0.2.0-draft2";

let calls = 0;

async function answer(request) {
  calls += 1;
  const url = new URL(request.url);
  const bucket = open("");
  bucket.set(url.pathname, new TextEncoder().encode(await request.text()));
  const value = new TextDecoder().decode(bucket.get(url.pathname));
  return new Response(`${request.method} ${url.pathname}${url.search} ${value}`, {
    status: 201,
    headers: { "x-calls": `${calls}` },
  });
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
