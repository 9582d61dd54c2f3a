/* The page of `sdvlm view`: shows a frame, measures what is pointed at, and asks.

   It knows the server's JSON (front/page_documents.py) and nothing of where frames come from.
   Whatever comes from a frame, a model or a user is put in as text, never as HTML. */
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const AXES = [["length", "Length"], ["width", "Width"], ["height", "Height"]];
const OLD_S = 5; // a live frame older than this is marked
// Near to far; the eye sees equal steps of depth as equal steps of colour.
const RAMP = [[253, 231, 37], [159, 218, 58], [74, 193, 109], [31, 161, 135], [39, 127, 142],
  [54, 92, 141], [70, 50, 127], [68, 1, 84]];

let state = null; // /api/state
let shot = null; // the frame that is shown
let shotAt = 0; // when it was taken, by performance.now()
let depth = null; // Uint16Array, millimetres, 0 = no reading
let regions = []; // {label, box} or {label, point}, pixels
let measured = null; // the reply of /api/measure for `regions`
let capturing = 0, measuring = 0; // numbers of the newest requests: earlier replies are dropped
let drag = null; // {from, to} while a box is drawn
let cross = null; // [u, v] of the keyboard's cross
let asking = null; // AbortController of the running question
let names = 0; // regions that were named by the page

/* ---- the server ---- */

class Refused extends Error {
  constructor(code, message) { super(message); this.code = code; }
}

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Refused("NO_SERVER", "the server does not answer: is sdvlm view still running?");
  }
  if (reply.ok) return reply;
  let error = { code: `HTTP ${reply.status}`, message: reply.statusText };
  try { error = (await reply.json()).error; } catch { /* not JSON: the status says what is known */ }
  throw new Refused(error.code, error.message);
}

/* ---- text ---- */

function make(tag, options = {}, ...children) {
  const one = document.createElement(tag);
  const { text, name, ...rest } = options;
  if (text !== undefined) one.textContent = text;
  if (name) one.className = name;
  for (const [key, value] of Object.entries(rest)) one.setAttribute(key, value);
  one.append(...children);
  return one;
}

function show(id, text) { $(id).textContent = text; $(id).hidden = !text; }
function announce(text) { $("announce").textContent = text; }
function explain(error) { return error.code ? `${error.message} (${error.code})` : String(error); }
const words = (code) => code.toLowerCase().replaceAll("_", " ");

/* A length in the unit that reads best; decimals as far as the standard deviation has meaning. */
function unitOf(value) { return Math.abs(value) < 1 ? ["mm", 1000] : ["m", 1]; }
function decimals(unit, deviation) {
  if (unit === "m") return deviation !== null && deviation < 0.01 ? 3 : 2;
  return deviation !== null && deviation < 1 ? 1 : 0;
}
function length(value, deviation) {
  if (value === null || value === undefined) return "?";
  const [unit, factor] = unitOf(value);
  const digits = decimals(unit, deviation);
  const number = (value * factor).toFixed(digits);
  return deviation === null || deviation === undefined
    ? `${number} ${unit}` : `${number} ± ${(deviation * factor).toFixed(digits)} ${unit}`;
}
function interval(ends, value, deviation) {
  if (!ends || ends[0] === null || value === null) return "";
  const [unit, factor] = unitOf(value);
  const digits = decimals(unit, deviation);
  return `90 %: ${ends.map((end) => (end * factor).toFixed(digits)).join(" – ")}`;
}
function spread(deviation) {
  const [unit, factor] = unitOf(deviation);
  return `± ${(deviation * factor).toFixed(decimals(unit, deviation))} ${unit}`;
}
function lengthElement(value, deviation) {
  const one = make("data", { text: length(value, deviation) });
  if (value !== null) one.value = String(value);
  return one;
}

