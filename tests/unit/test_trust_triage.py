"""Triage: foreign noise in pictures and videos that nothing vouches for."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from support import corpus, forgeries, redteam
from typer.testing import CliRunner

from sorano import cli, video
from sorano.trust import triage
from sorano.trust.indicators import Trace
from sorano.trust.judge import Observations, judge
from sorano.trust.verify import Verdict, verify


def noisy(seed, sigma=4.0, size=(270, 480)):
    """A camera's picture of a soft scene: light and noise."""
    random = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(random.uniform(0, 255, (*size, 3)).astype(np.float32), (0, 0), 25)
    scene = 60 + 140 * (scene - scene.min()) / np.ptp(scene)
    return np.clip(scene + random.normal(0, sigma, scene.shape), 0, 255).astype(np.uint8)


def with_foreign_noise(frame, box=(180, 90, 300, 190)):
    """The same picture, with a part that was smoothed as an enlarged or a generated one is."""
    left, top, right, bottom = box
    out = frame.copy()
    small = cv2.resize(frame[top:bottom, left:right], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    out[top:bottom, left:right] = cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_a_region_of_foreign_noise_is_found_where_it_is(seed):
    frame = noisy(seed)
    clean, _ = triage.splice([frame])
    score, box = triage.splice([with_foreign_noise(frame)])
    left, top, right, bottom = box
    assert score > 1.5 * clean
    assert left < 240 / 480 < right and top < 140 / 270 < bottom and (right - left) * (bottom - top) < 0.3


def test_heads_put_over_clips_score_above_the_clips_in_most_kinds():
    ordinary, forged = [], []
    for number, kind in enumerate(corpus.KINDS[::2]):
        clip = corpus.clip(kind, number, seconds=0.25)
        over, _ = forgeries.put_over(clip, clip, np.random.default_rng(number), 0.1, "face")
        ordinary.append(triage.splice(list(clip))[0])
        forged.append(triage.splice(list(over))[0])
    assert np.mean([[a > b for b in ordinary] for a in forged]) > 0.65  # one half is chance


def test_a_percentile_is_the_share_of_ordinary_files_below():
    scores = np.array(json.loads(triage.CALIBRATION.read_text())["ordinary"])
    assert len(scores) >= 100 and (np.diff(scores) >= 0).all()
    trace = triage.trace_of([noisy(1)])
    assert trace.percentile == pytest.approx(100 * (scores < trace.score).mean())
    assert triage.trace_of([noisy(1, size=(100, 300))]) is None and triage.trace_of([]) is None


def test_what_is_odd_is_suspicious_at_most_and_never_more_than_what_vouches():
    odd = Trace(5.0, 99.6, (0.1, 0.2, 0.3, 0.4))
    usual = Trace(1.0, 62.0, (0.1, 0.2, 0.3, 0.4))
    report = judge(Observations("a.mp4", trace=odd))
    assert report.verdict is Verdict.SUSPICIOUS and "10%-30% across, 20%-40% down" in report.summary
    report = judge(Observations("a.mp4", trace=usual))
    assert report.verdict is Verdict.UNVERIFIED and "triage is no proof" in report.evidence[0].proves


def test_the_command_looks_only_when_asked_and_only_where_nothing_vouches(tmp_path):
    Image.fromarray(with_foreign_noise(noisy(2))).save(tmp_path / "a.png")
    assert not any(one.about == "triage" for one in verify(tmp_path / "a.png").evidence)
    done = CliRunner().invoke(cli.app, ["verify", "--triage", "--json", str(tmp_path / "a.png")])
    (found,) = (one for one in json.loads(done.stdout)["evidence"] if one["about"] == "triage")
    assert "foreign to the rest" in found["found"] and done.exit_code in (7, 8)
    frames = np.stack([noisy(3)] * 3)
    video.write_video(tmp_path / "b.mp4", frames, 12)
    done = CliRunner().invoke(cli.app, ["verify", "--triage", str(tmp_path / "b.mp4")])
    assert "triage: " in done.stdout and done.exit_code in (7, 8)


@pytest.mark.parametrize("blend", redteam.BLENDS)
def test_the_red_team_changes_the_face_and_nothing_else(blend):
    head = redteam.head(1, seconds=0.1)
    out, mask = redteam.swapped(head, blend, 4)
    apart = np.abs(out.astype(int) - head).max((0, 3))
    assert (
        apart[mask > 0].mean() > 4 and apart[cv2.dilate(mask, np.ones((41, 41), np.uint8)) == 0].max() <= 2
    )  # a clone rounds


def test_each_way_of_blending_gives_another_picture():
    head = redteam.head(1, seconds=0.05)
    made = [redteam.swapped(head, blend, 4)[0] for blend in redteam.BLENDS]
    assert all((one != other).any() for index, one in enumerate(made) for other in made[:index])


@pytest.mark.parametrize("way", redteam.VOCODERS)
def test_an_imitated_voice_is_as_long_and_as_loud_and_another_one(way):
    own = redteam.voices("formants", 1, seconds=2)
    made = redteam.imitated(own, way)
    assert made.shape == own.shape and np.isfinite(made).all()
    assert 0.3 < np.sqrt((made**2).mean() / (own**2).mean()) < 3 and np.abs(made - own).max() > 0.05
