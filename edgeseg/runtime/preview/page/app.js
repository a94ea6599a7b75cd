"use strict";
const POLL_MS = 500, LOST_MS = 2500, OLD_MS = 2000, KEEP = 240;
const STAGE_COLOURS = { frame: "#c2410c", preprocess: "#2563eb", infer: "#7c3aed", postprocess: "#0d9488", wait: "#8a94a0" };
const byId = (id) => document.getElementById(id);

let state = null, answeredAt = performance.now(), shownSource = null, viewer = "", openedAt = 0, timer = 0, polling = false;
let times = [], areas = {}, corners = [], drawing = false, cross = [0.5, 0.5], alphaTimer = 0, eventsShown = "";

async function ask(method, path, body) {
  const options = { method, headers: {}, signal: AbortSignal.timeout(method === "GET" ? 4000 : 20000) };
  if (body !== undefined) { options.headers["Content-Type"] = "application/json"; options.body = JSON.stringify(body); }
  const answer = await fetch(path, options);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error || answer.statusText);
  return told;
}

async function act(method, path, body) {
  try {
    const told = await ask(method, path, body);
    say("");
    return told;
  } catch (error) {
    say(error.name === "TimeoutError" || error instanceof TypeError ? "no answer from the run" : error.message);
    return null;
  }
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function button(text, label, onClick) {
  const made = element("button", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", onClick);
  return made;
}

// Rebuilt only when its content changes, so that focus and a screen reader stay where they are.
function fill(parent, key, build) {
  const text = JSON.stringify(key);
  if (parent.dataset.key === text) return;
  const focused = parent.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  parent.dataset.key = text;
  parent.replaceChildren(...build());
  if (focused) for (const child of parent.querySelectorAll("[aria-label]")) if (child.getAttribute("aria-label") === focused) child.focus();
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden || polling) return;
  polling = true;
  try {
    state = await ask("GET", "/api/state" + (viewer ? "?viewer=" + viewer : ""));
    answeredAt = performance.now();
    remember();
    show();
    showEvents((await ask("GET", "/api/events")).events);
  } catch (error) {
    console.debug(error.message);
  } finally {
    polling = false;
    showConnection();
    if (!document.hidden) timer = setTimeout(poll, POLL_MS);
  }
}

function remember() {
  times.push({ at: state.at, values: state.recent_ms });
  times = times.slice(-KEEP);
  for (const source of state.run.sources) {
    (areas[source.name] = areas[source.name] || []).push({ at: state.at, values: source.area });
    areas[source.name] = areas[source.name].slice(-KEEP);
  }
}

function openSources() { return state.run.sources.filter((source) => source.status !== "ended" || state.run.ended); }
function selected() { return state && state.run.sources.find((source) => source.name === shownSource); }

function show() {
  const names = openSources().map((source) => source.name);
  if (!names.includes(shownSource)) shownSource = names.length ? names[0] : null;
  fill(byId("source-select"), names, () => names.map((name) => { const made = element("option", name); made.value = name; return made; }));
  byId("source-select").value = shownSource;
  byId("summary").textContent = `${state.run.frames} frames, ${state.run.fps.toFixed(1)} fps, ${state.run.dropped} dropped, version ${state.version}`;
  byId("pause").textContent = state.run.paused ? "Go on" : "Pause";
  byId("pause").setAttribute("aria-pressed", state.run.paused);
  if (!alphaTimer) { byId("alpha").value = state.alpha; byId("alpha-value").textContent = state.alpha.toFixed(2); }
  showAlarms(); showClasses(); showStages(); showSources(); showRois(); keepStream();
  const colours = Object.fromEntries(Object.entries(STAGE_COLOURS).filter(([name]) => name in state.recent_ms && name !== "wait"));
  drawChart(byId("time-chart"), times, colours, 1, " ms");
  fill(byId("time-legend"), Object.keys(colours), () => Object.entries(colours).map(([name, colour]) => { const made = element("span"); made.append(swatch(colour), name); return made; }));
  drawChart(byId("area-chart"), (areas[shownSource] || []).map((sample) => ({ at: sample.at, values: percents(sample.values) })),
    Object.fromEntries(state.classes.map((item) => [item.name, item.colour])), 1, " %");
}

function percents(values) { return Object.fromEntries(Object.entries(values).map(([name, share]) => [name, share * 100])); }

function swatch(colour) {
  const made = element("span", "", "swatch");
  made.style.backgroundColor = colour;
  return made;
}

// The stream tells nothing when it breaks, so the run is asked what it sent to this page last.
function keepStream() {
  const source = selected(), picture = byId("picture");
  if (document.hidden) return;  // since the run was asked; nobody would close the stream again
  if (!source || source.picture_age_ms === null) return;
  const size = source.size.split("x");
  if (size[0] > 0) { picture.width = size[0]; picture.height = size[1]; }
  const since = performance.now() - openedAt;
  const lost = since > 3000 && (!state.viewer || state.viewer.source !== shownSource);
  if (viewer && !lost && picture.dataset.source === shownSource) return;
  viewer = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  openedAt = performance.now();
  picture.dataset.source = shownSource;
  picture.src = `/stream/${encodeURIComponent(shownSource)}.mjpg?viewer=${viewer}`;
}

function closeStream() {
  byId("picture").removeAttribute("src");
  viewer = "";
}

function showConnection() {
  const silent = performance.now() - answeredAt, badge = byId("connection"), source = selected();
  const lost = silent > LOST_MS;
  let word = "live", kind = "good", old = "";
  if (lost) {
    [word, kind] = ["connection lost", "bad"];
    old = `Connection to the run lost ${(silent / 1000).toFixed(0)} s ago. This picture is old.`;
  } else if (!state) {
    word = "connecting"; kind = "warn";
  } else if (state.run.ended) {
    [word, kind] = ["ended: " + state.run.ended, "warn"];
    old = "The run has ended. This picture is old.";
  } else if (state.run.paused) {
    [word, kind] = ["paused", "warn"];
    old = "Paused. This picture is old.";
  }
  if (!old && source) {
    const sent = state.viewer && state.viewer.source === shownSource ? state.viewer.age_ms + silent : null;
    const age = sent === null ? source.picture_age_ms : sent;
    if (age === null) old = `No picture yet: the source is ${source.status}.`;
    else if (age > OLD_MS || (sent === null && performance.now() - openedAt > OLD_MS)) {
      old = `${source.status === "streaming" ? "No new picture" : "Source " + source.status}. This picture is ${(age / 1000).toFixed(1)} s old.`;
      [word, kind] = [source.status === "streaming" ? "no new picture" : source.status, "bad"];
    }
  }
  if (badge.textContent !== word) badge.textContent = word;
  badge.className = "badge " + kind;
  byId("stale").hidden = !old;
  if (byId("stale").textContent !== old) byId("stale").textContent = old;
  byId("stage").classList.toggle("old", Boolean(old));
}

function showAlarms() {
  const alarms = state.alarms || [], box = byId("alarms");
  box.hidden = !alarms.length;
  fill(box, alarms.map((alarm) => [alarm.alarm, alarm.source]), () => alarms.map((alarm) => element("div", `Alarm: ${alarm.alarm} (source ${alarm.source})`)));
}

function showClasses() {
  const area = (selected() || { area: {} }).area;
  fill(byId("classes"), state.classes.map((item) => [item.name, item.colour]), () => state.classes.map((item, index) => {
    const label = element("label"), box = element("input"), share = element("span", "", "share");
    box.type = "checkbox"; box.setAttribute("aria-label", item.name); box.dataset.name = item.name;
    box.addEventListener("change", () => toggle(index));
    label.append(box, swatch(item.colour), element("span", item.name), share);
    return label;
  }));
  byId("classes").querySelectorAll("input").forEach((box, index) => { box.checked = !state.classes[index].hidden; });
  byId("classes").querySelectorAll(".share").forEach((share, index) => {
    const part = area[state.classes[index].name];
    share.textContent = part === undefined ? "" : (part * 100).toFixed(1) + " %";
  });
}

async function toggle(index) {
  const hidden = state.classes.filter((item, at) => item.hidden !== (at === index)).map((item) => item.name);
  if (await act("POST", "/api/classes", { hidden })) state.classes[index].hidden = !state.classes[index].hidden;
  showClasses();
}

function showStages() {
  const rows = Object.entries(state.run.ms);
  byId("stages").tBodies[0].replaceChildren(...rows.map(([stage, laps]) => {
    const row = element("tr"), head = element("th", stage);
    head.scope = "row";
    row.append(head, ...[state.recent_ms[stage], laps.p50_ms, laps.p90_ms, laps.p99_ms, laps.max_ms].map((ms) => element("td", ms === undefined ? "" : ms.toFixed(2))));
    return row;
  }));
}

const KINDS = { streaming: "good", ok: "good", opening: "warn", restarting: "warn", slow: "warn", ended: "warn", stalled: "bad", failed: "bad", failing: "bad" };

function showSources() {
  // Numbers change all the time; buttons are rebuilt only when the list does.
  const list = byId("sources"), sources = state.run.sources;
  fill(list, sources.map((source) => [source.name, source.description, source.status === "ended"]), () => sources.map((source) => {
    const item = element("li"), what = element("span", `${source.name}: ${source.description} `, "what");
    what.append(element("span", "", "status"));
    item.append(what, source.status === "ended" ? element("span") : button("Remove", `Remove source ${source.name}`, () => removeSource(source.name)), element("span", "", "numbers"));
    return item;
  }));
  sources.forEach((source, index) => {
    const item = list.children[index], age = source.age_ms ? `age p50 ${source.age_ms.p50_ms.toFixed(1)} p99 ${source.age_ms.p99_ms.toFixed(1)} ms, ` : "";
    const drops = Object.entries(source.dropped).map(([cause, count]) => `${count} ${cause}`).join(", ") || "none";
    setStatus(item.querySelector(".status"), source.status);
    item.querySelector(".numbers").textContent = `${source.size}, ${source.segmented} of ${source.produced} frames, ${age}dropped: ${drops}, restarts: ${source.restarts}${source.error ? ". " + source.error : ""}`;
  });
  fill(byId("sinks"), state.run.sinks.map((sink) => sink.description), () => state.run.sinks.map((sink) => {
    const item = element("li"), what = element("span", sink.description + " ", "what");
    what.append(element("span", "", "status"));
    item.append(what, element("span"), element("span", "", "numbers"));
    return item;
  }));
  state.run.sinks.forEach((sink, index) => {
    const item = byId("sinks").children[index], lost = Object.entries(sink.lost).map(([cause, count]) => `${count} ${cause}`).join(", ") || "none";
    setStatus(item.querySelector(".status"), sink.status);
    item.querySelector(".numbers").textContent = `${sink.written} written, lost: ${lost}${sink.error ? ". " + sink.error : ""}`;
  });
}

function setStatus(target, status) {
  target.textContent = status;
  target.className = "status " + (KINDS[status] || "warn");
}

async function removeSource(name) {
  if (await act("DELETE", "/api/sources/" + encodeURIComponent(name))) poll();
}

function showEvents(events) {
  const key = events.length ? events[events.length - 1].at + "/" + events.length : "";
  if (key === eventsShown) return;
  eventsShown = key;
  byId("events").replaceChildren(...events.slice().reverse().map((event) => {
    const item = element("li", undefined, event.level), when = element("time", new Date(event.at * 1000).toLocaleTimeString());
    item.append(when, `${event.level === "info" ? "" : event.level + ": "}${event.who}: ${event.text}`);
    return item;
  }));
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const joined = (points) => points.map((point) => point.join(",")).join(" ");

function showRois() {
  byId("roi-section").hidden = !state.rois;
  if (!state.rois) return;
  const rois = Object.entries(state.rois);
  fill(byId("rois"), rois, () => rois.map(([name, points]) => {
    const item = element("li");
    item.append(element("span", `${name}, ${points.length} corners`, "what"), button("Remove", `Remove region ${name}`, () => act("DELETE", "/api/rois/" + encodeURIComponent(name)).then(poll)));
    return item;
  }));
  drawRegions();
}

function drawRegions() {
  const shapes = Object.values((state && state.rois) || {}).map((points) => svg("polygon", { points: joined(points) }));
  if (drawing) {
    shapes.push(svg("polyline", { points: joined(corners), class: "draft" }));
    shapes.push(svg("line", { x1: cross[0], x2: cross[0], y1: 0, y2: 1, class: "cross" }), svg("line", { x1: 0, x2: 1, y1: cross[1], y2: cross[1], class: "cross" }));
  }
  byId("regions").replaceChildren(...shapes);
  byId("roi-save").disabled = corners.length < 3 || !byId("roi-name").value || !byId("roi-name").checkValidity();
}

function draw(on) {
  drawing = on;
  corners = [];
  byId("stage").classList.toggle("drawing", on);
  byId("roi-draw").setAttribute("aria-pressed", on);
  byId("roi-draw").textContent = on ? "Stop drawing" : "Draw a region";
  drawRegions();
}

function drawKey(event) {
  const steps = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] };
  if (steps[event.key]) cross = cross.map((value, axis) => Math.min(1, Math.max(0, Number((value + steps[event.key][axis]).toFixed(3)))));
  else if (event.key === "Enter") corners.push([...cross]);
  else if (event.key === "Backspace") corners.pop();
  else return;
  event.preventDefault();
  drawRegions();
}

