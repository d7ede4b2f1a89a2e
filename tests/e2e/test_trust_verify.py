"""Where did this video come from? The five verdicts, two homes, attacks, and what is said about bad input."""

import io
import json
import os
import re
import threading
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image
from support import footage
from typer.testing import CliRunner

import sorano
from sorano import cli, errors, video
from sorano.media import read
from sorano.trust import indicators, media, record
from sorano.trust.copies import fingerprint
from sorano.trust.copies.lookup import StoredMatch
from sorano.trust.copies.matching import Change, Match
from sorano.trust.judge import Observations, judge
from sorano.trust.provenance import containers, credentials, keys, label, roots, store
from sorano.trust.report import Evidence, Report, Verdict
from sorano.trust.scan import ahead
from sorano.trust.watermark.marks import DetectedMark
from sorano.trust.watermark.tamper import TamperedRegion

FULL = os.environ.get("SORANO_FULL") == "1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Moves to a person's own machine: home("bob") has Bob's keys, trust and store."""

    def move(name):
        monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / name / "config"))
        monkeypatch.setenv("SORANO_STORE", str(tmp_path / name / "store"))
        return tmp_path / name

    move("alice")
    return move


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Two recordings of other things, 48 frames of 480x270, and a small one of half a second for what needs no more."""
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for kind in ("speaker", "street"):
        made[kind] = video.write_video(folder / f"{kind}.mp4", footage.clip(kind, 270, 480, 48, 1), 24)
    made["small"] = video.write_video(folder / "small.mp4", footage.clip("street", 90, 160, 12, 1), 24)
    return made


def encode(path, frames, fps=24, crf=28, options=None, codec="libx264", fmt="yuv420p", times=None):
    """Codes frames as a chat or a platform would: no metadata stays."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], fmt
        stream.options = {"crf": str(crf), **(options or {})}
        for index, frame in enumerate(frames):
            made = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if times is not None:
                made.pts = times[index]
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    return path


def frames_of(path):
    return video.read_video(path).frames_THWC


def ask(*words):
    return CliRunner().invoke(cli.app, ["verify", *map(str, words)])


# Two homes.


def test_another_machine_verifies_only_under_a_trusted_root(home, clips, tmp_path):
    done = record.mark_file(clips["small"], tmp_path / "a.mp4")
    assert done.report.verdict is Verdict.VERIFIED and done.report.kind == "captured"
    (tmp_path / "alice.pem").write_text(keys.export())
    home("bob")
    report = sorano.verify(tmp_path / "a.mp4")
    assert report.verdict is Verdict.UNVERIFIED and "not trusted here" in report.summary
    with pytest.raises(errors.UnverifiedError, match="not trusted"):
        report.require()
    assert sorano.verify(tmp_path / "a.mp4", trust=tmp_path / "alice.pem").verdict is Verdict.VERIFIED
    roots.add(tmp_path / "alice.pem")
    report = sorano.verify(tmp_path / "a.mp4").require()
    assert report.signer == keys.common_name(keys.certificates(report_chain(home), "x")[0])
    roots.remove(roots.list_roots()[-1].fingerprint)
    assert sorano.verify(tmp_path / "a.mp4").verdict is Verdict.UNVERIFIED


def report_chain(home):
    home("alice")
    chain = keys.identity().chain_pem
    home("bob")
    return chain


def test_a_copy_that_lost_its_manifest_finds_it_by_its_mark(home, clips, tmp_path):
    record.mark_file(clips["speaker"], tmp_path / "a.mp4")
    copy = encode(tmp_path / "copy.mp4", frames_of(tmp_path / "a.mp4"))
    (tmp_path / "alice.pem").write_text(keys.export())
    alices = store.store_folder()
    home("bob")
    report = sorano.verify(copy)
    assert report.verdict is Verdict.UNVERIFIED and "carries a mark" in report.summary
    assert sorano.verify(copy, stores=[alices]).verdict is Verdict.UNVERIFIED  # her root is not trusted
    roots.add(tmp_path / "alice.pem")
    assert sorano.verify(copy).verdict is Verdict.UNVERIFIED  # no manifest
    report = sorano.verify(copy, stores=[alices])
    assert report.verdict is Verdict.MATCHED and "a copy of what" in report.summary
    assert ask(copy, "--store", alices).exit_code == 9
    with pytest.raises(errors.MatchedError, match="as far as this can be seen"):
        report.require()
    assert report.require(Verdict.MATCHED) is report
    assert "ask for the signed file" in "\n".join(report.lines())


