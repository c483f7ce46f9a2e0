// A button that opens a list with one chosen item (the ARIA menu button pattern).
import { element, icon } from "./common.js";

const KEYS = { ArrowDown: 1, ArrowUp: -1 };

/**
 * Put a menu into `container`; it is hidden while there are fewer than two options.
 * `choose(value)` is called with the chosen value. `offer(options, chosen, face)` sets the options, [value, label, hint].
 * `face` is the text on the button; without one the icon named `picture` stands there.
 */
export function menu(container, name, choose, picture = null) {
  const list = element("div", { id: `${container.id}-menu`, className: "menu", role: "menu", ariaLabel: name, hidden: true });
  const button = element("button", { type: "button", ariaHasPopup: "menu", ariaExpanded: "false" });
  button.setAttribute("aria-controls", list.id);
  container.replaceChildren(button, list);
  container.hidden = true;
  let offered = "";

  function toggle(opened) {
    if (opened === !list.hidden) return;
    list.hidden = !opened;
    button.ariaExpanded = String(opened);
    if (opened) (list.querySelector("[aria-checked=true]") || list.querySelector("[role=menuitemradio]")).focus();
    else if (container.contains(document.activeElement)) button.focus();
    container.dispatchEvent(new CustomEvent("opened", { bubbles: true, detail: opened }));
  }

  function offer(options, chosen, face = "") {
    const wanted = JSON.stringify([options, chosen, face]);
    if (wanted === offered) return;
    offered = wanted;
    container.hidden = options.length < 2;
    const label = options.find(([value]) => value === chosen)?.[1] || "";
    const said = !face || face === label ? label : `${label}, ${face}`;
    button.ariaLabel = said ? `${name}: ${said}` : name;
    button.title = name;
    button.replaceChildren(picture ? icon(picture) : element("span", { className: "face", textContent: face || label }));
    button.classList.toggle("on", Boolean(picture) && chosen !== -1 && options[0]?.[0] === -1);
    const focused = list.contains(document.activeElement);
    list.replaceChildren(element("div", { className: "menu-title", ariaHidden: "true", textContent: name }),
      ...options.map(([value, words, hint]) => {
        const item = element("button", { type: "button", role: "menuitemradio", ariaChecked: String(value === chosen), tabIndex: -1 },
          icon("done"), element("span", { dir: "auto", textContent: words }));
        if (hint) item.append(element("small", { textContent: hint }));
        item.addEventListener("click", () => { toggle(false); choose(value); });
        return item;
      }));
    if (focused && !list.hidden) list.querySelector("[role=menuitemradio]")?.focus();
  }

  button.addEventListener("click", () => toggle(list.hidden));
  button.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    event.stopPropagation();
    toggle(true);
  });
  list.addEventListener("keydown", (event) => {
    const items = [...list.querySelectorAll("[role=menuitemradio]")];
    const at = items.indexOf(document.activeElement);
    const to = event.key in KEYS ? (at + KEYS[event.key] + items.length) % items.length
      : event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : -1;
    if (event.key === "Tab") return toggle(false);
    if (event.key === "Escape") toggle(false);
    else if (to >= 0) items[to].focus();
    else return event.stopPropagation();
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => { if (!container.contains(event.target)) toggle(false); });
  container.addEventListener("focusout", (event) => { if (event.relatedTarget && !container.contains(event.relatedTarget)) toggle(false); });
  return { offer, open: () => !list.hidden };
}
