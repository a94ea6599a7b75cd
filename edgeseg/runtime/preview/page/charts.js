"use strict";
// A line chart that moves: series of {at, values: {name: number}}, newest last.
const CHART_SECONDS = 120;

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawChart(canvas, samples, colours, top, unit) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  const left = 48, bottom = height - 16, right = width - 4;
  const now = samples.length ? samples[samples.length - 1].at : 0;
  const highest = Math.max(top, ...samples.flatMap((sample) => Object.values(sample.values)));
  const step = niceStep(highest / 4);
  const ceiling = Math.max(step, Math.ceil(highest / step) * step);
  const y = (value) => bottom - (value / ceiling) * (bottom - 8);
  const x = (at) => right - ((now - at) / CHART_SECONDS) * (right - left);
  pen.strokeStyle = cssColour("--line");
  pen.fillStyle = cssColour("--soft");
  pen.textAlign = "right";
  for (let value = 0; value <= ceiling + step / 2; value += step) {
    pen.beginPath(); pen.moveTo(left, y(value)); pen.lineTo(right, y(value)); pen.stroke();
    pen.fillText(Number(value.toPrecision(3)) + unit, left - 5, y(value) + 4);
  }
  pen.textAlign = "left";
  pen.fillText("-" + CHART_SECONDS + " s", left, height - 3);
  pen.textAlign = "right";
  pen.fillText("now", right, height - 3);
  pen.lineWidth = 1.8;
  for (const [name, colour] of Object.entries(colours)) {
    pen.strokeStyle = colour;
    pen.beginPath();
    let last = null;
    for (const sample of samples) {
      const value = sample.values[name];
      if (value === undefined) { last = null; continue; }
      // A gap in time is drawn as a gap: nothing is known of it.
      if (last === null || sample.at - last > 3) pen.moveTo(x(sample.at), y(value)); else pen.lineTo(x(sample.at), y(value));
      last = sample.at;
    }
    pen.stroke();
  }
}

function niceStep(rough) {
  const power = Math.pow(10, Math.floor(Math.log10(rough || 1)));
  for (const factor of [1, 2, 5, 10]) if (rough <= factor * power) return factor * power;
  return 10 * power;
}
