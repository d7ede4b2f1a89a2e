"""Keys and roots: made once, owner-only, rotated, replaced by another signer; whose signatures count."""

import json
import os
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sorano.errors import RequestError, TrustError
from sorano.trust.provenance import keys, roots


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Moves to a home of its own: home("bob") is Bob's, with his keys and his trust."""

    def move(name):
        monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / name))
        return tmp_path / name

    move("alice")
    return move


def test_keys_are_made_on_the_first_use_for_their_owner_only(home):
    who = keys.identity()
    again = keys.identity()
    assert who.chain_pem == again.chain_pem
    files = [file for file in home("alice").rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"root.key", "root.pem", "leaf.key", "leaf.pem"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_folder_follows_the_users_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("SORANO_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert keys.config_folder() == tmp_path / "x" / "sorano"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # the standard says to ignore these
    monkeypatch.setenv("HOME", str(tmp_path / "h"))
    assert keys.config_folder() == tmp_path / "h" / ".config" / "sorano"


def test_keys_are_kept_and_a_name_is_checked(home):
    keys.init("Studio A")
    assert keys.identity().name == "Studio A"
    with pytest.raises(RequestError, match="they are kept"):
        keys.init("Studio B")
    home("other")
    for name in ("", "x" * 65, "two\nlines"):
        with pytest.raises(RequestError):
            keys.init(name or " \n")


def test_a_new_leaf_keeps_the_root_and_a_new_root_does_not(home):
    first = keys.init("Studio A")
    root = keys.export()
    second = keys.rotate()
    assert second.chain_pem != first.chain_pem and keys.export() == root
    keys.rotate(root=True)
    assert keys.export() != root and root in keys.own_roots()  # what was signed under it still counts here
    kinds = [info.kind for info in keys.list_keys()]
    assert kinds.count("retired") == 3 and kinds.count("root") == kinds.count("leaf") == 1
    assert not list((keys.keys_folder() / "retired").glob("*.key"))
    assert keys.identity().name == "Studio A"


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_key_that_others_can_read_is_refused(home):
    keys.identity()
    (keys.keys_folder() / "leaf.key").chmod(0o644)
    with pytest.raises(TrustError, match="read by others.*\n.*chmod 600"):
        keys.identity()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "cannot be read"), (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "")],
)
def test_a_key_that_cannot_be_read_is_said(home, content, said):
    keys.identity()
    (keys.keys_folder() / "leaf.key").write_bytes(content)
    with pytest.raises(TrustError, match=f"leaf.key.*{said}"):
        keys.identity()


def test_a_key_of_another_leaf_is_said(home):
    keys.identity()
    (keys.keys_folder() / "root.key").replace(keys.keys_folder() / "leaf.key")
    with pytest.raises(TrustError, match="does not belong"):
        keys.identity()


def test_a_certificate_that_ended_and_a_clock_that_is_wrong_are_told_apart(home):
    leaf = keys.identity().leaf
    with pytest.raises(TrustError, match="was valid until"):
        keys.check_validity(leaf, datetime.now(UTC) + timedelta(days=4000))
    with pytest.raises(TrustError, match="is valid from.*this machine says.*\n.*clock"):
        keys.check_validity(leaf, datetime.now(UTC) - timedelta(days=40))


def test_a_leaf_near_its_end_is_replaced_before_it_signs(home, monkeypatch):
    first = keys.identity()
    monkeypatch.setattr(keys, "RENEW_DAYS", 365 * keys.LEAF_YEARS + 1)
    second = keys.identity()
    assert second.chain_pem != first.chain_pem


def test_a_folder_that_cannot_be_written_is_said_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "file" / "config"))
    with pytest.raises(TrustError, match="SORANO_CONFIG"):
        keys.identity()


def test_a_signer_elsewhere_signs_by_a_command(home, tmp_path):
    """Stands for a KMS or a card: a program that reads bytes and answers with a DER signature."""
    own = keys.init("Held elsewhere")
    key, chain = keys.keys_folder() / "leaf.key", tmp_path / "chain.pem"
    chain.write_text(own.chain_pem)
    script = tmp_path / "sign.py"
    script.write_text(
        "import sys\n"
        "from cryptography.hazmat.primitives import hashes, serialization\n"
        "from cryptography.hazmat.primitives.asymmetric import ec\n"
        "key = serialization.load_pem_private_key(open(sys.argv[1], 'rb').read(), None)\n"
        "sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read(), ec.ECDSA(hashes.SHA256())))\n"
    )
    anchors = keys.export()
    home("bob")
    who = keys.init_external(chain, f"{sys.executable} {script} {key}")
    assert keys.identity().name == who.name == "Held elsewhere"
    leaf = roots.require_signature(who.chain_pem, who.sign(b"words"), b"words", anchors, "a text")
    assert keys.common_name(leaf) == "Held elsewhere"
    keys.init_external(chain, f"{sys.executable} -c pass")
    with pytest.raises(TrustError, match="no ES256 signature"):
        keys.identity().sign(b"words")
    keys.init_external(chain, "/nowhere/signer")
    with pytest.raises(TrustError, match="did not answer"):
        keys.identity().sign(b"words")


