"""A call in Chromium: people with passkeys, fake cameras and microphones, marks before coders and MACs behind them."""

import itertools

import cv2
import pytest
from support import browser as browsing
from support import calling, redteam, voices
from support.browser import picture, violations
from support.people import enrolled

from sorano.desk import demo
from sorano.desk.call.demo import figure

SWAP = """async () => {  // another figure, unmarked, in the place of the camera
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width: 640, height: 360 });
    const pen = canvas.getContext('2d');
    const oval = (x, y, wide, tall, colour) => {
        pen.fillStyle = colour;
        pen.beginPath();
        pen.ellipse(x, y, wide, tall, 0, 0, 7);
        pen.fill();
    };
    const draw = () => {
        const x = 320 + 12 * Math.sin(performance.now() / 900);
        pen.fillStyle = '#6d7f5c';
        pen.fillRect(0, 0, 640, 360);
        oval(x, 380, 150, 150, '#3d4a66');
        oval(x, 160, 62, 84, '#d8b294');
        oval(x - 22, 146, 6, 6, '#332');
        oval(x + 22, 146, 6, 6, '#332');
        oval(x, 198, 20, 2 + 5 * Math.abs(Math.sin(performance.now() / 160)), '#945');
        for (let i = 0; i < 900; i++) {
            pen.fillStyle = `rgb(${90 + 80 * Math.random()} ${110 + 50 * Math.random()} 100 / 30%)`;
            pen.fillRect(640 * Math.random(), 360 * Math.random(), 4, 4);
        }
        setTimeout(draw, 66);
    };
    draw();
    const room = document.querySelector('sorano-call').room;
    await room.links.get(room.tile).getSenders()[0].replaceTrack(canvas.captureStream(15).getVideoTracks()[0]);
}"""


SWAP_SOUND = """async () => {  // the same voice, without its mark
    const room = document.querySelector('sorano-call').room;
    await room.links.get(room.tile).getSenders()[1].replaceTrack(room.microphone);
}"""


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    """A file that Chromium hears as its microphone: half a minute of speech, again and again."""
    has_espeak = "espeak" in redteam.kinds_of_voices()
    speech = calling.speaking(1, 30, voice=redteam.spoken_wide if has_espeak else None)
    return voices.write_sound(tmp_path_factory.mktemp("microphone") / "microphone.wav", speech, "pcm_s16le")


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """A file that Chromium shows as its camera: four seconds of a drawn figure, again and again."""
    path = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    with path.open("wb") as file:
        for frame in itertools.islice(figure(3), 60):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
            file.write(cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), quality)[1].tobytes())
    return path


@pytest.fixture(scope="module")
def chrome(camera, microphone):
    pytest.importorskip("aiortc")
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    files = (f"--use-file-for-fake-video-capture={camera}", f"--use-file-for-fake-audio-capture={microphone}")
    with browsing.browser(*flags, *files) as found:
        yield found


@pytest.fixture(scope="module")
def stage(chrome, tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORANO_CONFIG", str(folder / "config"))
        with demo.stage(folder) as on:
            yield on


def tile(one, name, said):
    """A tile of a page once it says something; machines may stand still for seconds."""
    found = one.page.get_by_role("article", name=f"{name}: {said}")
    found.wait_for(timeout=60_000)
    return found


def met(chrome, stage, *handles):
    """Two people in a call, and its room."""
    allowed = ["camera", "microphone"]
    ann, ben = (enrolled(chrome, stage, handle, ["file"], permissions=allowed) for handle in handles)
    ann.page.goto(f"{ann.origin}/call")
    ann.page.get_by_role("button", name="New call").click()
    link = ann.page.locator("code").first.inner_text()
    for one in (ann, ben):
        one.page.goto(link)
        one.page.reload()  # the address of the page is the same but for its fragment
        one.page.get_by_role("button", name="Join with your passkey").click()
    return ann, ben, stage.calls.guard.rooms[link.partition("#")[2]]


@pytest.mark.full  # in real time: a machine that stands still drops the frames of honest people
def test_a_tab_turns_red_when_its_sound_is_swapped(chrome, stage):
    eve, fay, room = met(chrome, stage, "eve", "fay")
    for one in (eve, fay):
        one.page.get_by_text("Sound confirmed").nth(1).wait_for(timeout=120_000)
    eve.page.get_by_role("button", name="Mute").click()
    eve.page.get_by_role("button", name="Unmute").wait_for()
    fay.page.evaluate(SWAP_SOUND)
    eve.page.get_by_role("article", name="Fay: NOT CONFIRMED").get_by_text("SOUND NOT CONFIRMED").wait_for(
        timeout=60_000
    )
    events = [(one["name"], one["event"]) for one in room.timeline if "name" in one]
    assert ("Eve", "sound not_confirmed") not in events and room.verdict == "TAMPERED"
    for one in (eve, fay):
        one.close()


@pytest.mark.full
def test_two_tabs_are_confirmed_and_one_turns_red_when_its_pictures_are_swapped(chrome, stage):
    ann, ben, room = met(chrome, stage, "ann", "ben")
    for one, (mine, other) in ((ann, ("Ann", "Ben")), (ben, ("Ben", "Ann"))):
        tile(one, mine, "Confirmed")
        tile(one, other, "Confirmed")
    assert all(one.authentic_frames > 5 and one.forged_frames == one.plain_frames == 0 for one in room.tiles.values())
    words = [one.page.locator(".spoken").inner_text() for one in (ann, ben)]
    assert words[0] == words[1] and len(words[0].split()) == 2
    ann.page.wait_for_function("[...document.querySelectorAll('video')].every((one) => one.videoWidth > 0)")
    assert not violations(ann.page)
    picture(ann.page, "desk-7-call")
    ann.page.get_by_role("button", name="中文").click()
    tile(ann, "Ben", "已确认")
    assert len(ann.page.locator(".spoken").inner_text()) == 5
    ann.page.get_by_role("button", name="English").click()

    stage.calls.guard.add_viewer(room.id)
    ben.page.get_by_text("A recorder is, or was, in this call.").wait_for()
    ben.page.evaluate(SWAP)
    tile(ann, "Ben", "NOT CONFIRMED")
    tile(ann, "Ann", "Confirmed")
    picture(ann.page, "desk-8-swapped")
    assert room.verdict == "TAMPERED"
    for one in (ann, ben):
        one.close()


def test_the_page_that_needs_a_camera_is_the_only_one_that_may_have_it(stage):
    status, headers, _ = stage.send("GET", "/call", {}, None)
    assert status == 200 and "camera=(self), microphone=(self)" in headers["permissions-policy"]
    for path in ("/", "/call.html"):
        assert "camera=()" in stage.send("GET", path, {}, None)[1]["permissions-policy"]


def test_a_page_of_calls_whose_session_ended_asks_to_sign_in_and_what_it_said_goes(chrome, stage):
    dan = enrolled(chrome, stage, "dan", ["file"])
    dan.page.clock.install()
    dan.page.goto(f"{dan.origin}/call")
    new = dan.page.get_by_role("button", name="New call")
    new.wait_for()
    dan.page.context.clear_cookies()
    new.click()
    said = dan.page.locator(".say p")
    said.wait_for()
    dan.page.get_by_role("button", name="Sign in with your passkey").wait_for()
    dan.page.clock.fast_forward(10_000)
    said.wait_for(state="detached")
    dan.close()
