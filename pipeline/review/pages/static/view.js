// One picture of a panel on a Leaflet map whose units are the panel's pixels, with its marks above it.
import { leaflet as L } from "nicegui-leaflet";

const CONTOUR = { color: "#ffe14d", weight: 2, fill: false, interactive: false };
const EDGE = { color: "#000", weight: 4, opacity: 0.6, fill: false, interactive: false }; // seen on bright ground too

export const place = (y, x) => L.latLng(-y, x);
export const box = (one, rim = 0) =>
  L.latLngBounds(place(one.y + one.height + rim, one.x - rim), place(one.y - rim, one.x + one.width + rim));

export class View {
  constructor(element, moved) {
    this.map = L.map(element, {
      crs: L.CRS.Simple, minZoom: -6, maxZoom: 6, zoomSnap: 0.25, zoomDelta: 0.5, attributionControl: false,
      zoomControl: false, keyboard: false, fadeAnimation: false, zoomAnimation: false, inertia: false,
    });
    this.map.setView([0, 0], 0);
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.style.zIndex = "0"; // below the marks: Leaflet lifts every other canvas
    this.marks = L.layerGroup().addTo(this.map);
    this.level = { low: 0, width: 1 };
    this.map.on("move", () => moved(this));
    this.map.on("zoomend", () => this.sharpen());
  }

  // A new panel of this size.
  start(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.bounds = box({ x: 0, y: 0, width, height });
    this.layer?.remove();
    this.layer = L.svgOverlay(this.canvas, this.bounds, { interactive: false }).addTo(this.map);
    this.heat?.remove();
    this.heat = null;
    this.marks.clearLayers();
    this.map.setMaxBounds(this.bounds.pad(2));
  }

  draw(bitmap, name) {
    const context = this.canvas.getContext("2d", { alpha: false });
    context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    this.canvas.setAttribute("aria-label", name);
    this.window(this.level);
    this.sharpen();
  }

  // Shows grey values from `low` over `width` of the range; the picture itself stays as it is.
  window(level) {
    this.level = level;
    const contrast = 1 + (2 * level.low) / level.width;
    const brightness = 1 / level.width / contrast;
    const plain = level.low === 0 && level.width === 1;
    this.canvas.style.filter = plain ? "" : `brightness(${brightness}) contrast(${contrast})`;
  }

  sharpen() {
    this.canvas.style.imageRendering = this.map.getZoom() > 0 ? "pixelated" : "auto";
  }

  outline(polygons, defects) {
    for (const polygon of polygons) {
      const points = polygon.map(([x, y]) => place(y, x));
      L.polygon(points, EDGE).addTo(this.marks);
      L.polygon(points, CONTOUR).addTo(this.marks);
    }
    defects.forEach((one, at) => {
      const icon = L.divIcon({ className: "number", html: String(at + 1), iconSize: [24, 24], iconAnchor: [28, 28] });
      L.marker(place(one.y, one.x), { icon, interactive: false, keyboard: false }).addTo(this.marks);
    });
  }

  warm(address) {
    this.heat = L.imageOverlay(address, this.bounds, { opacity: 0, interactive: false }).addTo(this.map);
  }

  mark(mode, opacity) {
    this.map.getPanes().overlayPane.classList.toggle("unmarked", mode !== "contours");
    this.map.getPanes().markerPane.style.display = mode === "none" ? "none" : "";
    for (const element of this.map.getPanes().overlayPane.querySelectorAll("svg")) element.style.display = mode === "contours" ? "" : "none";
    this.heat?.setOpacity(mode === "heat" ? opacity : 0);
  }

  remove() {
    this.map.remove();
    this.canvas.width = this.canvas.height = 0; // gives the pixels back now
  }
}
