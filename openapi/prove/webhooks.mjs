// Deliveries as the public libraries of JavaScript see them: usage webhooks.mjs RECEIVED_FILE, written by webhooks.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as standard from "standardwebhooks";
import * as svix from "svix";

const received = JSON.parse(readFileSync(process.argv[2], "utf8"));
assert.ok(received.length > 0);
const stranger = `whsec_${Buffer.alloc(32).toString("base64")}`;

for (const { secret, headers, body } of received) {
  const told = JSON.parse(body);
  for (const library of [standard, svix]) {
    assert.deepEqual(new library.Webhook(secret).verify(body, headers), told);
    const refused = [
      [stranger, body, headers],
      [secret, body.replace("project.", "object."), headers],
      [secret, body, { ...headers, "webhook-id": "evt_00000000000000000000000000" }],
      [secret, body, { ...headers, "webhook-timestamp": "1600000000" }],
    ];
    for (const [key, text, head] of refused) {
      assert.throws(() => new library.Webhook(key).verify(text, head), library.WebhookVerificationError);
    }
  }
}
console.log(`webhooks: ${received.length} deliveries verified with standardwebhooks and svix in JavaScript`);
