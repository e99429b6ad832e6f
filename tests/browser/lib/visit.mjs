// The cost of one visit with an empty cache.

/**
 * Opens a path of the site as this tab's person, with an empty cache, and says what that took once `ready` is there.
 * `network`: its `latency` in milliseconds, and its `throughput` in bytes a second.
 */
export async function coldVisit(browser, tab, path, ready, { network, ...options } = {}) {
  const storageState = await tab.person.context.storageState();
  const context = await browser.newContext({ storageState, ...options });
  try {
    const page = await context.newPage();
    const answers = [];
    page.on("requestfinished", (request) => answers.push(measure(request)));
    await page.addInitScript(() => {
      window.shifts = [];
      const name = ({ node }) => node?.id || node?.className || node?.nodeName;
      new PerformanceObserver((list) => {
        for (const { hadRecentInput, value, sources } of list.getEntries()) {
          if (!hadRecentInput) window.shifts.push({ value, moved: sources.map(name) });
        }
      }).observe({ type: "layout-shift", buffered: true });
    });
    if (network !== undefined) await slowDown(page, network);
    const began = performance.now();
    await page.goto(new URL(path, tab.person.site.url).href, { waitUntil: "commit" });
    await page.locator(ready).first().waitFor();
    const time = performance.now() - began;
    await page.waitForLoadState("networkidle");
    const shifts = await page.evaluate(() => window.shifts);
    const requests = await Promise.all(answers);
    const sum = (of) => requests.reduce((total, request) => total + request[of], 0);
    const shift = shifts.reduce((total, { value }) => total + value, 0);
    return { time, shift, shifts, raw: sum("raw"), wire: sum("wire"), urls: requests.map(({ url }) => url) };
  } finally {
    await context.close();
  }
}

async function measure(request) {
  const [sizes, body] = await Promise.all([request.sizes(), request.response().then((response) => response.body())]);
  return { url: request.url(), raw: body.length, wire: sizes.responseBodySize + sizes.responseHeadersSize };
}

async function slowDown(page, { latency, throughput }) {
  const chromium = await page.context().newCDPSession(page);
  await chromium.send("Network.enable");
  await chromium.send("Network.emulateNetworkConditions", {
    offline: false,
    latency,
    downloadThroughput: throughput,
    uploadThroughput: throughput,
  });
}
