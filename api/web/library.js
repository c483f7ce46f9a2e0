// The library: published videos, newest first; searched as one types.
import { ask, clock, day, element } from "./common.js";

const list = document.getElementById("videos");
const more = document.getElementById("more");
const message = document.getElementById("message");
const query = document.getElementById("query");
let asked = 0;
let next = null;

function card(video) {
  const still = video.thumbnail_url
    ? element("img", { src: video.thumbnail_url, alt: "", loading: "lazy" })
    : element("span", { className: "sound", textContent: "♪", ariaHidden: "true" });
  return element("li", {}, element("a", { className: "card", href: video.watch_url },
    element("div", { className: "still" }, still, element("span", { className: "length", textContent: clock(video.duration_ms) })),
    element("h2", { textContent: video.title }),
    element("p", { textContent: [video.rungs[0], day(video.published_at)].filter(Boolean).join(" · ") })));
}

function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

async function load(cursor) {
  const mine = ++asked;
  const words = query.value.trim();
  list.setAttribute("aria-busy", "true");
  more.hidden = true;
  if (!cursor) list.replaceChildren(...Array.from({ length: 8 }, () => element("li", { className: "bone" })));
  const parameters = new URLSearchParams({ limit: "24", ...(words && { q: words }), ...(cursor && { cursor }) });
  try {
    const page = await ask(`/api/videos?${parameters}`);
    if (mine !== asked) return;
    if (!cursor) list.replaceChildren();
    list.append(...page.items.map(card));
    next = page.next;
    more.hidden = !next;
    say(list.children.length ? "" : words ? `Nothing was found for “${words}”.` : "There is no video yet. Add one with: kinolog ingest FILE");
  } catch (error) {
    if (mine !== asked) return;
    if (!cursor) list.replaceChildren();
    say(error.message);
  }
  list.setAttribute("aria-busy", "false");
}

let typing;
query.value = new URLSearchParams(location.search).get("q") || "";
query.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const words = query.value.trim();
    history.replaceState(null, "", words ? `/?q=${encodeURIComponent(words)}` : "/");
    load(null);
  }, 200);
});
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => load(next));
load(null);
