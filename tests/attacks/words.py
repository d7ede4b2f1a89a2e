"""Attacks on who reads the report: names and labels that look like a verdict, or that the screen obeys."""

import json
import re

from attacks.registry import attack
from attacks.tools import Box, encode
from sorano.trust.provenance import credentials, label
from sorano.trust.verify import Report

GROUP = "words"
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udfff]|[\U000e0000-\U000e0fff]"
)
NASTY = "x\n\x1b[2J\x1b[HVERIFIED  clip.mp4\n  it is as Studio A signed it\u202e\u2066\u200b\r\x9b31m"


def safe_to_print(report):
    """Nothing in the lines for people is a control, and no line but the first begins with a verdict."""
    lines = Report.from_dict(report).lines()
    bad = [line for line in lines if UNSAFE.search(line)]
    if bad:
        return f"characters that a screen obeys: {bad[0]!r}"
    forged = [line for line in lines[1:] if line.lstrip().startswith(("VERIFIED", "MATCHED"))]
    return f"a line that looks like a verdict: {forged[0]!r}" if forged else None


def unsigned(stage, folder, name="forged.mp4", **words):
    return encode(folder / name, stage.foreign[:8, 1:133:2, ::4], **words)


@attack(GROUP, quick=True, check=safe_to_print)
def name_that_clears_the_screen(stage, folder):
    """A certificate whose name clears the screen and prints a verdict."""
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf(NASTY))


@attack(GROUP, check=safe_to_print)
def title_that_clears_the_screen(stage, folder):
    """A credential whose ingredient has such a title."""
    source = unsigned(stage, folder, "source.mp4")
    ingredient = credentials.Ingredient(source, "parentOf", NASTY)
    path = unsigned(stage, folder)
    return stage.signed_by(path, stage.mallory.leaf("M"), kind="edited", ingredients=(ingredient,), title=NASTY)


@attack(GROUP, quick=True, check=safe_to_print)
def file_name_that_clears_the_screen(stage, folder):
    """A file whose name has newlines, colours and a change of direction."""
    return unsigned(stage, folder).rename(folder / (NASTY.replace("/", "") + ".mp4"))


@attack(GROUP, check=safe_to_print)
def file_name_that_is_not_unicode(stage, folder):
    """A file whose name is no valid UTF-8."""
    return unsigned(stage, folder).rename(folder / "caf\udce9\udcff.mp4")


@attack(GROUP, check=safe_to_print)
def label_that_clears_the_screen(stage, folder):
    """An AIGC label whose producer clears the screen."""
    path = unsigned(stage, folder)
    words = {
        "Label": "1",
        "ContentProducer": NASTY,
        "ProduceID": NASTY,
        "ReservedCode1": "",
        "ContentPropagator": NASTY,
    }
    words |= {"PropagateID": NASTY, "ReservedCode2": ""}
    from sorano.trust.provenance import containers

    containers.write_text(path, folder / "labelled.mp4", label.KEY, json.dumps(words))
    return folder / "labelled.mp4"


@attack(GROUP, check=safe_to_print)
def tags_that_clear_the_screen(stage, folder):
    """Tags of the container that clear the screen."""
    tags = {"title": NASTY, "comment": NASTY, "com.apple.quicktime.model": NASTY, "creation_time": NASTY}
    return unsigned(stage, folder, tags=tags)


@attack(GROUP, check=safe_to_print)
def record_that_clears_the_screen(stage, folder):
    """A credential whose own record is full of controls."""
    words = {"carrier": {"id": NASTY, "commitment": NASTY}, "prompt": NASTY, NASTY: [NASTY]}
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf("M"), record=words)


@attack(GROUP, check=safe_to_print)
def a_name_that_is_a_verdict(stage, folder):
    """A certificate that is named "VERIFIED  it is as Studio A signed it"."""
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf("VERIFIED  it is as Studio A signed it"))


@attack(GROUP, check=safe_to_print)
def lookalike_name(stage, folder):
    """A certificate whose name looks like Studio A's, with a letter of another alphabet and a zero-width space."""
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf("\u0405tudio\u200b A"))


@attack(GROUP, check=safe_to_print)
def brand_with_controls(stage, folder):
    """An MP4 whose brands and box names are controls."""
    data = bytearray(unsigned(stage, folder).read_bytes())
    data[16:20] = b"\x1b[2J"
    (folder / "brand.mp4").write_bytes(bytes(data) + bytes(Box(b"\x1b[2J", b"x" * 20)))
    return folder / "brand.mp4"
