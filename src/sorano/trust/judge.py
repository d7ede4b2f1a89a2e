"""From what was seen of a file to a verdict, the sentence that says why, and the evidence.

Not covered: seeing it (`sorano.trust.observe`); no file is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sorano.trust.copies import lookup
from sorano.trust.copies.lookup import StoredMatch
from sorano.trust.indicators import Indicator, Trace, words
from sorano.trust.printable import printable_line
from sorano.trust.provenance import credentials, store
from sorano.trust.report import Evidence, Report, Verdict
from sorano.trust.watermark.marks import DetectedAudioMark, DetectedMark, audio_payload

if TYPE_CHECKING:
    from sorano.trust.provenance.label import FoundLabel
    from sorano.trust.watermark.tamper import TamperedRegion


@dataclass(frozen=True)
class Observations:
    """Everything that was seen of a file; `judge` turns it into a report and sees nothing else."""

    path: str
    credential: credentials.Credential | None = None
    labels: tuple[FoundLabel, ...] = ()
    mark: DetectedMark | None = None
    audio_mark: DetectedAudioMark | None = None
    stored: tuple[StoredMatch, ...] = ()
    regions: tuple[TamperedRegion, ...] = ()
    indicators: tuple[Indicator, ...] = ()
    trace: Trace | None = None  # of foreign noise, where it was looked for
    map_checked: bool = False
    map_reach: float | None = None  # the smallest hole that the map would have found, of the frame; None: it cannot say
    beside: tuple[str, ...] = ()  # what else the file shows or says, or what of it was not seen: then it is no copy
    more: tuple[Evidence, ...] = ()  # evidence of others, shown as it is
    media: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def judge(seen: Observations) -> Report:
    """The report that follows from what was seen: no file is opened here."""
    credential = seen.credential
    copied = lookup.likeliest(seen.stored, seen.mark)
    conclusion = _conclude(seen, copied)
    mark_id = seen.mark.id if seen.mark is not None else credential.mark_id if credential is not None else None
    return Report(
        path=seen.path,
        verdict=conclusion.verdict,
        summary=printable_line(conclusion.summary),
        evidence=tuple(Evidence(*map(printable_line, vars(one).values())) for one in _evidence(seen)),
        signer=conclusion.signer,
        kind=conclusion.kind,
        mark_id=None if mark_id is None else store.name_of(mark_id),
        part=conclusion.part,
        box=None if copied is None or copied.place is None else copied.place.box,
        regions=(*_differing(copied), *seen.regions),
        notes=tuple(map(printable_line, seen.notes)),
        media=seen.media,
        root=None if credential is None else credential.root,
        signed_at=None if credential is None else credential.signed_at,
    )


@dataclass(frozen=True)
class Conclusion:
    """A verdict, the sentence that says why, and what a signer said, where one vouches."""

    verdict: Verdict
    summary: str
    signer: str | None = None
    kind: str | None = None
    part: tuple[float, float, float] | None = None  # of what was signed: from, to, of how many seconds


def _conclude(seen: Observations, copied: StoredMatch | None) -> Conclusion:
    """The verdict: a credential that fails or holds comes first, then a copy of what was signed, then holes in the
    mark, a signer who is not trusted, the mark alone, what is odd, and labels.
    """
    credential = seen.credential
    if credential is not None and credential.state in ("changed", "broken"):
        is_changed = credential.state == "changed"
        why = "it was changed after it was signed" if is_changed else "its credential is damaged"
        return Conclusion(Verdict.TAMPERED, why)
    if credential is not None and credential.state == "trusted":
        signer, kind = credential.signer, credential.kind
        return Conclusion(Verdict.VERIFIED, f"it is as {signer} signed it, {_says(kind)}", signer, kind)
    said = None if copied is None else lookup.verdict(copied, seen.beside, copied.credential.signer or "somebody")
    if copied is not None and said is not None:
        verdict, summary = Verdict(said[0]), said[1]
        if verdict is not Verdict.MATCHED:
            return Conclusion(verdict, summary)
        part = copied.match.part if copied.match else None
        return Conclusion(verdict, summary + _unread(seen.mark), copied.credential.signer, copied.credential.kind, part)
    if seen.regions:
        put_over = f"nothing trusted says where it is from, and {_put_over(seen.regions)}"
        return Conclusion(Verdict.SUSPICIOUS, put_over)
    if credential is None and seen.mark is None and seen.indicators:
        odd = words(seen.indicators)
        return Conclusion(Verdict.SUSPICIOUS, odd if seen.labels else f"nothing says where it is from, and {odd}")
    if seen.trace is not None and seen.trace.is_odd:
        return Conclusion(Verdict.SUSPICIOUS, f"nothing says where it is from, and {seen.trace.words}")
    return Conclusion(Verdict.UNVERIFIED, _why_unverified(seen))


def _why_unverified(seen: Observations) -> str:
    """What there is that nothing trusted confirms."""
    credential = seen.credential
    if credential is not None:
        who = credential.signer or "somebody"
        return {
            "ended": f"the certificate of {who} has ended and no time stamp says that it was signed before",
            "early": f"the certificate of {who} is not valid yet: a clock is wrong, here or there",
        }.get(credential.state, f"it is signed by {who}, who is not trusted here")
    if seen.mark is not None and seen.stored:
        return "its mark is that of another picture, or its signer is not trusted here"
    if seen.mark is not None:
        made = "made by AI, by Sorano" if seen.mark.kind == "made" else "recorded with Sorano"
        return f"it carries a mark that says {made}, and nothing that is trusted here confirms it"
    if seen.audio_mark is not None:
        return "its audio carries a mark of Sorano's, and nothing that is trusted here confirms it"
    if seen.labels:
        return f"a label that anyone can write says that it {seen.labels[0].says}"
    return "nothing that is trusted here says where it is from"


def _evidence(seen: Observations) -> list[Evidence]:
    """All that was found, in the order in which it weighs."""
    evidence: list[Evidence] = []
    credential = seen.credential
    if credential is not None:
        evidence.append(_of_credential(credential))
    evidence += seen.more
    if seen.mark is not None:
        evidence.append(_of_mark(seen.mark, credential))
    elif (
        credential is not None
        and credential.mark_id is not None
        and credential.state in ("trusted", "valid")
        and seen.audio_mark is None
    ):
        evidence.append(_of_lost_mark(credential))
    if seen.audio_mark is not None:
        evidence.append(_of_audio_mark(seen.audio_mark, seen.mark, credential))
    evidence += [lookup.evidence(one, seen.mark) for one in seen.stored]
    if seen.map_checked:
        evidence.append(_of_map(seen.regions, seen.map_reach))
    evidence += [_of_label(one) for one in seen.labels]
    if seen.indicators:
        evidence.append(_of_indicators(seen.indicators))
    if seen.trace is not None:
        evidence.append(_of_trace(seen.trace))
    return evidence or [
        Evidence(
            "provenance",
            "no credential, no mark and no label",
            "nothing",
            "that it is false: most files carry none, and many programs remove what there was",
            "ask the sender for the original file, or for who made it",
        )
    ]


def _unread(mark: DetectedMark | None) -> str:
    """That a copy's mark was not read everywhere: coarse coding does that, and so do pictures that were put in."""
    if mark is None or mark.slots is None or mark.slots[0] == mark.slots[1]:
        return ""
    return f"; the mark was read in {mark.slots[0]} of {mark.slots[1]} parts of two seconds"


