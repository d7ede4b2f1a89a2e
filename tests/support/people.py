"""People at the desk's page: a browser context each, with one device (Chromium's virtual authenticator)."""

from support.browser import DESK, Problems

AUTHENTICATOR = {
    "protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "internal", "hasResidentKey": True,
    "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


class Somebody:
    """A browser of one person, with one device."""

    def __init__(self, chrome, stage, **options):
        options = {"viewport": DESK, "locale": "en-GB", "color_scheme": "light", **options}
        self.context = chrome.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.origin = stage.desk.settings.origin
        self.problems = Problems(self.page, self.origin)
        self.devtools = self.context.new_cdp_session(self.page)
        self.devtools.send("WebAuthn.enable")
        added = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        self.device = added["authenticatorId"]

    def go(self, part):
        self.page.goto(f"{self.origin}/#{part}")
        self.page.locator("sorano-desk header").wait_for()

    def enrol(self, code):
        self.go("enrol")
        self.page.get_by_label("Whole code").fill(code)
        self.page.get_by_role("button", name="Enrol this device").click()
        self.said("This device is enrolled")

    def sign_in(self):
        self.page.get_by_role("button", name="Sign in with your passkey").click()
        self.page.get_by_role("button", name="Sign out").wait_for()

    def card(self, text):
        """The request that waits for this person's answer; the page is loaded anew rather than waited for."""
        self.page.reload()
        card = self.page.locator("article.ask", has_text=text)
        card.wait_for()
        return card

    def said(self, text):
        self.page.get_by_role("status").get_by_text(text).wait_for()

    def close(self):
        self.context.close()
        assert not self.problems.found, self.problems.found


def enrolled(chrome, stage, handle, roles, **options):
    """Somebody new, for whom two founders vouched, enrolled and signed in."""
    two = [stage.people[one] for one in ("treasurer", "controller")]
    words = {"handle": handle, "name": handle.title(), "roles": roles}
    ticket = two[0].call("POST", "/tickets", words)["id"]
    one = Somebody(chrome, stage, **options)
    one.enrol(".".join([ticket, *(sponsor.sponsor(ticket) for sponsor in two)]))
    one.sign_in()
    return one
