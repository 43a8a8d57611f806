// A newcomer's way through the console, in a real browser against a running server: from the first sign-in to a colleague
// with less rights.
//
//   node journey.mjs CHROMIUM ORIGIN CONSOLE_URL MAIL_DIR SHOTS_DIR

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { Webhook } from "standardwebhooks";
import { Browser, end, fault } from "./look.mjs";

const [chromium, origin, consoleUrl, mailDir, shots] = process.argv.slice(2);
const COLLEAGUE = "colleague@example.com";
// Pages of the documentation that are looked at by axe; the rest is like one of them.
const DOCS_MAX = 24;
const RUNNING_MS_MAX = 20_000;
const LETTER_MS_MAX = 15_000;

const began = Date.now();
const received = [];
const receiver = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    received.push({ headers: request.headers, body: Buffer.concat(parts).toString() });
    response.writeHead(204).end();
  });
});
await new Promise((listening) => receiver.listen(0, "127.0.0.1", listening));

const browser = await Browser.start(chromium, origin, shots);
const owner = await browser.person();
const look = (name) => browser.look(owner, name);
const press = (name) => owner.getByRole("button", { name, exact: true }).click();
const go = (name) => owner.getByRole("navigation", { name: "Workspace" }).getByRole("link", { name, exact: true }).click();

