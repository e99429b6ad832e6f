// The cost of one visit with an empty cache.

/** Opens a path of the site as this tab's person, with an empty cache, and says what that took once `ready` is there. */
export async function coldVisit(browser, tab, path, ready, options = {}) {
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
    await page.goto(new URL(path, tab.person.site.url).href);
    await page.locator(ready).first().waitFor();
    await page.waitForLoadState("networkidle");
    const shifts = await page.evaluate(() => window.shifts);
    const requests = await Promise.all(answers);
    const sum = (of) => requests.reduce((total, request) => total + request[of], 0);
    const shift = shifts.reduce((total, { value }) => total + value, 0);
    return { shift, shifts, raw: sum("raw"), wire: sum("wire"), urls: requests.map(({ url }) => url) };
  } finally {
    await context.close();
  }
}

async function measure(request) {
  const [sizes, body] = await Promise.all([request.sizes(), request.response().then((response) => response.body())]);
  return { url: request.url(), raw: body.length, wire: sizes.responseBodySize + sizes.responseHeadersSize };
}
