// The pictures of a query, the way to give one (drop, paste, choose), and to draw a part of it.
// What happens goes back as one trigger, `event`; a picture that is given goes to the server first, over HTTP.

const LISTENING = new WeakMap();

const textButton = (text, label, onclick) =>
  make("button", { type: "button", title: label, "aria-label": label, onclick }, text);

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// The picture with a rectangle that is drawn by dragging, or moved and resized with the arrow keys.
function stage(picture, send) {
  const [width, height] = [picture.width, picture.height];
  let crop = picture.crop; // x, y, width, height in pixels of the picture
  const shade = make("span", { className: "crop" });
  const image = make("img", { src: picture.url, alt: picture.name });
  const area = make(
    "div",
    {
      className: "area",
      tabIndex: 0,
      role: "group",
      "aria-label":
        "Query picture. Drag to search by a part of it; or arrow keys move a part, " +
        "with Shift they resize it, Enter searches, Escape takes the whole picture",
      style: `aspect-ratio:${width}/${height}; width:min(100%, calc(var(--stage-height) * ${width / height}))`,
    },
    image,
    shade,
  );
  const show = () => {
    shade.hidden = !crop;
    if (!crop) return;
    const [x, y, w, h] = crop;
    const box = { left: x / width, top: y / height, width: w / width, height: h / height };
    for (const [side, share] of Object.entries(box)) shade.style[side] = `${100 * share}%`;
  };
  const point = (event) => {
    const box = area.getBoundingClientRect();
    return [
      Math.round(clamp((event.clientX - box.left) / box.width, 0, 1) * width),
      Math.round(clamp((event.clientY - box.top) / box.height, 0, 1) * height),
    ];
  };
  let start = null;
  area.onpointerdown = (event) => {
    if (event.button !== 0) return;
    start = point(event);
    area.setPointerCapture(event.pointerId);
  };
  area.onpointermove = (event) => {
    if (!start) return;
    const [x, y] = point(event);
    crop = [Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]), Math.abs(y - start[1])];
    show();
  };
  area.onpointerup = () => {
    if (!start) return;
    start = null;
    // A click, or a slip of the hand, is no part.
    if (crop && (crop[2] < width / 25 || crop[3] < height / 25)) crop = picture.crop;
    show();
    if (String(crop) !== String(picture.crop)) send({ action: "crop", crop });
  };
  area.onpointercancel = () => {
    start = null;
    crop = picture.crop;
    show();
  };
  area.onkeydown = (event) => {
    const step = Math.max(1, Math.round(Math.min(width, height) / 20));
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      event.preventDefault();
      const [dx, dy] = moves[event.key];
      let [x, y, w, h] = crop ?? [width, height, width, height].map((side, place) => Math.round(side / (place < 2 ? 4 : 2)));
      if (event.shiftKey) [w, h] = [clamp(w + dx, step, width - x), clamp(h + dy, step, height - y)];
      else [x, y] = [clamp(x + dx, 0, width - w), clamp(y + dy, 0, height - h)];
      crop = [x, y, w, h];
      show();
    } else if (event.key === "Enter" && crop) {
      send({ action: "crop", crop });
    } else if (event.key === "Escape" && crop) {
      send({ action: "crop", crop: null });
    }
  };
  show();
  const hint = picture.crop
    ? textButton("Search by the whole picture", "Search by the whole picture", () => send({ action: "crop", crop: null }))
    : make("span", { className: "hint" }, "Drag over it to search by a part");
  return make(
    "figure",
    { className: "stage" },
    area,
    make(
      "figcaption",
      {},
      make("b", { title: picture.name }, picture.name),
      hint,
      textButton("Remove", `Remove ${picture.name}`, () => send({ action: "remove", ref: picture.ref })),
    ),
  );
}

function chip(picture, send) {
  const [sign, other] = picture.liked ? ["+", "less"] : ["\u2212", "more"];
  return make(
    "figure",
    { className: `chip ${picture.liked ? "liked" : "disliked"}` },
    make("img", { src: picture.url, alt: "" }),
    make("span", { className: "sign", title: picture.liked ? "more like this" : "less like this" }, sign),
    make(
      "figcaption",
      {},
      make("b", { title: picture.name }, picture.name),
      make(
        "span",
        {},
        textButton(`${other} like this`, `Look for ${other} like ${picture.name}`, () => send({ action: other, ref: picture.ref })),
        textButton("remove", `Remove ${picture.name}`, () => send({ action: "remove", ref: picture.ref })),
      ),
    ),
  );
}

export default function ({ data, parentElement, setTriggerValue }) {
  LISTENING.get(parentElement)?.abort();
  const listening = new AbortController();
  LISTENING.set(parentElement, listening);
  let panel = parentElement.querySelector(".panel");
  if (!panel) {
    panel = make("div", { className: "panel" });
    parentElement.append(panel);
  }
  const send = (event) => setTriggerValue("event", { ...event, at: Date.now() });
  const problem = make("p", { className: "problem", role: "alert" });
  const input = make("input", { type: "file", accept: "image/*", "aria-label": "Choose a picture" });

  async function give(file) {
    if (!file) return;
    problem.textContent = "";
    panel.classList.add("busy");
    try {
      const answer = await fetch("/pictures", { method: "POST", body: file, headers: { "x-spyglass": "1" } });
      const said = await answer.json();
      if (said.ref) send({ action: data.adds ? "more" : "only", ref: said.ref });
      else problem.textContent = `Not taken: ${said.problem}`;
    } catch {
      problem.textContent = "The picture did not reach the server; is it still running?";
    }
    panel.classList.remove("busy");
  }

  const choose = make("label", { className: "choose" }, data.pictures.length ? "Another picture" : "Choose a picture", input);
  input.onchange = () => give(input.files[0]);
  const drop = make(
    "div",
    { className: "drop" },
    choose,
    make("span", { className: "hint" }, "or drop it anywhere on this page, or paste it"),
    problem,
  );
  const shown = data.stage
    ? [stage(data.stage, send), ...data.pictures.filter((one) => one.ref !== data.stage.ref).map((one) => chip(one, send))]
    : data.pictures.map((one) => chip(one, send));
  panel.replaceChildren(...shown, drop);
  panel.classList.toggle("empty", !data.pictures.length);

  const { signal } = listening;
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const mark = (isOver) => panel.classList.toggle("over", isOver);
  document.addEventListener(
    "dragover",
    (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      mark(true);
    },
    { signal },
  );
  document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false), { signal });
  document.addEventListener(
    "drop",
    (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      mark(false);
      give([...event.dataTransfer.files].find((file) => file.type.startsWith("image/")) ?? event.dataTransfer.files[0]);
    },
    { signal },
  );
  document.addEventListener(
    "paste",
    (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      give(file);
    },
    { signal },
  );
  return () => listening.abort();
}