function cautionNotes(codes) {
  return codes.map((code) => {
    const known = state.cautions[code] || { meaning: words(code), advice: "", unfit: true };
    const note = make("li", { name: known.unfit ? "unfit" : "", "data-code": code });
    note.append(make("strong", { text: known.unfit ? "Do not act on this. " : "Note. " }));
    note.append(`${known.meaning} ${known.advice}`.trim());
    return note;
  });
}

/* ---- the frame ---- */

async function capture(atS) {
  const number = ++capturing;
  const button = $("new-frame");
  button.disabled = true;
  try {
    const taken = await (await call("api/capture", { at_s: atS })).json();
    const same = shot !== null && taken.stamp === shot.stamp;
    const parts = same ? null : await load(taken);
    if (number !== capturing) return; // a slider was moved on
    show("problem", same && state.kind === "node"
      ? "There is no newer frame: this is the one that was shown before." : "");
    shot = taken;
    shotAt = performance.now();
    showAge();
    if (parts) {
      open(parts);
      await measure();
    }
  } catch (error) {
    if (number !== capturing) return;
    const kept = shot ? " The frame below is the earlier one." : "";
    show("problem", `No new frame: ${explain(error)}.${kept}`);
  } finally {
    if (number === capturing) button.disabled = false;
  }
}

/* Colour and depth of a frame. They are shown together, so that what is seen is of one frame. */
async function load(taken) {
  const picture = new Image();
  picture.src = `api/shots/${taken.stamp}/rgb.jpg`;
  picture.alt = `Colour image, ${taken.width} by ${taken.height} pixels`;
  const [pixels] = await Promise.all([
    taken.depth ? call(`api/shots/${taken.stamp}/depth`).then((reply) => reply.arrayBuffer()) : null,
    picture.decode(),
  ]);
  return { picture, depth: pixels && new Uint16Array(pixels) };
}

function open(parts) {
  $("rgb").replaceWith(parts.picture);
  parts.picture.id = "rgb";
  depth = parts.depth;
  measured = null;
  cross = null;
  $("size").textContent = `${shot.width} × ${shot.height}`;
  $("frame-cautions").replaceChildren(...cautionNotes(shot.cautions));
  drawDepth();
}

