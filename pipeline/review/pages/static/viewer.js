// The pictures of one panel: one to four side by side, moved together. All of it happens here, at once.
import { loadResource } from "../../static/utils/resources.js";
import { Pixels } from "/static/pixels.js";
import { View, box, place } from "/static/view.js";

const PAN = 0.2; // of the view
const STEP = 0.05; // of the range of greys
const MODES = ["contours", "heat", "none"];
const SAID = { contours: "contours", heat: "heat map", none: "no marks" };
const NEAR = 0.5; // a centred defect is shown at this zoom at most where it is small

export default {
  props: { resourcePath: String, wanted: Object },
  watch: { wanted: "start" },
  template: `
    <section class="viewer" aria-label="pictures of the panel" :data-shown="shown" :data-mode="hidden ? 'hidden' : mode"
             :data-opacity="opacity" :data-ready="ready" :data-switch="took" :data-loaded="loaded">
      <div class="tools" role="group" aria-label="pictures">
        <button v-for="(one, at) in pictures" :key="one.name" type="button" :aria-pressed="views[active] === at"
                @click="show(at)">{{ one.text }} <kbd v-if="at < 9">{{ at + 1 }}</kbd></button>
      </div>
      <div class="maps" :class="'of' + views.length" v-show="panel.width">
        <div v-for="(at, index) in views" :key="index" class="map" :class="{ active: index === active && views.length > 1 }"
             @pointerdown="active = index">
          <div class="pane"></div>
          <span class="caption">{{ index === active && views.length > 1 ? "▶ " : "" }}{{ pictures[at]?.text }}</span>
        </div>
      </div>
      <p v-if="!panel.width" class="none">{{ panel.why }}</p>
      <p v-if="failed" class="alarm" role="alert">⚠ {{ failed }}</p>
      <div class="tools" role="group" aria-label="how they are shown">
        <label class="field"><span>Side by side <kbd>V</kbd></span>
          <select :value="views.length" @change="spread(Number($event.target.value))">
            <option v-for="n in most" :key="n" :value="n">{{ n }}</option></select></label>
        <label class="field"><span>Marks <kbd>M</kbd></span>
          <select v-model="mode" @change="marked">
            <option v-for="one in modes" :key="one" :value="one">{{ said[one] }}</option></select></label>
        <label class="field"><span>Heat map {{ Math.round(opacity * 100) }} %</span>
          <input type="range" min="0" max="1" step="0.05" v-model.number="opacity" @input="marked"></label>
        <label class="field"><span>Level {{ Math.round(middle * 100) }} % <kbd>[</kbd><kbd>]</kbd></span>
          <input type="range" min="0" max="1" step="0.01" :value="middle" @input="window(Number($event.target.value), width)"></label>
        <label class="field"><span>Window {{ Math.round(width * 100) }} % <kbd>.</kbd><kbd>,</kbd></span>
          <input type="range" min="0.02" max="1" step="0.01" :value="width" @input="window(middle, Number($event.target.value))"></label>
        <label class="tick"><input type="checkbox" v-model="lossless" @change="redraw"><span>lossless <kbd>P</kbd></span></label>
        <button type="button" @click="fit">Whole panel <kbd>F</kbd></button>
      </div>
    </section>`,
  data: () => ({
    panel: {}, pictures: [], views: [0], active: 0, mode: "contours", opacity: 0.6, hidden: false, lossless: false,
    defect: -1, levels: {}, ready: "", loaded: 0, shown: "", took: "", failed: "", modes: MODES, said: SAID,
  }),
  computed: {
    most() { return Math.max(Math.min(4, this.pictures.length), 1); },
    named() { return this.pictures[this.views[this.active]]?.name || ""; },
    width() { return (this.levels[this.named] || {}).width ?? 1; },
    middle() { return ((this.levels[this.named] || {}).low ?? 0) + this.width / 2; },
  },
  created() {
    this.maps = []; // not watched by Vue: Leaflet's objects are large and change all the time
    this.pixels = new Pixels();
    this.turn = 0;
    this.sizes = new ResizeObserver(() => this.resized());
  },
  async mounted() {
    this.key = (event) => this.act(event.detail);
    this.click = (event) => {
      const at = event.target.closest?.("[data-defect]")?.dataset.defect;
      if (at !== undefined) this.centre(Number(at));
    };
    document.addEventListener("takt-key", this.key);
    document.addEventListener("click", this.click);
    await loadResource(`${this.resourcePath}/leaflet/leaflet.css`);
    this.styled = true;
    this.start(this.wanted);
  },
  unmounted() {
    document.removeEventListener("takt-key", this.key);
    document.removeEventListener("click", this.click);
    this.sizes.disconnect();
    this.maps.forEach((view) => view.remove());
    this.pixels.clear();
  },
  methods: {
    async start(panel) {
      if (!this.styled || !panel) return;
      const turn = ++this.turn;
      this.pixels.clear();
      const known = this.views.map((at) => this.pictures[at]?.name);
      Object.assign(this, { panel, pictures: panel.pictures, failed: "", defect: -1, ready: "", loaded: 0, shown: "", hidden: false });
      this.views = this.kept(known);
      this.active = Math.min(this.active, this.views.length - 1);
      await this.$nextTick();
      if (!panel.width || turn !== this.turn) return void (this.ready = panel.token);
      this.lay();
      await this.redraw();
      if (turn !== this.turn) return;
      this.ready = panel.token;
      this.overlay(turn);
      await this.pixels.preload(this.order(), panel.width * panel.height * 4);
      if (turn !== this.turn) return;
      this.loaded = this.pixels.kept.size;
      this.ahead();
    },
    kept(names) {
      const at = names.map((name) => this.pictures.findIndex((one) => one.name === name));
      const found = at.map((one, index) => (one < 0 ? index : one)).filter((one) => one < this.pictures.length);
      return found.length ? found : [0];
    },
    // As many maps as views, all of this panel's size and at the same place.
    lay() {
      const panes = [...this.$el.querySelectorAll(".pane")];
      while (this.maps.length > panes.length) this.maps.pop().remove();
      for (const pane of panes.slice(this.maps.length)) this.maps.push(this.made(pane));
      for (const view of this.maps) {
        view.map.invalidateSize({ animate: false });
        view.start(this.panel.width, this.panel.height);
      }
      this.fit();
    },
    made(pane) {
      const view = new View(pane, (moved) => this.follow(moved));
      view.map.on("dragstart", () => (this.fitted = false));
      pane.addEventListener("wheel", () => (this.fitted = false), { passive: true });
      this.sizes.observe(pane);
      return view;
    },
    resized() {
      for (const view of this.maps) view.map.invalidateSize({ animate: false });
      if (this.fitted) this.fit();
    },
    follow(view) {
      if (this.following) return;
      this.following = true;
      for (const other of this.maps) if (other !== view) other.map.setView(view.map.getCenter(), view.map.getZoom(), { animate: false });
      this.following = false;
    },
    address(at) {
      const one = this.pictures[at];
      const panel = `/api/panels/${encodeURIComponent(this.panel.token)}`;
      if (!one.lossless) return `${panel}/thumb?name=${encodeURIComponent(one.name)}`;
      return `${panel}/pictures/${encodeURIComponent(one.name)}?kind=${this.lossless ? "png" : "jpeg"}`;
    },
    // What is shown, then its neighbours, then the others.
    order() {
      const shown = this.views[this.active] ?? 0;
      const far = this.pictures.map((_, at) => [Math.abs(at - shown), at]);
      return far.sort((a, b) => a[0] - b[0]).map(([, at]) => this.address(at));
    },
    // The next panel's picture is fetched, so that it lies in the browser's cache.
    ahead() {
      const name = this.pictures[this.views[this.active]]?.name;
      if (!this.panel.next || !name) return;
      fetch(`/api/panels/${encodeURIComponent(this.panel.next)}/pictures/${encodeURIComponent(name)}?kind=jpeg`, { priority: "low" }).catch(() => {});
    },
    async redraw() {
      const drawn = this.views.map((_, index) => this.put(index));
      await Promise.all(drawn);
    },
    async put(index, began = performance.now()) {
      const [turn, at] = [this.turn, this.views[index]];
      if (!this.pictures[at]) return;
      try {
        const bitmap = await this.pixels.get(this.address(at));
        if (turn !== this.turn || this.views[index] !== at || !this.maps[index]) return;
        const { name, text } = this.pictures[at];
        this.maps[index].draw(bitmap, `picture ${text} of the panel`);
        this.maps[index].window(this.levels[name] || { low: 0, width: 1 });
        this.failed = "";
        requestAnimationFrame(() => requestAnimationFrame(() => {
          if (index !== this.active) return;
          this.took = (performance.now() - began).toFixed(1);
          this.shown = name;
        }));
      } catch (error) {
        if (turn === this.turn && error.name !== "AbortError") this.failed = `${this.pictures[at].text}: ${error.message}`;
      }
    },
    show(at) {
      if (!this.pictures[at]) return;
      this.shown = "";
      this.views.splice(this.active, 1, at);
      this.put(this.active);
    },
    async spread(count) {
      const shown = this.views.slice(0, count);
      for (let at = 0; shown.length < count; at++) if (!shown.includes(at)) shown.push(at);
      this.views = shown;
      this.active = Math.min(this.active, count - 1);
      await this.$nextTick();
      if (!this.panel.width) return;
      this.lay();
      await this.redraw();
      this.overlay(this.turn);
    },
    async overlay(turn) {
      const panel = `/api/panels/${encodeURIComponent(this.panel.token)}`;
      let polygons = [];
      try {
        const answer = await fetch(`${panel}/outlines`);
        if (answer.ok) polygons = await answer.json();
      } catch {
        this.failed = "the contours do not come: the station does not answer";
      }
      if (turn !== this.turn) return;
      for (const view of this.maps) {
        view.marks.clearLayers();
        view.outline(polygons, this.panel.defects);
      }
      this.marked();
    },
    marked() {
      const warm = this.mode === "heat" && this.panel.map && `/api/panels/${encodeURIComponent(this.panel.token)}/heat`;
      for (const view of this.maps) if (warm && !view.heat) view.warm(warm);
      for (const view of this.maps) view.mark(this.hidden ? "none" : this.mode, this.opacity);
    },
    window(middle, width) {
      const wide = Math.min(Math.max(width, 0.02), 1);
      const low = Math.min(Math.max(middle - wide / 2, 0), 1 - wide);
      this.levels = { ...this.levels, [this.named]: { low, width: wide } };
      this.views.forEach((at, index) => this.pictures[at]?.name === this.named && this.maps[index]?.window({ low, width: wide }));
    },
    fit() {
      const first = this.maps[0];
      if (!first?.bounds) return;
      this.fitted = true;
      first.map.fitBounds(first.bounds, { animate: false });
    },
    centre(at) {
      const one = this.panel.defects?.[at];
      const first = this.maps[0];
      if (!one || !first) return;
      this.defect = at;
      this.fitted = false;
      const rim = Math.max(one.width, one.height, 16) * 2;
      first.map.setView(place(one.y + one.height / 2, one.x + one.width / 2),
        Math.min(first.map.getBoundsZoom(box(one, rim)), Math.max(NEAR, 2)), { animate: false });
      this.$el.dataset.defect = String(at);
    },
    jump(step) {
      const count = this.panel.defects?.length || 0;
      if (count) this.centre((this.defect + step + (this.defect < 0 && step < 0 ? 1 : 0) + count) % count);
    },
    pan(x, y) {
      const map = this.maps[0]?.map;
      if (!map) return;
      this.fitted = false;
      const size = map.getSize();
      map.panBy([x * PAN * size.x, y * PAN * size.y], { animate: false });
    },
    zoom(step) {
      const map = this.maps[0]?.map;
      this.fitted = false;
      map?.setZoom(map.getZoom() + step, { animate: false });
    },
    act({ does, held }) {
      if (does.startsWith("channel ")) return this.show(Number(does.slice(8)) - 1);
      const acts = {
        "defect+": () => this.jump(1), "defect-": () => this.jump(-1), left: () => this.pan(-1, 0), right: () => this.pan(1, 0),
        up: () => this.pan(0, -1), down: () => this.pan(0, 1), in: () => this.zoom(0.5), out: () => this.zoom(-0.5),
        fit: () => this.fit(), views: () => this.spread((this.views.length % this.most) + 1),
        view: () => (this.active = (this.active + 1) % this.views.length),
        marks: () => { this.mode = MODES[(MODES.indexOf(this.mode) + 1) % MODES.length]; this.marked(); },
        hide: () => { this.hidden = held; this.marked(); },
        darker: () => this.window(this.middle + STEP, this.width), brighter: () => this.window(this.middle - STEP, this.width),
        harder: () => this.window(this.middle, this.width - STEP), softer: () => this.window(this.middle, this.width + STEP),
        plain: () => this.window(0.5, 1), lossless: () => { this.lossless = !this.lossless; this.redraw(); },
      };
      acts[does]?.();
    },
  },
};
