// The pixels of a page, as a reader sees them.

/** A picture of an element as it is now. */
export async function picture(page, selector) {
  const png = await page.locator(selector).screenshot();
  // As text both ways: a list of a million numbers would take many seconds.
  const { width, height, data } = await page.evaluate(async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const colours = context.getImageData(0, 0, width, height).data;
    const data = btoa(Array.from(colours, (colour) => String.fromCharCode(colour)).join(""));
    return { width, height, data };
  }, png.toString("base64"));
  return new Picture(width, height, Buffer.from(data, "base64"));
}

/** Its places are fractions of its width and height. */
class Picture {
  constructor(width, height, data) {
    Object.assign(this, { width, height, data });
  }

  /** The pixels of a rectangle, each `[red, green, blue]`. */
  #pixels(left, top, right, bottom) {
    const pixels = [];
    for (let y = Math.round(top * this.height); y < bottom * this.height; y += 1) {
      for (let x = Math.round(left * this.width); x < right * this.width; x += 1) {
        const at = 4 * (y * this.width + x);
        pixels.push([...this.data.subarray(at, at + 3)]);
      }
    }
    return pixels;
  }

  /** The mean tone of a rectangle. */
  tone(...rectangle) {
    const pixels = this.#pixels(...rectangle);
    return [0, 1, 2].map((channel) => pixels.reduce((sum, pixel) => sum + pixel[channel], 0) / pixels.length);
  }

  /** The part of a rectangle that is farther than `apart` from a tone. */
  share(tone, apart, ...rectangle) {
    const pixels = this.#pixels(...rectangle);
    return pixels.filter((pixel) => distance(pixel, tone) >= apart).length / pixels.length;
  }
}

/** How far two tones are apart: 441 between black and white. */
export function distance(a, b) {
  return Math.hypot(...a.map((value, channel) => value - b[channel]));
}
