"""The tamper map: fitted to honest copies, and judged on clips that it was not fitted to.

    python benchmarks/tamper.py --gather FILE [--clips 60] [--first 0] [--size 270x480] [--copies 5] [--forgeries 3]
    python benchmarks/tamper.py --calibrate FILE      # writes src/sorano/trust/watermark/tamper_calibration.json
    python benchmarks/tamper.py --threshold FILE      # writes its threshold alone, for the regression that is there
    python benchmarks/tamper.py --report FILE         # tables, and one JSON line

`--gather` appends what the map measures of each case to a file of JSON lines, and goes on where it was stopped: cases
that the file holds are passed over. Clips, copies and forgeries are those of tests/support. Even seeds are fitted to,
odd seeds are judged by; rates are given with 95 % intervals (Clopper and Pearson, Biometrika 1934).

After a change of the mark or of its reader: gather to a new file, calibrate, report.
"""

import argparse
import base64
import collections
import dataclasses
import json
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import cases, corpus

from sorano.trust.watermark import tamper
from sorano.trust.watermark.detect import detect

FALSE_ALARMS = 0.005  # the rate that the threshold is set for; the bar is twice that
HIDDEN, STEPS, BATCH = 16, 2000, 1024
FOLDS = 3
SPREAD = 0.4  # of the factor by which regions of one window differ at least, its logarithm
DOUBT = 0.003  # the share of regions of which a coder may leave any part of the mark


# Gathering.


def gather(file, listing, size, seconds, num_copies, num_forgeries, say):
    """Appends a row for every case of a listing that the file does not hold yet."""
    held = {row["name"] for row in rows_of(file)}
    with file.open("a") as out:
        for kind, seed in listing:
            wanted = list(cases.of_clip(kind, seed, size, seconds, num_copies, num_forgeries))
            wanted = [case for case in wanted if case.name not in held]
            if not wanted:
                continue
            began = time.perf_counter()
            clip = cases.Clip(kind, seed, size, seconds)
            for case in wanted:
                out.write(json.dumps(measured(clip, case)) + "\n")
                out.flush()
            say(f"{kind} {seed}: {len(wanted)} cases in {time.perf_counter() - began:.0f} s")


def measured(clip, case):
    """What the map measures of a case, as a row of JSON."""
    frames, fps, where = clip.of(case)
    row = {"name": case.name, "kind": case.kind, "seed": case.seed, "size": case.size, "seconds": case.seconds}
    row |= {"copy": case.copy, "forgery": case.forgery}
    found = detect([frames], fps=fps)
    if found is None or found.payload != clip.payload:
        return row | {"confidence": None, "windows": []}
    windows = []
    for start, end, blocks in tamper.windows([frames], found):
        rows, columns = blocks.inside_HW.shape
        features = np.moveaxis(blocks.features_PHWF, -1, 1).reshape(-1, rows, columns)
        arrays = [*blocks.agreement_PHW, *blocks.power_PHW, *features]
        if where is not None:
            arrays.append(_by_blocks(where[round(start * fps) : round(end * fps)].mean(0), blocks))
        packed = zlib.compress(np.stack(arrays).astype(np.float16).tobytes(), 6)
        windows.append(
            {
                "start_s": start, "end_s": end, "means": blocks.means_P.tolist(), "bounds": blocks.bounds,
                "shape": (rows, columns), "blocks": base64.b64encode(packed).decode(),
            }
        )  # fmt: skip
    return row | {"confidence": found.confidence, "windows": windows}