function drawDepth() {
  const canvas = $("depth-pixels");
  canvas.width = shot.width;
  canvas.height = shot.height;
  $("no-depth").hidden = depth !== null;
  $("scale").hidden = canvas.hidden = depth === null;
  if (depth === null) return;
  const near = shot.depth.near_m, far = shot.depth.far_m;
  $("near").textContent = near === null ? "" : `${near.toFixed(2)} m`;
  $("far").textContent = far === null ? "" : `${far.toFixed(2)} m`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(shot.width, shot.height);
  for (let i = 0; i < depth.length; i++) {
    if (depth[i] === 0) continue; // transparent: the pattern of a hole shows through
    const [r, g, b] = ramp((depth[i] / 1000 - near) / (far - near || 1));
    image.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

function ramp(part) {
  const at = Math.min(Math.max(part, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return [0, 1, 2].map((c) => Math.round(RAMP[low][c] + (at - low) * (RAMP[low + 1][c] - RAMP[low][c])));
}

function drawRamp() {
  const context = $("ramp").getContext("2d");
  for (let x = 0; x < 128; x++) {
    context.fillStyle = `rgb(${ramp(x / 127).join(" ")})`;
    context.fillRect(x, 0, 1, 1);
  }
}

function showAge() {
  if (!shot) return;
  const passed = (performance.now() - shotAt) / 1000;
  const stamp = (Number(BigInt(shot.stamp) / 1000000n) / 1000).toFixed(3);
  let text = "", old = false;
  if (state.kind === "bag") {
    text = `stamp ${stamp} s`;
  } else if (state.kind === "node") {
    const age = shot.age_s === null ? null : shot.age_s + passed;
    old = age !== null && age > OLD_S;
    text = age === null
      ? `Taken ${passed.toFixed(0)} s ago; its stamp, ${stamp} s, is by another clock`
      : `This frame is ${age.toFixed(0)} s old`;
  }
  $("age").textContent = text;
  $("age").classList.toggle("old", old);
}

/* ---- drawing ---- */

function overlay(picture) {
  let svg = picture.querySelector("svg");
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("preserveAspectRatio", "none");
    picture.append(svg);
  }
  return svg;
}

function shape(svg, tag, name, attributes) {
  for (const kind of [`edge`, `line ${name}`]) { // the dark edge first
    const one = document.createElementNS(SVG, tag);
    one.setAttribute("class", name.includes("axis") ? kind.replace("line", "") : kind);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    svg.append(one);
  }
}

function line(svg, name, [x1, y1], [x2, y2]) {
  // Pixel centres are at integers, the picture's corner is at (-0.5, -0.5).
  shape(svg, "line", name, { x1: x1 + 0.5, y1: y1 + 0.5, x2: x2 + 0.5, y2: y2 + 0.5 });
}

function draw() {
  if (!shot) return;
  for (const picture of [$("color"), $("depth")]) {
    if (!picture.clientWidth) continue; // not laid out yet: its size is an event, which draws again
    const svg = overlay(picture);
    svg.setAttribute("viewBox", `0 0 ${shot.width} ${shot.height}`);
    svg.replaceChildren();
    regions.forEach((region, index) => drawRegion(svg, region, index, shot.width / picture.clientWidth));
    drawPair(svg);
    if (drag) drawBox(svg, asBox(drag.from, drag.to));
    if (cross && document.activeElement === $("color")) drawCross(svg, cross);
  }
}

function drawBox(svg, [x1, y1, x2, y2]) {
  shape(svg, "rect", "region", { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
}

function drawCross(svg, [u, v]) {
  const reach = shot.width / 40;
  line(svg, "axis height", [u - reach, v], [u + reach, v]);
  line(svg, "axis height", [u, v - reach], [u, v + reach]);
}

function drawRegion(svg, region, index, scale) {
  const box = measured && measured.boxes[index];
  if (region.box) drawBox(svg, region.box);
  else if (!box) drawCross(svg, region.point);
  if (box) {
    for (let i = 0; i < 8; i++) {
      for (let axis = 0; axis < 3; axis++) {
        const j = i | (1 << axis);
        if (j === i || i === box.nearest || j === box.nearest) continue;
        line(svg, "box", box.corners[i], box.corners[j]);
      }
    }
    AXES.forEach(([name], axis) => {
      line(svg, `axis ${name}`, box.corners[box.nearest], box.corners[box.nearest ^ (1 << axis)]);
    });
  }
  const [x, y] = region.box || region.point;
  const text = document.createElementNS(SVG, "text");
  const named = svg.parentElement === $("color");
  text.textContent = named ? `${index + 1} ${region.label}` : index + 1;
  text.style.fontSize = `${13 * scale}px`; // 13 pixels of the screen
  text.setAttribute("x", x);
  text.setAttribute("y", Math.max(y - 5 * scale, 14 * scale));
  svg.append(text);
}

function drawPair(svg) {
  if (!measured || measured.document.pairs.length !== 1) return; // many lines hide the picture
  const [a, b] = measured.boxes;
  if (a && b) line(svg, "pair", a.centre, b.centre);
}

/* ---- pointing ---- */

function pixelAt(event) {
  const frame = event.currentTarget.getBoundingClientRect();
  const inside = (value, size) => Math.min(Math.max(value, 0), size);
  return [
    inside((event.clientX - frame.left) / frame.width * shot.width, shot.width),
    inside((event.clientY - frame.top) / frame.height * shot.height, shot.height),
  ];
}

/* Whole pixels around two corners; the lower right ends are exclusive. */
function asBox([u1, v1], [u2, v2]) {
  return [Math.floor(Math.min(u1, u2)), Math.floor(Math.min(v1, v2)),
    Math.ceil(Math.max(u1, u2)), Math.ceil(Math.max(v1, v2))];
}
function asPoint([u, v]) {
  return [Math.min(Math.floor(u), shot.width - 1), Math.min(Math.floor(v), shot.height - 1)];
}

function isDrag(event) {
  return Math.hypot(event.clientX - drag.start[0], event.clientY - drag.start[1]) > 6;
}

function pointing(picture) {
  picture.addEventListener("pointerdown", (event) => {
    if (!shot || event.button !== 0 || !event.isPrimary) return;
    const at = pixelAt(event);
    drag = { from: at, to: at, start: [event.clientX, event.clientY] };
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    if (!shot) return;
    showReading(asPoint(pixelAt(event)));
    if (!drag || !event.isPrimary) return;
    drag.to = pixelAt(event);
    draw();
  });
  picture.addEventListener("pointerup", (event) => {
    if (!drag || !event.isPrimary) return;
    const { from } = drag, to = pixelAt(event), dragged = isDrag(event);
    drag = null;
    if (dragged) add({ box: asBox(from, to) });
    else add({ point: asPoint(to) });
  });
  picture.addEventListener("pointercancel", () => { drag = null; draw(); });
  picture.addEventListener("pointerleave", () => { if (!drag) showReading(cross); });
}

function showReading(at) {
  if (!at) { $("reading").textContent = ""; return; }
  const [u, v] = at;
  const reading = depth ? depth[v * shot.width + u] : 0;
  $("reading").textContent = `x ${u}, y ${v}: ${reading ? `${(reading / 1000).toFixed(3)} m` : "no reading"}`;
}

function keys(event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!shot || event.ctrlKey || event.altKey || event.metaKey) return;
  if (!cross) cross = [shot.width >> 1, shot.height >> 1];
  if (event.key in steps) {
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(shot.width / 64));
    const [across, down] = steps[event.key];
    cross = asPoint([Math.max(0, cross[0] + across * step), Math.max(0, cross[1] + down * step)]);
    if (drag) drag.to = cross;
    showReading(cross);
  } else if (event.key === " ") {
    drag = null;
    add({ point: cross });
  } else if (event.key === "Enter") {
    if (!drag) {
      drag = { from: cross, to: cross };
      announce("First corner set: move to the other corner and press Enter.");
    } else {
      const box = asBox(drag.from, cross);
      drag = null;
      if (box[0] < box[2] && box[1] < box[3]) add({ box });
    }
  } else if (event.key === "Escape") {
    drag = null;
  } else {
    return;
  }
  event.preventDefault();
  draw();
}

/* ---- measuring ---- */

function add(region) {
  if (regions.length >= state.max_regions) {
    show("measure-problem", `At most ${state.max_regions} regions are measured together: remove one.`);
    draw();
    return;
  }
  const label = region.label && !regions.some((one) => one.label === region.label)
    ? region.label : freeName();
  regions.push({ ...region, label });
  measure();
}

function freeName() {
  let name;
  do { name = `object ${++names}`; } while (regions.some((one) => one.label === name));
  return name;
}

function rename(region, field) {
  const name = field.value.trim();
  if (!name || regions.some((one) => one !== region && one.label === name)) {
    field.value = region.label;
    show("measure-problem", name ? `There is a region named ${name} already.` : "A region needs a name.");
    return;
  }
  if (name === region.label) return;
  region.label = name;
  measure();
}

async function measure() {
  const number = ++measuring;
  measured = null;
  show("measure-problem", "");
  if (!regions.length) { $("measuring").hidden = true; showRegions(); draw(); return; }
  $("measuring").hidden = false;
  showRegions();
  draw();
  try {
    const reply = await (await call("api/measure", { stamp: shot.stamp, regions })).json();
    if (number !== measuring) return;
    measured = reply;
    const last = reply.document.regions.at(-1);
    announce(`${last.label}: length ${length(last.length_m, last.std_dev.length_m)}, `
      + `width ${length(last.width_m, last.std_dev.width_m)}, `
      + `height ${length(last.height_m, last.std_dev.height_m)}`
      + (last.warnings.length ? `; ${last.warnings.length} warnings` : ""));
  } catch (error) {
    if (number !== measuring) return;
    show("measure-problem", explain(error));
  }
  $("measuring").hidden = true;
  showRegions();
  draw();
}

function showRegions() {
  $("hint").hidden = regions.length > 0;
  $("clear").hidden = regions.length === 0;
  $("copy").hidden = measured === null;
  const focused = document.activeElement && document.activeElement.dataset.region;
  $("regions").replaceChildren(...regions.map(regionItem));
  if (focused !== undefined) { // a renamed region keeps the focus
    const again = document.querySelector(`[data-region="${Number(focused)}"]`);
    if (again) again.focus();
  }
  const pairs = measured ? measured.document.pairs : [];
  $("pairs").replaceChildren(...pairs.map(pairItem));
}

function regionItem(region, index) {
  const field = make("input", { name: "name", value: region.label, maxlength: state.max_label,
    "aria-label": `Name of region ${index + 1}`, "data-region": index });
  field.addEventListener("change", () => rename(region, field));
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") field.blur(); });
  const remove = make("button", { type: "button", name: "plain", text: "Remove",
    "aria-label": `Remove ${region.label}` });
  remove.addEventListener("click", () => { regions.splice(index, 1); measure(); });
  const item = make("li", {}, make("div", { name: "row" },
    make("span", { name: "tag", text: index + 1, "aria-hidden": "true" }), field, remove));
  const found = measured && measured.document.regions[index];
  if (!found) return item;
  const list = make("dl", { name: "sizes" });
  for (const [key, title] of [...AXES, ["camera_distance", "From camera"]]) {
    const value = found[`${key}_m`], deviation = found.std_dev[`${key}_m`];
    list.append(make("div", { name: key === "camera_distance" ? "distance" : key },
      make("dt", { text: title }),
      make("dd", {}, lengthElement(value, deviation),
        make("small", { text: interval(found.interval_90[`${key}_m`], value, deviation) }))));
  }
  item.append(list);
  if (found.position_m[0] !== null) {
    const [x, y, z] = found.position_m.map((value) => value.toFixed(3).replace("-", "−"));
    item.append(make("p", { name: "position",
      text: `Centre x ${x}, y ${y}, z ${z} m, each ${spread(found.std_dev.position_m)}` }));
  }
  // Those of the frame are shown once, above.
  const own = found.warnings.filter((code) => !shot.cautions.includes(code));
  item.append(make("ul", { name: "notes" }, ...cautionNotes(own)));
  return item;
}

function pairItem(pair) {
  const shownAlready = new Set(measured.document.regions.flatMap((one) => one.warnings));
  return make("li", {},
    make("p", { text: `${pair.a} – ${pair.b}` }),
    make("p", {}, "Centre to centre ", lengthElement(pair.distance_m, pair.distance_std_dev_m),
      ", gap ", lengthElement(pair.gap_m, pair.gap_std_dev_m)),
    make("ul", { name: "notes" },
      ...cautionNotes(pair.warnings.filter((code) => !shownAlready.has(code)))));
}

/* ---- asking ---- */

async function ask(event) {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || asking || !shot) return;
  asking = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  const asked = shot;
  const said = make("p", { name: "said waiting", text: "waiting for the model …" });
  const item = make("li", {}, make("p", { name: "asked", text: question }), said);
  $("answers").prepend(item);
  try {
    const reply = await fetch("api/ask", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ stamp: asked.stamp, question, regions, verify: $("verify").checked }),
      signal: asking.signal,
    });
    if (!reply.ok) {
      const { error } = await reply.json();
      throw new Refused(error.code, error.message);
    }
    let text = "", finished = false;
    for await (const part of linesOf(reply.body)) {
      if (part.error) throw new Refused(part.error.code, part.error.message);
      if (part.text !== undefined) {
        text += part.text;
        said.textContent = text.trimStart();
        said.classList.remove("waiting");
      }
      if (part.answer) { finished = true; showAnswer(item, said, part, asked); }
    }
    if (!finished) throw new Refused("NO_SERVER", "the answer ended early: is sdvlm view still running?");
    $("question").value = "";
  } catch (error) {
    const text = error.name === "AbortError" ? "Stopped." : explain(error);
    item.append(make("p", { name: "error", text }));
    said.classList.remove("waiting");
    if (said.textContent.startsWith("waiting")) said.remove();
    announce(text);
  } finally {
    asking = null;
    $("send").hidden = false;
    $("stop").hidden = true;
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const one of lines) if (one) yield JSON.parse(one);
  }
}