def _put_over(regions: Sequence[TamperedRegion]) -> str:
    return f"something was put over the mark in {len(regions)} place{'s'[: len(regions) > 1]}"


def _differing(copied: StoredMatch | None) -> tuple[TamperedRegion, ...]:
    """Where a copy differs from what was signed, for the page."""
    from sorano.trust.watermark.tamper import TamperedRegion

    changes = () if copied is None or copied.match is None else copied.match.changes
    whole = (0.0, 0.0, 1.0, 1.0)
    place = None if copied is None else copied.place
    boxes = [one.box or whole if place is None else place.of_frame(one.box or whole) for one in changes]
    return tuple(
        TamperedRegion(one.start_s, one.end_s, box, one.score)
        for one, box in zip(changes, boxes, strict=True)
        if one.kind != "sound"
    )


def _says(kind: str | None) -> str:
    return f"who says: {credentials.KIND_WORDS[kind]}" if kind else "who does not say how it was made"


def _of_credential(found: credentials.Credential) -> Evidence:
    who = found.who
    if found.state == "changed":
        return Evidence(
            "credential",
            f"signed by {who}; the bytes are not those that were signed ({found.problems[-1][1]})",
            "the file was changed after it was signed",
            "what was changed, by whom, or with what intent: a chat that codes again changes bytes too",
            "ask for the file as it was signed",
        )
    if found.state == "broken":
        code, text = found.problems[0] if found.problems else ("", "it cannot be read")
        return Evidence(
            "credential",
            f"a manifest that does not hold ({code}: {text})"[:400],
            "the manifest was damaged, or made by somebody who could not sign",
            "who did it, or that the picture was changed",
            "ask for the file as it was signed",
        )
    rest = _rest_of(found)
    whole = "nobody changed the bytes" + (", but for what its hash leaves out," if found.left_out else "")
    if found.state in ("ended", "early"):
        ended = found.state == "ended"
        return Evidence(
            "credential",
            f"signed by {who}, whose certificate {'has ended' if ended else 'is not valid yet'}{rest}",
            f"{whole} since whoever held the key signed them",
            "that it was signed while the certificate was valid: there is no time stamp",
            "ask the signer to sign it again; if today is earlier, set this machine's clock"
            if ended
            else "set the clock of this machine, or have the signer set theirs and sign again",
        )
    if found.state == "trusted":
        return Evidence(
            "credential",
            f"signed by {who}, under a root that is trusted here ({found.root}); {_says(found.kind)}{rest}",
            "the file is byte for byte as they signed it"
            + (", but for what its hash leaves out" if found.left_out else ""),
            "that what they say is true, or that a recorded scene was not staged",
        )
    limited = next((f": {text}" for code, text in found.problems if code.startswith("org.sorano")), "")
    return Evidence(
        "credential",
        f"signed by {who}, whose root is not trusted here{limited}; {_says(found.kind)}{rest}",
        f"{whole} since they were signed",
        "who signed: a name in a certificate is what its maker typed",
        "if you know them, ask for their root in person and run: sorano trust add root.pem",
    )


