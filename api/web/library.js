// The library: published videos, newest first; searched as one types, continued as one scrolls.
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
    still(video), element("h2", { textContent: video.title || video.slug }), facts));
}

function bones(count) {
  return Array.from({ length: count }, () => element("li", { className: "bone", ariaHidden: "true" },
    element("div", { className: "still" }), element("div", { className: "line" }), element("div", { className: "line short" })));
}

function tell(picture, title, words, again) {
  const parts = [icon(picture), element("h2", { textContent: title }), element("p", { textContent: words })];
  if (again) parts.push(element("button", { className: "button", type: "button", textContent: "Try again", onclick: again }));
  notice.replaceChildren(...parts);
  notice.hidden = false;
  status.textContent = `${title} ${words}`;
}

function settle(words, added) {
  const count = list.children.length;
  heading.hidden = !count && !words;
  if (count) {
    status.textContent = `${count}${next ? " or more" : ""} ${count === 1 ? "video" : "videos"}`;
    more.hidden = !next;
    if (next) watchEnd();
  } else if (words) tell("search", "Nothing was found", `No video has all the words of “${words}”.`);
  else tell("empty", "There is no video yet", "Add one with: kinolog ingest FILE");
  return added;
}

/** Load the first page, or the one at a cursor; an answer that came too late is dropped. */
async function load(cursor = null) {
  current.abort();
  const { signal } = current = new AbortController();
  const words = query.value.trim();
  list.setAttribute("aria-busy", "true");
  end.disconnect();
  notice.hidden = true;
  more.hidden = true;
  heading.hidden = false;
  heading.textContent = words ? `Results for “${words}”` : "Latest videos";
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
    tell("broken", "The videos could not be loaded", error.message, () => load(cursor));
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

let typing;

function search() {
  clearTimeout(typing);
  const words = query.value.trim();
  const address = words ? `/?q=${encodeURIComponent(words)}` : "/";
  if (address === location.pathname + location.search) return;
  history.replaceState(null, "", address);
  load();
}

query.value = new URLSearchParams(location.search).get("q") || "";
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
load();