def test_an_id_that_was_copied_onto_other_content_is_not_verified(home, clips, tmp_path):
    from sorano.trust.watermark import embed, payload

    done = record.mark_file(clips["speaker"], tmp_path / "a.mp4")
    stolen = payload.Payload(1, "captured", int(done.report.mark_id, 16))
    forged = embed.mark_frames(frames_of(clips["street"]), stolen, fps=24)
    report = sorano.verify(encode(tmp_path / "forged.mp4", forged, crf=20))
    assert report.mark_id == done.report.mark_id
    assert report.verdict is Verdict.UNVERIFIED and "another picture" in report.summary


def test_a_replayed_or_a_joined_piece_is_not_verified(home, clips, tmp_path):
    record.mark_file(clips["street"], tmp_path / "a.mp4")
    marked, other = frames_of(tmp_path / "a.mp4"), frames_of(clips["speaker"])
    assert sorano.verify(encode(tmp_path / "all.mp4", marked, crf=20)).verdict is Verdict.MATCHED
    for name, frames in {
        "joined": np.concatenate([marked, other]),
        "put in": np.concatenate([marked[:24], other[:24], marked[24:]]),
        "backwards": marked[::-1],
        "replayed": np.concatenate([marked, marked]),
    }.items():
        report = sorano.verify(encode(tmp_path / "piece.mp4", frames, crf=20))
        assert report.verdict in (Verdict.UNVERIFIED, Verdict.TAMPERED), name


def test_a_private_mark_is_found_only_after_its_disclosure(home, clips, tmp_path):
    done = record.mark_file(clips["speaker"], tmp_path / "a.mp4", record.Marking(private=True))
    copy = encode(tmp_path / "copy.mp4", frames_of(tmp_path / "a.mp4"), crf=23)
    assert sorano.verify(copy).verdict is Verdict.MATCHED  # its owner has the key
    (tmp_path / "alice.pem").write_text(keys.export())
    (tmp_path / "bundle.json").write_text(keys.disclose(done.carrier_id))
    alices = store.store_folder()
    home("bob")
    roots.add(tmp_path / "alice.pem")
    assert sorano.verify(tmp_path / "a.mp4").verdict is Verdict.VERIFIED
    assert sorano.verify(copy, stores=[alices]).mark_id is None
    report = sorano.verify(copy, stores=[alices], bundle=tmp_path / "bundle.json")
    assert report.verdict is Verdict.MATCHED
    roots.add(tmp_path / "bundle.json")
    assert sorano.verify(copy, stores=[alices]).verdict is Verdict.MATCHED


# Attacks on the bytes.


@pytest.fixture
def signed(home, clips, tmp_path):
    """A small signed video, whose manifest nobody's store has."""
    frames = np.stack([np.asarray(Image.fromarray(f).resize((128, 72))) for f in frames_of(clips["street"])[:12]])
    encode(tmp_path / "small.mp4", frames, crf=20)
    record.mark_file(tmp_path / "small.mp4", tmp_path / "signed.mp4", record.Marking(kind="made"))
    (home("alice") / "store").rename(tmp_path / "gone")
    return tmp_path / "signed.mp4"


def test_a_flipped_byte_is_tampered_and_exits_with_6(signed):
    data = bytearray(signed.read_bytes())
    assert sorano.verify(signed).verdict is Verdict.VERIFIED
    data[data.index(b"mdat") + 200] ^= 1
    signed.write_bytes(data)
    done = ask(signed)
    assert done.exit_code == 6 and done.stdout.startswith("TAMPERED")
    with pytest.raises(errors.TamperedError, match="changed after it was signed"):
        sorano.verify(signed).require()


