"""What a confirmation costs: the desk as a process, over HTTP, with SQLite, its receipts on the disk and its anchor.

    python benchmarks/desk.py [--requests 200] [--database postgresql://...]

Server and client share this machine's cores. Assertions are signed before the clock starts. The policy is the usual one
without its cooling-off, and people may begin any number of confirmations. Beside it, in the same run, the library's own
verification of the same assertions, so that the price of the ledger is known. The last line is one JSON document; the
bar is a p99 of 30 ms for a verification on two cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BAR_MS = 30.0


class Server:
    """A desk as a process, and a connection that is kept."""

    def __init__(self, folder: Path, port: int, database: str | None) -> None:
        command = [sys.executable, __file__, "--serve", str(folder), "--port", str(port)]
        command += ["--database", database] if database else []
        self.log = open(folder / "log", "w")
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.to = http.client.HTTPConnection("localhost", port, timeout=30)

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Any:
        """A request on the one connection."""
        self.to.request(method, path, body, headers)
        answer = self.to.getresponse()
        return answer.status, dict(answer.headers.items()), answer.read()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def opened(folder: Path, port: int, database: str | None) -> Any:
    """The desk of the measurement."""
    from sorano.desk.config import DeskSettings, database_url
    from sorano.desk.policy import USUAL
    from sorano.desk.service import Desk

    policy = folder / "policy.toml"
    policy.write_text(USUAL.read_text(encoding="utf-8").replace("cooling_hours = 24", "cooling_hours = 0"))
    url, origin = database_url(database, folder), f"http://localhost:{port}"
    return Desk.open(
        DeskSettings(data=folder, database=url, origin=origin, port=port, policy=policy, most_ceremonies=1_000_000)
    )


def begin(folder: Path, port: int, database: str | None) -> tuple[list[tuple[str, str]], tuple[str, str]]:
    """Found a desk; the founders' codes, and keys that file and execute."""
    from sorano.desk.demo import STAFF

    desk = opened(folder, port, database)
    codes = desk.directory.found([(one, one.title()) for one in STAFF])
    filing, executing = (desk.keys.create_with(scope, [scope], {})[1] for scope in ("file", "execute"))
    desk.close()
    return codes, (filing, executing)


def timed(spent: list[float], act: Callable[[], Any]) -> Any:
    """What `act` returns; the milliseconds that it took go to `spent`."""
    began = time.perf_counter()
    found = act()
    spent.append(1000 * (time.perf_counter() - began))
    return found


def measure(folder: Path, port: int, count: int, database: str | None) -> dict[str, list[float]]:
    """Milliseconds of each step of `count` confirmed requests."""
    from sorano.desk.client import Person, Program
    from sorano.desk.demo import STAFF
    from sorano.desk.fields import digits_of

    codes, keys = begin(folder, port, database)
    server = Server(folder, port, database)
    origin = f"http://localhost:{port}"
    spent: dict[str, list[float]] = {name: [] for name in ("file", "options", "verify", "consume", "library")}
    try:
        people = {handle: Person(server.send, origin) for handle, _ in codes}
        for handle, code in codes:
            people[handle].enrol(code)
            people[handle].sign_in()
        filer, executor = (Program(server.send, key) for key in keys)
        order = {"action": "transfer", "amount": "12000.00", "currency": "HKD", "requested_by": STAFF[0]}
        for number in range(count):
            body = {**order, "payee": f"Payee {number}", "account": f"004-500-{100_000 + 17 * number}"}
            request = timed(spent["file"], lambda body=body: filer.call("POST", "/requests", body))
            for handle in STAFF:
                who, path = people[handle], f"/requests/{request['id']}"
                options = timed(spent["options"], lambda who=who, path=path: who.call("POST", f"{path}/ceremony", {}))
                credential = who.device.get(options, origin)
                given = {"ceremony": options["ceremony"], "credential": credential}
                given["digits"] = digits_of(request, options["asks"])
                timed(
                    spent["verify"], lambda who=who, path=path, given=given: who.call("POST", f"{path}/approve", given)
                )
                library(spent["library"], who, options, credential, origin)
            path, exact = f"/requests/{request['id']}/consume", executor.exact(request["id"])
            timed(spent["consume"], lambda path=path, exact=exact: executor.call("POST", path, {"exact": exact}))
    finally:
        server.stop()
    return spent


def library(spent: list[float], who: Any, options: dict[str, Any], credential: dict[str, Any], origin: str) -> None:
    """The same assertion, verified by `webauthn` alone."""
    import webauthn
    from cryptography.hazmat.primitives.asymmetric import ec
    from webauthn.helpers import base64url_to_bytes, encode_cbor

    key: ec.EllipticCurvePrivateKey = who.device.made["localhost"][1]
    public = key.public_key().public_numbers()
    cose = {1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32, "big"), -3: public.y.to_bytes(32, "big")}
    timed(
        spent,
        lambda: webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=base64url_to_bytes(options["publicKey"]["challenge"]),
            expected_rp_id="localhost",
            expected_origin=origin,
            credential_public_key=encode_cbor(cose),
            credential_current_sign_count=0,
            require_user_verification=True,
        ),
    )


def at(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--requests", type=int, default=200)
    words.add_argument("--port", type=int, default=8019)
    words.add_argument("--database")
    words.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.serve:
        from sorano.desk.server import serve

        serve(opened(given.serve, given.port, given.database), lambda address: print(address, flush=True))
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ["SORANO_CONFIG"] = str(Path(place) / "config")
        folder = Path(place) / "desk"
        folder.mkdir()
        spent = measure(folder, given.port, given.requests, given.database)
    rows = {name: values for name, values in spent.items() if values}
    print(f"{'':<10}{'n':>6}{'median':>9}{'p95':>9}{'p99':>9}{'most':>9}   ms")
    for name, values in rows.items():
        figures = (statistics.median(values), at(values, 0.95), at(values, 0.99), max(values))
        print(f"{name:<10}{len(values):>6}" + "".join(f"{one:>9.2f}" for one in figures))
    told = {
        name: {"p50": round(statistics.median(one), 2), "p99": round(at(one, 0.99), 2)} for name, one in rows.items()
    }
    passed = at(spent["verify"], 0.99) <= BAR_MS
    print(
        json.dumps(
            {"ms": told, "bar_ms": BAR_MS, "passed": passed, "cores": os.cpu_count(), "cpu": platform.processor()}
        )
    )


if __name__ == "__main__":
    main()
