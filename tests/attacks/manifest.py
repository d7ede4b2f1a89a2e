"""Attacks with credentials: somebody else's, of another file, without a right to them, or past their time."""

import shutil
import time
from datetime import UTC, datetime, timedelta

from attacks.registry import attack
from attacks.stage import c2pa_box
from attacks.tools import FPS, XMP_UUID, Box, encode, frames_of, parse, remux, root
from sorano.trust import record
from sorano.trust.copies import fingerprint
from sorano.trust.provenance import credentials, store

GROUP = "manifest"


def names_the_root(report):
    """A signer is shown by the trusted root's own name; a name in the leaf is a claim."""
    signer = report["signer"] or ""
    return None if "House B" in signer and not signer.startswith("Studio A") else f"the signer is shown as {signer!r}"


def not_by_studio_a(report):
    """Whoever vouches, it is not Studio A."""
    return None if "Studio A" not in (report["signer"] or "") else "Studio A seems to vouch for it"


def unsigned(stage, folder, name="forged.mp4"):
    """Foreign film without a credential."""
    return encode(folder / name, stage.foreign, sound=stage.lies, options={"movflags": "faststart"})


@attack(GROUP, quick=True)
def manifest_of_another_file(stage, folder):
    """The credential of the signed recording is put into foreign film."""
    data = unsigned(stage, folder, "plain.mp4").read_bytes()
    first = len(bytes(parse(data).inside[0]))
    (folder / "forged.mp4").write_bytes(data[:first] + c2pa_box(stage.signed) + data[first:])
    return folder / "forged.mp4"


@attack(GROUP)
def manifests_exchanged(stage, folder):
    """The credential of one signed recording is put into another of the same signer."""
    data = stage.signed.read_bytes()
    (folder / "forged.mp4").write_bytes(data.replace(c2pa_box(stage.signed), c2pa_box(stage.other)))
    return folder / "forged.mp4"


@attack(GROUP, quick=True)
def same_name_other_root(stage, folder):
    """Mallory signs foreign film with a certificate that names Studio A, under a root of hers."""
    return stage.signed_by(unsigned(stage, folder), stage.mallory.leaf("Studio A"))


@attack(
    GROUP, verified="House B's root is trusted and signed it; what counts is who it is said to be", check=names_the_root
)
def leaf_named_like_another(stage, folder):
    """Another trusted root issues a leaf that is named "Studio A"."""
    return stage.signed_by(unsigned(stage, folder), stage.house.leaf("Studio A"))


@attack(GROUP)
def leaf_that_signs_leaves(stage, folder):
    """An ordinary certificate of House B is used to issue one named "Studio A"."""
    middle = stage.house.leaf("A customer of House B")
    return signed_past_checks(stage, folder, middle.leaf("Studio A"))


def signed_past_checks(stage, folder, signer):
    """Signed foreign film; where the library refuses to sign with such a chain, the attack fails by that."""
    from sorano.errors import TrustError

    path = unsigned(stage, folder)
    try:
        return stage.signed_by(path, signer)
    except TrustError:
        return path


@attack(GROUP)
def root_with_the_same_name_and_subject(stage, folder):
    """A root of the same subject as Studio A's own, with another key."""
    with stage.at("alice"):
        from sorano.trust.provenance import keys

        name = keys.common_name(keys.certificates(keys.export(), "the root")[0])
    return signed_past_checks(stage, folder, root(name).leaf("Studio A"))


@attack(GROUP)
def expired_leaf(stage, folder):
    """Foreign film is signed with a certificate of House B that ended a moment ago."""
    begins, ends = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(seconds=8)
    path = stage.signed_by(unsigned(stage, folder), stage.house.leaf("House B", begins=begins, ends=ends))
    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds() + 1))
    return path


@attack(GROUP)
def leaf_of_tomorrow(stage, folder):
    """Foreign film is signed with a certificate of House B that begins tomorrow."""
    begins = datetime.now(UTC) + timedelta(days=1)
    from sorano.trust.provenance import keys

    kept, keys.check_validity = keys.check_validity, lambda *_: None
    try:
        return signed_past_checks(stage, folder, stage.house.leaf("House B", begins=begins))
    finally:
        keys.check_validity = kept


@attack(GROUP)
def trusted_ingredient_only(stage, folder):
    """Mallory signs foreign film that names Studio A's signed recording as its source."""
    source = credentials.Ingredient(stage.signed, "parentOf", "signed.mp4")
    path = unsigned(stage, folder)
    return stage.signed_by(path, stage.mallory.leaf("Mallory"), kind="edited", ingredients=(source,))


@attack(GROUP)
def signature_zeroed(stage, folder):
    """The signature's last bytes in the signed file are zeroed."""
    data = bytearray(stage.signed.read_bytes())
    at = data.index(b"c2pa.signature") + 700
    data[at : at + 64] = bytes(64)
    (folder / "forged.mp4").write_bytes(data)
    return folder / "forged.mp4"


@attack(GROUP)
def kind_changed_in_the_manifest(stage, folder):
    """In a file signed as made by AI, the manifest is changed to say that a camera recorded it."""
    data = stage.made.read_bytes()
    was, now = b"trainedAlgorithmicMedia", b"digitalCapture\0\0\0\0\0\0\0\0\0"
    (folder / "forged.mp4").write_bytes(data.replace(was, now))
    return folder / "forged.mp4"