def _by_blocks(picture, blocks):
    """A picture of a frame at the map's blocks."""
    rows, columns = blocks.inside_HW.shape
    left, top, right, bottom = blocks.bounds
    height, width = picture.shape
    move = np.array(
        [[(right - left) * width / columns, 0, left * width], [0, (bottom - top) * height / rows, top * height]]
    )
    move[:, 2] += move[:, :2].sum(1) / 2 - 0.5
    smooth = cv2.blur(picture.astype(np.float32), (max(1, round(move[0, 0])), max(1, round(move[1, 1]))))
    return cv2.warpAffine(smooth, move, (columns, rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def rows_of(file):
    """The rows of a file; a last line that was cut off is passed over."""
    if not file.exists():
        return
    with file.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def unpacked(window):
    """The blocks of a window, and how much of each was put over (or None)."""
    rows, columns = window["shape"]
    data = np.frombuffer(zlib.decompress(base64.b64decode(window["blocks"])), np.float16).astype(np.float32)
    arrays = data.reshape(-1, rows, columns)
    planes, kinds = len(window["means"]), len(tamper.FEATURES)
    count = planes * (2 + kinds)
    features = np.moveaxis(arrays[2 * planes : count].reshape(planes, kinds, rows, columns), 1, -1)
    means = np.array(window["means"], np.float32)
    blocks = tamper.Blocks(arrays[:planes], arrays[planes : 2 * planes], features, means, tuple(window["bounds"]))
    return blocks, arrays[count] if len(arrays) > count else None


# Calibrating.


def calibrate(rows, say):
    """The calibration that honest copies of clips with even seeds ask for.

    The threshold comes from copies of clips that the regression was not fitted to, in turn
    (cross-fitting); the regression that is kept is fitted to all.
    """
    honest = fitted_to(rows)
    looks = [[unpacked(window)[0] for window in row["windows"]] for row in honest]
    turns = np.array([(row["seed"] // 2 + corpus.KINDS.index(row["kind"])) % FOLDS for row in honest])
    made = {}
    for turn in range(FOLDS):
        made[turn] = fitted([look for held, many in zip(turns, looks, strict=True) if held != turn for look in many])
    apart = [(made[turn], many) for turn, many in zip(turns, looks, strict=True)]
    limit = limits([max(one.judge(look).score for look in many) for one, many in apart], honest, say)
    return dataclasses.replace(fitted([look for many in looks for look in many]), **limit)


def with_threshold(rows, say):
    """The calibration that is there, with the threshold that honest copies of clips with even seeds ask for."""
    calibration, honest = tamper.Calibration.load(), fitted_to(rows)
    scores = [max(calibration.judge(unpacked(window)[0]).score for window in row["windows"]) for row in honest]
    return dataclasses.replace(calibration, **limits(scores, honest, say))


def fitted_to(rows):
    """The honest copies of clips with even seeds in which a mark was read."""
    return [row for row in rows if row["copy"] and not corpus.held_out(row["seed"]) and row["windows"]]


def limits(scores, honest, say):
    """The threshold and the slope that the scores of honest copies ask for."""
    threshold, slope = tail(np.array(scores), FALSE_ALARMS)
    say(f"{len(honest)} copies: threshold {threshold:.2f}, slope {slope:.2f}")
    for score, row in sorted(zip(scores, honest, strict=True), key=lambda item: -item[0])[:8]:
        say(f"  {score:.2f} {row['name']}")
    return {"threshold": threshold, "slope": slope}


def fitted(looks):
    """A calibration without a threshold: the regressions of what intact blocks show of luma and of chroma."""
    luma = _regression([(look, 0) for look in looks])
    chroma = _regression([(look, plane) for look in looks for plane in range(1, len(look.means_P))])
    return tamper.Calibration(luma, chroma, spread=SPREAD, doubt=DOUBT, threshold=0.0, slope=0.0)


def _regression(looks):
    """The agreement that blocks of planes of honest copies show: maximum likelihood, every window weighs the same."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    parts = []
    for look, plane in looks:
        inside = look.inside_HW
        side = tamper.BLOCK * (tamper.CHROMA_TILE / tamper.TILE if plane else 1)
        chosen = [look.features_PHWF[plane][inside], look.agreement_PHW[plane][inside], look.power_PHW[plane][inside]]
        count = max(int(inside.sum()), 1)
        parts.append((*chosen, np.full(count, look.means_P[plane] * side), np.full(count, 1 / count)))
    inputs, agreement, chance, unit, weight = (
        torch.tensor(np.concatenate(values), dtype=torch.float32) for values in zip(*parts, strict=True)
    )
    chance = chance.clamp(tamper.LEAST_POWER)
    centre, scale = inputs.mean(0), inputs.std(0) + 1e-6
    inputs = ((inputs - centre) / scale).clamp(-4, 4)
    network = torch.nn.Sequential(torch.nn.Linear(len(centre), HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 2))
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, STEPS)
    order = torch.from_numpy(np.random.default_rng(0).choice(len(weight), (STEPS, BATCH), p=_shares(weight)))
    for some in order:
        out = network(inputs[some])
        expected = unit[some] * torch.nn.functional.softplus(out[:, 0])
        # The second output, the spread of a block about what is expected, is needed for the fit alone.
        variance = chance[some] + (torch.nn.functional.softplus(out[:, 1] - 1) * expected) ** 2
        loss = (torch.log(variance) + (agreement[some] - expected) ** 2 / variance).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    first, last = network[0], network[2]
    tensors = (centre, scale, first.weight.T, first.bias, last.weight[0])
    plain = [tensor.detach().numpy().astype(np.float32) for tensor in tensors]
    return tamper.Network(*plain, float(last.bias[0].detach()))


def _shares(weight):
    shares = weight.double().numpy()
    return shares / shares.sum()


def tail(scores, rate):
    """The score that a share `rate` of copies passes, and how it grows with the logarithm of their number.

    The tail of a maximum over many places is taken as exponential (Pickands, Annals of Statistics 1975) above the score
    that a tenth of the copies pass.
    """
    edge = np.quantile(scores, 0.9)
    slope = float(np.mean(scores[scores > edge] - edge))
    return float(edge + slope * np.log(0.1 / rate)), slope


def save(made):
    """Writes the calibration that ships."""

    def plain(value):
        if isinstance(value, tamper.Network):
            return {name: plain(held) for name, held in vars(value).items()}
        return np.round(value, 5).tolist() if isinstance(value, np.ndarray) else round(float(value), 5)

    lines = ",\n".join(f' "{name}": {json.dumps(plain(value))}' for name, value in vars(made).items())
    tamper.CALIBRATION.write_text("{\n" + lines + "\n}\n")


# Judging.


def report(rows, say, held_out=True):
    """Tables of false alarms and of what is found, on clips that were kept out of the calibration."""
    calibration = tamper.Calibration.load()
    alarms, found, sure = (collections.defaultdict(list) for _ in range(3))
    unread = collections.Counter()
    for row in rows:
        if corpus.held_out(row["seed"]) != held_out:
            continue
        case = row["copy"] or "forged"
        if row["confidence"] is None:
            unread[case] += 1
            continue
        looks = [(window, *unpacked(window)) for window in row["windows"]]
        shown = tamper.assembled([(w["start_s"], w["end_s"], blocks) for w, blocks, _ in looks], calibration)
        where = f"{row['size'][0]}p"
        if row["copy"]:
            for group in ("all", row["kind"], row["copy"], where):
                alarms[group].append(bool(shown.regions))
                sure[group].append(shown.sure)
            if shown.regions:
                say(f"  accused: {row['name']}: {shown.regions}", progress=True)
            continue
        area, crf, way = row["forgery"]
        hit = any(_meets(region.box, blocks, over) for _, blocks, over in looks for region in shown.regions)
        within = "within reach" if shown.reach is not None and area >= shown.reach else "beyond reach"
        for group in ((area, crf, "all"), (area, crf, way), (area, crf, where), (area, crf, within)):
            found[group].append(hit)
            sure[group].append(shown.sure)
    _table_of_alarms(alarms, sure, say)
    _table_of_found(found, sure, say)
    say(f"mark not read, not judged: {dict(unread)}")
    return {
        "copies": len(alarms["all"]), "accused": int(sum(alarms["all"])),
        "interval": interval(sum(alarms["all"]), len(alarms["all"])),
        "found": {"/".join(map(str, group)): [int(sum(hits)), len(hits)] for group, hits in found.items()},
    }  # fmt: skip


def _meets(box, blocks, over):
    """Whether a region holds the middle of what was put over."""
    rows, columns = over.shape
    down, across = np.nonzero(over > 0.5 * over.max())
    left, top, right, bottom = blocks.bounds
    x = left + (across.mean() + 0.5) / columns * (right - left)
    y = top + (down.mean() + 0.5) / rows * (bottom - top)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _table_of_alarms(alarms, sure, say):
    say(f"{'honest copies':<18}{'copies':>8}{'accused':>9}{'95 % interval':>18}{'map sure':>10}")
    for group, hits in sorted(alarms.items(), key=lambda item: (item[0] != "all", item[0])):
        low, high = interval(sum(hits), len(hits))
        span = f"{low:.2%} to {high:.2%}"
        say(f"{group:<18}{len(hits):>8}{sum(hits):>9}{span:>18}{np.mean(sure[group]):>10.0%}")


def _table_of_found(found, sure, say):
    say(f"{'forgeries':<30}{'cases':>8}{'found':>8}{'95 % interval':>20}{'map sure':>10}")
    for group, hits in sorted(
        found.items(), key=lambda item: (item[0][1], item[0][0], item[0][2] != "all", item[0][2])
    ):
        area, crf, way = group
        low, high = interval(sum(hits), len(hits))
        name = f"CRF {crf}, {area:.0%} of the frame, {way}"
        span = f"{low:.1%} to {high:.1%}"
        say(f"{name:<30}{len(hits):>8}{np.mean(hits):>8.0%}{span:>20}{np.mean(sure[group]):>10.0%}")


def interval(hits, count, chance=0.95):
    """The exact interval of a rate (Clopper and Pearson), by bisection on the binomial distribution."""
    from math import lgamma, log

    def below(hits, share):
        """The chance of `hits` or fewer."""
        if share <= 0 or share >= 1:
            return 1.0 if share <= 0 or hits >= count else 0.0
        logs = [
            lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) + k * log(share) + (count - k) * log(1 - share)
            for k in range(hits + 1)
        ]
        return float(np.exp(logs).sum())

    def solved(test):
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if test(middle) else (low, middle)
        return (low + high) / 2

    hits, rest = int(hits), (1 - chance) / 2
    low = 0.0 if hits == 0 else solved(lambda share: 1 - below(hits - 1, share) < rest)
    high = 1.0 if hits == count else solved(lambda share: below(hits, share) > rest)
    return round(low, 5), round(high, 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gather", type=Path, metavar="FILE")
    parser.add_argument("--calibrate", type=Path, metavar="FILE")
    parser.add_argument("--threshold", type=Path, metavar="FILE")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--clips", type=int, default=60, help="kinds take turns")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--size", default="270x480", help="height x width")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--copies", type=int, default=5, help="honest copies of each clip")
    parser.add_argument("--forgeries", type=int, default=3, help="forgeries of each clip")
    asked = parser.parse_args()

    def say(text, progress=False):
        print(text, file=sys.stderr if progress else sys.stdout, flush=True)

    if asked.gather:
        size = tuple(int(side) for side in asked.size.split("x"))
        listing = corpus.listing(asked.clips, asked.first)
        gather(asked.gather, listing, size, asked.seconds, asked.copies, asked.forgeries, say)
    if asked.calibrate:
        save(calibrate(list(rows_of(asked.calibrate)), say))
        tamper.Calibration.load.cache_clear()
    if asked.threshold:
        save(with_threshold(list(rows_of(asked.threshold)), say))
        tamper.Calibration.load.cache_clear()
    if asked.report:
        print(json.dumps({"benchmark": "tamper"} | report(rows_of(asked.report), say)))


if __name__ == "__main__":
    main()