async function saveRoi() {
  const name = byId("roi-name").value;
  if (await act("PUT", "/api/rois/" + encodeURIComponent(name), { points: corners })) {
    byId("roi-name").value = "";
    draw(false);
    byId("roi-draw").focus();
    poll();
  }
}

async function pause() {
  if (state && (await act("POST", "/api/pause", { paused: !state.run.paused }))) poll();
}

async function snapshot() {
  const told = await act("POST", "/api/snapshot", { source: shownSource || "" });
  if (!told) return;
  const links = [["frame", told.frame], ["mask", told.mask]].map(([text, path]) => {
    const made = element("a", `${text} ${told.index}`);
    made.href = path;
    made.download = path.split("/").pop();
    return made;
  });
  byId("snapshot-links").replaceChildren("Saved: ", ...links);
}

function setAlpha(value) {
  byId("alpha").value = value;
  byId("alpha-value").textContent = Number(byId("alpha").value).toFixed(2);
  clearTimeout(alphaTimer);
  alphaTimer = setTimeout(async () => { await act("POST", "/api/alpha", { alpha: Number(byId("alpha").value) }); alphaTimer = 0; }, 120);
}

function choose(name) {
  shownSource = name;
  if (state) show();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !state) return;
  if (event.key === "Escape" && drawing) { draw(false); return; }
  const target = event.target;
  if (target.matches("input:not([type=range]):not([type=checkbox]), select")) return;
  const names = openSources().map((source) => source.name);
  if (event.key === "p" || event.key === "P") pause();
  else if (event.key === "s" || event.key === "S") snapshot();
  else if (event.key === "+" || event.key === "=") setAlpha(Number(byId("alpha").value) + 0.05);
  else if (event.key === "-") setAlpha(Number(byId("alpha").value) - 0.05);
  else if ((event.key === "n" || event.key === "N") && names.length) choose(names[(names.indexOf(shownSource) + 1) % names.length]);
  else if (/^[1-9]$/.test(event.key) && event.key <= state.classes.length) toggle(Number(event.key) - 1);
}