const STATUS = {
  NO_ANSWER: "The answer gives no number for the question.",
  NOT_VISIBLE: "The model does not see the object.",
  NO_DEPTH: "Answered from the colour image alone.",
  DISAGREEMENT: "The depth image contradicts the answer.",
  TF_UNAVAILABLE: "There is no transform to the asked frame.",
};
const SOURCE = { LANGUAGE: "says the model", GEOMETRY: "measured from depth", FUSED: "both combined" };

function showAnswer(item, said, { answer, regions: used, copy }, asked) {
  said.textContent = answer.text || "(no text)";
  said.classList.remove("waiting");
  const facts = make("ul", { name: "facts" });
  for (const one of answer.measurements) {
    const value = one.unit === "m" ? length(one.value, one.std_dev) : String(one.value);
    const of = one.objects.length ? ` of ${one.objects.join(" and ")}` : "";
    facts.append(make("li", {}, `${words(one.kind)}${of}: `, make("strong", { text: value }),
      `, ${SOURCE[one.source] || one.source}`));
  }
  if (answer.verdict !== "UNDECIDED") facts.append(make("li", { text: `verdict: ${words(answer.verdict)}` }));
  for (const check of answer.checks || []) {
    const name = check.agree === null ? "undecided" : check.agree ? "agree" : "contradict";
    facts.append(make("li", { name, text: check.why }));
  }
  if (answer.why_none) facts.append(make("li", { text: `No number: ${answer.why_none}` }));
  const notes = make("ul", { name: "notes" });
  if (STATUS[answer.status]) notes.append(make("li", { text: STATUS[answer.status] }));
  const warned = (answer.checks || []).flatMap((check) => check.warnings || []);
  notes.append(...cautionNotes([...new Set([...answer.cautions, ...warned])]));
  const { encode, prefill, decode, generate } = answer.timings;
  const spent = encode + (generate ?? prefill + decode);  // a node states one time for both
  const parts = [answer.model_id, `${spent.toFixed(1)} s`];
  if (answer.confidence !== null) parts.push(`confidence ${answer.confidence.toFixed(2)}`);
  if (used && used.length) parts.push(`checked with ${used.join(", ")}`);
  if (state.kind !== "files") parts.push(`frame ${frameName(asked)}`);
  const button = make("button", { type: "button", name: "plain", text: "Copy as …",
    "aria-label": `Copy the question ${answer.question}` });
  button.addEventListener("click", () => showCopies("The same question elsewhere", copy));
  item.append(facts, notes,
    make("div", { name: "meta" }, make("span", { text: parts.join(" · ") }), button));
  announce(`Answer: ${answer.text}`);
}

