// The map: all texts as points, the query and its nearest texts marked.

const MARGIN = 18;
const REACH = 14; // pixels from the pointer to a point that counts as met

export class Map2d {
  constructor(canvas, onPick, onMeet) {
    this.canvas = canvas;
    this.points = new Float32Array(0);
    this.near = [];
    this.query = null;
    this.picked = -1;
    this.met = -1;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => {
      this.met = this.#pointAt(event);
      onMeet(this.met);
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => {
      this.met = -1;
      onMeet(-1);
      this.draw();
    });
    canvas.addEventListener("click", (event) => {
      const place = this.#pointAt(event);
      if (place >= 0) onPick(place);
    });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const step = steps[event.key];
      if (!step || !this.points.length) return;
      event.preventDefault();
      onPick(this.picked < 0 ? 0 : this.#next(step));
    });
  }

  show(points) {
    this.points = points;
    this.near = [];
    this.query = null;
    this.picked = -1;
    this.met = -1;
    const bounds = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < points.length; i += 2) {
      bounds[0] = Math.min(bounds[0], points[i]);
      bounds[1] = Math.max(bounds[1], points[i]);
      bounds[2] = Math.min(bounds[2], points[i + 1]);
      bounds[3] = Math.max(bounds[3], points[i + 1]);
    }
    this.bounds = bounds;
    this.draw();
  }

  mark(query, near) {
    this.query = query;
    this.near = near;
    this.draw();
  }

  pick(place) {
    this.picked = place;
    this.draw();
  }

  // Where a point of the plane is on the canvas, in CSS pixels.
  #place(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [left, right, low, high] = this.bounds;
    return [
      MARGIN + ((x - left) / (right - left || 1)) * (width - 2 * MARGIN),
      height - MARGIN - ((y - low) / (high - low || 1)) * (height - 2 * MARGIN),
    ];
  }

  #pointAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1, shortest = REACH * REACH;
    for (let i = 0; i < this.points.length / 2; i += 1) {
      const [px, py] = this.#place(this.points[2 * i], this.points[2 * i + 1]);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < shortest) [best, shortest] = [i, distance];
    }
    return best;
  }

  // The nearest point in the direction of an arrow key.
  #next([dx, dy]) {
    const [x, y] = this.#place(this.points[2 * this.picked], this.points[2 * this.picked + 1]);
    let best = this.picked, least = Infinity;
    for (let i = 0; i < this.points.length / 2; i += 1) {
      const [px, py] = this.#place(this.points[2 * i], this.points[2 * i + 1]);
      const along = (px - x) * dx + (py - y) * dy;
      const across = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (along > 0.5 && along + 2 * across < least) [best, least] = [i, along + 2 * across];
    }
    return best;
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    if (!this.points.length) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const dot = (place, radius) => {
      const [x, y] = this.#place(this.points[2 * place], this.points[2 * place + 1]);
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    };
    const count = this.points.length / 2;
    context.fillStyle = colour("--point");
    context.globalAlpha = count > 2000 ? 0.45 : 0.7;
    context.beginPath();
    for (let i = 0; i < count; i += 1) dot(i, count > 2000 ? 1.6 : 2.6);
    context.fill();
    context.globalAlpha = 1;
    if (this.query) {
      const [x, y] = this.#place(...this.query);
      context.strokeStyle = context.fillStyle = colour("--near");
      context.lineWidth = 0.7;
      context.beginPath();
      for (const place of this.near) {
        context.moveTo(x, y);
        context.lineTo(...this.#place(this.points[2 * place], this.points[2 * place + 1]));
      }
      context.stroke();
      context.beginPath();
      for (const place of this.near) dot(place, 4);
      context.fill();
      context.fillStyle = colour("--accent");
      context.beginPath();
      context.moveTo(x, y - 8);
      context.lineTo(x + 8, y);
      context.lineTo(x, y + 8);
      context.lineTo(x - 8, y);
      context.fill();
    }
    for (const place of [this.met, this.picked]) {
      if (place < 0) continue;
      context.strokeStyle = colour("--accent");
      context.lineWidth = 2;
      context.beginPath();
      dot(place, 7);
      context.stroke();
    }
  }
}
