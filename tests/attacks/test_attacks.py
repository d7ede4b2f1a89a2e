"""The table: no forged file is VERIFIED, MATCHED only where its row admits it, and no honest file is accused.

The ordinary run takes the rows that are marked `quick`; SORANO_FULL=1 takes all, and mutates a signed file 1,000 times.
"""

import io
import json

import numpy as np
import pytest
from support import copies, corpus
from support.counts import FULL

from attacks import codec, container, honest, manifest, picture, sound, stills, timing, words
from attacks.registry import ATTACKS, HONEST
from attacks.stage import Stage
from attacks.tools import FPS, encode, frames_of
from sorano.errors import SoranoError
from sorano.trust import record
from sorano.trust.provenance import containers

MODULES = (codec, container, honest, manifest, picture, sound, stills, timing, words)
UNACCEPTED = frozenset({"TAMPERED", "SUSPICIOUS", "UNVERIFIED"})
ACCUSED = frozenset({"TAMPERED", "SUSPICIOUS"})


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """The genuine files and the people, once for all rows."""
    return Stage(tmp_path_factory.mktemp("stage"))


def asked(stage, row, folder):
    """The report on a row's file, or the error of one that cannot be looked at."""
    path = row.make(stage, folder)
    own = (folder / "store",) if (folder / "store").exists() else ()
    try:
        return stage.ask(path, (*own, stage.store))
    except SoranoError as error:
        return {"verdict": "refused", "summary": error.message}


def chosen(rows):
    return [pytest.param(row, id=name) for name, row in rows.items() if FULL or row.quick]


@pytest.mark.parametrize("row", chosen(ATTACKS))
def test_no_forged_file_is_accepted_beyond_what_its_row_admits(stage, tmp_path, row):
    report = asked(stage, row, tmp_path)
    told = f"{row.story} {report['verdict']}: {report['summary']}"
    assert report["verdict"] in UNACCEPTED | row.admits | ({"refused"} if row.refused else set()), told
    if row.check is not None and report["verdict"] != "refused":
        wrong = row.check(report)
        assert wrong is None, f"{told}: {wrong}"


@pytest.mark.parametrize("row", chosen(HONEST))
def test_no_honest_file_is_accused(stage, tmp_path, row):
    report = asked(stage, row, tmp_path)
    told = f"{row.story} {report['verdict']}: {report['summary']} {json.dumps(report.get('evidence'))[:600]}"
    assert report["verdict"] not in ACCUSED, told
    assert not row.admits or report["verdict"] in row.admits, told
    if row.check is not None and report["verdict"] in ("VERIFIED", "MATCHED"):
        wrong = row.check(report)
        assert wrong is None, f"{told}: {wrong}"


def test_the_table_is_as_long_as_it_must_be():
    assert len(ATTACKS) >= 27 + 60 and len(HONEST) >= 40
    assert len({row.story for row in ATTACKS.values()}) == len(ATTACKS)
    assert all(len(row.because) > 30 for row in ATTACKS.values() if row.admits)


def mutated(data, random, number):
    """A signed file with one to four changes: bits, bytes, cuts, insertions, boxes in another order, or truncated."""
    parts = [(box.start, box.end) for box in containers.boxes(io.BytesIO(data))]
    if number % 10 == 8:
        return data[: int(random.integers(len(data)))]
    if number % 10 == 9:
        blocks = [data[start:end] for start, end in parts]
        one, other = random.choice(len(blocks), 2, replace=False)
        blocks[one], blocks[other] = blocks[other], blocks[one]
        return b"".join(blocks)
    changed = bytearray(data)
    start, end = parts[number % len(parts)] if number % 3 else (0, len(data))
    for _ in range(int(random.integers(1, 5))):
        at, kind = int(random.integers(start, end)), int(random.integers(4))
        at = min(at, len(changed) - 1)
        if kind == 0:
            changed[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            changed[at] = (changed[at] + int(random.integers(1, 256))) % 256
        elif kind == 2:
            del changed[at : at + int(random.integers(1, 40))]
        else:
            changed[at:at] = random.integers(0, 256, int(random.integers(1, 40)), np.uint8).tobytes()
    return bytes(changed)


def test_a_mutated_file_is_never_verified(stage, tmp_path):
    data, random = small_signed(stage, tmp_path).read_bytes(), np.random.default_rng(12)
    path, seen = tmp_path / "mutated.mp4", {}
    for number in range(1000 if FULL else 20):
        changed = mutated(data, random, number)
        if changed == data:
            continue
        path.write_bytes(changed)
        try:
            verdict = stage.ask(path)["verdict"]
        except SoranoError:
            verdict = "refused"
        assert verdict != "VERIFIED", number
        seen[verdict] = seen.get(verdict, 0) + 1
    assert seen["TAMPERED"] > sum(seen.values()) / 3, seen


def small_signed(stage, folder):
    """A small signed video, quickly looked at."""
    source = encode(folder / "small.mp4", np.ascontiguousarray(stage.plain[:12, ::4, ::4][:, :66, :120]))
    with stage.at("alice"):
        return record.mark_file(source, folder / "small.signed.mp4").path


NAMED_AS_CHANGED = {"1.25x"}  # another speed is a change, and is called one


def test_a_thousand_honest_copies_are_rarely_accused(stage, tmp_path):
    """At most 1 % of ordinary copies of clips of twelve kinds are TAMPERED or SUSPICIOUS.

    Thresholds were set on seeds 0 and 1, and mended by what seed 3 showed (docs/LOG.md).
    """
    names = [name for name in copies.COPIES if name not in NAMED_AS_CHANGED]
    clips = [(kind, seed) for seed in range(5, 15, 2) for kind in corpus.KINDS][: -(-1000 // len(names))]
    if not FULL:
        clips, names = clips[:1], ["CRF 28", "half size"]
    accused, count = [], 0
    for kind, seed in clips:
        source = encode(tmp_path / "clip.mp4", corpus.clip(kind, seed, seconds=3.0))
        with stage.at("alice"):
            signed = record.mark_file(source, tmp_path / "signed.mp4", overwrite=True).path
        shown = frames_of(signed)
        for name in names:
            copy = copies.COPIES[name]
            report = stage.ask(copy.write(shown, FPS, tmp_path / copy.name_of("copy")))
            count += 1
            print(count, kind, seed, name, report["verdict"], report["summary"], flush=True)  # progress: pytest -s
            if report["verdict"] in ACCUSED:
                accused.append((kind, seed, name, report["summary"]))
    assert len(accused) <= count // 100, (count, accused)
    assert not FULL or count >= 1000


def test_every_module_of_attacks_is_in_the_table():
    assert {row.make.__module__ for row in [*ATTACKS.values(), *HONEST.values()]} == {one.__name__ for one in MODULES}
