"""A static folder that makes videos in a browser tab: page, worker, weights, runtimes, all with their SHA-256.

    index.html  app.js  worker.js ...   the page (src/sorano/export/page/)
    web/                                style, icon and texts that the studio has too
    model/                              graphs in 8 bits, tokenizer, words, the public watermark's pattern
    runtime/                            ONNX Runtime and C2PA in WebAssembly (`sorano.export.runtimes`)
    files.json                          the SHA-256 of each of these; weights, tables and WebAssembly are checked
                                        against it before they are used
    sw.js                               the service worker, which keeps all of it for use without a network

The page asks its own server alone, which may be any server of static files.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sorano.errors import RequestError
from sorano.export import runtimes
from sorano.export.graphs import CARD, export_onnx, read_card
from sorano.extras import require
from sorano.files import sha256, write_atomic
from sorano.presets import Preset
from sorano.web import SHARED_PAGE

PAGE = Path(__file__).parent / "page"
SHARED = ("base.css", "i18n.js", "theme.js", "icon.svg", "chevron.svg")
LISTED, SERVICE_WORKER = "files.json", "sw.js"


def export_web(
    preset: Preset,
    folder: Path,
    *,
    precision: str = "int8",
    graphs: Path | None = None,
    runtime: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Writes the folder; returns its page.

    `graphs` is a folder of `export_onnx`, which saves making them again (then `precision` is its own); `runtime` is one
    with the archives of npm's packages. Raises RequestError for a model of another kind, for a
    folder that holds something else, and where a runtime cannot be had.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / LISTED).is_file():
        raise RequestError(f"{folder} holds other files", "name a new folder")
    if graphs is None:
        require("exporting", "engine", "export")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LISTED).exists():
        write_atomic(folder / LISTED, "{}\n")  # a folder of this command's, should what follows fail
    if graphs is None:
        export_onnx(preset, folder / "model", precision=precision, say=say)
    else:
        _copy_graphs(graphs, preset, folder / "model")
    say("fetching runtimes")
    runtimes.put_runtimes(folder / "runtime", runtime)
    _write_words(preset, folder / "model")
    write_atomic(folder / "model" / "mark.json", json.dumps(mark_data(), separators=(",", ":")))
    for file in PAGE.iterdir():
        if file.name != SERVICE_WORKER:
            shutil.copyfile(file, folder / file.name)
    (folder / "web").mkdir(exist_ok=True)
    for name in SHARED:
        shutil.copyfile(SHARED_PAGE / name, folder / "web" / name)
    write_list(folder)
    return folder / "index.html"


def write_list(folder: Path) -> None:
    """Writes files.json, the SHA-256 of every file of a folder, and the service worker that keeps that version."""
    left_out = {folder / LISTED, folder / SERVICE_WORKER}
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file not in left_out)
    listed = {
        file.relative_to(folder).as_posix(): {"sha256": sha256(file), "bytes": file.stat().st_size} for file in files
    }
    text = json.dumps(listed, indent=1) + "\n"
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    write_atomic(folder / LISTED, text)
    worker = (PAGE / SERVICE_WORKER).read_text(encoding="utf-8").replace("__VERSION__", version)
    write_atomic(folder / SERVICE_WORKER, worker.replace('"__POLICY__"', json.dumps(_policy())))


def _policy() -> str:
    """The page's Content Security Policy, which index.html has in itself and workers need as a header."""
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text())
    assert found is not None
    return found[1]


def _copy_graphs(graphs: Path, preset: Preset, model: Path) -> None:
    """Copies an exported folder. Raises RequestError for one of another preset, CheckpointError for a changed one."""
    card = read_card(graphs)
    if card["runtime"] != "onnx":
        raise RequestError(f"{graphs} holds no ONNX graphs", "sorano export onnx FOLDER writes them")
    if card["preset"] != preset.name:
        raise RequestError(f"{graphs} holds the graphs of {card['preset']}", f"ask for it: --preset {card['preset']}")
    model.mkdir(parents=True, exist_ok=True)
    for name in (*card["files"], CARD):
        shutil.copyfile(graphs / name, model / name)


def _write_words(preset: Preset, model: Path) -> None:
    """The words of a small vocabulary beside the graphs, and in the card whether there are any."""
    card = json.loads((model / CARD).read_text(encoding="utf-8"))
    captions = preset.captions
    if captions is not None:
        write_atomic(model / "words.json", json.dumps(captions.rules(), ensure_ascii=False, separators=(",", ":")))
    write_atomic(model / CARD, json.dumps({**card, "words": captions is not None}, indent=2) + "\n")


def mark_data() -> dict[str, Any]:
    """What the public key's watermark is made of, for watermark.js: chips, code and strengths."""
    from sorano.trust.watermark import embed, pattern, payload

    def chips(source: pattern.SpreadingPattern) -> dict[str, Any]:
        signs = "".join("-" if sign < 0 else "+" for sign in source.sign_C.tolist())
        return {"side": source.side, "sign": signs, "bit": source.bit_C.tolist()}

    blue, red = pattern.chroma_carriers(payload.PUBLIC_KEY)
    code = payload.CODE
    return {
        "version": payload.VERSION,
        "kind": payload.KINDS["made"],
        "idBits": payload.ID_BITS,
        "codeBits": code.size,
        "crcBits": code.crc_bits,
        "free": [place for place, is_free in enumerate(code.is_free_N.tolist()) if is_free],
        "luma": chips(pattern.carrier(payload.PUBLIC_KEY)),
        "blue": chips(blue),
        "red": chips(red),
        "chip": pattern.CHIP,
        "highPass": pattern.HIGH_PASS,
        "mostLines": pattern.CHIP * pattern.SHORT_CHIPS,  # of frames in which a chip measures CHIP pixels
        "psnr": {
            "base": embed.PSNR_BASE, "fine": embed.PSNR_FINE, "coarse": embed.PSNR_COARSE,
            "least": embed.LEAST_PSNR, "most": embed.MOST_PSNR,
        },
        "chromaRms": embed.CHROMA_RMS,
        "chromaRange": list(embed.CHROMA_RANGE),
        "redShare": embed.RED_SHARE,
        "flatShare": embed.FLAT_SHARES[0],
        "fullDetail": embed.FULL_DETAIL,
        "rgbOfChroma": embed.RGB_OF_CHROMA.tolist(),
    }  # fmt: skip
