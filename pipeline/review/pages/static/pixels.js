// Decoded pictures of one panel, kept within a budget: a change of channel shows what is decoded already.
const BUDGET = 460e6; // bytes: eight channels of 4096x3000 at four bytes a pixel, and one more

export class Pixels {
  constructor() {
    this.kept = new Map(); // address -> promise of an ImageBitmap, the newest use last
    this.stop = new AbortController();
  }

  // Forget everything: decoded pictures hold memory that only close() gives back.
  clear() {
    this.stop.abort();
    this.stop = new AbortController();
    for (const found of this.kept.values()) found.then((bitmap) => bitmap.close()).catch(() => {});
    this.kept.clear();
  }

  get(address) {
    const kept = this.kept.get(address);
    const found = kept || this.fetched(address);
    this.kept.delete(address);
    this.kept.set(address, found);
    return found;
  }

  async fetched(address) {
    const stop = this.stop.signal;
    try {
      const answer = await fetch(address, { signal: stop });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || answer.statusText);
      const bitmap = await createImageBitmap(await answer.blob());
      if (!stop.aborted) return bitmap;
      bitmap.close();
      throw new DOMException("left", "AbortError");
    } catch (error) {
      if (!stop.aborted) this.kept.delete(address);
      throw error;
    }
  }

  // One after the other, so that what is looked at now comes first.
  async preload(addresses, bytes) {
    const stop = this.stop.signal;
    const most = Math.max(Math.floor(BUDGET / Math.max(bytes, 1)), 1);
    for (const address of addresses.slice(0, most)) {
      if (stop.aborted) return;
      if (!this.kept.has(address)) await this.get(address).catch(() => {});
    }
    this.shed(most);
  }

  shed(most) {
    for (const [address, found] of this.kept) {
      if (this.kept.size <= most) return;
      this.kept.delete(address);
      found.then((bitmap) => bitmap.close()).catch(() => {});
    }
  }
}
