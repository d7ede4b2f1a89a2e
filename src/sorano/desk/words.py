"""Words of secrecy and urgency, English and Chinese: what fraud by an impersonated superior is written in.

English ones are found as whole words, Chinese ones anywhere. They raise a request's tier; they prove nothing.
"""

from __future__ import annotations

SECRECY = (
    "confidential", "confidentially", "strictly private", "secret", "secretly", "secrecy", "classified",
    "discreet",
    "discreetly", "between us", "between you and me", "off the record", "do not tell", "don't tell",
    "dont tell",
    "tell no one", "tell nobody", "do not discuss", "don't discuss", "do not mention", "don't mention",
    "nobody else",
    "no one else", "keep it quiet", "keep this quiet", "hush", "under wraps", "non-disclosure", "nda",
    "保密", "机密", "機密", "绝密", "絕密", "秘密", "不要告诉", "不要告訴", "别告诉", "別告訴", "勿告知",
    "不得外传", "不得外傳",
    "不要外传", "不要外傳", "勿外传", "勿外傳", "不要声张", "不要聲張", "私下", "低调处理", "低調處理",
    "只有你知道", "仅限你我", "僅限你我",
)  # fmt: skip
URGENCY = (
    "urgent", "urgently", "urgency", "immediately", "immediate", "asap", "as soon as possible", "right away",
    "right now", "at once", "without delay", "emergency", "time sensitive", "time-sensitive", "time critical",
    "before close of business", "by close of business", "by end of day", "within the hour", "deadline today",
    "today only", "last chance", "cannot wait", "can't wait", "no time", "hurry", "quickly",
    "紧急", "緊急", "加急", "急件", "急需", "立即", "立刻", "马上", "馬上", "尽快", "盡快", "火速", "即刻",
    "刻不容缓", "刻不容緩", "今天之内",
    "今天之內", "今日内", "今日內", "下班前", "来不及", "來不及", "赶紧", "趕緊", "限时", "限時",
)  # fmt: skip
