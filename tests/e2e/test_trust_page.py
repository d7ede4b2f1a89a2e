"""What the verify page draws, run by Node against a stub of the page around it: red and boxes where the report says."""

import base64
import json
import re
import shutil
import subprocess

import pytest

from sorano.trust.page import PAGE

STUB = """
const els = {}, rects = [], strokes = [];
const pen = {clearRect() {}, fillRect(...a) { rects.push([this.fillStyle, ...a]); },
  strokeRect(...a) { strokes.push(a); }};
const make = () => ({classList: {add() {}}, style: {}, kids: [], append(...c) { this.kids.push(...c); }, prepend() {},
  getContext: () => pen, addEventListener() {}, textContent: "", currentTime: NOW});
globalThis.document = {getElementById: id => els[id] ||= make(), createElement: make};
globalThis.requestAnimationFrame = () => {};
document.getElementById("data").textContent = DATA;
SCRIPT
const shown = id => (els[id]?.kids || []).length;
console.log(JSON.stringify({red: rects.filter(one => /214,69,80/.test(one[0])).map(one => one.slice(1).map(Math.round)),
  boxes: strokes.map(one => one.map(Math.round)), legend: shown("legend"), evidence: shown("evidence"),
  facts: shown("facts"), where: els.where.textContent}));
"""
SAME = {"about": "manifest store", "found": "x", "proves": "", "does_not_prove": "", "next_step": ""}
REGION = {"start_s": 0.0, "end_s": 2.0, "box": [0.0, 0.0, 0.5, 0.5], "score": 1.0}

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's script with Node")


def drawn(now=0.0, verdict="SUSPICIOUS", regions=(REGION,), evidence=(SAME,)):
    cells = base64.b64encode(bytes([255, 0, 0, 255, 255, 0, 0, 255])).decode()  # missing upper left and lower right
    report = {"verdict": verdict, "summary": "", "path": "", "evidence": evidence, "notes": [], "regions": regions}
    data = {"report": report, "facts": [["file, SHA-256", "00"]], "image": False, "source": "x", "seconds": 4}
    data |= {"width": 160, "height": 90, "map": {"times": 2, "rows": 2, "columns": 2, "cells": cells}}
    (script,) = re.findall(r'<script nonce="NONCE">(.*?)</script>', PAGE, re.S)
    text = STUB.replace("NOW", str(now)).replace("DATA", json.dumps(json.dumps(data)), 1).replace("SCRIPT", script)
    done = subprocess.run(["node", "-e", text], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_red_and_boxes_are_where_the_report_says_that_something_differs():
    seen = drawn(now=1.0)
    width, height = 960, 540
    assert [0, 0, width // 2 + 1, height // 2 + 1] in seen["red"]  # the cell inside the region
    assert not [one for one in seen["red"] if one[0] >= width // 2 and one[1] >= height // 2]  # not the other one
    assert [0, 0, width // 2, height // 2] in seen["boxes"] and "changed here from 0.0 to 2.0 s" in seen["where"]
    assert seen["legend"] == 4 and seen["facts"] == 2
    later = drawn(now=3.0)
    assert [0, 0, width // 2, height // 2] not in later["boxes"] and later["where"] == ""


def test_nothing_is_red_where_the_report_says_intact():
    seen = drawn(verdict="VERIFIED", regions=())
    assert seen["red"] == [] and seen["boxes"] == [] and seen["legend"] == 2


def test_the_same_manifest_is_told_once():
    assert drawn(evidence=(SAME, SAME))["evidence"] == 1
    assert drawn(evidence=(SAME, {**SAME, "found": "y"}))["evidence"] == 2
