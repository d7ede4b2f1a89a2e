"""Notes of a plan in Chinese, for the page: the sentences that `resolve` and the reading of prompts say."""

from __future__ import annotations

import re

# A sentence as a pattern, and what it is in Chinese; the groups are filled in. Others stay as they are.
SENTENCES = tuple(
    (re.compile(pattern, re.DOTALL), chinese)
    for pattern, chinese in (
        (r"there is no model (.+) here: made with (.+)", r"这里没有模型 \1，改用 \2"),
        (r"a draft of (\d+) steps; .+", r"草稿：\1 步；用同一随机种子、不选草稿即可制作成片"),
        (r"the prompt is now: (.+)", r"描述现在是：\1"),
        (r"(\S+) is (\d+x\d+) with (.+)", r"\1 在 \3 中是 \2"),
        (r"(.+) was trained at (\S+); at (\S+) its quality is lower", r"\1 按 \2 训练；用 \3 时画质较低"),
        (r"made at (\S+), in the model's steps of (\d+) pixels, and scaled to (\S+)",
         r"按 \1 制作（模型以 \2 像素为一级），再缩放到 \3"),
        (r"made at (\S+), upscaled (\d+)x to (\S+) \(Lanczos\); .+", r"按 \1 制作，放大 \2 倍到 \3（Lanczos）"),
        (r"(.+) moves at (\S+) fps; at (\S+) fps it plays faster or slower",
         r"\1 的帧率是 \2 fps；用 \3 fps 播放时会变快或变慢"),
        (r"(\S+) s at (\S+) fps becomes (\d+) frames \(.+\), (\S+) s", r"\1 秒、\2 fps 调整为 \3 帧，\4 秒"),
        (r"preset (\S+) does not know (.+?) and leaves it out; .+", r"\1 不认识 \2，已略去"),
        (r"preset (\S+) reads (.+)", r"\1 的理解：\2"),
    )
)  # fmt: skip


def note_in_chinese(note: str) -> str:
    """A note in Chinese; one that is not known stays in English."""
    for pattern, chinese in SENTENCES:
        if match := pattern.fullmatch(note):
            return match.expand(chinese).replace("' as '", "'→'")
    return note


def wants_chinese(accept_language: str | None) -> bool:
    """Whether a reader's first language, as HTTP's Accept-Language says it, is Chinese."""
    return (accept_language or "").strip().lower().startswith("zh")
