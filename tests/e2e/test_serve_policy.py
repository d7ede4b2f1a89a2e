"""What a server refuses by what pictures show: uploads before they are kept, videos before they are published."""

import io

import numpy as np
import pytest
from PIL import Image
from support.serving import PROMPT, FixedMaker, in_process

from sorano.errors import PolicyError, RequestError
from sorano.serve import nsfw, policy
from sorano.serve.api import create_app
from sorano.serve.maker import Made
from sorano.serve.store import VIDEO
from sorano.video import write_video
from sorano.web.problems import Problem


def red(frames_THWC):
    """A classifier of the tests: refuses frames that are red anywhere in time."""
    assert frames_THWC.dtype == np.uint8 and frames_THWC.ndim == 4 and frames_THWC.shape[-1] == 3
    mean_T3 = frames_THWC.reshape(len(frames_THWC), -1, 3).mean(1)
    return "there is red" if (mean_T3[:, 0] > mean_T3[:, 1:].max(1) + 50).any() else None


CLASSIFIER = "test_serve_policy:red"
RED, BLUE = (200, 20, 20), (20, 20, 200)


def clip(*colours, frames=12):
    """Frames of one colour after another, [T, 64, 64, 3]."""
    return np.repeat(np.array(colours, np.uint8)[:, None, None], frames, 0) + np.zeros((1, 64, 64, 1), np.uint8)


def picture(colour):
    held = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(held, "PNG")
    return held.getvalue()


class Painter(FixedMaker):
    """Makes real videos of one colour: red where the prompt says so, in the last of four seconds."""

    def make(self, words, folder, listener, cancel):
        listener.preview(1, 2, lambda: clip(BLUE)[0])
        colours = [BLUE, BLUE, BLUE, RED if "red" in words["prompt"] else BLUE]
        write_video(folder / VIDEO, clip(*colours), 12.0)
        shown = {"size": "64x64", "num_frames": 48, "fps": 12.0, "seconds": 4.0}
        return Made(folder / VIDEO, shown, {"verdict": "VERIFIED", "seconds": 0.0, "stages": {}})


def upload(client, name, data):
    return client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "input"})


def test_uploads_that_show_what_is_refused_are_not_kept(tmp_path):
    write_video(tmp_path / "red.mp4", clip(BLUE, BLUE, RED), 12.0)
    write_video(tmp_path / "blue.mp4", clip(BLUE, BLUE, BLUE), 12.0)
    with in_process(tmp_path / "data", picture_classifier=CLASSIFIER) as (client, service, _):
        for name, data in (("a.png", picture(RED)), ("a.mp4", (tmp_path / "red.mp4").read_bytes())):
            answer = upload(client, name, data)
            assert answer.status_code == 400 and answer.json()["error"]["code"] == "content_policy_violation"
            assert "there is red" in answer.json()["error"]["message"] and str(tmp_path) not in answer.text
        assert not list(service.store.uploads.iterdir())
        for name, data in (("a.png", picture(BLUE)), ("a.mp4", (tmp_path / "blue.mp4").read_bytes())):
            assert upload(client, name, data).status_code == 200


def test_a_video_that_shows_what_is_refused_is_a_failed_job_and_no_file(tmp_path):
    with in_process(tmp_path, maker=Painter(), picture_classifier=CLASSIFIER) as (client, service, worker):
        jobs = {}
        for prompt in (PROMPT, "a blue cube spins on the snow"):
            jobs[prompt] = client.post("/v1/videos", json={"prompt": prompt}).json()["id"]
            worker.work_once()
        refused, made = (client.get(f"/v1/videos/{job_id}").json() for job_id in jobs.values())
        assert refused["status"] == "failed" and refused["error"]["code"] == "content_policy_violation"
        assert "there is red" in refused["error"]["message"]
        left = {
            job_id: [file for file in service.store.root.rglob(f"{job_id}/**/*") if file.is_file()]
            for job_id in (refused["id"], made["id"])
        }
        assert not left[refused["id"]] and left[made["id"]]  # no video of it, and no preview
        assert made["status"] == "completed"
        assert client.get(f"/v1/videos/{made['id']}/content").status_code == 200


