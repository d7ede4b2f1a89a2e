"""Foreign text: nothing from a file reaches a terminal, a page or a log raw."""

import atexit
import json
import os
import shutil
import sys
import tempfile
import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from sorano import cli, video
from sorano.errors import RequestError
from sorano.trust.judge import Observations, judge
from sorano.trust.printable import INVISIBLE, printable, printable_lines, to_json
from sorano.trust.provenance import credentials, keys, label, roots
from sorano.trust.scan import FileScan
from sorano.trust.watermark.marks import DetectedMark

ANY = st.text(st.characters(codec=None, categories=None), max_size=60)  # surrogates, controls, unassigned: everything
FORGED = "Studio A\nVERIFIED  clip.mp4\x1b[2J\x1b[H\u202e\u200b\x9b31m"
COUNT = 200 if os.environ.get("SORANO_FULL") == "1" else 12
FEW = settings(max_examples=COUNT, deadline=None, suppress_health_check=list(HealthCheck))
LOUD = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def is_safe(text: str, lines: bool = False) -> bool:
    """Whether nothing in a text can move a cursor, break a line (unless it has lines), turn letters round or hide."""
    return all(
        (lines and char == "\n")
        or (unicodedata.category(char) not in LOUD and (char == " " or not char.isspace()) and char not in INVISIBLE)
        for char in text
    )


def test_every_character_of_unicode_comes_out_safe_and_every_letter_as_it_is():
    for start in range(0, sys.maxunicode + 1, 64):
        text = "".join(map(chr, range(start, min(start + 64, sys.maxunicode + 1))))
        shown = printable(text, 10_000)
        assert is_safe(shown), hex(start)
        assert not shown.endswith("…") or start == 0x2000
    for text in ("a red ball", "工作室 A", "Ünïcödé", "استوديو", "स्टूडियो", "🎬 clip (1).mp4", "e\u0301"):
        assert printable(text) == text


@settings(deadline=None)
@given(ANY, st.integers(0, 300))
@example(FORGED, 200)
def test_what_is_printable_is_one_line_of_at_most_so_many_characters(text, limit):
    shown = printable(text, limit)
    assert is_safe(shown) and len(shown) <= limit
    shown.encode()  # a surrogate, which stands for a byte of a file's name, would not
    if len(text) > limit > 0:
        assert shown.endswith("…")
    assert printable(shown, limit) == shown


def test_escapes_are_shown_and_a_tower_of_accents_is_cut_down():
    assert printable(FORGED) == r"Studio A\nVERIFIED  clip.mp4\x1b[2J\x1b[H\u202e\u200b\x9b31m"
    assert printable("a" + "\u0301" * 50).count("\u0301") == 4
    assert printable("a\u00a0b\u3000c") == "a b c"
    assert printable("x" * 300) == "x" * 199 + "…"
    assert printable_lines("one\ntwo\x1b[2J") == "one\ntwo\\x1b[2J"


@settings(deadline=None)
@given(
    st.recursive(ANY | st.integers() | st.none(), lambda inner: st.dictionaries(ANY, inner, max_size=3), max_leaves=6)
)
def test_json_is_safe_and_means_the_same(words):
    for options in ({}, {"indent": 1}):
        text = to_json(words, **options)
        assert is_safe(text, lines=True)
        assert json.loads(text) == json.loads(json.dumps(words))


# Every place where text from a file comes in.


@FEW
@given(ANY)
@example(FORGED)
def test_no_report_carries_text_of_a_file_raw(text):
    """All that a manifest, a label or a tag can say, in every state, as lines and as JSON."""
    found = label.parse(text, json.dumps({"Label": text, "ContentProducer": text, text: text}))
    source = credentials.IngredientState(text, text, "valid", text, "made")
    for state in ("trusted", "valid", "ended", "early", "changed", "broken"):
        one = credentials.Credential(
            state, signer=text, claimed=text + "x", root="0" * 16, generator=text, ingredients=(text,),
            sources=(source,), left_out=(text,), tolerated=((text, text),), signed_at=text,
            problems=((text, text), ("org.sorano.name", text)),
        )  # fmt: skip
        look = Observations(
            text, one, (found,), DetectedMark("made", 1, 9.0, text, text), notes=(text,), media={text: text}
        )
        report = judge(look)
        for line in report.lines():
            assert is_safe(line)
        assert is_safe(to_json(report.to_dict()))
        assert report.lines()[0].startswith(f"{report.verdict.value}  ")
        assert sum(line.startswith(("VERIFIED", "TAMPERED")) for line in report.lines()) <= 1