function frameName(one) {
  if (one.at_s !== null) return `at ${one.at_s.toFixed(2)} s`;
  return `${(Number(BigInt(one.stamp) / 1000000n) / 1000).toFixed(2)} s`;
}

/* ---- copying ---- */

function showCopies(title, texts) {
  $("copy-title").textContent = title;
  const titles = { cli: "Command", ros: "ROS service call", python: "Python" };
  const blocks = Object.entries(titles).filter(([key]) => texts[key]).flatMap(([key, title]) => {
    const text = make("pre", { text: texts[key], tabindex: "0", "data-copy": key });
    const button = make("button", { type: "button", text: "Copy", "aria-label": `Copy: ${title}` });
    button.addEventListener("click", () => copyText(text, button));
    return [make("div", { name: "row" }, make("h3", { text: title }), button), text];
  });
  $("copy-texts").replaceChildren(...blocks);
  $("copy-dialog").showModal();
}

async function copyText(block, button) {
  try {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
  } catch { // without https or localhost there is no clipboard: select, so that Ctrl-C copies
    getSelection().selectAllChildren(block);
    button.textContent = "Selected: press Ctrl-C";
  }
}

/* ---- start ---- */

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Use the ${name === "dark" ? "light" : "dark"} theme`);
}

function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const own = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  setTheme(own() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => { if (!own()) setTheme(system.matches ? "dark" : "light"); });
  $("theme").addEventListener("click", () => {
    const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", name); } catch { /* private windows: until the page closes */ }
    setTheme(name);
  });
}

/* Whether the server took the token; if not, its reason is shown beside the field. */
async function login(token) {
  try {
    await call("api/login", { token });
    show("login-problem", "");
    return true;
  } catch (error) {
    show("login-problem", explain(error));
    return false;
  }
}

async function start() {
  try {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) { // taken out of the address at once: it must not stay in the history
      history.replaceState(null, "", location.pathname);
      await login(given);
    }
    state = await (await call("api/state")).json();
  } catch (error) {
    if (error.code === "TOKEN_NEEDED") { $("login").hidden = false; return; }
    $("main").hidden = false;
    show("problem", explain(error));
    return;
  }
  $("login").hidden = true;
  $("main").hidden = false;
  const kind = { files: "image files", bag: "bag", node: "live node" }[state.kind] || state.kind;
  $("origin").textContent = `${state.name} · ${kind}`;
  document.title = `${state.name} · sdvlm view`;
  $("model").textContent = state.model;
  $("question").maxLength = state.max_question;
  $("new-frame").hidden = state.kind !== "node";
  $("time-control").hidden = state.kind !== "bag";
  $("time").max = state.duration_s;
  if (!state.model && state.kind !== "node") {
    $("model").textContent = "no model: measuring only";
    for (const id of ["question", "send", "verify"]) $(id).disabled = true;
  }
  await capture(null);
  setInterval(showAge, 1000);
}

function wire() {
  startTheme();
  drawRamp();
  pointing($("color"));
  pointing($("depth"));
  $("color").addEventListener("keydown", keys);
  $("color").addEventListener("focus", () => { if (shot) draw(); });
  $("color").addEventListener("blur", () => { drag = null; draw(); });
  $("clear").addEventListener("click", () => { regions = []; measure(); });
  $("copy").addEventListener("click", () => showCopies("The same measurement elsewhere", measured.copy));
  $("ask").addEventListener("submit", ask);
  $("stop").addEventListener("click", () => asking && asking.abort());
  $("new-frame").addEventListener("click", () => capture(null));
  let waiting = 0;
  $("time").addEventListener("input", () => {
    $("time-value").textContent = `${Number($("time").value).toFixed(2)} s`;
    clearTimeout(waiting);
    waiting = setTimeout(() => capture(Math.min(Number($("time").value), state.duration_s)), 150);
  });
  $("by-numbers").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = (name) => event.target.elements[name].value;
    const label = value("label").trim();
    const [x1, y1, x2, y2] = ["x1", "y1", "x2", "y2"].map(value);
    if (x2 === "" && y2 === "") add({ label, point: [Number(x1), Number(y1)] });
    else add({ label, box: [x1, y1, x2, y2].map(Number) });
  });
  $("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await login($("token").value)) start();
  });
  addEventListener("resize", draw);
  start();
}

wire();
