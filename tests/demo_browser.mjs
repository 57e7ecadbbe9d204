// What tests/test_demo.py sees of the page: opens it in Chromium, does what a user does, and
// prints what came of it as JSON.
//
//   node tests/demo_browser.mjs CHROMIUM URL LIFETIMES.json [SCREENSHOT.png]

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../tools/demo_page/package.json", import.meta.url))("playwright-core");
const [executablePath, url, lifetimes, screenshot] = process.argv.slice(2);
const QUIET = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
// Five characters as lines between points, in hundredths of the paper.
const CHARACTERS = [
  [[[30, 80], [50, 20], [70, 80]], [[38, 58], [62, 58]]],
  [[[50, 20], [50, 80]], [[20, 50], [80, 50]]],
  [[[25, 25], [75, 25], [25, 75], [75, 75]]],
  [[[70, 25], [35, 30], [28, 55], [45, 75], [72, 70]]],
  [[[30, 20], [30, 80]], [[30, 45], [65, 45], [65, 80]]],
];

const number = (text) => Number(text.replace(" %", ""));

/** What a user sees when the page has come to rest. */
async function seen(page) {
  await page.locator("#guess[aria-busy=false]").waitFor();
  const labels = await page.locator(".class input").evaluateAll((all) => all.map((one) => one.ariaLabel));
  return {
    guess: await page.locator("#guess").textContent(),
    chances: (await page.locator(".chance output").allTextContents()).map(number),
    learned: labels.map((label) => parseInt(label.split(", ")[1])),
  };
}

async function open(browser, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const requests = [];
  const complaints = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  await page.locator("#reset:enabled").waitFor();
  return { context, page, requests, complaints };
}

/** Learns lifetimes by the page's modules; returns the answers to the queries. */
const live = (page, of) =>
  page.evaluate(async ({ support, query, labels }) => {
    const [{ learner }, { scaled }] = await Promise.all([import("./main.js"), import("./drawing.js")]);
    const images = (text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      return Array.from({ length: bytes.length / 105 ** 2 }, (_, i) => scaled(bytes.subarray(i * 105 ** 2, (i + 1) * 105 ** 2)));
    };
    const shown = images(support);
    const asked = images(query);
    const answers = async () => {
      const found = [];
      for (const image of asked) found.push(await learner.predict(image));
      return found;
    };
    await learner.reset();
    const before = await learner.predict(asked[0]);
    for (const [i, image] of shown.entries()) await learner.learn(image, labels[i]);
    const after = await answers();
    await learner.reset();
    return { before, after, forgotten: await learner.predict(asked[0]), image: Array.from(shown[0]) };
  }, of);

/** The image of a drawing, of the same drawing half as large and in a corner, and how wide a line is. */
const placement = (page) =>
  page.evaluate(async (strokes) => {
    const { inked, scaled } = await import("./drawing.js");
    const row = inked([[[0.5, 0], [0.5, 1]]]).slice(105 * 50, 105 * 51);
    const small = strokes.map((stroke) => stroke.map(([x, y]) => [0.02 + x / 2, 0.4 + y / 2]));
    const images = [strokes, small].map((drawn) => Array.from(scaled(inked(drawn))));
    return { images, width: row.reduce((sum, ink) => sum + ink, 0) };
  }, CHARACTERS[0].map((stroke) => stroke.map((point) => point.map((value) => value / 100))));

/** Draws a character with the mouse, a little different every time. */
async function draw(page, character, variant) {
  const box = await page.locator("#pad").boundingBox();
  const shake = (value, k) => value + 4 * Math.sin(7 * variant + 3 * k);
  for (const [s, stroke] of CHARACTERS[character].entries()) {
    const points = stroke.map(([x, y], k) => [shake(x, k + s), shake(y, k + s + 0.5)]);
    const places = points.map(([x, y]) => [box.x + (x / 100) * box.width, box.y + (y / 100) * box.height]);
    await page.mouse.move(...places[0]);
    await page.mouse.down();
    for (const place of places.slice(1)) await page.mouse.move(...place, { steps: 4 });
    await page.mouse.up();
  }
}

/** A whole lifetime by mouse, then one more drawing of each character. */
async function byMouse(page) {
  await page.locator("#reset").click();
  const found = { guesses: [] };
  for (const character of CHARACTERS.keys()) {
    for (let shot = 0; shot < 5; shot++) {
      await draw(page, character, shot);
      await page.locator("#learn").click();
    }
  }
  found.learned = (await seen(page)).learned;
  for (const character of CHARACTERS.keys()) {
    await draw(page, character, 5.5);
    found.guesses.push(await seen(page));
    if (screenshot && character === 2) await page.screenshot({ path: screenshot, fullPage: true });
    await page.locator("#clear").click();
  }
  return found;
}

/** Draws, learns and forgets with the keyboard alone. */
async function byKeyboard(page) {
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  await page.locator("#reset").click();
  await page.evaluate(() => document.activeElement.blur());
  for (let i = 0; i < 9 && (await page.evaluate(() => document.activeElement.id)) !== "pad"; i++) await press("Tab");
  await press("2", "ArrowUp", "ArrowLeft", "Space", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Space");
  const drawn = await seen(page);
  await press("Enter");
  const learned = await seen(page);
  for (let i = 0; i < 9 && (await page.evaluate(() => document.activeElement.id)) !== "reset"; i++) await press("Tab");
  await press("Enter");
  return { drawn, learned, forgotten: await seen(page) };
}

/** Draws with a finger on a small phone; the page must neither scroll nor be wider than the screen. */
async function byTouch(browser) {
  const options = { viewport: { width: 320, height: 568 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
  const { context, page } = await open(browser, options);
  const finger = await context.newCDPSession(page);
  await page.locator("#clear").scrollIntoViewIfNeeded();
  const scroll = () => page.evaluate(() => scrollY);
  const before = await scroll();
  const box = await page.locator("#pad").boundingBox();
  const touch = (type, ...points) => finger.send("Input.dispatchTouchEvent", { type, touchPoints: points });
  const at = (share) => ({ x: box.x + share * box.width, y: box.y + share * box.height });
  await touch("touchStart", at(0.7));
  for (let share = 0.65; share > 0.25; share -= 0.05) await touch("touchMove", at(share));
  await touch("touchEnd");
  const scrolled = (await scroll()) - before;
  await page.locator("#learn:enabled").tap();
  // A click follows a tap a little later.
  await page.locator("#learn:disabled").waitFor();
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  if (screenshot) await page.screenshot({ path: screenshot.replace(".png", "_phone.png"), fullPage: true });
  const found = { width, scrolled, ...(await seen(page)) };
  await context.close();
  return found;
}

const browser = await chromium.launch({ executablePath, chromiumSandbox: false, args: QUIET });
try {
  const { context, page, requests, complaints } = await open(browser, { viewport: { width: 900, height: 800 } });
  await context.setOffline(true);
  const loaded = [...requests];
  const found = { loaded, complaints, lifetimes: [] };
  for (const one of JSON.parse(readFileSync(lifetimes))) found.lifetimes.push(await live(page, one));
  found.placement = await placement(page);
  found.mouse = await byMouse(page);
  found.keyboard = await byKeyboard(page);
  found.later = requests.slice(loaded.length);
  found.touch = await byTouch(browser);
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
