// The page of `finegym demo`: handles, jumps to a time, and pictures that follow the video. Events are heard on the
// document, because Gradio replaces what it shows.
window.finegym = (() => {
  const video = () => document.querySelector("#video video");
  const handles = () => [document.querySelector(".fg-from"), document.querySelector(".fg-to")];

  const part = () => {
    const [from, to] = handles();
    if (!from) return [null, null];
    const start = Number(from.value), end = Number(to.value), last = Number(to.max);
    return [start > 0 ? start : null, end < last - 1e-6 ? end : null];
  };

  const drawHandles = () => {
    const [from, to] = handles();
    if (!from) return;
    const last = Number(to.max) || 1;
    const chosen = document.querySelector(".fg-chosen");
    chosen.style.left = `${(100 * from.value) / last}%`;
    chosen.style.right = `${100 - (100 * to.value) / last}%`;
    const [start, end] = part();
    const words = `${Number(from.value).toFixed(2)} s to ${Number(to.value).toFixed(2)} s`;
    document.querySelector(".fg-trim output").textContent = start === null && end === null ? "the whole video" : words;
    for (const handle of [from, to]) handle.setAttribute("aria-valuetext", `${Number(handle.value).toFixed(2)} seconds`);
  };

  const jump = (time) => {
    if (video()) video().currentTime = Number(time);
  };

  const follow = () => {
    const player = video();
    if (!player) return;
    const now = player.currentTime;
    for (const axis of document.querySelectorAll(".fg-axis"))
      axis.style.setProperty("--now", `${Math.min(100, (100 * now) / Number(axis.dataset.duration))}%`);
    for (const piece of document.querySelectorAll("[data-begin]"))
      piece.classList.toggle("fg-current", Number(piece.dataset.begin) <= now && now < Number(piece.dataset.end));
  };

  const animate = () => {
    follow();
    if (video() && !video().paused) requestAnimationFrame(animate);
  };

  const link = (shown, window_) => {
    const address = new URL(location.pathname, location.origin);
    const name = shown?.video?.orig_name ?? shown?.orig_name ?? "";
    if (name.startsWith("gymnast_")) address.searchParams.set("example", name.replace(/\.mp4$/, ""));
    const [start, end] = part();
    if (start !== null) address.searchParams.set("start", start);
    if (end !== null) address.searchParams.set("end", end);
    address.searchParams.set("window", window_);
    return address.href;
  };

  document.addEventListener("input", (event) => {
    const [from, to] = handles();
    if (event.target !== from && event.target !== to) return;
    if (Number(from.value) > Number(to.value)) (event.target === from ? to : from).value = event.target.value;
    drawHandles();
    jump(event.target.value);
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches?.(".fg-method")) return;
    for (const table of event.target.closest(".fg-why").querySelectorAll("table"))
      table.hidden = table.dataset.method !== event.target.value;
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-time]");
    if (button) jump(button.dataset.time);
  });
  for (const name of ["timeupdate", "seeking", "seeked", "loadeddata"])
    document.addEventListener(name, follow, true);
  document.addEventListener("play", animate, true);
  // Gradio reads a recording at the moment of Stop, when its end, and on a busy machine all of it, is still to come:
  // the click is held back until the recorder has handed over everything.
  let recorder = null;
  if (window.MediaRecorder)
    window.MediaRecorder = class extends MediaRecorder {
      constructor(...options) {
        super(...options);
        recorder = this;
      }
      stop() {
        if (this.state !== "inactive") super.stop();
      }
    };
  const holdBack = (event) => {
    const button = event.target.closest?.("#video button:has([title='stop recording'])");
    if (!button || !recorder || recorder.state === "inactive") return;
    event.stopImmediatePropagation();
    recorder.addEventListener("stop", () => button.click(), { once: true });
    recorder.stop();
  };
  document.addEventListener("click", holdBack, true);
  // What has just been answered comes into view, on a phone as well.
  const arrivals = { ".fg-best": "#answer", ".fg-trouble": ".fg-trouble", ".fg-track": "#routine", ".fg-why": "#reasons" };
  new MutationObserver((changes) => {
    const added = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.querySelector);
    const has = (selector) => added.some((node) => node.matches(selector) || node.querySelector(selector));
    if (!has(".fg-trim, .fg-axis, .fg-trouble, .fg-why")) return;
    drawHandles();
    follow();
    for (const [piece, place] of Object.entries(arrivals))
      if (has(piece)) document.querySelector(place)?.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }).observe(document, { childList: true, subtree: true });
  return { part, link };
})();