def _rest_of(found: credentials.Credential) -> str:
    """What else a credential shows: its sources, its time, and what C2PA leaves out or passes over."""
    said = [f"from {', '.join(one.words for one in found.sources)}"] if found.sources else []
    by = "" if found.stamp_trusted else " by an authority that is unknown here"
    said.append(f"time stamped {found.signed_at}{by}" if found.signed_at else "no time stamp says when")
    if found.left_out:
        said.append(f"its hash leaves out {', '.join(found.left_out)}")
    if found.tolerated:
        said.append(f"codes not held against it: {', '.join(sorted({code for code, _ in found.tolerated}))}")
    return "; " + "; ".join(said)


def _of_mark(mark: DetectedMark, credential: credentials.Credential | None) -> Evidence:
    made = "made by AI, by Sorano" if mark.kind == "made" else "recorded with Sorano"
    odd = credential is not None and credential.mark_id is not None and credential.mark_id != mark.id
    note = f"; the credential names another, {store.name_of(credential.mark_id or 0)}" if odd and credential else ""
    if mark.carrier_id is None:
        return Evidence(
            "mark",
            f"the public mark {store.name_of(mark.id)} in the picture{mark.where}: {made}{note}",
            "the picture, or one that it was copied from, went through Sorano or somebody with its public key",
            "who made it: the public key is public, so the mark can be copied, forged and removed",
            "" if credential is not None else "ask for the signed file, or for a store that holds its manifest",
        )
    return Evidence(
        "mark",
        f"the private mark {store.name_of(mark.id)} of carrier {mark.carrier_id}{mark.where}: {made}{note}",
        "whoever put it in held the carrier's key",
        "who that was, unless a signed manifest names the carrier; once disclosed, anyone holds the key",
        "" if credential is not None else "ask for the signed file, or for a store that holds its manifest",
    )