def named_root(text: str, folder):
    """A PEM file of a root whose certificate is called so, which keys.init would refuse, and its leaf's Identity."""
    limits = keys.MAX_NAME_CHARACTERS
    keys.MAX_NAME_CHARACTERS = 10_000
    try:
        root_key, root = keys._make_root(text)
        key, leaf = keys._make_leaf(text, root_key, root)
    finally:
        keys.MAX_NAME_CHARACTERS = limits
    file = folder / "root.pem"
    file.write_text(keys.to_pem(root))
    return file, keys.Identity(keys.to_pem(leaf) + keys.to_pem(root), keys.signer_of(key))


def runs(*words):
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert is_safe(done.output, lines=True), done.output
    return done


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)  # what a certificate can hold


@pytest.fixture(autouse=True)
def no_marks(monkeypatch):
    """No search for marks: it is the words that count here, and the search costs a second a picture."""
    monkeypatch.setattr(FileScan, "mark", lambda *_, **__: (None, None, b""))


@FEW
@given(NAMES)
@example(FORGED)
def test_a_certificate_can_be_called_anything(tmp_path_factory, monkeypatch, name):
    folder = tmp_path_factory.mktemp("names")
    with monkeypatch.context() as patched:
        patched.setenv("SORANO_CONFIG", str(folder / "config"))
        try:
            file, signer = named_root(name, folder)
        except ValueError:
            return  # cryptography refuses it
        clip = folder / "clip.png"
        clip.write_bytes(plain_picture().read_bytes())
        credentials.sign(clip, credentials.Statement("captured", title=name), signer)
        stranger = credentials.read(clip, "")
        assert stranger.state == "valid" and is_safe(stranger.who)
        runs("verify", clip)
        runs("trust", "add", file)
        runs("trust", "list")
        known = credentials.read(clip, roots.anchors())
        assert known.state == "trusted" and is_safe(known.who)
        assert len(runs("trust", "list").output.splitlines()) == 1
        runs("trust", "remove", roots.list_roots()[-1].fingerprint)


@FEW
@given(ANY)
@example(FORGED)
def test_a_title_an_ingredient_a_prompt_and_a_files_name_can_be_anything(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("titles")
    text = text.encode("utf-8", "replace").decode()
    clip = folder / "clip.png"
    given_text = text.replace("\0", "") or "x"
    clip.write_bytes(plain_picture().read_bytes())
    try:
        part = credentials.Ingredient(plain_picture(), "inputTo", given_text)
        credentials.sign(clip, credentials.Statement("made", title=given_text, ingredients=[part]), keys.identity())
    except credentials.TrustError:
        pass  # C2PA refuses the title; the file's name is shown all the same
    name = "".join(char for char in given_text if char != "/").encode()[:200].decode("utf-8", "ignore")
    if name.strip(".") and not name.startswith("-"):
        odd = folder / f"{name}.png"
        clip.rename(odd)
        done = runs("verify", odd)
        assert sum(line.startswith("VERIFIED") for line in done.output.splitlines()) <= 1
        runs("show", odd)
        runs("label", "--check", odd)
        runs("verify", folder / f"{name}.missing.png")


def test_bytes_of_a_name_that_are_no_text_are_shown(tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\x1b[2Jclip.png"
    with open(odd, "wb") as out:
        out.write(plain_picture().read_bytes())
    done = runs("verify", os.fsdecode(odd))
    assert done.exit_code == 8 and "\\udcff\\x1b[2Jclip.png" in done.output


def test_a_prompt_in_a_files_metadata_is_shown_on_one_line(tmp_path):
    record = {"request": {"prompt": FORGED}}
    video.write_video(tmp_path / "a.mp4", np.full((5, 32, 32, 3), 90, np.uint8), 12, metadata=record)
    done = runs("show", tmp_path / "a.mp4")
    assert r"Studio A\nVERIFIED" in done.output and done.exit_code == 0
    assert json.loads(runs("show", tmp_path / "a.mp4", "--json").output)["request"]["prompt"] == FORGED


def test_a_page_shows_no_text_raw(tmp_path):
    odd = tmp_path / "a\x1b[2J\nVERIFIED\u202e.png"
    odd.write_bytes(plain_picture().read_bytes())
    credentials.sign(odd, credentials.Statement("made", title=FORGED), keys.identity())
    runs("verify", odd, "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert is_safe(page, lines=True) and r"a\\x1b[2J\\nVERIFIED\\u202e.png" in page


def test_names_given_here_are_printable_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    file, _ = named_root("Studio A", tmp_path)
    with pytest.raises(RequestError, match="printable"):
        roots.add(file, FORGED[:40])
    with pytest.raises(RequestError, match="printable"):
        roots.add(file, "A", ["two\nlines"])


@lru_cache
def plain_picture():
    """A small picture without anything, made once."""
    folder = Path(tempfile.mkdtemp(prefix="sorano-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    frame = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(frame).save(folder / "plain.png")
    return folder / "plain.png"
