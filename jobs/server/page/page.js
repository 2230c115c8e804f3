"use strict";
// The page of one lake: asks /search, shows pictures by /thumbnails/ID. Whatever comes is text, never markup.
const at = (id) => document.getElementById(id);
const ask = at("ask"), list = at("hits"), said = at("said"), dialog = at("clip");
let token = sessionStorage.getItem("token") || "", turn = 0, like = "";

const made = (tag, text = "", kind = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const say = (text, bad = false) => { said.textContent = text; said.classList.toggle("bad", bad); };
const when = (ns) => ns < 946684800e9 ? `${(ns / 1e9).toFixed(3)} s` : new Date(ns / 1e6).toISOString().replace("T", " ").slice(0, 23);
const get = (path, options = {}) => fetch(path, token ? { ...options, headers: { ...options.headers, authorization: `Bearer ${token}` } } : options);

async function json(path, options) {
  const answer = await get(path, options);
  const document_ = await answer.json();
  if (answer.ok) return document_;
  if (answer.status === 401) { at("key").hidden = false; at("token").focus(); }
  throw new Error([document_.error.message, document_.error.hint].filter(Boolean).join("\n"));
}

// An <img> cannot send a token, so with one the picture is fetched when it comes into view.
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (!entry.isIntersecting) return;
  seen.unobserve(entry.target);
  get(entry.target.dataset.from).then(async (answer) => {
    if (!answer.ok) return fail(entry.target);
    entry.target.src = URL.createObjectURL(await answer.blob());
    entry.target.addEventListener("load", () => URL.revokeObjectURL(entry.target.src), { once: true });
  }).catch(() => fail(entry.target));
}));
const fail = (image) => image.replaceWith(made("span", "no picture: the file is missing or damaged", "none"));

function picture(id, alt) {
  const image = made("img"), path = `/thumbnails/${encodeURIComponent(id)}`;
  Object.assign(image, { alt, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => fail(image), { once: true });
  if (token) { image.dataset.from = path; seen.observe(image); } else image.src = path;
  return image;
}

function card(hit) {
  const item = made("li"), open = made("button", "", "picture"), words = made("div", "", "words"), more = made("button", "More like this");
  const name = `hit ${hit.rank}: ${hit.channel}, ${when(hit.timestamp_ns)}`;
  open.type = more.type = "button";
  open.setAttribute("aria-label", `Open ${name}`);
  more.setAttribute("aria-label", `More like ${name}`);
  open.append(picture(hit.sample_data_id, name));
  open.addEventListener("click", () => show(hit));
  words.append(made("b", `${hit.rank}. ${hit.score.toFixed(3)} `), made("span", hit.channel), made("small", when(hit.timestamp_ns)));
  words.append(made("small", (hit.uri || "").split("/").pop()));
  if (hit.why) words.append(made("small", hit.why));
  more.addEventListener("click", () => { like = hit.sample_data_id; ask.elements.text.value = ""; ask.requestSubmit(); });
  item.append(open, words, more);
  return item;
}

async function search(asked) {
  const mine = ++turn;
  list.classList.add("busy");
  list.setAttribute("aria-busy", "true");
  try {
    const started = performance.now();
    const found = await json("/search", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
    if (mine !== turn) return;
    list.replaceChildren(...found.hits.map(card));
    const count = `${found.hits.length} ${asked.per}${found.hits.length === 1 ? "" : "s"}`;
    say([`${count} in ${Math.round(performance.now() - started)} ms (${found.encoder}, table version ${found.table_version})`, ...found.notes].join("\n"));
  } catch (error) {
    if (mine === turn) { list.replaceChildren(); say(error.message, true); }
  } finally {
    if (mine === turn) { list.classList.remove("busy"); list.removeAttribute("aria-busy"); }
  }
}

async function show(hit) {
  at("clip-title").textContent = `${hit.channel}, ${when(hit.timestamp_ns)}`;
  at("facts").replaceChildren();
  at("frames").replaceChildren(frame(hit));
  dialog.showModal();
  if (!hit.clip_id) return;
  try {
    const clip = await json(`/clips/${encodeURIComponent(hit.clip_id)}`), facts = clip.clips[0] || {};
    const rows = ["dataset", "scene", "location", "description", "split"].map((key) => [key, facts[key]]);
    rows.push(["objects", (facts.categories || []).map((each) => `${each.name} ${each.count}`).join(", ")], ["clip", hit.clip_id]);
    for (const [key, value] of rows) if (value) at("facts").append(made("dt", key), made("dd", value));
    const nearest = new Map(), away = (each) => Math.abs(each.timestamp_ns - hit.timestamp_ns);
    for (const each of clip.readings.filter((each) => each.modality !== "radar"))
      if (!nearest.has(each.channel) || away(each) < away(nearest.get(each.channel))) nearest.set(each.channel, each);
    nearest.set(hit.channel, hit);
    at("frames").replaceChildren(...[...nearest.values()].map(frame));
  } catch (error) { at("facts").append(made("dd", error.message)); }
}

function frame(reading) {
  const figure = made("figure"), shown = made("div", "", "shown");
  shown.append(picture(reading.sample_data_id, reading.channel));
  figure.append(shown, made("figcaption", reading.channel));
  return figure;
}

const fields = () => Object.fromEntries(new FormData(ask));
function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of ["text", "where", "not", "per"]) if (given.has(name)) ask.elements[name].value = given.get(name);
  if (given.has("k")) ask.elements.k.value = given.get("k");
  if (given.get("where") || given.get("not")) at("more").open = true;
  like = given.get("like") || "";
  const asked = { texts: [given.get("text")].filter(Boolean), not_texts: [given.get("not")].filter(Boolean), like: [like].filter(Boolean) };
  if (asked.texts.length || asked.like.length) search({ ...asked, k: Number(given.get("k") || 24), per: given.get("per") || "clip", where: given.get("where") || null });
}
ask.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = fields();
  if (given.text.trim()) like = "";
  if (!given.text.trim() && !like) return say("Give a text to look for.", true);
  const address = new URLSearchParams(Object.entries({ ...given, text: given.text.trim(), like }).filter(([, value]) => value));
  if (location.hash === `#${address}`) fromAddress(); else location.hash = address;
});
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  at("key").hidden = true;
  fromAddress();
});
at("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !dialog.open && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); ask.elements.text.focus(); ask.elements.text.select(); }
});
window.addEventListener("hashchange", fromAddress);
fromAddress();
