// A browser that notices what is wrong with a page: words of its console, requests that leave the machine, what the
// content policy refuses, and what axe finds. Pictures of all it looked at are kept.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// WCAG 2.2 at level AA, and what axe knows beyond it.
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const WAIT_MS_MAX = 15_000;
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

export const faults = [];

/** Notes what is wrong; the run goes on, so that one fault does not hide the next. */
export function fault(where, what) {
  faults.push(`${where}: ${what}`);
}

export class Browser {
  static async start(executable, origin, shots) {
    const browser = await chromium.launch({
      executablePath: executable,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"],
    });
    mkdirSync(shots, { recursive: true });
    return Object.assign(new Browser(), { browser, origin, shots, looked: 0 });
  }

  /** Somebody with cookies of their own, at a size and in a scheme. */
  async person(size = "desktop", scheme = "light", options = {}) {
    const context = await this.browser.newContext({ viewport: SIZES[size], colorScheme: scheme, ...options });
    context.setDefaultTimeout(WAIT_MS_MAX);
    const page = await context.newPage();
    page.on("console", (message) => {
      // A refusal that a page shows is an answer, not a fault of the page.
      const isRefusal = /Failed to load resource.*status of 4/.test(message.text());
      if (["error", "warning"].includes(message.type()) && !isRefusal) fault(page.url(), `console: ${message.text()}`);
    });
    page.on("pageerror", (error) => fault(page.url(), `script: ${error.message}`));
    page.on("request", (request) => {
      if (!request.url().startsWith(this.origin) && !request.url().startsWith("data:")) fault(page.url(), `asks ${request.url()}`);
    });
    return page;
  }

  /** Looks at the page that is open: by axe, for what does not fit, and by a picture. */
  async look(page, name) {
    this.looked += 1;
    const where = `${name} (${new URL(page.url()).pathname})`;
    const found = await page.evaluate(`(() => { if (!window.axe) { ${AXE} } return axe.run(document, { runOnly: ${JSON.stringify(RULES)}, resultTypes: ["violations"] }); })()`);
    for (const violation of found.violations) {
      const nodes = violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ");
      fault(where, `axe ${violation.id}: ${violation.help}: ${nodes}`);
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) fault(where, `is ${wide} px wider than the window`);
    await page.screenshot({ path: path.join(this.shots, `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.png`), fullPage: true });
  }

  /** The same page once more, as others see it: on a phone, in the dark. */
  async lookAgain(page, name, cookies = true) {
    const state = cookies ? await page.context().storageState() : undefined;
    for (const [size, scheme] of [["phone", "light"], ["desktop", "dark"], ["phone", "dark"]]) {
      const other = await this.person(size, scheme, { storageState: state });
      await other.goto(page.url());
      await this.look(other, `${name} ${size} ${scheme}`);
      await other.context().close();
    }
  }

  async close() {
    await this.browser.close();
  }
}

/** Ends the run: tells what was wrong, if anything. */
export function end(looked, seconds) {
  const different = [...new Set(faults)];
  for (const one of different) console.error(`browser: ${one}`);
  console.error(`   a browser: ${looked} looks at pages, ${different.length} faults, ${seconds} s`);
  process.exit(different.length > 0 ? 1 : 0);
}
