// Asks the service for images and shows them as they are drawn. A request is the form's fields; it also lies in the
// address after "#", together with the seed and the weights that were used, so that the address draws the same again.

const $ = (id) => document.getElementById(id);
const form = $("form");
const SETTINGS = ["temperature", "top_k", "top_p", "guidance"];
const MOST_PREVIEWED = 64;
const PREVIEWS = 8; // of each candidate, at most

let models = [];
let running = null; // the AbortController of the request that is being drawn
let expected = null; // the weights that the address names

// --- the request, the form and the address -----------------------------------------------------------------------

function wanted() {
  const fields = new FormData(form);
  const request = { caption: fields.get("caption"), candidates: +fields.get("candidates"), keep: +fields.get("keep") };
  if (fields.get("seed")) request.seed = fields.get("seed"); // as text: numbers of JavaScript end at 2^53
  if (fields.get("model")) request.model = fields.get("model");
  for (const name of SETTINGS) if (fields.get(name) !== "") request[name] = +fields.get(name);
  return request;
}

function show(request) {
  for (const [name, value] of Object.entries(request)) {
    const field = form.elements[name];
    if (field && name !== "model") field.value = value;
  }
  if (models.some((model) => model.id === request.model)) form.elements.model.value = request.model;
  $("settings").open = SETTINGS.some((name) => name in request);
}

function fromAddress() {
  const pairs = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  expected = pairs.weights || null;
  return pairs.caption ? pairs : null;
}

function toAddress(request, summary) {
  const pairs = new URLSearchParams({ ...request, seed: summary.seed, weights: weightsOf(summary) });
  history.replaceState(null, "", `#${pairs}`);
}

// The key of a service that needs one: kept for this tab, and in no link.
function authorization() {
  const key = $("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

const weightsOf = (summary) => Object.values(summary.models).join(".");

// --- the stream of events ----------------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(body, retryAfter) {
    super(body?.error?.message || "the service answered with something else than images.");
    this.code = body?.error?.code;
    this.param = body?.error?.param;
    this.retryAfter = retryAfter;
  }
}

