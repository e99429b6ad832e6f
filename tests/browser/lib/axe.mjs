// Looks for what hinders people who read a page by ear, by keys, or enlarged.

import axe from "axe-core";

/** The findings of axe-core in the page as it is now, a line each. It is evaluated, for the site's policy forbids its tag. */
export async function findings(page, impacts = ["minor", "moderate", "serious", "critical"]) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations
    .filter(({ impact }) => impacts.includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 160)} (${failureSummary.split("\n")[1]})`).join("; ")}`);
}

/** Those that are serious or critical. */
export function hindrances(page) {
  return findings(page, ["serious", "critical"]);
}

/** The elements that make the page wider than the screen. */
export async function tooWide(page) {
  return page.evaluate(async () => {
    // The board takes its size from what is there, a frame later.
    for (let frames = 0; frames < 3; frames += 1) await new Promise(requestAnimationFrame);
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const isOutside = (element) => element.getBoundingClientRect().right > clientWidth;
    return [...document.querySelectorAll("body *")].filter(isOutside).map((element) => element.cloneNode().outerHTML);
  });
}

/**
 * The buttons, fields and links that are narrower or lower than 24 px. WCAG 2.5.8 leaves out links within a sentence,
 * whose size the line gives them: those that lie in a line with other text. A choice is hit by its label.
 */
export function smallTargets(page) {
  return page.evaluate(() => {
    const isSmall = (element) => {
      const { width, height } = element.getBoundingClientRect();
      return width > 1 && height > 1 && (width < 24 || height < 24);
    };
    const elements = [...document.querySelectorAll("button, input, summary, a[href]")];
    const isInSentence = (element) => {
      const text = (node) => node.textContent.trim();
      return getComputedStyle(element).display === "inline" && text(element.parentElement) !== text(element);
    };
    const isChoice = (element) => element.matches(".choices input");
    return elements
      .filter((element) => element.checkVisibility() && isSmall(element) && !isInSentence(element) && !isChoice(element))
      .map((element) => element.outerHTML.slice(0, 120));
  });
}
