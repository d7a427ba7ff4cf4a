// A canvas with two scales: sharp on every screen, in the page's own colours.

/** The value of a colour of page.css. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Round values between two limits, at most `most` of them. */
export function ticks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

export class Plot {
  constructor(canvas, { left = 44, right = 8, top = 6, bottom = 18 } = {}) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.margin = { left, right, top, bottom };
  }

  /** Begin a new picture over these ranges. */
  begin(xRange, yRange) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(Math.round(width * ratio), 1);
    this.canvas.height = Math.max(Math.round(height * ratio), 1);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.font = "12px system-ui, sans-serif";
    Object.assign(this, { width, height, xRange, yRange });
    const { left, right, top, bottom } = this.margin;
    this.box = { x: left, y: top, width: Math.max(width - left - right, 1), height: Math.max(height - top - bottom, 1) };
  }

  x(value) {
    const [low, high] = this.xRange;
    return this.box.x + ((value - low) / (high - low)) * this.box.width;
  }

  y(value) {
    const [low, high] = this.yRange;
    return this.box.y + this.box.height - ((value - low) / (high - low)) * this.box.height;
  }

  /** The x value below a place on the canvas, in CSS pixels. */
  valueAt(x) {
    const [low, high] = this.xRange;
    return low + ((x - this.box.x) / this.box.width) * (high - low);
  }

  /** Draw inside the axes only. */
  clipped(draw) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(this.box.x, this.box.y, this.box.width, this.box.height);
    this.context.clip();
    draw(this.context);
    this.context.restore();
  }

  line(points, style, { width = 2, dash = [] } = {}) {
    if (!points.length) return;
    const { context } = this;
    context.strokeStyle = style;
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    points.forEach(([x, y], k) => context[k ? "lineTo" : "moveTo"](this.x(x), this.y(y)));
    context.stroke();
    context.setLineDash([]);
  }

  fill(points, style) {
    const { context } = this;
    context.fillStyle = style;
    context.beginPath();
    points.forEach(([x, y], k) => context[k ? "lineTo" : "moveTo"](this.x(x), this.y(y)));
    context.fill();
  }

  xAxis(values, label) {
    const { context, box } = this;
    context.fillStyle = colour("faint");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.textBaseline = "top";
    for (const value of values) {
      const x = this.x(value);
      context.beginPath();
      context.moveTo(x, box.y);
      context.lineTo(x, box.y + box.height);
      context.stroke();
      const shown = label(value);
      const half = context.measureText(shown).width / 2;
      context.fillText(shown, Math.min(Math.max(x - half, 0), this.width - 2 * half), box.y + box.height + 4);
    }
  }

  yAxis(values, label) {
    const { context, box } = this;
    context.fillStyle = colour("faint");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.textBaseline = "middle";
    for (const value of values) {
      const y = this.y(value);
      context.beginPath();
      context.moveTo(box.x, y);
      context.lineTo(box.x + box.width, y);
      context.stroke();
      const shown = label(value);
      context.fillText(shown, box.x - 6 - context.measureText(shown).width, y);
    }
  }
}