@attack(GROUP)
def remote_manifest(stage, folder):
    """Foreign film whose XMP names a manifest elsewhere."""
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dcterms="http://purl.org/dc/terms/" '
        'dcterms:provenance="http://127.0.0.1:9/studio-a.c2pa"/></rdf:RDF></x:xmpmeta>'
    )
    body = XMP_UUID + packet.encode()
    path = unsigned(stage, folder)
    path.write_bytes(path.read_bytes() + bytes(Box(b"uuid", body)))
    return path


@attack(GROUP)
def manifest_as_a_comment(stage, folder):
    """The whole credential of the signed recording lies in the comment of foreign film."""
    box = c2pa_box(stage.signed)
    path = unsigned(stage, folder)
    path.write_bytes(path.read_bytes() + bytes(Box(b"free", box)))
    return path


@attack(GROUP)
def stored_manifest_under_another_id(stage, folder):
    """Foreign film with an id of Mallory's, under which Studio A's manifest is put into the store."""
    from sorano.trust.watermark import embed, payload

    false_id = 0xBADBADBAD0
    frames = embed.mark_frames(stage.foreign, payload.Payload(1, "captured", false_id), fps=FPS)
    with stage.at("alice"):
        own = store.find(stage.id_of(stage.signed))[0]
    store.put(false_id, own, folder / "store")
    return encode(folder / "forged.mp4", frames, sound=stage.lies)


@attack(GROUP)
def stored_manifest_of_mallory(stage, folder):
    """Mallory signs a fingerprint of foreign film under the stolen id, and puts that into the store."""
    from sorano.trust.watermark import embed, payload

    stolen = stage.id_of(stage.signed)
    frames = embed.mark_frames(stage.foreign, payload.Payload(1, "captured", stolen), fps=FPS)
    path = encode(folder / "forged.mp4", frames, sound=stage.lies)
    shutil.copy(path, folder / "hers.mp4")
    prints = fingerprint.take(frames_of(path), FPS).to_bytes()
    words = credentials.Statement("captured", mark_id=stolen, fingerprint=prints)
    manifest = credentials.sign(folder / "hers.mp4", words, stage.mallory.leaf("Studio A").identity())
    store.put(stolen, manifest, folder / "store")
    return path


@attack(
    GROUP,
    matched="House B, which is trusted, vouches for it; what counts is that it is not Studio A",
    check=not_by_studio_a,
)
def stolen_id_in_a_trusted_manifest(stage, folder):
    """House B signs foreign film as a recording with the id that Studio A's recording has."""
    from sorano.trust.watermark import embed, payload

    stolen = stage.id_of(stage.signed)
    frames = embed.mark_frames(stage.foreign, payload.Payload(1, "captured", stolen), fps=FPS)
    path = encode(folder / "forged.mp4", frames, sound=stage.lies)
    shutil.copy(path, folder / "theirs.mp4")
    prints = fingerprint.take(frames_of(path), FPS).to_bytes()
    words = credentials.Statement("captured", mark_id=stolen, fingerprint=prints)
    manifest = credentials.sign(folder / "theirs.mp4", words, stage.house.leaf("B").identity())
    store.put(stolen, manifest, folder / "store")
    return path


# Laundering: what Sorano itself may be asked to sign.


AS_MADE = "it is signed again, or is a copy of, what it is said to be: made by AI"


def kept_as_made(report):
    """A clip that was made by AI may be signed again, and never as recorded by a camera."""
    return None if report["kind"] != "captured" else "it is signed as recorded by a camera"


def marked_again(stage, path, folder, **words):
    """`sorano mark` at Studio A; where it refuses, the input itself is what remains."""
    from sorano.errors import SoranoError

    with stage.at("alice"):
        try:
            return record.mark_file(path, folder / "forged.mp4", record.Marking(**words)).path
        except SoranoError:
            return path


@attack("laundering", quick=True, verified=AS_MADE, check=kept_as_made)
def made_clip_marked_as_captured(stage, folder):
    """A clip that is signed as made by AI is given to `sorano mark` as one's own recording."""
    return marked_again(stage, stage.made, folder)


@attack("laundering", verified=AS_MADE, matched=AS_MADE, check=kept_as_made)
def stripped_made_clip_marked_as_captured(stage, folder):
    """The same without its credential: only mark and label are left."""
    return marked_again(stage, remux(stage.made, folder / "stripped.mp4"), folder)


@attack("laundering", verified=AS_MADE, check=kept_as_made)
def made_clip_marked_privately(stage, folder):
    """The same with a private carrier, which drops the ingredients."""
    return marked_again(stage, stage.made, folder, private=True)


@attack("laundering", verified=AS_MADE, matched=AS_MADE, check=kept_as_made)
def coded_made_clip_marked_as_captured(stage, folder):
    """The same after coding it again, so that the mark alone says what it is."""
    again = encode(folder / "again.mp4", frames_of(stage.made), sound=stage.heard)
    return marked_again(stage, again, folder)


@attack("laundering", verified=AS_MADE, check=kept_as_made)
def tampered_clip_marked_again(stage, folder):
    """A signed clip in which a byte was changed is given to `sorano mark`."""
    data = bytearray(stage.made.read_bytes())
    data[data.index(b"mdat") + 400] ^= 4
    (folder / "changed.mp4").write_bytes(data)
    return marked_again(stage, folder / "changed.mp4", folder)