byId("pause").addEventListener("click", pause);
byId("snapshot").addEventListener("click", snapshot);
byId("alpha").addEventListener("input", () => setAlpha(byId("alpha").value));
byId("source-select").addEventListener("change", (event) => choose(event.target.value));
byId("add-source").addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = await act("POST", "/api/sources", { uri: byId("source-uri").value.trim() });
  if (told) { byId("source-uri").value = ""; shownSource = told.name; poll(); }
});
byId("roi-draw").addEventListener("click", () => draw(!drawing));
byId("roi-draw").addEventListener("keydown", (event) => { if (drawing) drawKey(event); });
byId("roi-save").addEventListener("click", saveRoi);
byId("roi-name").addEventListener("input", drawRegions);
byId("regions").addEventListener("click", (event) => {
  const box = byId("regions").getBoundingClientRect();
  const at = (value) => Math.min(1, Math.max(0, Number(value.toFixed(4))));
  corners.push([at((event.clientX - box.left) / box.width), at((event.clientY - box.top) / box.height)]);
  drawRegions();
});
document.addEventListener("keydown", key);
document.addEventListener("visibilitychange", () => { if (document.hidden) { clearTimeout(timer); closeStream(); } else { answeredAt = performance.now(); poll(); } });
setInterval(showConnection, 250);
poll();