def test_mutated_files_are_never_verified_and_never_crash(signed):
    data = signed.read_bytes()
    rng = np.random.default_rng(7)
    boxes = [(box.start, box.end) for box in containers.boxes(io.BytesIO(data))]
    seen = {}
    for index in range(1000 if FULL else 50):
        changed = bytearray(data)
        start, end = boxes[index % len(boxes)] if index % 3 else (0, len(data))
        for _ in range(int(rng.integers(1, 5))):
            at, kind = int(rng.integers(start, end)), rng.integers(4)
            at = min(at, len(changed) - 1)
            if kind == 0:
                changed[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                changed[at] = (changed[at] + int(rng.integers(1, 256))) % 256
            elif kind == 2:
                del changed[at : at + int(rng.integers(1, 40))]
            else:
                changed[at:at] = rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8).tobytes()
        if bytes(changed) == data:
            continue
        signed.write_bytes(changed)
        try:
            verdict = str(sorano.verify(signed).verdict)
        except errors.SoranoError as error:
            verdict = type(error).__name__
        seen[verdict] = seen.get(verdict, 0) + 1
        assert verdict != "VERIFIED", index
    assert seen["TAMPERED"] > 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_never_verified(signed, share):
    data = signed.read_bytes()
    signed.write_bytes(data[: int(len(data) * share)])
    done = ask(signed)
    assert done.exit_code in (1, 6, 8), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_a_swapped_manifest_is_tampered(signed, clips, tmp_path):
    data = signed.read_bytes()
    box = next(box for box in containers.boxes(io.BytesIO(data)) if box.kind == b"uuid")
    theirs = clips["small"].read_bytes()
    (tmp_path / "swapped.mp4").write_bytes(theirs + data[box.start : box.end])
    assert sorano.verify(tmp_path / "swapped.mp4").verdict is Verdict.TAMPERED
    first = next(containers.boxes(io.BytesIO(theirs)))  # so that no frame can be decoded
    (tmp_path / "swapped.mp4").write_bytes(theirs[: first.end] + data[box.start : box.end] + theirs[first.end :])
    assert sorano.verify(tmp_path / "swapped.mp4").verdict is Verdict.TAMPERED


@pytest.mark.parametrize("tail", [b"\0", b"no box", b"\0\0\0\x10uuidabc", b"\0\0\0\x08uuid and more"])
def test_stray_bytes_behind_the_last_box_are_a_change_and_no_error(signed, tmp_path, tail):
    (tmp_path / "a.mp4").write_bytes(signed.read_bytes() + tail)
    report = sorano.verify(tmp_path / "a.mp4")
    assert report.verdict is Verdict.TAMPERED and report.evidence[0].about == "credential"


def test_a_copy_says_in_which_parts_its_mark_was_read():
    copied = {"stored": (StoredMatch(TRUSTED, SAME),)}
    part = judge(Observations("a.mp4", mark=replace(MARK, slots=(3, 5)), **copied))
    assert part.verdict is Verdict.MATCHED and "3 of 5 parts" in part.summary
    assert any("read in 3 of 5 parts" in one.found for one in part.evidence)
    whole = judge(Observations("a.mp4", mark=replace(MARK, slots=(5, 5)), **copied))
    assert whole.verdict is Verdict.MATCHED and "parts" not in whole.summary
    assert any("read in all 5 parts" in one.found for one in whole.evidence)


def test_pictures_are_decoded_ahead_in_order_and_errors_come_where_they_are():
    def broken():
        yield from "abcdefgh"
        raise errors.VideoError("it breaks off")

    seen = []
    with pytest.raises(errors.VideoError, match="breaks off"):
        for one in ahead(broken()):
            seen.append(one)
    assert "".join(seen) == "abcdefgh"
    threads = threading.active_count()
    few = ahead(iter("abcdefghij"))
    assert next(few) == "a"
    few.close()
    assert threading.active_count() == threads


