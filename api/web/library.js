// The library: published videos, newest first; typing searches, scrolling loads more.
import { ask, clock, element, icon, since } from "./common.js";

const PAGE = 24;
const TYPING_MS = 200;
const list = document.getElementById("videos");
const more = document.getElementById("more");
const notice = document.getElementById("notice");
const status = document.getElementById("status");
const heading = document.getElementById("heading");
const query = document.getElementById("query");
let current = new AbortController();
let next = null;
let shown = "";
let restoring = false;

function still(video) {
  const frame = element("div", { className: "still" });
  const instead = () => frame.prepend(icon(video.rungs.length ? "empty" : "sound"));
  if (video.thumbnail_url) {
    const picture = element("img", { alt: "", loading: "lazy", decoding: "async" });
    picture.addEventListener("error", () => { picture.remove(); instead(); });
    picture.addEventListener("load", () => {
      if (picture.naturalHeight > picture.naturalWidth) {
        frame.classList.add("tall");
        frame.prepend(element("img", { className: "blur", alt: "", src: picture.src }));
      }
    }, { once: true });
    picture.src = video.thumbnail_url;
    frame.append(picture);
  } else instead();
  if (video.duration_ms != null) {
    const length = clock(video.duration_ms);
    frame.append(element("span", { className: "length" }, element("span", { className: "hidden", textContent: "Length " }), length));
  }
  return frame;
}

function card(video) {
  const best = video.rungs.length ? video.rungs[0] : "Sound";
  const facts = element("p", {}, best);
  if (video.published_at) facts.append(" · ", since(video.published_at));
  return element("li", {}, element("a", { className: "card", href: video.watch_url },
    still(video), element("h2", { dir: "auto", textContent: video.title || video.slug }), facts));
}

function bones(count) {
  return Array.from({ length: count }, () => element("li", { className: "bone", ariaHidden: "true" },
    element("div", { className: "still" }), element("div", { className: "line" }), element("div", { className: "line short" })));
}

function show(picture, title, words, again) {
  const parts = [icon(picture), element("h2", { textContent: title }), element("p", {}, ...words)];
  if (again) parts.push(element("button", { className: "button", type: "button", textContent: "Try again", onclick: again }));
  notice.replaceChildren(...parts);
  notice.hidden = false;
  status.textContent = `${title} ${notice.querySelector("p").textContent}`;
}

/** Return words that a person entered, in their own writing direction. */
const quoted = (words) => element("bdi", { textContent: `“${words}”` });

function settle(words, added) {
  const count = list.children.length;
  heading.classList.toggle("hidden", !count && !words);
  if (count) {
    status.textContent = `${count}${next ? " or more" : ""} ${count === 1 ? "video" : "videos"}`;
    more.hidden = !next;
    if (next && !restoring) watchEnd();
  } else if (words) show("search", "Nothing was found", ["No video has all the words of ", quoted(words), "."]);
  else show("empty", "There is no video yet", ["Add one with: ", element("code", { textContent: "kinolog ingest FILE" })]);
  return added;
}

/** Load the first page, or the page at a cursor; a late answer is dropped. */
async function load(cursor = null) {
  current.abort();
  const { signal } = current = new AbortController();
  const words = shown = query.value.trim();
  list.setAttribute("aria-busy", "true");
  end.disconnect();
  notice.hidden = true;
  more.hidden = true;
  heading.classList.remove("hidden");
  heading.replaceChildren(...(words ? ["Results for ", quoted(words)] : ["Latest videos"]));
  document.title = words ? `${words} · Kinolog` : "Kinolog";
  const bone = bones(cursor ? 4 : 12);
  if (cursor) list.append(...bone);
  else list.replaceChildren(...bone);
  const parameters = new URLSearchParams({ limit: PAGE, ...(words && { q: words }), ...(cursor && { cursor }) });
  try {
    const page = await ask(`/api/videos?${parameters}`, signal);
    bone.forEach((one) => one.remove());
    const added = page.items.map(card);
    list.append(...added);
    next = page.next;
    return settle(words, added);
  } catch (error) {
    if (error.name === "AbortError") return [];
    bone.forEach((one) => one.remove());
    show("broken", "The videos could not be loaded", [error.message], () => load(cursor));
    return [];
  } finally {
    if (!signal.aborted) list.setAttribute("aria-busy", "false");
  }
}

const end = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) load(next); }, { rootMargin: "600px" });

function watchEnd() {
  end.disconnect();
  end.observe(more);
}

// --- back and forward: the same words, number of videos and scroll position ---

const wanted = () => new URLSearchParams(location.search).get("q")?.trim() || "";

function remember() {
  const count = list.querySelectorAll(".card").length;
  try { if (count) sessionStorage.setItem(`kinolog.place ${shown}`, JSON.stringify([count, scrollY])); } catch { /* Private windows keep nothing. */ }
}

/** Show the search of the address, as the reader left it. */
async function restore() {
  remember();
  query.value = wanted();
  let [count, top] = [0, 0];
  try { [count, top] = JSON.parse(sessionStorage.getItem(`kinolog.place ${query.value}`)) || [0, 0]; } catch { /* Begin at the top. */ }
  restoring = true;
  let added = await load();
  while (added.length && next && list.children.length < count) added = await load(next);
  restoring = false;
  if (!added.length) return;
  scrollTo({ top, behavior: "instant" });
  if (next) watchEnd();
}

let typing;

function search() {
  clearTimeout(typing);
  const words = query.value.trim();
  const address = words ? `/?q=${encodeURIComponent(words)}` : "/";
  if (address === location.pathname + location.search) return;
  remember();
  // Back leads to the list before the search, not through each of its letters.
  if (wanted() && words) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  scrollTo({ top: 0, behavior: "instant" });
  load();
}

history.scrollRestoration = "manual";
addEventListener("pagehide", remember);
addEventListener("popstate", () => { if (wanted() !== shown) restore(); });
query.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, TYPING_MS);
});
query.addEventListener("keydown", (event) => { if (event.key === "Escape" && !query.value) query.blur(); });
document.getElementById("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
document.addEventListener("keydown", (event) => {
  const writing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    query.select();
    query.focus();
  }
});
more.addEventListener("click", async () => (await load(next))[0]?.firstElementChild.focus());
if (performance.getEntriesByType("navigation")[0]?.type === "navigate") {
  query.value = wanted();
  load();
} else restore();
