"""The studio in Chromium, on a real server with the embedded model."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.browser import DESK, PHONE, Problems, picture, violations
from support.serving import ROOT, Process, wait_until

from sorano.web import SHARED_PAGE

STUDIO = ROOT / "src" / "sorano" / "serve" / "studio"
MOST_BYTES = 150_000  # of all scripts and styles
PROMPT = "a red ball bounces on the grass at sunset"
PRICED = ("--price", "3600", "--currency", "EUR=1@2026-11-20")  # a second of the device is a euro
MADE = 180_000  # ms that a video may take on a busy machine


@pytest.fixture(scope="module")
def server(chrome, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    own = {f"SORANO_{name}": folder / name.lower() for name in ("CACHE", "CONFIG", "STORE", "LIBRARY")}
    with Process("serve", "--port", "0", *PRICED, folder=folder, maker=None, **own) as process:
        process.wait_for_address()
        yield process


@pytest.fixture
def studio(chrome, server):
    """Opens a page at the server; each must end without errors, breaches of its policy and foreign requests."""
    opened = []

    def open_page(path="/", *, at=None, **options):
        options = {"viewport": DESK, "locale": "en-GB", "color_scheme": "light", **options}
        context = chrome.new_context(**options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(30_000)
        opened.append((context, Problems(page, at or server.address)))
        page.goto((at or server.address) + path)
        page.locator("sorano-studio header").wait_for()
        return page

    yield open_page
    for context, problems in opened:
        context.close()
        assert not problems.found, problems.found


def write(page, prompt, **settings):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    if "seed" in settings:
        page.get_by_label("Seed", exact=True).fill(str(settings["seed"]))


def made(page, seed):
    """The card of the finished video with a seed."""
    card = page.locator("sorano-card", has_text=re.compile(rf"Seed {seed}$", re.M))
    card.locator("img").wait_for(timeout=MADE)
    return card


def made_by_pressing_create(page, seed):
    """The card of what the page asks for, with a seed, once it is finished."""
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.locator(".plan dl").wait_for()
    page.get_by_role("button", name="Create").click()
    return made(page, seed)


@pytest.fixture(scope="module")
def video(server):
    """A finished video, by its id."""
    import json
    import time
    import urllib.request

    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(server.address + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    found = json.loads(ask("/v1/videos", {"prompt": PROMPT, "seed": 5}))
    for _ in range(MADE // 500):
        if found["status"] not in ("queued", "in_progress") and found["variants"][1:]:
            return found["id"], ask
        assert found["status"] != "failed", found["error"]
        time.sleep(0.5)
        found = json.loads(ask(f"/v1/videos/{found['id']}"))
    raise AssertionError(found)


# What it weighs.


def test_scripts_and_styles_are_few():
    files = [one for root in (STUDIO, SHARED_PAGE) for one in root.rglob("*") if one.suffix in (".js", ".css")]
    assert sum(one.stat().st_size for one in files) <= MOST_BYTES


def test_every_text_is_in_both_languages_and_every_used_one_is_there():
    table = "".join((root / "i18n.js").read_text(encoding="utf-8") for root in (SHARED_PAGE, STUDIO))
    entries = re.findall(r"\b'?([\w.]+)'?: \[('(?:[^'\\]|\\.)*'), ('(?:[^'\\]|\\.)*')\]", table)
    assert len(entries) > 150
    for name, english, chinese in entries:
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), name
    known = {name for name, _, _ in entries}
    used = {
        name for one in STUDIO.glob("*.js") for name in re.findall(r"\bt\('([\w.]+)'", one.read_text(encoding="utf-8"))
    }
    assert used <= known, used - known


# The whole path.


def test_a_video_is_created_watched_and_played(studio):
    page = studio()
    page.get_by_text("Your first video is a sentence away").or_(page.locator("sorano-card").first).wait_for()
    picture(page, "empty")
    write(page, PROMPT, seed=11)
    plan = page.locator(".plan dl")
    plan.get_by_text("MB").wait_for()
    assert re.search(r"Time≈ [\d.]+ s", plan.inner_text().replace("\n", "")), plan.inner_text()
    assert re.search(r"Cost≈ €[\d.]+", plan.inner_text().replace("\n", "")), plan.inner_text()
    page.get_by_role("button", name="Create").click()
    bar = page.get_by_role("progressbar", name=f"Progress of {PROMPT}")
    bar.wait_for(timeout=MADE)
    page.locator(".queue-picture img").wait_for(timeout=MADE)  # the live preview
    picture(page, "making")
    card = made(page, 11)
    assert not page.locator("sorano-job").count()
    assert page.locator("#live").inner_text().startswith("Done")
    card.locator(".card-picture").hover()
    wait_until(lambda: page.evaluate("document.querySelector('sorano-card video')?.currentTime > 0.1"), every=0.2)
    page.get_by_role("button", name="Content Credentials of").first.click()
    page.locator(".record .verdict", has_text="Verified").wait_for()
    assert page.locator(".record .evidence li").count() >= 2


def test_words_are_offered_and_unknown_ones_underlined(studio):
    page = studio()
    box = page.get_by_label("Prompt", exact=True)
    box.press_sequentially("a purple torus on the s")
    options = page.get_by_role("option")
    options.first.wait_for()
    assert "on the sand" in [one.split("\n")[0] for one in options.all_inner_texts()]
    box.press("ArrowDown")
    box.press("Enter")
    assert re.fullmatch(r"a purple torus on the s\w+ ", box.input_value())
    box.press_sequentially("and a dragonn")
    page.locator(".prompt-ink mark", has_text="dragonn").wait_for()
    page.get_by_text("This model does not know “dragonn”.").wait_for()
    page.get_by_role("group", name="Words that this model knows").get_by_role("button", name="spins").click()
    assert box.input_value().endswith("dragonn spins ")


def test_what_is_written_before_the_words_have_come_is_read_when_they_come(studio):
    page = studio()
    words = "**/v1/studio/words**"
    held = held_first(page, words)
    page.reload()
    write(page, "a red ball and a dragonn")
    page.locator(".plan dl").wait_for()  # the page answers, without the words
    wait_until(lambda: held or page.wait_for_timeout(50))
    held[0].continue_()
    page.locator(".prompt-ink mark", has_text="dragonn").wait_for()
    page.unroute(words)


def test_an_error_is_said_in_the_words_of_the_api(studio):
    page = studio()
    write(page, "a dragon")
    page.locator(".plan .bad", has_text="cannot make 'dragon'").wait_for()


def test_errors_of_requests_and_jobs_are_in_the_language_of_the_page(studio, video):
    import json

    _, ask = video
    name = json.loads(ask("/v1/videos", {"prompt": PROMPT, "seed": 93, "paused": True, "deadline_seconds": 0.01}))["id"]
    wait_until(lambda: json.loads(ask(f"/v1/videos/{name}"))["status"] == "failed")
    page = studio(locale="zh-CN")
    broken = page.locator("sorano-card .broken").first
    broken.get_by_text("任务未能在期限内完成；请给更长的期限").wait_for()
    page.get_by_label("描述", exact=True).fill("a dragon")
    page.locator(".plan .bad", has_text="world 不会做 'dragon'").wait_for()
    page.get_by_role("button", name="English").click()
    page.locator(".plan .bad", has_text="cannot make 'dragon'").wait_for()
    broken.get_by_text("the job was not done by its deadline; give it longer").wait_for()


def test_a_running_video_is_cancelled_and_the_queue_is_paused(studio):
    page = studio()
    write(page, PROMPT, seed=21)
    page.locator(".pills.even label", has_text="3").click()
    page.get_by_role("button", name="Create 3").click()
    rows = page.locator("sorano-job")
    rows.nth(2).wait_for()
    page.get_by_role("button", name="Pause:").last.click()
    page.locator(".job.held").wait_for()
    page.get_by_role("button", name="Resume:").wait_for()
    page.get_by_role("progressbar").wait_for(timeout=MADE)
    while rows.count():
        page.get_by_role("button", name="Cancel:").first.click()
        page.wait_for_timeout(300)
    page.get_by_text("Cancelled").first.wait_for()


def test_a_card_leads_to_remix_extension_and_its_last_frame(studio, video):
    page = studio()
    name, ask = video
    card = made(page, 5)
    card.get_by_role("button", name="Continue from the last frame").click()
    page.locator(".slot.full", has_text="First frame").wait_for()
    card.get_by_role("button", name="Remix").click()
    page.get_by_label("Prompt", exact=True).fill("on the snow")
    page.get_by_label("Seed", exact=True).fill("31")
    page.locator(".plan dl").wait_for()
    page.get_by_role("button", name="Create").click()
    made(page, 31).locator(".card-picture").click()
    page.get_by_role("region", name="Lineage").get_by_role("button", name=f"Open {PROMPT}").wait_for()
    picture(page, "viewer")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Extend").click()
    page.get_by_text("After its end", exact=True).wait_for()
    page.locator(".plan dl").wait_for()


def test_a_region_is_painted_by_keys_and_by_pointer(studio, video):
    page = studio()
    made(page, 5).locator(".card-picture").click()
    page.get_by_role("dialog").get_by_role("button", name="Region").click()
    page.get_by_role("button", name="Paint the region").click()
    canvas = page.get_by_role("img", name="Mask over a frame")
    canvas.focus()
    for key in ("Space", "ArrowRight", "Space", "ArrowDown", "Space"):
        page.keyboard.press(key)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 140, steps=6)
    page.mouse.up()
    picture(page, "region")
    assert not violations(page)
    page.get_by_role("button", name="Use this region").click()
    page.get_by_label("Prompt", exact=True).fill("make it blue")
    page.get_by_label("Seed", exact=True).fill("41")
    page.locator(".plan dl").wait_for()
    page.get_by_role("button", name="Create").click()
    made(page, 41)


def test_a_storyboard_is_ordered_by_keys_and_by_pointer_and_made(studio):
    page = studio()
    page.get_by_text("Storyboard", exact=True).click()
    prompts = ["a red ball bounces on the grass at sunset", "a blue cube spins on the snow at night"]
    for number, prompt in enumerate(prompts, 1):
        page.get_by_label(f"Shot {number}: Prompt").fill(prompt)
    down = page.get_by_role("button", name="Move shot 1 later")
    down.focus()
    page.keyboard.press("Enter")
    assert page.get_by_label("Shot 1: Prompt").input_value() == prompts[1]
    page.locator(".shot .grip").nth(1).drag_to(page.locator(".shot").first)
    assert page.get_by_label("Shot 1: Prompt").input_value() == prompts[0]
    page.locator(".plan dl").wait_for()
    picture(page, "storyboard")
    assert not violations(page)
    page.get_by_text("Copy as").click()
    page.get_by_role("button", name="curl").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl http://127.0.0.1") and '"storyboard"' in copied
    made_by_pressing_create(page, seed=79)


def test_variations_stand_together_and_are_compared_by_keys(studio, video):
    page = studio()
    write(page, "a blue cube spins on the snow at night", seed=51)
    page.locator(".pills.even label", has_text="4").click()
    page.get_by_role("button", name="Create 4").click()
    made(page, 54)
    together = page.get_by_role("group", name="4 variations")
    loaded = "one => [...one.querySelectorAll('img')].filter(img => img.complete && img.naturalWidth).length"
    wait_until(lambda: together.evaluate(loaded) == 4, 60)
    write(page, "a yellow cone falls on the sand at noon", seed=55)
    page.locator(".pills.even label", has_text="1").click()
    page.get_by_role("button", name="Create").click()
    done = page.locator("sorano-card", has_text=re.compile(r"Seed 55$", re.M)).locator("img")
    page.locator(".queue-picture img").or_(done).first.wait_for(timeout=MADE)  # fast machines show no preview
    page.mouse.move(0, 0)
    page.locator(".composer-body").evaluate("one => one.scrollTop = 0")
    picture(page, "studio")
    made(page, 55)
    page.locator(".set", has_text="Seed 54").get_by_role("button", name="Compare", exact=True).click()
    slider = page.get_by_role("slider", name="How much of the left video")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "49"
    page.wait_for_timeout(300)  # for the pictures of both
    picture(page, "compare")
    assert not violations(page)


def test_what_was_copied_as_python_makes_the_same_request(studio):
    page = studio()
    write(page, PROMPT, seed=7)
    page.locator(".plan dl").wait_for()
    page.get_by_text("Copy as").click()
    page.get_by_role("button", name="Python").click()
    page.get_by_text("Copied as Python").wait_for()
    said = page.evaluate("navigator.clipboard.readText()")
    compile(said, "copied", "exec")
    assert 'extra_body={"seed": 7}' in said and PROMPT in said


# Trust.


def repainted(data: bytes, folder: Path) -> Path:
    """The video with another thing painted into it, coded again as an editor would."""
    import av

    source, target = folder / "given.mp4", folder / "painted.mp4"
    source.write_bytes(data)
    with av.open(str(source)) as given, av.open(str(target), "w") as made_:
        stream = made_.add_stream("libx264", rate=12, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for frame in given.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            pixels[150:214, 20:84] = (40, 90, 200)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")):
                made_.mux(packet)
        for packet in stream.encode():
            made_.mux(packet)
    return target


def test_a_tampered_file_is_found_out_and_mapped(studio, video, tmp_path):
    name, ask = video
    path = repainted(ask(f"/v1/videos/{name}/content"), tmp_path)
    page = studio("/#verify")
    page.locator("input[type=file]").set_input_files(path)
    verdict = page.locator(".verdict")
    verdict.wait_for(timeout=MADE)
    assert verdict.inner_text().startswith("Tampered"), verdict.inner_text()
    page.get_by_label("Show where it was changed").wait_for()
    drawn = "document.querySelector('.over-video').getContext('2d').getImageData(0, 0, 256, 256).data"
    alpha = np.array(page.evaluate(f"[...{drawn}]")).reshape(256, 256, 4)[..., 3]
    assert alpha[150:214, 20:84].max() > 60 and alpha[:100].max() < 60
    picture(page, "verify")
    assert not violations(page)


def test_the_evidence_is_in_the_language_of_the_page(studio, video):
    page = studio("/#verify", locale="zh-CN")
    name, ask = video
    file = {"name": "own.mp4", "mimeType": "video/mp4", "buffer": ask(f"/v1/videos/{name}/content")}
    page.locator("input[type=file]").set_input_files(file)
    page.locator(".verdict").wait_for(timeout=MADE)
    said = [*page.locator(".verdict p").all_inner_texts(), *page.locator(".evidence li").all_inner_texts()]
    assert len(said) > 2 and all(re.search("[\u4e00-\u9fff]", one) for one in said), said
    shown = page.locator(".evidence dd").all_text_contents()
    assert shown and not [one for one in shown if not re.search("[\u4e00-\u9fff]", one)], shown


def held_first(page, address="**/v1/verify"):
    """Holds the first request to an address; the list gets it, to be continued later."""
    held = []

    def hold(route):
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route(address, hold)
    return held


def test_a_late_verdict_is_not_shown_for_another_file(studio, video, tmp_path):
    name, ask = video
    page = studio("/#verify")
    held = held_first(page)
    page.locator("input[type=file]").set_input_files(repainted(ask(f"/v1/videos/{name}/content"), tmp_path))
    page.locator(".busy").wait_for()
    other = "new File([new Blob([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))])], 'plain.png')"
    page.evaluate(f"data => document.querySelector('sorano-verify').look({other})", plain_picture())
    page.locator(".verdict").wait_for(timeout=MADE)
    with page.expect_response("**/v1/verify", timeout=MADE):
        held[0].continue_()
    page.evaluate("document.querySelector('sorano-verify').updateComplete")
    shown = page.locator(".result-side")
    assert "plain.png" in shown.inner_text() and not page.get_by_text("Tampered").count()
    page.unroute("**/v1/verify")


def plain_picture():
    import base64
    import io

    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


def test_a_late_record_is_not_shown_for_another_video(studio, video):
    name, ask = video
    page = studio()
    made(page, 5)
    other = made_by_pressing_create_of(page, ask, name)
    held = held_first(page)
    opened = "id => dispatchEvent(new CustomEvent('sorano-open', { detail: { id, withRecord: true } }))"
    page.evaluate(opened, name)
    wait_until(lambda: page.wait_for_timeout(50) or held)
    page.evaluate(opened, other)
    page.locator(".record .verdict").wait_for(timeout=MADE)
    with page.expect_response("**/v1/verify", timeout=MADE):
        held[0].continue_()
    viewer = "document.querySelector('sorano-viewer')"
    assert page.evaluate(f"{viewer}.updateComplete.then(() => {viewer}.report.path)") == f"{other}.mp4"
    page.unroute("**/v1/verify")


def made_by_pressing_create_of(page, ask, other):
    """The id of a video beside another one, made by the page unless there is one."""
    import json

    done = [one["id"] for one in json.loads(ask("/v1/videos"))["data"] if one["status"] == "completed"]
    if len(done) < 2:
        write(page, PROMPT)
        made_by_pressing_create(page, 77)
        done = [one["id"] for one in json.loads(ask("/v1/videos"))["data"] if one["status"] == "completed"]
    return next(one for one in done if one != other)


def test_a_seed_of_more_digits_than_a_number_of_javascript_keeps_every_digit(studio, video):
    import json

    _, ask = video
    seed = 2**60 + 1
    name = json.loads(ask("/v1/videos", {"prompt": PROMPT, "seed": seed, "num_steps": 1}))["id"]
    page = studio()
    made(page, seed).locator(".card-picture").click()
    page.locator(".viewer .facts", has_text=str(seed)).wait_for()
    page.get_by_role("button", name="Use these settings").click()
    field = page.get_by_label("Seed", exact=True)
    wait_until(lambda: page.wait_for_timeout(50) or field.input_value() == str(seed))
    made_by_pressing_create(page, seed + 1)
    again, first = (one for one in listed(ask) if one["seed"] in (seed, seed + 1))
    assert (again["seed"], again["num_steps"], first["id"]) == (seed + 1, 1, name)


def test_a_video_that_could_not_be_deleted_stays(studio, video):
    page = studio()
    card = made(page, 5)
    said = '{"error": {"message": "the database cannot be reached; try again", "code": "database_unavailable"}}'
    refuse = {"status": 503, "content_type": "application/json", "body": said}
    page.route(f"**/v1/videos/{video[0]}", lambda route: route.fulfill(**refuse))
    card.hover()
    card.get_by_role("button", name=re.compile("^Delete")).click()
    card.get_by_role("button", name="Delete", exact=True).click()
    page.locator(".toast.error").wait_for()
    made(page, 5)
    assert page.locator("#live").inner_text() != "Deleted"
    page.unroute(f"**/v1/videos/{video[0]}")


@pytest.mark.parametrize("by_keys", [False, True])
def test_a_card_is_deleted_when_one_is_sure(studio, video, by_keys):
    import json

    _, ask = video
    name = json.loads(ask("/v1/videos", {"prompt": PROMPT, "seed": 92 + by_keys, "num_steps": 1}))["id"]
    page = studio()
    card = made(page, 92 + by_keys)
    delete = card.get_by_role("button", name=re.compile("^Delete:"))

    def press(button):
        if by_keys:
            button.focus()
            page.keyboard.press("Enter")
        else:
            button.click()

    card.hover() if not by_keys else None
    press(delete)
    press(card.get_by_role("button", name="Keep"))
    press(delete)
    sure = card.get_by_role("button", name="Delete", exact=True)
    sure.wait_for()
    assert page.evaluate("document.activeElement.textContent.trim()") == "Delete"
    page.keyboard.press("Enter")
    card.wait_for(state="detached")
    wait_until(lambda: page.wait_for_timeout(50) or name not in [one["id"] for one in listed(ask)])


def test_trying_again_keeps_the_files_of_a_request(studio, video):
    import json

    _, ask = video
    picture_url = f"data:image/png;base64,{plain_picture()}"
    words = {"prompt": PROMPT, "seed": 91, "paused": True, "input_reference": {"image_url": picture_url}}
    failed = json.loads(ask("/v1/videos", words))["id"]
    ask(f"/v1/videos/{failed}/cancel", {})
    page = studio()
    cards = page.locator("sorano-card", has_text="Cancelled")  # the newest first
    cards.first.get_by_role("button", name="Try again").click()
    again = wait_until(lambda: page.wait_for_timeout(50) or [one for one in listed(ask) if one["seed"] == 91][1:])
    one, other = (json.loads(ask(f"/v1/studio/videos/{name}/request"))["body"] for name in (failed, again[0]["id"]))
    assert one == other and one["input_reference"].startswith("file_")
    for video_of in listed(ask):
        if video_of["seed"] == 91 and video_of["status"] != "failed":
            ask(f"/v1/videos/{video_of['id']}/cancel", {})


def listed(ask):
    import json

    return json.loads(ask("/v1/videos"))["data"]


# Robustness.


def test_the_page_goes_on_after_the_server_was_restarted(studio, tmp_path):
    with Process("serve", "--port", "0", folder=tmp_path, maker=None) as first:
        address = first.wait_for_address()
        page = studio(at=address)
        write(page, PROMPT, seed=61)
        page.get_by_role("button", name="Create").click()
        page.locator("sorano-job").wait_for()
        first.kill()
    page.locator(".lost").wait_for()
    port = address.rpartition(":")[2]
    with Process("serve", "--port", port, folder=tmp_path, maker=None) as second:
        second.wait_for_address()
        made(page, 61)
        assert not page.locator(".lost").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_chinese(studio, video, scheme):
    page = studio(viewport=PHONE, locale="zh-CN", color_scheme=scheme, has_touch=True, is_mobile=True)
    page.get_by_role("heading", name="作品").wait_for()
    page.locator("sorano-card img").first.wait_for()
    page.get_by_label("描述", exact=True).fill("红色的球在草地上弹跳，日落时")
    page.locator(".plan dl").wait_for()
    page.locator(".plan .notes li", has_text="制作，放大").wait_for(state="attached")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not violations(page)
    picture(page, f"phone-{scheme}")
    small = page.evaluate(
        """[...document.querySelectorAll('button, a, summary, select, input:not(.hidden)')].filter(one => {
            const box = one.getBoundingClientRect();
            return one.offsetParent && box.width > 1 && (box.width < 24 || box.height < 24) && !one.closest('.hidden')
                && !['radio', 'checkbox'].includes(one.type);
        }).map(one => one.outerHTML.slice(0, 120))"""
    )
    assert not small, small


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/#verify"])
def test_axe_finds_nothing(studio, video, path, scheme):
    page = studio(path, color_scheme=scheme)
    (page.locator("sorano-card img").first if path == "/" else page.locator(".drop")).wait_for()
    if path == "/":
        write(page, "a red ball and a dragonn")
        page.locator(".prompt-ink mark").wait_for()
        page.locator(".more summary").click()
    assert not violations(page)
    if path == "/":
        page.locator("sorano-card .card-picture").first.click()
        page.locator(".viewer .facts").wait_for()
        assert not violations(page)


def test_nothing_moves_where_less_motion_is_wanted(studio, video):
    page = studio(reduced_motion="reduce")
    card = made(page, 5)
    card.locator(".card-picture").hover()
    page.wait_for_timeout(600)
    assert not card.locator("video").count()
    card.locator(".card-picture").click()
    page.get_by_role("button", name="Play").wait_for()
    assert page.evaluate("document.querySelector('.viewer video').paused")


def test_a_card_on_a_card_fills_the_gap_between_both(studio, video):
    page = studio()
    made(page, 5)
    cards = page.locator("sorano-card article[draggable]")
    other = cards.filter(has_not_text=re.compile(r"Seed 5$", re.M)).first
    held, target = page.evaluate_handle("new DataTransfer()"), made(page, 5).locator("article")
    other.dispatch_event("dragstart", {"dataTransfer": held})
    for kind in ("dragover", "drop"):
        target.dispatch_event(kind, {"dataTransfer": held})
    page.locator(".slot.full", has_text="Second video").wait_for()
    assert page.get_by_role("radio", name="Blend").is_checked()
    made_by_pressing_create(page, seed=77)


def test_a_loop_is_made(studio):
    page = studio()
    write(page, PROMPT)
    page.get_by_label("Loop", exact=False).first.check()
    made_by_pressing_create(page, seed=78)


def test_a_key_is_asked_for_and_files_come_with_it(studio, tmp_path):
    command = [sys.executable, "-m", "sorano", "serve", "keys", "create", "page", "--data", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment()).stdout
    secret = re.search(r"\S*sk\S*|sorano_\S+", said)[0]
    with Process("serve", "--port", "0", "--need-keys", folder=tmp_path) as process:
        page = studio(at=process.wait_for_address())
        page.get_by_label("API key").fill(secret)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("Your first video is a sentence away").wait_for()


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}
