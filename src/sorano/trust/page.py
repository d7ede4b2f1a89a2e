"""A report as one HTML file: the verdict, a player with the map over the video and a strip of time, the evidence.

Red and boxes are where the report says that something differs; a mark that reads weakly elsewhere is grey. Beside the
verdict stand the file's SHA-256, the day, and the fingerprint of the signer's root.

The page loads nothing from anywhere: the video is inside it, or, where it is large, beside it by its file name. What
comes from the file (names, titles, labels) is shown as text, never as markup.

Not covered: videos that browsers do not play (H.265 in some, MKV): then the evidence is shown without a picture.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sorano.errors import VideoError
from sorano.files import write_atomic
from sorano.trust.printable import printable, to_json
from sorano.trust.provenance import containers
from sorano.trust.report import Report

MOST_EMBEDDED_BYTES = 100_000_000
MOST_MAP_SIDE = 96  # cells of the map in the page, a side
MOST_MAP_TIMES = 600

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sorano report</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'nonce-NONCE';
 style-src 'nonce-NONCE'; media-src data: 'self' file:; img-src data: 'self' file:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style nonce="NONCE">
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;background:#fafafa;color:#111}
h1{font-size:1.6rem;margin:.5rem 0}.verdict{display:inline-block;padding:.1em .5em;border:3px solid;border-radius:.3em}
.VERIFIED{color:#0a6b2d}.MATCHED{color:#0a5a80}.TAMPERED{color:#a30d11}.SUSPICIOUS{color:#8a4b00}.UNVERIFIED{color:#444}
#stage{position:relative;background:#000;line-height:0}#stage video,#stage img{width:100%}
#over{position:absolute;left:0;top:0;width:100%;height:100%;pointer-events:none}
#badge{position:absolute;left:.5rem;top:.5rem;line-height:1.4;background:#fff;padding:.1em .5em;font-weight:700}
#strip{width:100%;height:2rem;display:block;margin-top:.3rem;background:#ddd;cursor:pointer}
#stage{margin:0 auto}
#legend{list-style:none;padding:0;margin:.4rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}
.key{display:inline-block;width:1.1em;height:.8em;margin-right:.4em;border:1px solid #888}
.box{border:3px solid #d00;background:#fff}
.weak{background:#7a8794}.missing{background:#d64550}.now{background:#0060df;width:.3em}
#facts{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;overflow-wrap:anywhere}#facts dd{margin:0}
dl{border-top:1px solid #bbb;margin:0;padding:.6rem 0}dt{font-weight:700}dd{margin:0 0 .2rem 1rem}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}.VERIFIED{color:#5fd38a}.MATCHED{color:#7cc8f0}
.TAMPERED{color:#ff8a8a}.SUSPICIOUS{color:#ffbf69}.UNVERIFIED{color:#ccc}#badge{background:#161616}}
</style></head><body>
<h1><span id="verdict" class="verdict"></span></h1><p id="summary"></p><p id="file"></p>
<div id="stage"><canvas id="over"></canvas><div id="badge"></div></div>
<canvas id="strip" aria-label="time strip: where the mark reads weakly, and what differs"></canvas>
<ul id="legend"></ul><p id="where"></p><dl id="facts"></dl><div id="evidence"></div><ul id="notes"></ul>
<p>A verdict is never "real". Absence of proof is no proof of absence, and a mark alone is a hint: anyone can forge one.
</p>
<script nonce="NONCE" type="application/json" id="data">DATA</script>
<script nonce="NONCE">
"use strict";
const data = JSON.parse(document.getElementById("data").textContent), report = data.report;
const at = id => document.getElementById(id);
at("verdict").textContent = report.verdict; at("verdict").classList.add(report.verdict);
at("summary").textContent = report.summary; at("file").textContent = report.path;
// Red is for what the report calls changed; where it calls nothing changed, a weak mark is grey.
const suspect = report.regions.length > 0;
const inside = (t, x, y) => report.regions.some(one => t >= one.start_s && t <= one.end_s
  && x >= one.box[0] && x <= one.box[2] && y >= one.box[1] && y <= one.box[3]);
for (const [name, text] of data.facts) {
  const head = document.createElement("dt"), body = document.createElement("dd");
  head.textContent = name; body.textContent = text; at("facts").append(head, body);
}
const keys = [["now", "the moment that is shown"]];
if (data.map) keys.unshift(["weak", "the mark reads weakly: plain and dark places do that; no sign of a change"]);
if (data.map && suspect) keys.unshift(["missing", "the mark is missing inside a place that differs"]);
if (suspect) keys.unshift(["box", "a place that differs: see the evidence below"]);
for (const [name, text] of data.image ? keys.filter(one => one[0] !== "now") : keys) {
  const item = document.createElement("li"), mark = document.createElement("span");
  mark.className = "key " + name; item.append(mark, text); at("legend").append(item);
}
at("badge").textContent = report.verdict; at("badge").className = report.verdict;
const told = new Set();
for (const one of report.evidence) {
  const same = JSON.stringify(one);
  if (told.has(same)) continue; // a manifest that several stores hold is one manifest
  told.add(same);
  const list = document.createElement("dl");
  for (const [name, text] of [[one.about, one.found], ["proves", one.proves],
      ["does not prove", one.does_not_prove], ["next", one.next_step]]) {
    if (!text) continue;
    const head = document.createElement("dt"), body = document.createElement("dd");
    head.textContent = name; body.textContent = text; list.append(head, body);
  }
  at("evidence").append(list);
}
for (const note of report.notes) {
  const item = document.createElement("li");
  item.textContent = note; at("notes").append(item);
}
const player = document.createElement(data.image ? "img" : "video");
player.src = data.source; player.id = "player";
if (!data.image) { player.controls = true; player.loop = true; player.muted = true; player.playsInline = true; }
at("stage").prepend(player);
at("stage").style.width = `min(100%, ${80 * (data.width || 16) / (data.height || 9)}vh)`; // all of it on the screen
const map = data.map && {...data.map, cells: Uint8Array.from(atob(data.map.cells), c => c.charCodeAt(0))};
const worst = [];
if (map) for (let t = 0; t < map.times; t++) {
  let top = 0;
  for (let i = 0; i < map.rows * map.columns; i++) top = Math.max(top, map.cells[t * map.rows * map.columns + i]);
  worst.push(top);
}
function strip(now) {
  const canvas = at("strip"), pen = canvas.getContext("2d");
  canvas.width = 800; canvas.height = 32; pen.clearRect(0, 0, 800, 32);
  const length = data.seconds || player.duration || 1;
  worst.forEach((value, t) => {
    const middle = (t + .5) / worst.length * length;
    const red = report.regions.some(one => middle >= one.start_s && middle <= one.end_s);
    pen.fillStyle = red ? `rgba(214,69,80,${value / 255})` : `rgba(122,135,148,${value / 510})`;
    pen.fillRect(800 * t / worst.length, 0, 800 / worst.length + 1, 32);
  });
  pen.strokeStyle = "#a30d11"; pen.lineWidth = 3;
  for (const one of report.regions)
    pen.strokeRect(800 * one.start_s / length, 2, Math.max(4, 800 * (one.end_s - one.start_s) / length), 28);
  pen.fillStyle = "#0060df"; pen.fillRect(800 * now / length - 1, 0, 3, 32);
}
function draw() {
  const now = data.image ? 0 : player.currentTime, over = at("over"), pen = over.getContext("2d");
  over.width = 960; over.height = Math.round(960 * (data.height || 9) / (data.width || 16));
  if (map) {
    const length = data.seconds || player.duration || 1;
    const t = Math.min(map.times - 1, Math.floor(now / length * map.times));
    for (let y = 0; y < map.rows; y++) for (let x = 0; x < map.columns; x++) {
      const value = map.cells[(t * map.rows + y) * map.columns + x];
      if (value < 96) continue;
      const red = inside(now, (x + .5) / map.columns, (y + .5) / map.rows);
      if (!red && !suspect) continue; // nothing is said to be changed: the picture stays as it is
      pen.fillStyle = red ? `rgba(214,69,80,${value / 510})` : `rgba(122,135,148,${value / 510})`;
      pen.fillRect(x * over.width / map.columns, y * over.height / map.rows,
        over.width / map.columns + 1, over.height / map.rows + 1);
    }
  }
  const here = [];
  pen.strokeStyle = "#fff"; pen.lineWidth = 6;
  for (const one of report.regions) if (data.image || now >= one.start_s && now <= one.end_s) {
    const [left, top, right, bottom] = one.box;
    for (const [colour, width] of [["#fff", 8], ["#d00", 4]]) {
      pen.strokeStyle = colour; pen.lineWidth = width;
      pen.strokeRect(left * over.width, top * over.height, (right - left) * over.width, (bottom - top) * over.height);
    }
    here.push(`changed here from ${one.start_s.toFixed(1)} to ${one.end_s.toFixed(1)} s`);
  }
  at("badge").textContent = report.verdict + (here.length ? ": look here" : "");
  at("where").textContent = here.join("; ");
  strip(now);
  requestAnimationFrame(draw);
}
at("strip").addEventListener("click", event => {
  const box = at("strip").getBoundingClientRect();
  if (!data.image) player.currentTime = (event.clientX - box.left) / box.width * (data.seconds || player.duration || 1);
});
draw();
</script></body></html>
"""