def test_a_signature_counts_only_under_a_trusted_root(home, tmp_path):
    alice = keys.init("Alice")
    (tmp_path / "alice.pem").write_text(keys.export())
    signature = alice.sign(b"words")
    home("bob")
    keys.init("Bob")
    with pytest.raises(TrustError, match="no root that is trusted"):
        roots.require_signature(alice.chain_pem, signature, b"words", roots.anchors(), "a text")
    assert roots.anchors(tmp_path / "alice.pem").count("BEGIN") == 2  # for one question only
    (added,) = roots.add(tmp_path / "alice.pem")
    assert (added.name, added.subject) == ("Alice", "Alice root")
    roots.require_signature(alice.chain_pem, signature, b"words", roots.anchors(), "a text")
    with pytest.raises(TrustError, match="does not hold"):
        roots.require_signature(alice.chain_pem, signature, b"other words", roots.anchors(), "a text")
    assert [root.kind for root in roots.list_roots()] == ["own", "root"]
    roots.remove(added.fingerprint[:8])
    assert [root.kind for root in roots.list_roots()] == ["own"]
    with pytest.raises(RequestError, match="nothing that was added"):
        roots.remove(added.fingerprint)


def test_a_leaf_is_no_root_and_cannot_make_others(home, tmp_path):
    alice = keys.init("Alice")
    (tmp_path / "leaf.pem").write_text(keys.to_pem(alice.leaf))
    with pytest.raises(TrustError, match="holds no root"):
        roots.add(tmp_path / "leaf.pem")
    key = keys._private_key(keys.keys_folder() / "leaf.key")
    forged_key, forged = keys._make_leaf("Mallory", key, alice.leaf)  # a leaf that signs a leaf
    chain = keys.to_pem(forged) + alice.chain_pem
    with pytest.raises(TrustError):
        roots.require_signature(chain, keys.signer_of(forged_key)(b"x"), b"x", roots.anchors(), "a text")
    with pytest.raises(TrustError, match="meant for certificates"):
        roots.require_chain(keys.export(), roots.anchors(), "a text")


@pytest.mark.parametrize("content", ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_root_is_refused(home, tmp_path, content):
    (tmp_path / "a.pem").write_text(content)
    with pytest.raises(TrustError, match=r"a\.pem"):
        roots.add(tmp_path / "a.pem")
    with pytest.raises(TrustError, match=r"missing\.pem"):
        roots.add(tmp_path / "missing.pem")


def test_a_private_carrier_is_committed_first_and_disclosed_later(home, tmp_path):
    keys.init("Alice")
    carrier = keys.new_carrier()
    assert keys.carriers() == [carrier] and carrier.key.hex() not in carrier.commitment
    assert keys.commitment_of(carrier.id, carrier.key) == carrier.commitment
    assert replace(carrier, key=bytes(32)).commitment != carrier.commitment
    (tmp_path / "bundle.json").write_text(keys.disclose(carrier.id[:6]))
    (tmp_path / "alice.pem").write_text(keys.export())
    home("bob")
    with pytest.raises(TrustError, match="no root that is trusted"):
        roots.add(tmp_path / "bundle.json")
    (root,) = roots.add(tmp_path / "alice.pem")
    roots.add(tmp_path / "bundle.json")
    assert [(one.id, one.key) for one in roots.disclosed_carriers()] == [(carrier.id, carrier.key)]
    forged = json.loads((tmp_path / "bundle.json").read_text()) | {"key": "00" * 32}
    (tmp_path / "forged.json").write_text(json.dumps(forged))
    with pytest.raises(TrustError, match="does not hold"):
        roots.add(tmp_path / "forged.json")
    roots.remove(root.fingerprint)
    assert roots.disclosed_carriers() == []
    with pytest.raises(RequestError, match="no private carrier"):
        keys.disclose(carrier.id)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"type": "sorano carrier disclosure 1"}'])
def test_a_broken_bundle_is_refused_by_name(home, tmp_path, text):
    (tmp_path / "b.json").write_text(text if text.startswith("{") else "{" + text)
    with pytest.raises(TrustError, match=r"b\.json"):
        roots.add(tmp_path / "b.json")


