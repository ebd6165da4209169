/* Runs in the function's process before AWS's client (node --require), as /var/runtime/node_bootstrap.cjs.
 *
 * AWS has no SnapStart and no runtime hooks for Node.js, and its client never asks for restore/next. A snapshot is
 * therefore taken while the client waits for its first invocation, and every clone goes on there. What clones would
 * otherwise have in common - the random numbers that V8 and node keep in memory, and the process's number, which node
 * notes when it starts - is renewed when that wait ends, before the handler runs. (OpenSSL, behind node:crypto, reseeds
 * itself in a process with another number.) */
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const Module = require("node:module");

/* How many ids crypto.randomUUID() draws at once and keeps, and how many numbers crypto.randomInt(). */
const KEPT_IDS = 128;
const KEPT_INTEGERS = 1024;
const RESEED = process.env.THAW_RESEED !== "0";

/* xoshiro128** of Blackman and Vigna: 53 bits from two of its numbers, as Math.random() promises. */
function generator(seed) {
  let [a, b, c, d] = seed;
  function next() {
    const scrambled = Math.imul(b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  }
  return function random() {
    return ((next() >>> 5) * 0x4000000 + (next() >>> 6)) / 0x20000000000000;
  };
}

function reseed() {
  Math.random = generator(crypto.getRandomValues(new Int32Array(4)));
  for (let drawn = 0; drawn < KEPT_IDS; drawn++) crypto.randomUUID();
  for (let drawn = 0; drawn < KEPT_INTEGERS; drawn++) crypto.randomInt(2);
}

function renew() {
  Reflect.defineProperty(process, "pid", { value: Number(fs.readlinkSync("/proc/self")) });
  if (RESEED) reseed();
}

/* The first wait for an invocation is over: in a clone, and in the process of the snapshot nobody asks. */
function renewAfterFirst(client) {
  const next = client.next;
  client.next = async function (...given) {
    const answer = await next.apply(this, given);
    client.next = next;
    renew();
    return answer;
  };
}

if (process.env.AWS_LAMBDA_INITIALIZATION_TYPE === "snap-start") {
  const load = Module._extensions[".node"];
  Module._extensions[".node"] = function (module, file) {
    load.call(this, module, file);
    if (file.endsWith("/rapid-client.node")) {
      Module._extensions[".node"] = load;
      renewAfterFirst(module.exports);
    }
  };
}
delete process.env.THAW_RESEED;

/* AWS's client insists on these two, which a function with SnapStart does not get, because its process outlives them. */
process.env.AWS_LAMBDA_LOG_GROUP_NAME ??= `/aws/lambda/${process.env.AWS_LAMBDA_FUNCTION_NAME}`;
process.env.AWS_LAMBDA_LOG_STREAM_NAME ??= "unknown";