def test_stripped_metadata_leaves_the_mark(signed, tmp_path):
    with av.open(str(signed)) as source, av.open(str(tmp_path / "stripped.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    report = sorano.verify(tmp_path / "stripped.mp4")
    assert report.verdict is Verdict.UNVERIFIED
    assert not [one for one in report.evidence if one.about == "credential"]


def test_a_signature_under_another_root_is_unverified(signed, home):
    home("mallory")
    report = sorano.verify(signed)
    assert report.verdict is Verdict.UNVERIFIED and "add root.pem" in " ".join(one.next_step for one in report.evidence)
    assert ask(signed).exit_code == 8


# What is odd.


def test_frozen_repeated_and_joined_clips_are_suspicious(home, tmp_path):
    moving = footage.clip("handheld", 180, 320, 72, 0)
    frozen = np.concatenate([moving[:30], np.repeat(moving[29:30], 20, 0), moving[30:]])
    repeated = np.concatenate([moving[:60], moving[10:40], moving[60:]])
    for name, frames in {"frozen": frozen, "repeated": repeated}.items():
        report = sorano.verify(encode(tmp_path / f"{name}.mp4", frames, crf=23))
        assert report.verdict is Verdict.SUSPICIOUS, name
    first = encode(tmp_path / "1.mp4", moving[:36])
    second = encode(tmp_path / "2.mp4", moving[36:])
    joined = join(tmp_path / "joined.mp4", first, second)
    done = ask(joined)
    assert done.exit_code == 7 and "coded apart" in done.stdout
    with pytest.raises(errors.SuspiciousError):
        sorano.verify(joined).require()
    assert sorano.verify(encode(tmp_path / "plain.mp4", moving)).verdict is Verdict.UNVERIFIED


def join(target, *parts):
    """Joins streams without coding them again, as editors that splice do."""
    with av.open(str(target), "w") as out:
        stream, shift = None, 0
        for part in parts:
            with av.open(str(part)) as source:
                video_in = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video_in)
                end = 0
                for packet in source.demux(video_in):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + packet.duration)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    out.mux(packet)
                shift += end
    return target


def test_statements_that_cannot_all_be_true():
    odd = indicators.of_metadata({"creation_time": "2077-01-01T00:00:00Z"}, False)
    odd += indicators.of_metadata({"com.apple.quicktime.model": "Phone 9"}, True)
    assert [one.kind for one in odd] == ["contradiction", "contradiction"]
    plain = {"creation_time": "2024-05-01T10:00:00.000000Z", "com.apple.quicktime.model": "Phone 9", "comment": "hi"}
    assert indicators.of_metadata(plain, False) == []
    assert indicators.of_metadata({"creation_time": "soon"}, False) == []
    report = judge(Observations("a.mp4", indicators=tuple(odd)))
    assert report.verdict is Verdict.SUSPICIOUS and report.verdict.exit_code == 7


def test_ordinary_clips_that_were_coded_again_raise_no_alarm():
    """At most 1 % in the full counts; none among these."""
    alarms, count = [], 0
    for kind in footage.KINDS:
        for seed in range(6 if FULL else 1):
            plain = footage.clip(kind, 180, 320, 72, seed)
            for name, frames in ordinary(plain).items():
                fingerprinter = fingerprint.FingerprintBuilder(24, picture_seconds=0)
                fingerprinter.add(frames)
                count += 1
                if found := indicators.of_frames(fingerprint.thumbs_of(fingerprinter.stored())):
                    alarms.append((kind, seed, name, found))
    assert len(alarms) <= count // 100, alarms


def ordinary(frames):
    """What happens to clips on their way: coarse coding, other rates, doubled and dropped frames, a still end."""
    again = {f"crf {crf}": coded(frames, crf) for crf in (23, 33, 42)}
    plain = again["crf 33"]
    return {
        **again,
        "every fifth twice": np.insert(plain, np.arange(4, len(plain), 5), plain[4::5], axis=0),
        "half": plain[::2],
        "twice": np.repeat(plain, 2, 0),
        "slides": np.concatenate([plain[at : at + 8].repeat([1] * 7 + [30], 0) for at in (0, 20, 40, 60)]),
        "a still end": np.concatenate([plain, np.repeat(plain[-1:], 24, 0)]),
        "small": coded(np.ascontiguousarray(plain[:, ::2, ::2]), 35),
    }


def coded(frames, crf):
    return footage.coded(frames, crf, preset="veryfast", pixels="rgb24")


# The verdict follows from what was seen.