/** Waits, without a clock of its own, until something is so. */
async function until(what, limit_ms, is) {
  const last = Date.now() + limit_ms;
  for (;;) {
    const found = await is();
    if (found) return found;
    assert(Date.now() < last, `${what} within ${limit_ms} ms`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

function letterTo(address, subject) {
  const letters = readdirSync(mailDir).map((name) => readFileSync(path.join(mailDir, name), "utf8"));
  return letters.find((letter) => letter.includes(`To: ${address}`) && letter.includes(subject));
}

async function journey() {
  // In, with the link that was printed.
  await owner.goto(consoleUrl);
  await look("sign in by link");
  await press("Sign in to the console");
  await owner.getByRole("heading", { level: 1 }).waitFor();
  await look("overview of nothing");
  const base = new URL(owner.url()).pathname;

  // A project, and a compute in it.
  await go("Projects");
  await owner.getByLabel("New project").fill("Shop");
  await press("Make it");
  await owner.getByRole("heading", { name: "Shop" }).waitFor();
  await look("project");
  await go("Projects");
  await look("projects");
  await go("Computes");
  await look("computes of nothing");
  await owner.getByRole("link", { name: "New compute" }).first().click();
  await owner.getByLabel("Name", { exact: true }).fill("Not a name");
  await owner.getByLabel("Project").selectOption({ label: "Shop" });
  assert.match(await owner.locator("#curl").textContent(), /"name":"Not a name"/, "the same call by curl follows what is typed");
  await look("new compute");
  await press("Make the compute");
  await owner.getByRole("alert").waitFor();
  await look("new compute refused");
  await owner.getByLabel("Name", { exact: true }).fill("web-1");
  await press("Make the compute");
  await owner.getByRole("heading", { name: "web-1" }).waitFor();
  // It comes up before one's eyes, without a new load.
  await owner.locator("#state .s-running").waitFor({ timeout: RUNNING_MS_MAX });
  await look("compute");
  await browser.lookAgain(owner, "compute");

  // A key, made and used.
  await go("API keys");
  await owner.getByLabel("Name", { exact: true }).fill("ci");
  await press("Make the key");
  const first = await owner.locator("#secret").textContent();
  await look("key secret");
  await owner.getByRole("button", { name: "Copy", exact: true }).first().click();
  const call = (secret, method, where, body) => fetch(`${origin}/v1${where}`, {
    method, body: body && JSON.stringify(body),
    headers: { authorization: `Bearer ${secret}`, ...(body && { "content-type": "application/json" }) },
  });
  const computes = await (await call(first, "GET", "/computes")).json();
  assert.deepEqual(computes.data.map((one) => one.name), ["web-1"]);
  await owner.getByRole("link", { name: "I saved it" }).click();
  await owner.getByText("ci", { exact: true }).waitFor();
  await look("keys");

  // A webhook, received.
  await go("Webhooks");
  await owner.getByLabel("Address").fill(`http://127.0.0.1:${receiver.address().port}/hook`);
  await owner.getByLabel(/Only events of the types/).fill("project.created");
  await press("Make the webhook");
  const signing = await owner.locator("#secret").textContent();
  await look("webhook secret");
  await owner.getByRole("link", { name: "I saved it" }).click();
  assert.equal((await call(first, "POST", "/projects", { name: "From the key" })).status, 201);
  const delivery = await until("the webhook is received", RUNNING_MS_MAX, () => received[0]);
  const event = new Webhook(signing.trim()).verify(delivery.body, delivery.headers);
  assert.equal(event.type, "project.created");
  await until("the delivery is shown", RUNNING_MS_MAX, async () => {
    await owner.reload();
    return owner.locator("#deliveries .s-succeeded").count();
  });
  await look("webhook");
  await go("Webhooks");
  await look("webhooks");

  // The key, rotated: the secret before ends at once.
  await go("API keys");
  const row = owner.getByRole("row").filter({ has: owner.getByText("ci", { exact: true }) });
  await row.getByText("Change", { exact: true }).click();
  await press("Rotate ci");
  const second = await owner.locator("#secret").textContent();
  assert.notEqual(first, second);
  assert.deepEqual([(await call(first, "GET", "/me")).status, (await call(second, "GET", "/me")).status], [401, 200]);
  await look("key rotated");

  // What it came to.
  await go("Usage");
  await owner.getByRole("table").getByText("Shop").waitFor();
  await look("usage");
  for (const name of ["Events", "Audit log", "SSH keys"]) {
    await go(name);
    await look(name);
  }

  // A colleague, invited, who then signs in with less rights.
  await go("Team");
  await owner.getByLabel("E-mail").fill(COLLEAGUE);
  await press("Invite");
  const invitation = await owner.locator("#invitation").textContent();
  await look("team with an invitation");
  const colleague = await browser.person("phone", "dark");
  await colleague.goto(invitation.trim());
  await colleague.getByRole("button", { name: "Accept the invitation" }).click();
  await colleague.getByRole("heading", { name: /Welcome/ }).waitFor();
  await browser.look(colleague, "invitation accepted");
  await colleague.goto(`${origin}/console`);
  await colleague.getByLabel("E-mail").fill(COLLEAGUE);
  await browser.look(colleague, "sign in by e-mail");
  await colleague.getByRole("button", { name: "Send me a link" }).click();
  await browser.look(colleague, "sign in link sent");
  const letter = await until("the letter is there", LETTER_MS_MAX, () => letterTo(COLLEAGUE, "/console/sign-in"));
  const link = letter.replaceAll("=\r\n", "").replaceAll("=3D", "=").match(/https?:\/\/[^\s"<]*\/console\/sign-in[^\s"<]*/)[0];
  await colleague.goto(link);
  await colleague.getByRole("button", { name: "Sign in to the console" }).click();
  await colleague.getByRole("heading", { level: 1 }).waitFor();
  await browser.look(colleague, "overview of a member");
  assert.equal(await colleague.getByText("Cost so far").count(), 0, "a member sees no money");
  assert.equal(await colleague.getByRole("link", { name: "Audit log" }).count(), 0, "a member has no audit log");
  const refused = await colleague.goto(`${origin}${base}/audit`);
  assert.equal(refused.status(), 403, "nor by its address");
  await browser.look(colleague, "refused to a member");

  // The sandbox, where nothing is real, and its reset.
  await owner.getByRole("navigation", { name: "Mode" }).getByRole("link", { name: "Sandbox" }).click();
  await owner.getByText("Simulated and free").waitFor();
  await look("sandbox");
  await go("Computes");
  await owner.getByRole("link", { name: "New compute" }).first().click();
  await owner.getByLabel("Name", { exact: true }).fill("trial");
  await press("Make the compute");
  await owner.getByRole("heading", { name: "trial" }).waitFor();
  await go("Clock and reset");
  await look("sandbox clock");
  await press("Move it");
  await press("Reset the sandbox");
  await go("Computes");
  await owner.getByText("No computes yet").waitFor();
  await look("sandbox after its reset");

  // All of it as others see it.
  const pages = ["", "/invoices", "/computes", "/computes/new", "/projects", "/ssh-keys", "/keys", "/webhooks", "/team", "/usage", "/events", "/audit", "/sandbox/sandbox"];
  for (const one of [...pages.map((one) => base + one), "/console/account"]) {
    await owner.goto(origin + one);
    await browser.lookAgain(owner, `all ${one.slice(base.length) || one}`);
  }
  const missing = await owner.goto(`${origin}${base}/nowhere`);
  assert.equal(missing.status(), 404);
  await look("no such page");
  await owner.goto(origin + base);
  await press("Sign out");
  await owner.getByRole("heading", { name: "Sign in" }).waitFor();
  await owner.goto(origin + base);
  assert.match(owner.url(), /\/console\/sign-in/, "who signed out is out");
  await browser.lookAgain(owner, "signed out", false);
}

/** The documentation: each kind of page, and then as many others as are looked at. */
async function documentation() {
  const reader = await browser.person();
  await reader.goto(`${origin}/docs`);
  const links = await reader.evaluate(() => [...document.querySelectorAll("a[href^='/docs']")].map((a) => a.pathname));
  const all = [...new Set(links.filter((one) => !one.endsWith(".md") && !one.endsWith(".json")))];
  const every = Math.max(1, Math.ceil(all.length / DOCS_MAX));
  for (const [number, one] of all.entries()) {
    if (number % every !== 0) continue;
    await reader.goto(origin + one);
    await browser.look(reader, `docs ${one}`);
    if (number % (every * 6) === 0) await browser.lookAgain(reader, `docs ${one}`, false);
  }
}

try {
  await journey();
  await documentation();
} catch (error) {
  fault(owner.url(), error.stack ?? error.message);
  await owner.screenshot({ path: path.join(shots, "where-it-ended.png") }).catch(() => {});
}
await browser.close();
receiver.close();
receiver.closeAllConnections();
end(browser.looked, Math.round((Date.now() - began) / 1000));
