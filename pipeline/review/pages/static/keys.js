// Keys of the whole page. What types faster than people is a bar-code reader: it looks up, and decides nothing.
const SCAN_MS = 60; // between two letters of a reader; a decision waits so long for a second letter
const ALIVE_MS = 30000;
const KEPT = "takt.keys";

const writes = (el) => el && ["INPUT", "SELECT", "TEXTAREA"].includes(el.tagName) && !["range", "checkbox"].includes(el.type);
const slides = (el, event) => el?.type === "range" && /^(Arrow|Page|Home|End)/.test(event.key);

function named(event) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  if (digit) return (event.shiftKey ? "Shift+" : "") + digit[1];
  if (event.key.length !== 1) return event.key;
  const lower = event.key.toLowerCase();
  return event.shiftKey && lower !== event.key ? `Shift+${lower}` : lower;
}

export default {
  props: { keys: Array },
  template: `
    <div class="keys">
      <button type="button" class="quiet" @click="open">Keys <kbd>?</kbd></button>
      <dialog ref="dialog" aria-labelledby="keys-title" @close="asked = null">
        <h2 id="keys-title">Keys</h2>
        <p>Kept in this browser. Choose "change", then press the new key. Escape leaves a field.</p>
        <p role="status">{{ told }}</p>
        <table>
          <thead><tr><th scope="col">does</th><th scope="col">key</th><th scope="col">change</th></tr></thead>
          <tbody>
            <tr v-for="one in keys" :key="one.does">
              <th scope="row">{{ one.text }}</th>
              <td><kbd>{{ asked === one.does ? "press a key" : chosen[one.does] || one.key }}</kbd></td>
              <td><button type="button" @click="asked = one.does" :aria-label="'change: ' + one.text">change</button></td>
            </tr>
          </tbody>
        </table>
        <button type="button" @click="reset">as they were</button>
        <button type="button" @click="$refs.dialog.close()">close</button>
      </dialog>
    </div>`,
  data: () => ({ chosen: {}, asked: null, told: "" }),
  created() {
    try {
      this.chosen = JSON.parse(localStorage.getItem(KEPT)) || {};
    } catch {
      this.chosen = {};
    }
    this.last = 0;
    this.scanned = "";
    this.alive = 0;
    this.handlers = { keydown: this.down, keyup: this.up, pointerdown: this.tell };
  },
  mounted() {
    for (const [name, handler] of Object.entries(this.handlers)) document.addEventListener(name, handler);
  },
  unmounted() {
    for (const [name, handler] of Object.entries(this.handlers)) document.removeEventListener(name, handler);
    clearTimeout(this.waiting);
  },
  methods: {
    tell() {
      const now = performance.now();
      if (this.alive && now - this.alive < ALIVE_MS) return;
      this.alive = now;
      this.$emit("alive");
    },
    found(name) {
      return this.keys.find((one) => (this.chosen[one.does] || one.key) === name);
    },
    down(event) {
      this.tell();
      if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
      if (this.asked) return this.choose(event);
      if (this.$refs.dialog.open) return;
      if (writes(document.activeElement)) {
        if (event.key === "Escape") document.activeElement.blur();
        this.last = 0; // what was typed before a field belongs to no key behind it
        return;
      }
      if (slides(document.activeElement, event)) return;
      const scan = this.isScan(event);
      if (scan && event.key === "Enter") return event.preventDefault();
      const name = named(event);
      if (name === "?" && !scan) return this.open();
      const one = this.found(name);
      if (!one || (one.by === "server" && (scan || event.repeat))) return;
      event.preventDefault();
      this.act(one);
    },
    isScan(event) {
      const letter = event.key.length === 1 && !event.repeat;
      const now = event.timeStamp;
      const fast = now - this.last < SCAN_MS;
      if (event.key === "Enter") {
        const whole = this.scanned;
        this.scanned = "";
        if (!fast || whole.length < 4) return false;
        this.$emit("scan", whole);
        return true;
      }
      if (!letter) return false;
      this.last = now;
      this.scanned = fast ? this.scanned + event.key : event.key;
      if (fast) clearTimeout(this.waiting);
      return fast;
    },
    act(one) {
      clearTimeout(this.waiting);
      if (one.by === "server") this.waiting = setTimeout(() => this.$emit("act", one.does), SCAN_MS);
      else if (one.by === "field") document.getElementById(one.does)?.focus(); // at once: what is typed next is no key
      else if (one.by === "list") this.walk(one.does === "next" ? 1 : -1);
      else document.dispatchEvent(new CustomEvent("takt-key", { detail: { does: one.does, held: true } }));
    },
    up(event) {
      const one = this.found(named(event));
      if (one?.does === "hide") document.dispatchEvent(new CustomEvent("takt-key", { detail: { does: "hide", held: false } }));
    },
    walk(step) {
      const cards = [...document.querySelectorAll("a.card")];
      if (!cards.length) return;
      const at = cards.indexOf(document.activeElement);
      cards[Math.min(Math.max(at + step, 0), cards.length - 1)].focus();
    },
    open() {
      this.told = "";
      this.$refs.dialog.showModal();
    },
    choose(event) {
      if (["Shift", "Tab"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      const name = named(event);
      const other = this.found(name);
      if (event.key === "Escape") this.told = "nothing changed";
      else if (name === "?" || (other && other.does !== this.asked)) this.told = `${name} is taken: ${other?.text || "these keys"}`;
      else {
        this.chosen = { ...this.chosen, [this.asked]: name };
        this.told = "changed";
        localStorage.setItem(KEPT, JSON.stringify(this.chosen));
      }
      this.asked = null;
    },
    reset() {
      this.chosen = {};
      this.told = "as they were";
      localStorage.removeItem(KEPT);
    },
  },
};