TRUSTED = credentials.Credential("trusted", signer="A", kind="made", mark_id=1, fingerprint=b"f")
SAME, OTHER = Match("same", 1.0), Match("other", 0.2)
CHANGED = Match("changed", 0.9, (Change("cut", "a second is left out"),))
SILENT = Match("changed", 1.0, (Change("sound", "its sound is missing", harmless=True),))
MARK, CAPTURED = DetectedMark("made", 1, 9.0), DetectedMark("captured", 1, 9.0)
HOLE = TamperedRegion(1.0, 2.0, (0.2, 0.2, 0.6, 0.6), 0.9)


def state(name, **more):
    return credentials.Credential(name, signer="A", kind="made", mark_id=1, **more)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ({}, "UNVERIFIED"),
        ({"credential": TRUSTED}, "VERIFIED"),
        ({"credential": TRUSTED, "mark": MARK}, "VERIFIED"),
        ({"credential": state("valid")}, "UNVERIFIED"),
        ({"credential": state("ended")}, "UNVERIFIED"),
        ({"credential": state("changed", problems=(("x", "y"),))}, "TAMPERED"),
        ({"credential": state("broken")}, "TAMPERED"),
        ({"mark": MARK}, "UNVERIFIED"),
        ({"mark": MARK, "regions": (HOLE,), "map_checked": True}, "SUSPICIOUS"),
        ({"mark": MARK, "regions": (HOLE,), "map_checked": True, "map_reach": 0.1}, "SUSPICIOUS"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, SAME),)}, "MATCHED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, SAME),), "beside": ("it has two tracks",)}, "UNVERIFIED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, SAME),), "regions": (HOLE,)}, "MATCHED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, SAME),), "regions": (HOLE,), "map_reach": 0.1}, "MATCHED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, CHANGED),)}, "TAMPERED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, SILENT),)}, "UNVERIFIED"),
        ({"mark": MARK, "stored": (StoredMatch(state("valid"), CHANGED),)}, "UNVERIFIED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, OTHER), StoredMatch(TRUSTED, SAME))}, "MATCHED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, None, old=True),)}, "UNVERIFIED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, OTHER),)}, "UNVERIFIED"),
        ({"mark": MARK, "stored": (StoredMatch(TRUSTED, None),)}, "UNVERIFIED"),
        ({"mark": MARK, "stored": (StoredMatch(state("valid"), SAME),)}, "UNVERIFIED"),
        ({"mark": CAPTURED, "stored": (StoredMatch(TRUSTED, SAME),)}, "UNVERIFIED"),  # a mark of another kind
        (
            {"mark": DetectedMark("made", 1, 9.0, "c" * 16, "0" * 64), "stored": (StoredMatch(TRUSTED, SAME),)},
            "UNVERIFIED",
        ),
        ({"labels": (label.parse("x", label.Label(produce_id="1").to_json()),)}, "UNVERIFIED"),
        ({"indicators": (indicators.Indicator("frozen", "it stops"),)}, "SUSPICIOUS"),
        ({"mark": MARK, "indicators": (indicators.Indicator("frozen", "it stops"),)}, "UNVERIFIED"),
    ],
)
def test_the_verdict_follows_from_what_was_seen(seen, verdict):
    report = judge(Observations("a.mp4", **seen))
    assert report.verdict == verdict
    codes = {"VERIFIED": 0, "TAMPERED": 6, "SUSPICIOUS": 7, "UNVERIFIED": 8, "MATCHED": 9}
    assert report.verdict.exit_code == codes[verdict]
    assert report.evidence and all(one.proves and one.does_not_prove for one in report.evidence)
    said = json.dumps(report.to_dict()) + "\n".join(report.lines())
    assert "REAL" not in said and "fake" not in said.lower()


# The command.


def test_folders_stdin_and_several_files(signed, clips, tmp_path):
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "one.mp4").write_bytes(signed.read_bytes())
    (folder / "two.mp4").write_bytes(clips["small"].read_bytes())
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(30))
    (folder / "notes.txt").write_text("no video")
    done = ask(folder, "--json")
    reports = json.loads(done.stdout.splitlines()[-1])["reports"]
    assert done.exit_code == 1 and len(reports) == 3
    assert {one.get("verdict") for one in reports} == {"VERIFIED", "UNVERIFIED", None}
    assert ask(signed).exit_code == 0
    done = CliRunner().invoke(cli.app, ["verify", "-", "--json"], input=signed.read_bytes())
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"], found["path"]) == (0, "VERIFIED", "-")
    (tmp_path / "none").mkdir()
    assert "no videos" in ask(tmp_path / "none").stderr


