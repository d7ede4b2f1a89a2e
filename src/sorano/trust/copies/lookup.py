"""Copies: files that carry a mark, whose manifest a store holds, and what may be said of them.

A copy is never the signed file. It is MATCHED where a trusted signer's fingerprint answers for all that is shown and
heard (`matching`), and the file holds nothing else that a player may show. `CANNOT_SEE` says what that leaves open.

Not covered: files whose mark is lost, which lead to no manifest; what a manifest without a fingerprint was about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import TrustError, VideoError
from sorano.trust import presentation, sandbox
from sorano.trust.provenance import credentials, store
from sorano.trust.report import Evidence

if TYPE_CHECKING:
    from sorano.trust.copies.fingerprint import Fingerprint
    from sorano.trust.copies.matching import Change, Match
    from sorano.trust.copies.surround import InsetPlace
    from sorano.trust.media import InspectedMedia
    from sorano.trust.watermark.detect import Detection
    from sorano.trust.watermark.marks import DetectedMark

CANNOT_SEE = (
    "that details are as they were: what covers less than 1 % of the picture or is there for less than a second, "
    "cuts of less than 0.1 s and single words may have been changed unseen"
)
ASK = "ask for the signed file: only its bytes can be VERIFIED"
KINDS = {"captured": ("captured",), "made": ("made", "edited")}
MOST_NAMED = 4  # changes that a summary names
MOST_BRIEF, BRIEF_SECONDS = 2, 0.002  # frames below what any screen shows: a few come from rounded time stamps
LEAST_SECONDS = 3.0  # that must be left to say what was found
MOST_STORED = 16  # manifests of one id that are shown
GROUNDS = {"plain": "plain bars", "blurred": "bars of the same picture, blurred"}
RANK = {"same": 0, "changed": 1, "other": 2}  # of what a comparison found


@dataclass(frozen=True)
class StoredMatch:
    """A manifest that the mark's id found, and how what is shown compares with its fingerprint (None: it has none)."""

    credential: credentials.Credential
    match: Match | None
    old: bool = False  # a fingerprint of version 1, which compares too little
    place: InsetPlace | None = None  # where it lies in a larger picture; None: it is all of it


def find(
    mark: DetectedMark,
    folders: Sequence[Path],
    anchors: str,
    seen: Fingerprint,
    notes: list[str],
    detection: Detection | None = None,
) -> list[StoredMatch]:
    """The manifests of a mark's id, compared with what a file shows: those that match and are trusted first.

    `detection` says how the picture was cut and whether it is mirrored. `notes` gets what the stores have to say.
    """
    from sorano.trust.copies import fingerprint, matching
    from sorano.trust.provenance import roots

    found: list[StoredMatch] = []
    searched = store.search(mark.id, folders, roots.Trust.from_pem(anchors))
    notes.extend(searched.notes)
    for manifest in searched.manifests:
        credential = credentials.read_store(manifest, anchors)
        if credential is None or credential.mark_id != mark.id:
            continue
        match, old = None, False
        if credential.fingerprint is not None:
            old = fingerprint.version_of(credential.fingerprint) == fingerprint.OLD_VERSION
            try:
                signed = fingerprint.from_bytes(credential.fingerprint)
                hint = None if detection is None else (1 / detection.crop_of(signed.size), detection.flipped)
                match = matching.match(signed, seen, hint)
            except TrustError:
                match = None
        found.append(StoredMatch(credential, match, old))
    found.sort(key=lambda one: (RANK[one.match.state] if one.match else 3, one.credential.state != "trusted"))
    return found[:MOST_STORED]


def beside(media: InspectedMedia, opaque: bool, complete: bool, brief: int = 0) -> tuple[str, ...]:
    """What a file may show beside the frames that were compared, or what of it was not seen: then it is no copy.

    `brief`: frames that are shown for less than a screen's refresh.
    """
    said = list(presentation.differs(media.path))
    if brief > MOST_BRIEF:
        said.append(f"{brief} of its frames are shown for less than {BRIEF_SECONDS * 1000:g} ms, and screens hold them")
    if media.num_video_tracks > 1:
        said.append(f"it has {media.num_video_tracks} video tracks, and players may choose another")
    if media.num_text_tracks:
        said.append(f"it has {media.num_text_tracks} text track{'s'[: media.num_text_tracks > 1]} (subtitles)")
    if media.num_pictures > 1 and not media.is_animated:
        said.append(f"it holds {media.num_pictures} pictures or pages, of which one was compared")
    if not opaque:
        said.append("parts of it are transparent: what is seen depends on what lies behind it")
    if not complete:
        said.append("not all of it could be looked at")
    return tuple(said)


def incomplete(one: StoredMatch) -> StoredMatch:
    """The same of a file that could not be looked at to its end: that its sound ends elsewhere accuses nobody."""
    if one.match is None:
        return one
    changes = tuple(replace(change, harmless=change.harmless or change.kind == "sound") for change in one.match.changes)
    return replace(one, match=replace(one.match, changes=changes))


def opaque(media: InspectedMedia) -> bool:
    """Whether a file looks the same before black and before white, all of it; no where that takes too long to see."""
    if not media.has_alpha:
        return True
    import numpy as np

    from sorano.media import pictures
    from sorano.trust.media import pictures_of

    try:
        if media.is_image:
            return bool(pictures.read_alpha(media.path)[1].min() == 255)
        for white, black in zip(pictures_of(media, over="white"), pictures_of(media, over="black"), strict=True):
            if sandbox.time_left() < LEAST_SECONDS or not np.array_equal(white.frame_HWC, black.frame_HWC):
                return False
        return True
    except VideoError:
        return False