def broken(frames_THWC):
    """A classifier of the tests that fails."""
    raise ZeroDivisionError("its own fault")


def large(frames_THWC):
    """A classifier of the tests that refuses what is larger than it was promised."""
    return "it is large" if max(frames_THWC.shape[1:3]) > 512 or len(frames_THWC) > 32 else None


def test_every_frame_of_a_short_video_is_looked_at(tmp_path):
    write_video(
        tmp_path / "a.mp4", np.concatenate([clip(BLUE, frames=1), clip(RED, frames=10), clip(BLUE, frames=1)]), 12.0
    )
    with pytest.raises(PolicyError, match="there is red"):
        policy.check_frames(str(tmp_path / "a.mp4"), CLASSIFIER, 1.0)


def test_a_classifier_gets_few_and_small_frames_of_large_videos(tmp_path):
    frames_THWC = np.zeros((40, 1080, 1920, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames_THWC, 12.0)
    policy.check_frames(str(tmp_path / "a.mp4"), "test_serve_policy:large", 3.3)


def test_a_classifier_that_fails_is_not_the_files_fault(tmp_path):
    with in_process(tmp_path, maker=Painter(), picture_classifier="test_serve_policy:broken") as (client, _, worker):
        answer = upload(client, "a.png", picture(BLUE))
        assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal_error"
        job = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
        worker.work_once()
        error = client.get(f"/v1/videos/{job}").json()["error"]
        assert (
            error["code"] == "internal_error" and "the classifier test_serve_policy:broken failed" in error["message"]
        )


@pytest.mark.parametrize(
    ("word", "prompt", "is_refused"),
    [("裸体", "一个裸体的人", True), ("naked man", "a NAKED_man", True), ("naked", "a na\u200bked man", True),
     ("naked", "ｎａｋｅｄ", True), ("art", "a party", False), ("红色 的球", "红色的球", True)],
)  # fmt: skip
def test_words_are_found_however_they_are_written(word, prompt, is_refused):
    checks = policy.Policy(frozenset({word}))
    if not is_refused:
        checks.check_words({"prompt": prompt})
        return
    for words in ({"prompt": prompt}, {"producer": prompt}, {"shots": [{"prompt": prompt}]}):
        with pytest.raises(Problem, match="words that this server refuses"):
            checks.check_words(words)


@pytest.mark.parametrize("name", ["nowhere:red", "test_serve_policy:blue", "test_serve_policy", ":"])
def test_a_classifier_that_is_not_there_is_said_before_the_server_starts(tmp_path, name):
    from support.serving import settings_of

    with pytest.raises(RequestError, match="there is no classifier"):
        create_app(settings_of(tmp_path, picture_classifier=name))


def test_the_network_for_unsafe_pictures_takes_harmless_ones(tmp_path, monkeypatch):
    from skimage import data

    harmless = [data.astronaut(), np.repeat(data.camera()[..., None], 3, -1), data.chelsea()]
    found = [nsfw.probabilities(frame[None])[0] for frame in harmless]
    assert all(0 <= one < 0.2 for one in found), found
    Image.fromarray(data.astronaut()).save(tmp_path / "a.png")
    policy.check_frames(str(tmp_path / "a.png"), "sorano.serve.nsfw:refuse", None)
    monkeypatch.setattr(nsfw, "LIMIT", 0.0)
    with pytest.raises(PolicyError, match="says [0-9] %"):
        policy.check_frames(str(tmp_path / "a.png"), "sorano.serve.nsfw:refuse", None)


def test_the_network_for_unsafe_pictures_looks_at_uploads_within_the_limits_of_a_child(tmp_path):
    write_video(tmp_path / "a.mp4", clip(BLUE, BLUE, RED), 12.0)
    with in_process(tmp_path / "data", picture_classifier="sorano.serve.nsfw:refuse") as (client, _, _):
        assert upload(client, "a.mp4", (tmp_path / "a.mp4").read_bytes()).status_code == 200