def test_a_face_put_over_a_recording_is_found_where_it_is(home, tmp_path):
    """A capture is marked, forwarded, and something is put over it: the map says where, on a page and in the report."""
    original = footage.clip("handheld", 540, 960, 48, 3)
    video.write_video(tmp_path / "camera.mp4", original, 24)
    record.mark_file(tmp_path / "camera.mp4", tmp_path / "marked.mp4", record.Marking(kind="captured"))
    marked = frames_of(tmp_path / "marked.mp4")
    forged, where = footage.covered(marked, original, np.random.default_rng(4), 0.2)
    clean, fake = (
        encode(tmp_path / f"{name}.mp4", clip, crf=23) for name, clip in (("clean", marked), ("fake", forged))
    )
    home("bob")
    assert sorano.verify(clean).verdict is Verdict.UNVERIFIED
    done = ask(fake, "--json", "--html", tmp_path / "r.html")
    report = json.loads(done.stdout)
    assert done.exit_code == 7 and report["verdict"] == "SUSPICIOUS"  # the map alone is no proof
    (region,) = report["regions"]
    left, top, right, bottom = region["box"]
    rows, columns = np.nonzero(where[24])
    assert left < columns.mean() / 960 < right and top < rows.mean() / 540 < bottom
    assert (region["start_s"], region["end_s"]) == (0.0, 2.0)
    shown = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "r.html").read_text(), re.S)[1])
    assert shown["map"]["times"] == 1 and shown["report"]["regions"] == report["regions"]