def vouches(one: StoredMatch, mark: DetectedMark | None) -> bool:
    """Whether a manifest from the store is of this mark, and by somebody who is trusted here."""
    found = one.credential
    if mark is None or found.state != "trusted" or found.kind not in KINDS.get(mark.kind, ()):
        return False
    return found.commitment == mark.commitment and found.carrier_id == mark.carrier_id


def likeliest(stored: Sequence[StoredMatch], mark: DetectedMark | None) -> StoredMatch | None:
    """The manifest that vouches for a file and says most about it."""
    some = [one for one in stored if vouches(one, mark) and one.match is not None]
    return min(some, key=lambda one: RANK[one.match.state] if one.match else 3, default=None)


def answers(one: StoredMatch | None) -> bool:
    """Whether a manifest's fingerprint says something about what is shown."""
    return one is not None and one.match is not None and one.match.state != "other"


def verdict(one: StoredMatch, beside: Sequence[str], who: str) -> tuple[str, str] | None:
    """The verdict's name and the sentence that a vouching manifest leads to; None where it is of another picture."""
    match = one.match
    if match is None or match.state == "other":
        return None
    if one.place is not None and one.place.around == "other":
        return "UNVERIFIED", _within(one, who)
    kind = one.credential.kind
    says = f"who says: {credentials.KIND_WORDS[kind]}" if kind else "who does not say how it was made"
    changed = [change for change in match.changes if not change.harmless]
    if changed:
        return "TAMPERED", f"it is what {who} signed, changed: {_named(changed)}"
    open_points = [change.words for change in match.changes] + list(beside)
    if open_points:
        return "UNVERIFIED", f"its pictures match what {who} signed, but {'; '.join(open_points[:MOST_NAMED])}"
    part = ""
    if match.part is not None:
        part = f", from {match.part[0]:.1f} to {match.part[1]:.1f} s of {match.part[2]:.1f}"
    if one.place is not None:
        part += f", between {GROUNDS[one.place.around]} ({one.place.words})"
    return "MATCHED", f"it is a copy of what {who} signed{part}, as far as this can be seen; {says}"


def _within(one: StoredMatch, who: str) -> str:
    """That a signed video is shown within a picture that nobody signed."""
    place, match = one.place, one.match
    if place is None or match is None:
        return ""
    changes = f", changed there: {_named(match.changes)}" if match.changes else ""
    return (
        f"within it, at {place.words}, it shows a copy of what {who} signed{changes}; "
        "the picture around that is not covered: nothing trusted here says where it is from"
    )


def _named(changes: Sequence[Change]) -> str:
    more = len(changes) - MOST_NAMED
    words = "; ".join(change.words for change in changes[:MOST_NAMED])
    return words + (f"; and {more} more" if more > 0 else "")


def evidence(one: StoredMatch, mark: DetectedMark | None) -> Evidence:
    """What the store says about a file."""
    who = one.credential.signer or "an unnamed signer"
    leads = f"the mark's id leads to a manifest by {who}"
    if one.old:
        return Evidence(
            "manifest store",
            f"{leads}, whose fingerprint is of version 1, which compares one small picture in a second or less",
            "the mark is that of something that they signed",
            "that this is a copy of it",
            "ask for the signed file, or ask them to sign it again with this version",
        )
    if one.match is None or one.match.state == "other":
        why = "has no fingerprint" if one.match is None else one.match.why or f"answers for {one.match.share:.0%} of it"
        return Evidence(
            "manifest store",
            f"{leads}, whose picture is another ({why})",
            "the mark was copied onto this picture, or the picture was changed beyond what can be compared",
            "who made this picture",
            "ask for the original file",
        )
    if one.credential.state != "trusted":
        return Evidence(
            "manifest store",
            f"{leads}, who is not trusted here or whose certificate has ended",
            "the picture looks like the one that was signed",
            "who signed it",
            "if you know them, ask for their root in person and run: sorano trust add root.pem",
        )
    if not vouches(one, mark):
        return Evidence(
            "manifest store",
            f"{leads} that names another carrier or another kind",
            "nothing: the mark is not the one that was signed",
            "that the picture is theirs",
        )
    if one.place is not None and one.place.around == "other":
        return Evidence(
            "manifest store",
            f"{leads}, trusted here: {_within(one, 'the signer')}",
            "the part of the picture that is named looks like what they signed"
            + (", but for what is named" if one.match.changes else ""),
            "anything of the picture around it, and that the two belong together",
            ASK,
        )
    if one.match.changes:
        return Evidence(
            "manifest store",
            f"{leads}, trusted here: {_named(one.match.changes)}",
            "it was made from what they signed, and differs there",
            "who changed it, or why: editing and subtitles do this too",
            "ask for the signed file",
        )
    return Evidence(
        "manifest store",
        f"{leads}, trusted here, and all that is shown and heard matches its fingerprint{_shown(one)}",
        "it is a copy of what they signed, coded again, cut at its ends or cropped",
        CANNOT_SEE,
        ASK,
    )


def _shown(one: StoredMatch) -> str:
    """Which part of the original a copy shows, of its time and of its picture, and where."""
    said = []
    match = one.match
    if match is None:
        return ""
    if one.place is not None:
        said.append(f"between {GROUNDS[one.place.around]}, {one.place.words}")
    if match.part is not None:
        said.append(f"{match.part[0]:.2f} to {match.part[1]:.2f} s of {match.part[2]:.2f}")
    if not match.crop.whole:
        said.append(f"{match.crop.width:.0%} of its width and {match.crop.height:.0%} of its height")
    if match.crop.flipped:
        said.append("mirrored")
    return f" ({', '.join(said)})" if said else ""