async function* eventsOf(request, signal) {
  const response = await fetch("t2i/v1/generate", {
    method: "POST",
    headers: { "content-type": "application/json", ...authorization() },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) throw new Refusal(await response.json().catch(() => null), +response.headers.get("retry-after"));
  let text = "";
  for await (const chunk of chunksOf(response.body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (text + chunk).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = block.match(/^event: (\w+)\ndata: (.*)$/) || [];
      if (name === "error") throw new Refusal(JSON.parse(data), 0);
      if (name) yield [name, JSON.parse(data)];
    }
  }
}

async function* chunksOf(stream) { // Safari cannot iterate over a stream
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

// --- what is seen ------------------------------------------------------------------------------------------------

function say(sentence) { // only what is new, or screen readers repeat it
  if ($("status").textContent !== sentence) $("status").textContent = sentence;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const source = (data, format = "png") => `data:image/${format};base64,${data}`;

function clear() {
  $("tiles").replaceChildren();
  $("best").replaceChildren();
  $("error").replaceChildren();
  for (const part of ["best-part", "candidates-part"]) $(part).hidden = true;
}

function showProgress(progress, request) {
  const total = +progress.tokens_total;
  const done = +progress.tokens_done;
  const bar = $("bar");
  if (total && !progress.queue_position) bar.value = done / total; else bar.removeAttribute("value");
  if (progress.stage === "STAGE_STARTING") {
    $("counts").textContent = "A replica of the model is being started";
    return say("Waiting: the model is starting.");
  }
  const left = progress.seconds_left >= 1 ? ` · about ${Math.ceil(progress.seconds_left)} s left` : "";
  if (progress.queue_position) {
    $("counts").textContent = `Number ${progress.queue_position} in the queue${left}`;
    return say(`Waiting: number ${progress.queue_position} in the queue.`);
  }
  const percent = total ? `${Math.floor((100 * done) / total)} % drawn` : "Starting";
  $("counts").textContent = `${percent} · ${progress.candidates_ranked} of ${request.candidates} ranked${left}`;
  say("Drawing."); // the numbers above are not read out: the bar's value can be asked for
}

function showPreview(preview, caption) {
  const number = preview.candidate;
  $("candidates-part").hidden = false;
  let tile = $(`candidate-${number}`);
  if (!tile) {
    tile = element("li", { id: `candidate-${number}` },
      element("div", { className: "picture" }, element("img", { alt: "" })), element("div", { className: "caption" }));
    tile.dataset.rows = 0;
    const next = [...$("tiles").children].find((each) => +each.id.split("-")[1] > number);
    $("tiles").insertBefore(tile, next || null);
  }
  if (preview.rows < +tile.dataset.rows) return; // an older one that came late
  tile.dataset.rows = preview.rows;
  const image = tile.querySelector("img");
  image.src = source(preview.data);
  const scored = typeof preview.score === "number";
  image.alt = scored ? `Candidate ${number + 1}: ${caption}` : `Candidate ${number + 1}, being drawn`;
  tile.querySelector(".caption").textContent = scored ? preview.score.toFixed(3) : `${number + 1}`;
}

function showImage(image, caption) {
  $("best-part").hidden = false;
  const rank = $("best").children.length + 1;
  const address = source(image.data);
  const picture = element("img", { src: address, alt: `${caption}, number ${rank} of the ranking` });
  const link = element("a", { href: address, download: `${fileName(caption)}-${rank}.png`, textContent: "Download" });
  link.setAttribute("aria-label", `Download image ${rank}`);
  const score = element("span", { textContent: `${rank}. score ${image.score.toFixed(3)}` });
  const line = element("div", { className: "caption" }, score, link);
  $("best").append(element("li", {}, element("div", { className: "picture" }, picture), line));
  $(`candidate-${image.candidate}`)?.classList.add("kept");
}

const fileName = (caption) => caption.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "image";

function showSummary(summary, request, images) {
  const cut = summary.caption_truncated ? " · the end of the caption was too long to be read" : "";
  const other = expected && expected !== weightsOf(summary);
  const note = other ? " · the models have changed since the link was made: these are other images" : "";
  $("receipt").textContent = `Seed ${summary.seed} · ${summary.tokens_spent} image tokens${cut}${note}`;
  say(`Done: ${images} of ${request.candidates} images, the best first.`);
  expected = null;
  toAddress(request, summary);
}

const GONE = "The service does not answer: it may be restarting, or the connection is lost.";

function showError(error) {
  const sentences = { deadline_exceeded: "The time for this request is over: draw fewer candidates." };
  const refused = error instanceof Refusal;
  const sentence = refused ? sentences[error.code] || error.message : GONE;
  const again = element("button", { type: "button", textContent: "Try again", onclick: () => form.requestSubmit() });
  $("error").replaceChildren(element("p", { textContent: sentence[0].toUpperCase() + sentence.slice(1) }));
  if (refused && error.param) return form.elements[error.param]?.focus?.();
  askForKey(error);
  $("error").append(again);
  if (refused && error.retryAfter) countDown(again, error.retryAfter);
}

function askForKey(error) {
  if (error.code !== "invalid_api_key") return;
  $("settings").open = true;
  $("key").focus();
}

function countDown(button, seconds) {
  button.disabled = seconds > 0;
  button.textContent = seconds > 0 ? `Try again in ${seconds} s` : "Try again";
  if (seconds > 0 && button.isConnected) setTimeout(countDown, 1000, button, seconds - 1);
}

// --- one request -------------------------------------------------------------------------------------------------

async function draw() {
  const request = wanted();
  const rows = (models.find((model) => model.id === request.model) || models[0])?.rows;
  const previews = request.candidates <= MOST_PREVIEWED && rows ? { preview_rows: Math.ceil(rows / PREVIEWS) } : {};
  running = new AbortController();
  clear();
  busy(true);
  say("Sent.");
  try {
    await follow(request, { ...request, ...previews }, running.signal);
  } catch (error) {
    say("");
    if (running.signal.aborted) say("Cancelled."); else showError(error);
  } finally {
    busy(false);
    running = null;
  }
}

async function follow(request, asked, signal) {
  let images = 0;
  let ended = false;
  for await (const [name, data] of eventsOf(asked, signal)) {
    if (name === "progress") showProgress(data, request);
    if (name === "preview") showPreview(data, request.caption);
    if (name === "image") {
      showImage(data, request.caption);
      images += 1;
    }
    if (name === "summary") {
      showSummary(data, request, images);
      ended = true;
    }
  }
  if (!ended) throw new Error("the stream broke off");
}

function busy(is) {
  $("work").hidden = !is;
  $("draw").disabled = is;
  $("cancel").hidden = !is;
  $("bar").removeAttribute("value");
  $("counts").textContent = "";
  if (is) $("cancel").focus(); else if (document.activeElement === document.body) $("draw").focus();
}

function checkKeep() {
  const [candidates, keep] = [$("candidates"), $("keep")];
  const tooMany = +keep.value > +candidates.value;
  keep.setCustomValidity(tooMany ? `Show at most as many as are drawn, ${candidates.value}.` : "");
}

async function loadModels() {
  try {
    const response = await fetch("v1/models", { headers: authorization() });
    if (!response.ok) throw new Refusal(await response.json().catch(() => null), 0);
    models = (await response.json()).data.filter((model) => model.id === model.root); // the others are aliases
  } catch (error) {
    const sentence = error instanceof Refusal ? error.message : GONE;
    askForKey(error);
    const again = element("button", { type: "button", textContent: "Try again", onclick: start });
    return $("error").replaceChildren(element("p", { textContent: sentence }), again);
  }
  $("error").replaceChildren();
  $("model").replaceChildren(...models.map((model) => element("option", { value: model.id, textContent: model.id })));
  $("candidates").max = models[0].max_candidates;
  noteModel();
}

function noteModel() {
  const model = models.find((each) => each.id === $("model").value) || models[0];
  document.body.classList.toggle("small-images", parseInt(model.size) <= 128);
  $("model-note").textContent = `${model.id}, ${model.size.replace("x", " × ")} pixels`;
}

async function start() {
  await loadModels();
  const request = fromAddress();
  if (!request) return;
  show(request);
  noteModel();
  checkKeep();
  if (models.length && form.checkValidity()) form.requestSubmit();
}

form.addEventListener("submit", (event) => { event.preventDefault(); if (!running) draw(); });
form.addEventListener("input", checkKeep);
$("caption").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
$("cancel").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("key").value = sessionStorage.getItem("key") || "";
$("key").addEventListener("change", () => {
  sessionStorage.setItem("key", $("key").value);
  if (!models.length) start();
});
$("model").addEventListener("change", noteModel);
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } catch {
    say("The address of this page is the link: copy it from there."); // browsers allow more only over https
  }
});
addEventListener("hashchange", () => { if (!running) start(); });
start();