def write_page(target: Path, report: Report, video: Path, shown: Any = None) -> None:
    """Writes the page of a report. Raises VideoError where it cannot be written."""
    container = containers.sniff(video)
    width, _, height = str(report.media.get("size", "16x9")).partition("x")
    data = {
        "report": {**report.to_dict(), "path": printable(report.path, 1000)},
        "image": container.mime.startswith("image/"),
        "source": _source(video, container.mime, target),
        "seconds": report.media.get("seconds"),
        "width": int(width),
        "height": int(height or 9),
        "map": None if shown is None else _map(shown),
        "facts": _facts(video, report),
    }
    text = to_json(data)
    for char, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028")):
        text = text.replace(char, escaped)  # nothing in it can end the script
    page = PAGE.replace("NONCE", secrets.token_urlsafe(16)).replace("DATA", text.replace("\u2029", "\\u2029"))
    try:
        write_atomic(target, page)
    except OSError as error:
        raise VideoError(f"{target} cannot be written: {error.strerror}") from error


def _facts(video: Path, report: Report) -> list[tuple[str, str]]:
    """What identifies the file and its signer, and when it was looked at: for those who compare or file the page."""
    digest = hashlib.sha256()
    try:
        with open(video, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
            size = stream.tell()
    except OSError as error:
        raise VideoError(f"{video} cannot be read: {error.strerror}") from error
    return [
        ("file, SHA-256", digest.hexdigest()),
        ("size", f"{size:,} bytes"),
        ("looked at", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("signer", report.signer or "nobody who is trusted here"),
        ("their root's fingerprint", report.root or "none that is trusted here"),
        ("signed at", report.signed_at or "no time stamp says it"),
        *([("mark", report.mark_id)] if report.mark_id else []),
    ]


def _source(video: Path, mime: str, target: Path) -> str:
    """The file inside the page, or its place where it is large."""
    try:
        if video.stat().st_size <= MOST_EMBEDDED_BYTES:
            kind = mime if mime != "application/octet-stream" else mimetypes.guess_type(video.name)[0] or "video/mp4"
            return f"data:{kind};base64,{base64.b64encode(video.read_bytes()).decode()}"
        return os.path.relpath(video, target.parent).replace(os.sep, "/")
    except (OSError, ValueError) as error:
        raise VideoError(f"{video} cannot be read: {error}") from error


def _map(shown: Any) -> dict[str, Any]:
    """The map for the page: 0 where the mark is, 255 where it is missing, thinned to what a page needs."""
    import numpy as np

    map_THW = np.clip(np.asarray(shown.map_THW, np.float32), 0, 1)
    step = [
        max(1, -(-size // most))
        for size, most in zip(map_THW.shape, (MOST_MAP_TIMES, *[MOST_MAP_SIDE] * 2), strict=True)
    ]
    map_THW = map_THW[:: step[0], :: step[1], :: step[2]]
    cells = np.rint(map_THW * 255).astype(np.uint8)
    times, rows, columns = cells.shape
    return {"times": times, "rows": rows, "columns": columns, "cells": base64.b64encode(cells.tobytes()).decode()}