# Folders and files that others can write to.


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("place", [".", "trust", "trust/{print}.pem", "trust/{print}.name", "keys", "keys/root.pem"])
def test_trust_that_others_can_write_to_is_refused(home, tmp_path, place):
    keys.init("Alice")
    (tmp_path / "alice.pem").write_text(keys.export())
    folder = home("bob")
    keys.init("Bob")
    (added,) = roots.add(tmp_path / "alice.pem", "Alice of the press")
    assert roots.anchors().anchors[1].name == "Alice of the press"
    spot = folder / place.format(print=added.fingerprint)
    for mode in (0o020, 0o002):
        before = stat.S_IMODE(spot.stat().st_mode)
        spot.chmod(before | mode)
        with pytest.raises(TrustError, match="can be written to by others") as caught:
            roots.anchors()
        assert caught.value.hint == f"chmod go-w {spot}"
        spot.chmod(before)
    assert len(roots.anchors().anchors) == 2


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_keys_that_others_can_write_to_do_not_sign(home):
    folder = home("alice")
    keys.init("Alice")
    for spot in (folder, folder / "keys", folder / "keys" / "leaf.pem", folder / "keys" / "leaf.key"):
        before = stat.S_IMODE(spot.stat().st_mode)
        spot.chmod(before | 0o020)
        with pytest.raises(TrustError, match="can be written to by others"):
            keys.identity()
        spot.chmod(before)
    carrier = keys.new_carrier()
    (folder / "carriers").chmod(0o777)
    with pytest.raises(TrustError, match="can be written to by others"):
        keys.carriers()
    (folder / "carriers").chmod(0o700)
    assert keys.carriers() == [carrier]


@pytest.mark.skipif(os.name != "posix", reason="POSIX owners")
def test_trust_that_belongs_to_another_user_is_refused(home, monkeypatch):
    keys.init("Alice")
    owner = os.stat(home("alice")).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        roots.anchors()  # what the administrator owns counts for everybody
        found = os.stat_result((0o100600, 1, 1, 1, 4242, 0, 10, 0, 0, 0))
        monkeypatch.setattr("pathlib.Path.stat", lambda *_, **__: found)
    with pytest.raises(TrustError, match="belongs to another user"):
        keys.check_guarded(home("alice"))


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_folders_are_made_for_their_owner_whatever_the_umask(home, tmp_path):
    before = os.umask(0o000)
    try:
        keys.init("Alice")
        (tmp_path / "alice.pem").write_text(keys.export())
        folder = home("bob")
        roots.add(tmp_path / "alice.pem")
        keys.new_carrier()
    finally:
        os.umask(before)
    places = [one for one in (folder, *folder.rglob("*")) if one.is_dir()]
    assert {stat.S_IMODE(one.stat().st_mode) for one in places} == {0o700}
    roots.anchors()


def test_a_damaged_name_of_a_root_is_said(home, tmp_path):
    keys.init("Alice")
    (tmp_path / "alice.pem").write_text(keys.export())
    folder = home("bob")
    (added,) = roots.add(tmp_path / "alice.pem")
    for text in ("{", "[]", '{"name": 1, "only_for": []}', '{"name": "x"}', '{"name": "x", "only_for": [1]}'):
        (folder / "trust" / f"{added.fingerprint}.name").write_text(text)
        with pytest.raises(TrustError, match="does not say a root's name"):
            roots.anchors()
    (folder / "trust" / f"{added.fingerprint}.name").unlink()  # added before names were kept
    assert roots.anchors().anchors[0].name == "Alice"


def test_roots_are_added_and_listed_under_a_name(home, tmp_path):
    from typer.testing import CliRunner

    from sorano import cli

    keys.init("Alice")
    (tmp_path / "alice.pem").write_text(keys.export())
    home("bob")
    words = ["trust", "add", str(tmp_path / "alice.pem"), "--name", "Studio A", "--only-for", "Alice"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0 and "Studio A  (its certificate says 'Alice root')  only for 'Alice'" in done.output
    listed = CliRunner().invoke(cli.app, ["trust", "list", "--json"])
    (root,) = json.loads(listed.output)["roots"]
    assert (root["name"], root["subject"], root["only_for"]) == ("Studio A", "Alice root", ["Alice"])
    assert CliRunner().invoke(cli.app, ["trust", "remove", "Studio A"]).exit_code == 0
    assert roots.list_roots() == []
    assert list((home("bob") / "trust").iterdir()) == []


def test_who_disclosed_a_carrier_is_called_by_the_roots_name_here(home, tmp_path):
    keys.init("Alice")
    carrier = keys.new_carrier()
    (tmp_path / "bundle.json").write_text(keys.disclose(carrier.id))
    (tmp_path / "alice.pem").write_text(keys.export())
    home("bob")
    keys.init("Bob")
    roots.add(tmp_path / "alice.pem", "The press", ["Somebody else"])
    with pytest.raises(TrustError, match="for whom no root is trusted"):
        roots.add(tmp_path / "bundle.json")
    roots.add(tmp_path / "alice.pem", "The press", ["Alice"])
    (added,) = roots.add(tmp_path / "bundle.json")
    assert added.name == f"{carrier.id}, disclosed by The press"
