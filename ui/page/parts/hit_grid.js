// A grid of pictures. `data.cards` are drawn as text and never as HTML; what is clicked goes back as one trigger, `event`.

const ICONS = {
  more: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  less: "M5 11h14v2H5z",
  relevant:
    "M2 21h4V9H2v12zM23 10a2 2 0 0 0-2-2h-6.3l.95-4.57.03-.32c0-.41-.17-.79-.44-1.06L14.17 1 7.59 7.59A2 2 0 0 0 7 9v10c0 1.1.9 2 2 2h9c.83 0 1.54-.5 1.84-1.22l3.02-7.05c.09-.23.14-.47.14-.73z",
  irrelevant:
    "M15 3H6c-.83 0-1.54.5-1.84 1.22L1.14 11.27A2 2 0 0 0 1 12v2c0 1.1.9 2 2 2h6.31l-.95 4.57-.03.32c0 .41.17.79.44 1.06L9.83 23l6.59-6.59c.36-.36.58-.86.58-1.41V5a2 2 0 0 0-2-2zm4 0v12h4V3z",
  details: "M6 10a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm6 0a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm6 0a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
};
const KEYS = { "+": "more", "-": "less", y: "relevant", n: "irrelevant", d: "details" };
const SVG = "http://www.w3.org/2000/svg";

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function actionButton(card, action, words, { pressed = null, text = null } = {}) {
  const button = make(
    "button",
    { type: "button", className: `action ${action}`, title: words, "aria-label": `${words}: ${card.name}` },
    icon(action),
    text && make("span", { className: "word" }, text),
  );
  if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
  button.dataset.action = action;
  return button;
}

function drawCard(card, data, images) {
  const image = images.get(card.url) ?? make("img", { loading: "lazy", decoding: "async", alt: "", src: card.url });
  const picture = make(
    "button",
    { type: "button", className: "picture", title: card.hint, "aria-label": `${card.hint}: ${card.name}` },
    image,
    card.badge && make("span", { className: `badge ${card.badge}` }, card.badge === "liked" ? "+" : "\u2212"),
  );
  picture.dataset.action = "only";
  const moved = card.moved
    ? make(
        "span",
        { className: `moved ${card.moved > 0 ? "up" : "down"}`, title: `rank ${card.was} by similarity` },
        `${card.moved > 0 ? "\u25b2" : "\u25bc"}${Math.abs(card.moved)}`,
      )
    : null;
  const figure = (name, value, title) =>
    make("span", { className: "figure", title }, make("i", {}, name), ` ${value}`);
  const caption = make(
    "div",
    { className: "caption" },
    make(
      "div",
      { className: "line" },
      card.rank && make("span", { className: "rank" }, String(card.rank)),
      make("span", { className: "title", title: card.title }, card.title),
      moved,
    ),
    card.file && make("div", { className: "file", title: card.id }, card.file),
    card.similarity &&
      make(
        "div",
        { className: "line figures" },
        figure("similarity", card.similarity, "cosine over the picture's own numbers: 1 for the same picture"),
        figure("score", card.score, card.reranked ? "what orders the hits, by the ranker" : "what orders the hits"),
      ),
    card.note && make("div", { className: "note" }, card.note),
    card.dim &&
      make(
        "div",
        { className: "line dim", title: `${card.dim} of ${data.max_dim} numbers` },
        make("span", { className: "bar" }, make("span", { style: `width:${(100 * card.dim) / data.max_dim}%` })),
        make("span", { className: "number" }, `${card.dim}/${data.max_dim}`),
      ),
  );
  const actions = make("div", { className: "actions" });
  if (data.actions.includes("more")) {
    actions.append(
      actionButton(card, "more", "More like this", { text: "more" }),
      actionButton(card, "less", "Less like this", { text: "less" }),
    );
  }
  actions.append(make("span", { className: "gap" }));
  if (data.actions.includes("judge")) {
    actions.append(
      actionButton(card, "relevant", "What I looked for", { pressed: card.judged === true }),
      actionButton(card, "irrelevant", "Not what I looked for", { pressed: card.judged === false }),
    );
  }
  if (data.actions.includes("details")) actions.append(actionButton(card, "details", "Details"));
  const article = make("article", { className: "card" }, picture, caption, data.actions.length ? actions : null);
  article.dataset.ref = card.ref;
  return article;
}

function neighbour(cards, from, key) {
  const place = cards.indexOf(from);
  if (key === "ArrowRight") return cards[place + 1];
  if (key === "ArrowLeft") return cards[place - 1];
  const others = key === "ArrowDown" ? cards.slice(place + 1) : cards.slice(0, place).reverse();
  return others.find((card) => Math.abs(card.offsetLeft - from.offsetLeft) < 4 && card.offsetTop !== from.offsetTop);
}

export default function ({ data, parentElement, setTriggerValue }) {
  let grid = parentElement.querySelector(".grid");
  if (!grid) {
    grid = make("div", { className: "grid", role: "list" });
    parentElement.append(grid);
  }
  grid.classList.toggle("of-3", data.most_columns === 3);
  grid.classList.toggle("of-4", data.most_columns === 4);
  const focused = parentElement.activeElement;
  const place = focused && [focused.closest(".card")?.dataset.ref, focused.dataset.action];
  const images = new Map([...grid.querySelectorAll("img")].map((image) => [image.getAttribute("src"), image]));
  grid.replaceChildren(...data.cards.map((card) => drawCard(card, data, images)));
  grid.querySelectorAll(".card").forEach((card) => card.setAttribute("role", "listitem"));
  if (place) {
    const same = [...grid.children].find((card) => card.dataset.ref === place[0]);
    same?.querySelector(`[data-action="${place[1]}"]`)?.focus({ preventScroll: true });
  }
  const send = (card, action) => {
    const button = card.querySelector(`[data-action="${action}"]`);
    if (!button) return; // a key for what this grid does not offer
    if (action === "relevant" || action === "irrelevant") {
      // Shown at once: the server's answer will say the same.
      card.querySelectorAll("[aria-pressed]").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
    } else {
      grid.classList.add("waiting");
      // A new query is shown at the top of the page.
      if (action === "only") grid.getRootNode().host?.closest('[data-testid="stMain"]')?.scrollTo({ top: 0 });
    }
    setTriggerValue("event", { action, ref: card.dataset.ref, at: Date.now() });
  };
  grid.classList.remove("waiting");
  if (grid.dataset.page !== undefined && grid.dataset.page !== String(data.page)) grid.scrollIntoView();
  grid.dataset.page = data.page;
  grid.onclick = (event) => {
    const button = event.target.closest("button");
    if (button) send(button.closest(".card"), button.dataset.action);
  };
  grid.onkeydown = (event) => {
    const card = event.target.closest(".card");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow")) {
      const other = neighbour([...grid.children], card, event.key);
      if (!other) return;
      event.preventDefault();
      other.querySelector(".picture").focus();
      other.scrollIntoView({ block: "nearest" });
    } else if (event.key in KEYS) {
      event.preventDefault();
      send(card, KEYS[event.key]);
    }
  };
}