def test_the_page_shows_the_report_and_loads_nothing(signed, tmp_path):
    hostile = "</script><script>alert(1)</script>&<img src=x>"
    evidence = Evidence("label", hostile, "nothing", "anything")
    report = Report("a.mp4", Verdict.TAMPERED, hostile, (evidence,), regions=(HOLE,), media={"size": "8x4"})

    class Shown:
        map_THW = np.linspace(0, 1, 700 * 6 * 9).reshape(700, 6, 9)

    from sorano.trust.page import write_page

    write_page(tmp_path / "r.html", report, signed, Shown())
    page = (tmp_path / "r.html").read_text()
    assert "alert(1)</script>" not in page and "<img src=x>" not in page
    data = json.loads(re.search(r'type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert data["report"]["summary"] == hostile and data["map"]["times"] <= 600
    assert data["source"].startswith("data:video/mp4;base64,")
    assert not re.findall(r"https?://", page) and "default-src 'none'" in page
    done = ask(signed, "--html", tmp_path / "own.html")
    assert done.exit_code == 0 and "VERIFIED" in (tmp_path / "own.html").read_text()
    assert "exists and is kept" in ask(signed, "--html", tmp_path / "own.html").stderr


def test_labels_are_checked_for_both_regimes(signed, clips, tmp_path):
    done = CliRunner().invoke(cli.app, ["label", "--check", str(signed)])
    assert done.exit_code in (0, 8) and "GB 45438-2025" in done.stdout and "Article 50" in done.stdout
    assert "yes      CN GB 45438-2025: AIGC object" in done.stdout
    done = CliRunner().invoke(cli.app, ["label", "--check", str(clips["small"]), "--json"])
    assert done.exit_code == 8
    assert {one["state"] for one in json.loads(done.stdout)["items"]} <= {"no", "unknown"}
    done = CliRunner().invoke(cli.app, ["label", str(signed)])
    assert done.exit_code == 2 and "break its signature" in done.stderr
    done = CliRunner().invoke(cli.app, ["label", str(clips["small"]), "-o", str(tmp_path / "l.mp4"), "--producer", "B"])
    assert done.exit_code == 0 and label.read(tmp_path / "l.mp4")[0].fields["ContentProducer"] == "B"
    assert label.read(clips["small"]) == []


def test_keys_and_trust_as_commands(home, tmp_path):
    def run(*words):
        done = CliRunner().invoke(cli.app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("keys", "init", "--name", "Studio A")
    run("keys", "export", "-o", tmp_path / "a.pem")
    assert run("keys", "export") == (tmp_path / "a.pem").read_text()
    run("keys", "rotate")
    assert [one["kind"] for one in json.loads(run("keys", "list", "--json"))["keys"]] == ["root", "leaf", "retired"]
    home("bob")
    assert "Studio A root" in run("trust", "add", tmp_path / "a.pem")
    assert "Studio A root" in run("trust", "list")
    run("trust", "remove", "Studio A root")
    assert "Studio A" not in run("trust", "list")


# Bad input.


def other_files(folder):
    """name -> (path, exit code, what is said)."""
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("hello")
    (folder / "no-frames.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isomiso2\0\0\0\x08moov")
    return {
        "missing": (folder / "missing.mp4", "there is no file"),
        "empty": (folder / "empty.mp4", "is empty"),
        "text": (folder / "text.mp4", "cannot be read as a video"),
        "no frames": (folder / "no-frames.mp4", "no-frames.mp4"),
    }


def test_bad_input_is_said_each_in_its_own_words(home, tmp_path):
    said = set()
    for name, (path, words) in other_files(tmp_path).items():
        for verb in ("verify", "mark"):
            done = CliRunner().invoke(cli.app, [verb, str(path)])
            assert done.exit_code == 1, (name, done.output)
            assert words in done.stderr, (name, done.stderr)
        said.add(done.stderr)
    assert len(said) == 4
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("*.marked*"))


def test_frames_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4", np.zeros((2, 64, 96, 3), np.uint8))
    monkeypatch.setattr(read, "MOST_SIDE", 80)
    with pytest.raises(errors.VideoError, match="96x64; at most 80"):
        media.probe(tmp_path / "a.mp4")  # what `verify` does in its child


@pytest.mark.parametrize("shape", [(71, 129), (96, 54)])
def test_odd_sizes_are_marked_and_signed(home, tmp_path, shape):
    height, width = shape
    frames = footage.clip("street", 96, 160, 8, 0)[:, :height, :width]
    encode(tmp_path / "a.mp4", frames, fmt="yuv444p")
    done = record.mark_file(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert done.report.verdict is Verdict.VERIFIED
    assert frames_of(tmp_path / "b.mp4").shape == (8, height + height % 2, width + width % 2, 3)


def test_ten_bits_and_transparency_are_said(home, tmp_path):
    frames = footage.clip("street", 96, 160, 8, 0)
    encode(tmp_path / "ten.mp4", frames, fmt="yuv420p10le")
    done = record.mark_file(tmp_path / "ten.mp4", tmp_path / "b.mp4")
    assert "8 bits" in done.notes[0] and done.report.verdict is Verdict.VERIFIED
    encode(tmp_path / "alpha.mov", frames, codec="png", fmt="rgba", crf=0, options={})
    done = record.mark_file(tmp_path / "alpha.mov", tmp_path / "c.mp4")
    assert "transparency" in done.notes[0]


def test_a_variable_frame_rate_keeps_its_times(home, tmp_path):
    times = [0, 1, 2, 5, 6, 12, 13, 14]
    encode(tmp_path / "a.mp4", footage.clip("street", 96, 160, 8, 0), times=times)
    record.mark_file(tmp_path / "a.mp4", tmp_path / "b.mp4")

    def seconds(path):
        with av.open(str(path)) as container:
            return [round(float(frame.time), 3) for frame in container.decode(video=0)]

    assert seconds(tmp_path / "b.mp4") == seconds(tmp_path / "a.mp4")


def test_sound_goes_along_as_it_was(home, tmp_path):
    frames = footage.clip("street", 96, 160, 24, 0)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        pictures, sound = out.add_stream("libx264", rate=24), out.add_stream("aac", rate=48000)
        pictures.width, pictures.height, pictures.pix_fmt = 160, 96, "yuv420p"
        for frame in frames:
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        tone = np.sin(np.arange(48000) / 15).astype(np.float32)
        for start in range(0, 48000 - 1024, 1024):
            part = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            part.rate, part.pts = 48000, start
            out.mux(sound.encode(part))
        out.mux(pictures.encode())
        out.mux(sound.encode())
    record.mark_file(tmp_path / "a.mp4", tmp_path / "b.mp4")

    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(tmp_path / "b.mp4") == packets(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_places_without_c2pa_get_the_mark_and_the_label_and_it_is_said(home, clips, tmp_path, suffix):
    target = tmp_path / f"a{suffix}"
    done = record.mark_file(clips["speaker"], target, record.Marking(kind="made"))
    assert any("no place for a C2PA signature" in note for note in done.notes)
    assert done.report.verdict is Verdict.UNVERIFIED and done.report.mark_id is not None
    assert label.read(target)[0].label is not None
    assert sorano.verify(target).mark_id == done.report.mark_id


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_pictures_are_marked_labelled_and_signed_too(home, clips, tmp_path, name):
    Image.fromarray(frames_of(clips["street"])[0]).resize((960, 540)).save(tmp_path / "in.png")
    done = record.mark_file(tmp_path / "in.png", tmp_path / name, record.Marking(kind="made", audience="cn"))
    assert done.report.verdict is Verdict.VERIFIED and label.read(tmp_path / name)[0].label is not None
    assert label.sign_found(video.read_image(tmp_path / name)) == "AI生成"
    assert sorano.verify(tmp_path / name).mark_id == done.report.mark_id


def test_the_original_is_kept_unless_it_is_to_be_replaced(home, clips, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clips["small"].read_bytes())
    before = path.read_bytes()

    def run(*words):
        return CliRunner().invoke(cli.app, ["mark", str(path), *map(str, words)])

    assert run("-o", path).exit_code == 2 and path.read_bytes() == before
    done = run()
    assert done.stdout.strip() == str(tmp_path / "a.marked.mp4") and path.read_bytes() == before
    assert run().exit_code == 2  # it exists
    assert run("--in-place").exit_code == 0 and sorano.verify(path).verdict is Verdict.VERIFIED
    assert run("--made", "--capture").exit_code == 2 and run("--made", "--private").exit_code == 2
    assert run("-o", tmp_path / "a.avi").exit_code == 2


def test_an_edit_names_its_source(home, clips, tmp_path):
    record.mark_file(clips["small"], tmp_path / "source.mp4")
    words = record.Marking(kind="edited", source=tmp_path / "source.mp4")
    done = record.mark_file(clips["small"], tmp_path / "edit.mp4", words)
    assert done.report.kind == "edited" and "source.mp4" in done.report.evidence[0].found


def test_a_key_that_cannot_be_used_stops_it_before_any_work(home, clips, tmp_path):
    keys.identity()
    (keys.keys_folder() / "leaf.key").write_text("broken")
    done = CliRunner().invoke(cli.app, ["mark", str(clips["small"]), "-o", str(tmp_path / "a.mp4")])
    assert done.exit_code == 1 and "leaf.key cannot be read" in done.stderr
    assert not (tmp_path / "a.mp4").exists()


def test_a_signature_that_does_not_read_back_withholds_the_file(home, clips, tmp_path, monkeypatch):
    real = credentials.sign

    def spoiled(path, statement, signer):
        manifest = real(path, statement, signer)
        data = bytearray(path.read_bytes())
        data[data.index(b"mdat") + 100] ^= 1
        path.write_bytes(data)
        return manifest

    monkeypatch.setattr(credentials, "sign", spoiled)
    with pytest.raises(errors.TrustError, match="reading it back found its signature changed"):
        record.mark_file(clips["small"], tmp_path / "a.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["alice"]


def test_the_page_names_the_file_its_signer_and_the_day_and_explains_its_colours(signed, tmp_path):
    import hashlib

    done = ask(signed, "--html", tmp_path / "r.html", "--json")
    report, page = json.loads(done.stdout), (tmp_path / "r.html").read_text()
    data = json.loads(re.search(r'type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    facts = dict(data["facts"])
    assert facts["file, SHA-256"] == hashlib.sha256(signed.read_bytes()).hexdigest()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", facts["looked at"])
    assert facts["signer"] == report["signer"]
    own = keys.list_keys()
    assert any(one.fingerprint.startswith(report["root"]) for one in own if one.kind == "root")
    assert facts["their root's fingerprint"] == report["root"]
    # red is drawn inside regions alone, and the same evidence is told once
    assert 'id="legend"' in page and "!red && !suspect" in page and "told.has(same)" in page