def _of_audio_mark(
    heard: DetectedAudioMark, mark: DetectedMark | None, credential: credentials.Credential | None
) -> Evidence:
    name = f"...{heard.payload:04x}" + (f" of carrier {heard.carrier_id}" if heard.carrier_id else "")
    which = "public" if heard.carrier_id is None else "private"
    if credential is not None and credential.mark_id is not None and mark is None:
        is_its = heard.payload == audio_payload(credential.mark_id) and heard.carrier_id == credential.carrier_id
        return Evidence(
            "audio mark",
            f"the {which} mark {name} in the audio: "
            + ("that of the credential" if is_its else "not the credential's"),
            "the audio, or what it was copied from, went through Sorano or somebody with the key",
            "who made it: that is what the credential says",
        )
    if mark is not None and heard.is_of(mark):
        return Evidence(
            "audio mark",
            f"the {which} mark {name} in the audio: that of the picture's",
            "picture and audio, or what they were copied from, were marked together",
            "that nothing of what is said was cut or moved: the audio mark is read over all of a recording",
        )
    if mark is not None:
        return Evidence(
            "audio mark",
            f"the {which} mark {name} in the audio: not that of the picture's",
            "the audio was marked with another recording than the picture",
            "that it was forged: music and dubbing are put under pictures, and recordings are marked again",
            "ask for the recording that the audio is from",
        )
    return Evidence(
        "audio mark",
        f"the {which} mark {name} in the audio, and none in the picture",
        "the audio, or what it was copied from, was marked with Sorano or by somebody with the key",
        "whose recording it is: sixteen bits name none, and the public key is public",
        "ask for the signed file",
    )


def _of_lost_mark(credential: credentials.Credential) -> Evidence:
    private = credential.carrier_id is not None
    return Evidence(
        "mark",
        f"the mark {store.name_of(credential.mark_id or 0)} that the credential names was not read",
        "nothing: " + ("its carrier is private" if private else "small or plain pictures may not hold one"),
        "that it was removed: the bytes are as they were signed",
        "ask the signer to disclose the carrier: sorano keys disclose" if private else "",
    )


def _of_map(regions: Sequence[TamperedRegion], reach: float | None) -> Evidence:
    if not regions and reach is None:
        return Evidence(
            "tamper map",
            "this coding left too little of the mark to say where it is missing",
            "nothing",
            "that the picture is whole, or that it is not",
        )
    if not regions:
        return Evidence(
            "tamper map",
            f"the mark is missing nowhere: in this coding a hole of {reach:.0%} of the picture would be seen",
            "no part of that size was replaced after it was marked",
            "that small parts were not; whoever has the key can mark a replacement too",
        )
    one = regions[0]
    left, top, right, bottom = one.box
    where = f"{one.start_s:.1f} to {one.end_s:.1f} s, {left:.0%}-{right:.0%} across, {top:.0%}-{bottom:.0%} down"
    return Evidence(
        "tamper map",
        f"the mark is missing in {len(regions)} place{'s'[: len(regions) > 1]}: {where}",
        "something was put over the marked picture there",
        "what was there before, or why: subtitles and stickers do this too",
        "look at the map: sorano verify --html report.html; ask for the original",
    )


def _of_label(one: FoundLabel) -> Evidence:
    wrong = f" ({'; '.join(one.problems)})" if one.problems else ""
    return Evidence(
        "label",
        f"AIGC in {one.carrier}: it {one.says}, by {one.fields.get('ContentProducer', '')[:80]!r}{wrong}",
        "somebody wrote that label",
        "who wrote it, or that it is true: metadata is easily written and removed",
    )


def _of_indicators(found: Iterable[Indicator]) -> Evidence:
    return Evidence(
        "indicators",
        words(list(found)),
        "nothing by itself: at most 1 in 100 ordinary clips shows one",
        "that it was forged: editing and faulty cameras do this too",
        "ask for the original file, and where it was first published",
    )


def _of_trace(one: Trace) -> Evidence:
    return Evidence(
        "triage",
        one.words,
        "nothing: triage is no proof, and some ordinary files are as unusual",
        "that it was forged, or that it is genuine where this is usual: in the wild such detectors lose half of it",
        "look at that place; ask for the original file" if one.is_odd else "",
    )
