"""The desk's page in Chromium, with its virtual authenticators: one for each person, as real devices are."""

import json
import re

import pytest
from support import browser as browsing
from support.browser import PHONE, picture, violations
from support.people import enrolled
from support.serving import ROOT

from sorano.desk import demo
from sorano.desk.client import Refusal

PAGE = ROOT / "src" / "sorano" / "desk" / "page"
ORDER = {
    "amount": "13333333.33", "payee": "Harbour Holdings 1 Ltd", "account": "012-875-480123",
    "note": "Confidential, urgent: do not tell anyone", "call_id": "call-2024-01",
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(chrome, tmp_path_factory):
    """A desk over HTTP, whose clock can be sent forward."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORANO_CONFIG", str(folder / "config"))
        with demo.stage(folder) as on:
            yield on


@pytest.fixture
def somebody(chrome, stage):
    """Browsers of people who are added to the directory, and enrolled on the page."""
    opened = []

    def make(handle, roles, **options):
        opened.append(enrolled(chrome, stage, handle, roles, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def file(stage, **words):
    body = {"action": "transfer", "currency": "HKD", **ORDER, **words}
    return stage.people["clerk"].call("POST", "/requests", body)["id"]


def test_the_case_as_people_see_it(stage, somebody):
    """The clerk files what the call asked for; the real CFO reads it on their own device, and denies it."""
    clerk, boss = somebody("kim", ["file"]), somebody("chan", ["approve"])
    clerk.go("new")
    for label, value in (("Amount", ORDER["amount"]), ("Payee", ORDER["payee"]), ("Account", ORDER["account"]),
                         ("Note", ORDER["note"]), ("Call (if it came from one)", ORDER["call_id"])):  # fmt: skip
        clerk.page.get_by_label(label, exact=True).fill(value)
    clerk.page.get_by_label("In whose name").select_option("chan")
    picture(clerk.page, "desk-1-file")
    clerk.page.get_by_role("button", name="File the request").click()
    clerk.page.get_by_text("The note asks for secrecy.").wait_for()
    card = boss.card(ORDER["payee"])
    card.get_by_text("This is in your name. Did you ask for it?").wait_for()
    assert card.locator(".big").inner_text().split("\n")[1::2] == [
        "HKD 13,333,333.33",
        ORDER["payee"],
        ORDER["account"],
    ]
    assert not violations(boss.page)
    picture(boss.page, "desk-2-asked")
    card.get_by_role("button", name="Deny").click()
    boss.said("The request is denied.")
    boss.page.get_by_text("Nothing waits for you.").wait_for()
    clerk.go("requests")
    clerk.page.reload()
    clerk.page.locator(".state.denied").first.wait_for()
    picture(clerk.page, "desk-3-denied")


def test_an_approval_with_a_real_browsers_passkey(stage, somebody):
    boss = somebody("lee", ["approve"])
    words = {"payee": "Arched Bridge Steel Ltd", "account": "004-500-991273", "amount": "90000.00"}
    request = file(stage, requested_by="lee", note="Invoice 4471", call_id="", **words)
    card = boss.card("Arched Bridge")
    field = card.get_by_label("Type the last four characters of the account")
    field.fill("0000")
    card.get_by_role("button", name="Approve with your passkey").click()
    boss.said("This is not what the request says of the account")
    boss.page.reload()
    field.fill("1273")
    picture(boss.page, "desk-4-approve")
    card.get_by_role("button", name="Approve with your passkey").click()
    boss.said("Your answer is recorded.")
    for one in ("treasurer", "controller"):
        stage.people[one].approve(request)
    assert stage.desk.confirm.get(request, None)["status"] == "cleared"
    stage.hours.ahead += stage.desk.policy.cooling_seconds + 1
    assert json.loads(stage.executor.release(request))["amount"] == "90000.00"


def test_a_device_that_does_not_know_its_user_approves_nothing(stage, somebody):
    boss = somebody("wong", ["approve"])
    request = file(stage, requested_by="wong", payee="Another Ltd")
    card = boss.card("Another Ltd")
    boss.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": boss.device, "isUserVerified": False})
    card.get_by_label("Type the last four characters of the account").fill("0123")
    card.get_by_role("button", name="Approve with your passkey").click()
    boss.said("The device gave no answer, or was told no.")
    assert stage.desk.confirm.get(request, None)["approvals"] == []


def test_a_page_of_another_origin_gets_no_passkey_from_a_browser(stage, somebody):
    """The browser itself refuses: the desk's passkeys are not another site's."""
    boss = somebody("ho", ["approve"])
    request = file(stage, requested_by="ho", payee="Third Ltd")
    options = boss.page.evaluate(
        "name => fetch(`/requests/${name}/ceremony`, {method: 'POST'}).then((answer) => answer.json())", request
    )
    other = boss.context.new_page()
    port = stage.desk.settings.port
    other.route(
        "**/*", lambda route: route.fulfill(body="<title>Looks like the desk</title>", content_type="text/html")
    )
    other.goto(f"http://desk.localhost:{port}/")
    said = other.evaluate(
        """async (asked) => { try {
            const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON({...asked, timeout: 2000});
            return (await navigator.credentials.get({publicKey})).toJSON();
        } catch (error) { return error.name; } }""",
        options["publicKey"],
    )
    assert said in ("SecurityError", "NotAllowedError")


def test_duress_says_what_an_approval_says(stage, somebody):
    boss = somebody("ng", ["approve"])
    request = file(stage, requested_by="ng", payee="Fourth Ltd")
    card = boss.card("Fourth Ltd")
    card.get_by_label("Type the last four characters of the account").fill("0123")
    card.get_by_role("button", name="I am being coerced").click()
    boss.said("Your answer is recorded.")
    assert stage.desk.confirm.get(request, None)["is_duress"]
    boss.page.locator(".state.pending").first.wait_for()  # as after an approval
    with pytest.raises(Refusal, match="request_over"):
        stage.executor.release(request)


def test_chinese_on_a_telephone(stage, somebody):
    boss = somebody("lam", ["approve"], viewport=PHONE)
    file(stage, requested_by="lam", payee="海港控股有限公司", note="紧急，请保密")
    boss.page.get_by_role("button", name="中文").click()
    card = boss.card("海港控股")
    card.get_by_text("此请求以您的名义提出").wait_for()
    assert card.get_by_text("说明要求保密。").count() and card.get_by_text("说明催促办理。").count()
    assert boss.page.evaluate("document.documentElement.lang") == "zh-CN"
    assert boss.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not violations(boss.page)
    picture(boss.page, "desk-5-chinese")
    card.get_by_label("请输入账号的最后四位").fill("9999")
    card.get_by_role("button", name="用通行密钥批准").click()
    boss.said("输入与请求不符")


def test_people_vouch_on_the_page(stage, somebody):
    admin = somebody("ada", ["approve", "admin"])
    admin.go("people")
    admin.page.get_by_label("Handle").fill("new.one")
    admin.page.get_by_label("Name", exact=True).fill("New One")
    admin.page.get_by_role("button", name="Open").click()
    admin.page.get_by_role("button", name="Vouch with your passkey").click()
    half = admin.page.locator(".half code").inner_text()
    assert re.fullmatch(r"[A-Z2-9]{10}", half)
    ticket = next(one for one in stage.desk.directory.tickets("per_x") if one["person"] == "new.one")
    assert ticket["sponsors"] == 1
    admin.page.get_by_role("button", name="Vouch").wait_for(state="detached")
    assert not violations(admin.page)
    picture(admin.page, "desk-6-people")


def test_a_stranger_reads_what_is_stored_how_long_and_how_it_is_erased(chrome, stage):
    page = chrome.new_context(viewport=PHONE, locale="zh-CN").new_page()
    problems = browsing.Problems(page, stage.desk.settings.origin)
    page.goto(f"{stage.desk.settings.origin}/")
    page.get_by_role("link", name="隐私").click()
    page.get_by_text("结束后 400 天").wait_for()
    page.get_by_role("button", name="English").click()
    page.get_by_text("400 days after its end").wait_for()
    assert page.locator("desk-privacy .sheet").count() == 11
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not violations(page) and not problems.found, problems.found
    picture(page, "desk-9-privacy")
    page.context.close()


def test_every_text_is_in_both_languages_and_every_used_one_is_there():
    from sorano.web import SHARED_PAGE

    table = "".join((root / "i18n.js").read_text(encoding="utf-8") for root in (SHARED_PAGE, PAGE))
    entries = re.findall(r"'([\w.]+)': \[('(?:[^'\\]|\\.)*'), ('(?:[^'\\]|\\.)*')\]", table)
    for name, english, chinese in entries:
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), name
    known = {name for name, _, _ in entries}
    scripts = "".join(one.read_text(encoding="utf-8") for one in PAGE.glob("*.js"))
    used = set(re.findall(r"\bt\('([\w.]+)'", scripts))
    held = re.search(r"HELD = \[([^\]]+)\]", scripts)[1]
    used |= {f"privacy.{one}{end}" for one in re.findall(r"\w+", held) for end in ("", ".long", ".erased")}
    assert used <= known and len(used) > 40, used - known
    reasons = (PAGE.parent / "policy.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'Reason\("(\w+)"', reasons)) | {"amount", "velocity", "payee_velocity"}
    codes |= {f"{one}_refused" for one in ("amount", "velocity", "payee_velocity")}
    assert {f"reason.{one}" for one in codes} <= known
