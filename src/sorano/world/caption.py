"""Captions in English and Chinese: from attributes to words, and back.

One table of phrases serves both directions. `describe` draws a phrasing; `parse` reads a caption phrase by phrase
(the longest phrase first) and gathers what it states; what a caption leaves out is None. The parser knows the words
of the table and no others, and says which words it does not know.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sorano.errors import RequestError
from sorano.world.scene import OPPOSITES, Attributes, Stream, Thing

LANGUAGES = ("en", "zh")


class UnknownWords(RequestError, ValueError):
    """A caption has words that the world does not know; `.words` lists them."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        super().__init__(f"the world has no words for: {', '.join(words)}", "say it with things that the world has")


# field -> canonical word -> English phrases; the first is the plainest and is used most.
ENGLISH: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": {
        "ball": ("ball", "sphere"),
        "cube": ("cube", "box", "block"),
        "cylinder": ("cylinder", "drum"),
        "cone": ("cone",),
        "torus": ("torus", "ring", "donut"),
        "capsule": ("capsule", "pill"),
    },
    "color": {
        "red": ("red",),
        "green": ("green",),
        "blue": ("blue",),
        "yellow": ("yellow",),
        "purple": ("purple", "violet"),
        "orange": ("orange",),
        "white": ("white",),
        "black": ("black",),
    },
    "size": {
        "small": ("small", "little", "tiny"),
        "medium": ("medium sized",),
        "large": ("large", "big", "huge"),
    },
    "motion": {
        "stays still": ("stays still", "does not move", "stands still", "rests"),
        "rolls left": ("rolls left", "rolls to the left"),
        "rolls right": ("rolls right", "rolls to the right"),
        "falls": ("falls", "drops", "falls down"),
        "bounces": ("bounces", "bounces up and down"),
        "rises": ("rises", "rises up", "goes up"),
        "spins": ("spins", "rotates", "spins around"),
        "jumps": ("jumps", "hops", "jumps up"),
    },
    "ground": {
        "grass": ("on the grass", "on grass", "on a meadow", "on a lawn"),
        "sand": ("on the sand", "on sand", "on the beach"),
        "snow": ("on the snow", "on snow", "in the snow"),
        "stone": ("on the stone", "on stone", "on a stone floor", "on the rock"),
    },
    "time": {
        "dawn": ("at dawn", "in the early morning", "at daybreak"),
        "noon": ("at noon", "at midday", "in bright daylight"),
        "sunset": ("at sunset", "at dusk", "in the evening"),
        "night": ("at night", "in the moonlight", "in the dark"),
    },
    "camera": {
        "still": ("the camera is still", "the camera stays fixed", "static camera"),
        "pans left": ("the camera pans left", "the camera pans to the left", "the camera turns left"),
        "pans right": ("the camera pans right", "the camera pans to the right", "the camera turns right"),
        "zooms in": ("the camera zooms in", "zooming in", "the camera is zooming in"),
        "zooms out": ("the camera zooms out", "zooming out", "the camera is zooming out"),
    },
    "relation": {
        "left of": ("to the left of", "left of"),
        "right of": ("to the right of", "right of"),
    },
}

ENGLISH_PROGRESSIVE: dict[str, tuple[str, ...]] = {
    "stays still": ("staying still", "standing still", "resting"),
    "rolls left": ("rolling left", "rolling to the left"),
    "rolls right": ("rolling right", "rolling to the right"),
    "falls": ("falling", "dropping", "falling down"),
    "bounces": ("bouncing", "bouncing up and down"),
    "rises": ("rising", "going up"),
    "spins": ("spinning", "rotating"),
    "jumps": ("jumping", "hopping"),
}

CHINESE: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": {
        "ball": ("球", "圆球"),
        "cube": ("方块", "立方体"),
        "cylinder": ("圆柱", "圆柱体"),
        "cone": ("圆锥", "圆锥体"),
        "torus": ("圆环", "环"),
        "capsule": ("胶囊",),
    },
    "color": {
        "red": ("红色的", "红色", "红"),
        "green": ("绿色的", "绿色", "绿"),
        "blue": ("蓝色的", "蓝色", "蓝"),
        "yellow": ("黄色的", "黄色", "黄"),
        "purple": ("紫色的", "紫色", "紫"),
        "orange": ("橙色的", "橙色", "橙"),
        "white": ("白色的", "白色", "白"),
        "black": ("黑色的", "黑色", "黑"),
    },
    "size": {"small": ("小",), "medium": ("中等大小的",), "large": ("大", "巨大的")},
    "motion": {
        "stays still": ("静止不动", "不动"),
        "rolls left": ("向左滚动", "滚向左边"),
        "rolls right": ("向右滚动", "滚向右边"),
        "falls": ("落下", "掉下来"),
        "bounces": ("弹跳", "弹来弹去"),
        "rises": ("上升", "升起来"),
        "spins": ("旋转", "转圈"),
        "jumps": ("跳起来", "跳跃"),
    },
    "ground": {
        "grass": ("在草地上", "草地上"),
        "sand": ("在沙地上", "沙滩上"),
        "snow": ("在雪地上", "雪地里"),
        "stone": ("在石地上", "石板上"),
    },
    "time": {
        "dawn": ("黎明时", "清晨", "拂晓"),
        "noon": ("正午", "中午"),
        "sunset": ("日落时", "黄昏", "傍晚"),
        "night": ("夜里", "夜晚", "晚上"),
    },
    "camera": {
        "still": ("镜头静止", "固定镜头"),
        "pans left": ("镜头向左摇", "镜头左转"),
        "pans right": ("镜头向右摇", "镜头右转"),
        "zooms in": ("镜头推近", "镜头拉近"),
        "zooms out": ("镜头拉远", "镜头推远"),
    },
    "relation": {"left of": ("的左边", "的左侧"), "right of": ("的右边", "的右侧")},
}

# What the full world adds, apart so that the core world's words stay the same list.
FULL_ENGLISH: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": {
        "tree": ("tree",),
        "house": ("house", "cottage"),
        "boat": ("boat", "sailboat"),
        "balloon": ("balloon", "hot air balloon"),
        "car": ("car", "automobile"),
    },
    "finish": {"shiny": ("shiny", "glossy")},
    "motion": {
        "slides left": ("slides left", "slides to the left"),
        "slides right": ("slides right", "slides to the right"),
        "swings": ("swings", "swings back and forth"),
        "floats": ("floats", "bobs up and down", "hovers"),
        "orbits": ("orbits", "circles around", "moves in a circle"),
    },
    "ground": {"water": ("on the water", "on water", "on the lake", "on the sea")},
    "camera": {
        "orbits": ("the camera orbits", "the camera circles around the scene"),
        "rises": ("the camera rises", "the camera moves up"),
    },
    "relation": {"in front of": ("in front of",), "behind": ("behind",)},
    "weather": {
        "clouds": ("under drifting clouds", "under a cloudy sky"),
        "fog": ("in the fog", "in thick fog"),
        "rain": ("in the rain", "while rain falls"),
        "snowfall": ("in falling snow", "while snow falls"),
    },
    "sun": {
        "rises": ("the sun rises", "the sun comes up"),
        "sets": ("the sun sets", "the sun goes down"),
    },
}

FULL_PROGRESSIVE: dict[str, tuple[str, ...]] = {
    "slides left": ("sliding left", "sliding to the left"),
    "slides right": ("sliding right", "sliding to the right"),
    "swings": ("swinging", "swinging back and forth"),
    "floats": ("floating", "hovering"),
    "orbits": ("moving in a circle", "orbiting"),
}

FULL_CHINESE: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": {
        "tree": ("树",),
        "house": ("房子", "屋子"),
        "boat": ("船", "帆船"),
        "balloon": ("热气球", "气球"),
        "car": ("汽车", "车"),
    },
    "finish": {"shiny": ("闪亮的", "光亮的")},
    "motion": {
        "slides left": ("向左滑动", "滑向左边"),
        "slides right": ("向右滑动", "滑向右边"),
        "swings": ("来回摆动", "摆动"),
        "floats": ("漂浮", "飘浮"),
        "orbits": ("做圆周运动", "沿圆圈移动"),
    },
    "ground": {"water": ("在水面上", "湖面上")},
    "camera": {"orbits": ("镜头环绕", "镜头绕行"), "rises": ("镜头上升", "镜头升高")},
    "relation": {"in front of": ("的前面", "的前方"), "behind": ("的后面", "的后方")},
    "weather": {
        "clouds": ("云在飘动", "天上多云"),
        "fog": ("有雾", "大雾中"),
        "rain": ("下着雨", "雨中"),
        "snowfall": ("下着雪", "雪花飘落"),
    },
    "sun": {"rises": ("太阳升起",), "sets": ("太阳落下", "太阳下山")},
}

# Both of two things at once, and three things in a row.
COLLISIONS = {"collides with": "with", "collide": "both", "相撞": "both"}
ROWS = {
    "from left to right": "left of",
    "from right to left": "right of",
    "从左到右依次是": "left of",
    "从右到左依次是": "right of",
}

# Words that carry no attribute: articles and joints. "side" words say where the next thing is.
ENGLISH_FILLERS = (
    "a", "an", "the", "and", "while", "is", "that", "which", "it", "there", "video", "of", "clip", "shows", "scene",
    "with",
)  # fmt: skip
CHINESE_FILLERS = ("一个", "在", "正在", "有", "着", "的", "画面中", "视频里", "它", "而", "时分", "是")
PUNCTUATION = (",", ".", "，", "。", ";", "；", ":", "：", "!", "！", "、", "?", "？", "-")
SIDES = {"on the left": "left", "on the right": "right", "左边是": "left", "右边是": "right"}

_TOKEN = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]")


def tokens(text: str) -> list[str]:
    """Lower-case English words, single Chinese characters, single punctuation marks."""
    return _TOKEN.findall(text.lower())


def _phrases(full: bool) -> dict[tuple[str, ...], tuple[str, str]]:
    """Every phrase of the full world, or of the core world, as tokens, to (field, canonical word)."""
    table: dict[tuple[str, ...], tuple[str, str]] = {}

    def add(phrase: str, field: str, word: str) -> None:
        known = table.setdefault(tuple(tokens(phrase)), (field, word))
        if known != (field, word):
            raise ValueError(f"{phrase!r} means both {known} and {(field, word)}")

    for language in (ENGLISH, CHINESE, FULL_ENGLISH, FULL_CHINESE)[: 4 if full else 2]:
        for field, words in language.items():
            for word, phrases in words.items():
                for phrase in phrases:
                    add(phrase, field, word)
    for word, phrases in (ENGLISH_PROGRESSIVE | (FULL_PROGRESSIVE if full else {})).items():
        for phrase in phrases:
            add(phrase, "motion", word)
    for phrase, side in SIDES.items():
        add(phrase, "side", side)
    for phrase in ENGLISH_FILLERS + CHINESE_FILLERS + PUNCTUATION:
        add(phrase, "filler", phrase)
    if full:
        for phrase, kind in COLLISIONS.items():
            add(phrase, "collision", kind)
        for phrase, order in ROWS.items():
            add(phrase, "row", order)
        add("和", "filler", "和")
    return table


_TABLE = _phrases(full=True)
PHRASES = frozenset(_TABLE)  # every phrase of the full world, as tokens
_LONGEST = max(map(len, _TABLE))


def words(world: str = "core") -> list[str]:
    """Every token that a caption of the world can contain, sorted: the vocabulary of a word-level tokenizer."""
    table = _TABLE if world == "full" else _phrases(full=False)
    return sorted({token for phrase in table for token in phrase})


# --- from attributes to words -------------------------------------------------------------------------------------


def _pick(stream: Stream, options: tuple[str, ...]) -> str:
    """The plainest phrase half of the time, else any."""
    return options[0] if stream.chance(0.5) else stream.choice(options)


def describe(attributes: Attributes, seed: int | str, language: str = "en", *, full: bool = False) -> str:
    """A caption of the attributes in the phrasing that `seed` draws. See `phrase` for what it states."""
    return phrase(attributes, seed, language, full=full)[0]


def phrase(
    attributes: Attributes, seed: int | str, language: str = "en", *, full: bool = False
) -> tuple[str, Attributes]:
    """A caption and what it states: the attributes with None where the caption is silent.

    A `full` one is silent on nothing but what goes without saying: a matt finish, clear weather, a steady sun.
    """
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}: one of {', '.join(LANGUAGES)}")
    stream = Stream("caption", seed, language)
    stated = _leave_out(attributes, stream, full)
    text = _english(stated, stream) if language == "en" else _chinese(stated, stream)
    return text, stated.canonical()


def _leave_out(attributes: Attributes, stream: Stream, full: bool = False) -> Attributes:
    """Drop what a short caption would not say, and mention two things from either side."""
    terse = stream.random()  # 0: says everything, 1: says little
    if full:
        return _all_of(attributes, reverse=len(attributes.things) > 1 and stream.chance(0.35))
    things = tuple(
        replace(
            thing,
            finish="shiny" if thing.finish == "shiny" else None,
            size=None if stream.chance(0.8 if thing.size == "medium" else 0.3 * terse) else thing.size,
            motion=None if thing.motion == "stays still" and stream.chance(0.2 * terse) else thing.motion,
        )
        for thing in attributes.things
    )
    relation = attributes.relation
    if len(things) > 1:
        if stream.chance(0.35):  # from the other end
            things = things[::-1]
            relation = OPPOSITES.get(relation or "")
        if stream.chance(0.2 * terse):
            relation = None
    camera = attributes.camera
    if stream.chance(0.75 if camera == "still" else 0.12 * terse):
        camera = None
    return Attributes(
        things=things,
        relation=relation,
        ground=None if stream.chance(0.12 * terse) else attributes.ground,
        time=None if stream.chance(0.15 * terse) else attributes.time,
        camera=camera,
        weather=None if attributes.weather in (None, "clear") or stream.chance(0.1 * terse) else attributes.weather,
        sun=attributes.sun if attributes.sun in ("rises", "sets") else None,
    )


def _all_of(attributes: Attributes, reverse: bool) -> Attributes:
    """What a full caption states, with the things from the other end where `reverse`."""
    things = tuple(replace(thing, finish="shiny" if thing.finish == "shiny" else None) for thing in attributes.things)
    return replace(
        attributes,
        things=things[::-1] if reverse else things,
        relation=OPPOSITES.get(attributes.relation or "") if reverse else attributes.relation,
        weather=None if attributes.weather == "clear" else attributes.weather,
        sun=attributes.sun if attributes.sun in ("rises", "sets") else None,
    )


def _say(stream: Stream, language: dict[str, dict[str, tuple[str, ...]]], field: str, word: str) -> str:
    core, more = (ENGLISH, FULL_ENGLISH) if language is ENGLISH else (CHINESE, FULL_CHINESE)
    return _pick(stream, core.get(field, {}).get(word) or more[field][word])


def _english_noun(thing: Thing, stream: Stream, article: str = "") -> str:
    parts = (("size", thing.size), ("finish", thing.finish), ("color", thing.color))
    said = [_say(stream, ENGLISH, f, w) for f, w in parts if w]
    said.append(_say(stream, ENGLISH, "kind", str(thing.kind)))
    return f"{article or ('an' if said[0][0] in 'aeiou' else 'a')} {' '.join(said)}"


def _reference(thing: Thing) -> Thing:
    """The thing as a second mention names it: by colour and kind."""
    return Thing(thing.kind, thing.color)


def _english_clause(thing: Thing, stream: Stream, finite_verb: bool) -> str:
    """A noun and its verb: "a red ball bounces", "a red ball is bouncing"; or "a red ball bouncing"."""
    noun = _english_noun(thing, stream)
    if thing.motion is None:
        return noun
    finite = _say(stream, ENGLISH, "motion", thing.motion)
    progressive = _pick(stream, (ENGLISH_PROGRESSIVE | FULL_PROGRESSIVE)[thing.motion])
    if not finite_verb:
        return f"{noun} {progressive}"
    return stream.choice((f"{noun} {finite}", f"{noun} {finite}", f"{noun} is {progressive}"))


def _english_things(stated: Attributes, stream: Stream, finite_verb: bool) -> str:
    things = stated.things
    if [thing.motion for thing in things] == ["collides", "collides"]:
        return _english_collision(stated, stream)
    clauses = [_english_clause(thing, stream, finite_verb) for thing in things]
    if len(things) == 3:
        row = {"left of": "from left to right, ", "right of": "from right to left, "}.get(stated.relation or "", "")
        return f"{row}{clauses[0]}, {clauses[1]} and {clauses[2]}"
    if len(things) == 1:
        return clauses[0]
    first, second = things
    if stated.relation is None:
        joint = stream.choice((" and ", ", while " if finite_verb else ", ", " and ", ", and "))
        return joint.join(clauses)
    relation = _say(stream, ENGLISH, "relation", stated.relation)
    style = stream.random()
    if style < 0.4:
        if clauses[0].endswith(("left", "right")):
            relation = ", " + ENGLISH["relation"][stated.relation][0]
        joint = " that " if second.motion else ""
        tail = f"{joint}{_say(stream, ENGLISH, 'motion', second.motion)}" if second.motion else ""
        return f"{clauses[0]} {relation} {_english_noun(second, stream)}{tail}".replace(" ,", ",")
    if style < 0.7 and stated.relation in ("left of", "right of"):
        place = ("on the left", "on the right") if stated.relation == "left of" else ("on the right", "on the left")
        joint = stream.choice((" and ", ", "))
        return f"{place[0]}, {clauses[0]}{joint}{place[1]}, {clauses[1]}"
    both = " and ".join(clauses)
    again = (_english_noun(_reference(t), stream, "the") for t in (first, second))
    return f"{both}, {next(again)} is {relation} {next(again)}"


def _english_collision(stated: Attributes, stream: Stream) -> str:
    nouns = [_english_noun(thing, stream) for thing in stated.things]
    if stated.relation is None:
        return f"{nouns[0]} collides with {nouns[1]}" if stream.chance(0.6) else f"{nouns[0]} and {nouns[1]} collide"
    again = [_english_noun(_reference(thing), stream, "the") for thing in stated.things]
    relation = _say(stream, ENGLISH, "relation", stated.relation)
    return f"{nouns[0]} collides with {nouns[1]}, {again[0]} is {relation} {again[1]}"


def _english(stated: Attributes, stream: Stream) -> str:
    place = [_say(stream, ENGLISH, f, w) for f, w in (("ground", stated.ground), ("time", stated.time)) if w]
    opening = stream.random()
    collision = any(thing.motion == "collides" for thing in stated.things)
    show = opening > 0.9 and not collision
    things = _english_things(stated, stream, finite_verb=not show)
    if place and opening < 0.2:
        text = f"{place.pop()}, {things}"
    elif len(place) == 2 and opening < 0.3:
        text = f"{' '.join(stream.shuffled(place))}, {things}"
        place = []
    elif show and not things.startswith(("on ", "from ")):
        text = f"{stream.choice(('a video of', 'a clip of', 'there is'))} {things}"
    else:
        text = things
    if place:
        text = " ".join([text, *(place if stream.chance(0.75) else place[::-1])])
    if stated.weather:
        text = f"{text} {_say(stream, ENGLISH, 'weather', stated.weather)}"
    if stated.sun:
        text = f"{text}, {_say(stream, ENGLISH, 'sun', stated.sun)}"
    if stated.camera:
        camera = _say(stream, ENGLISH, "camera", stated.camera)
        text = f"{camera}, {text}" if stream.chance(0.2) else f"{text}, {camera}"
    return text


def _chinese_noun(thing: Thing, stream: Stream, article: str = "一个") -> str:
    color = _say(stream, CHINESE, "color", thing.color) if thing.color else ""
    size = _say(stream, CHINESE, "size", thing.size) if thing.size else ""
    kind = _say(stream, CHINESE, "kind", str(thing.kind))
    if thing.finish:
        article += _say(stream, CHINESE, "finish", thing.finish)
    if size.endswith("的") or stream.chance(0.5):
        return f"{article}{size}{color}{kind}"
    return f"{article}{color}{size}{kind}"


def _chinese_clause(thing: Thing, stream: Stream, place: str = "") -> str:
    noun = _chinese_noun(thing, stream)
    if thing.motion is None:
        return noun + place
    now = "" if thing.motion == "stays still" else stream.choice(("", "", "正在"))
    return f"{noun}{place}{now}{_say(stream, CHINESE, 'motion', thing.motion)}"


def _chinese_things(stated: Attributes, stream: Stream, place: str) -> str:
    things = stated.things
    if len(things) == 1:
        return _chinese_clause(things[0], stream, place)
    if len(things) == 3:
        row = {"left of": "从左到右依次是", "right of": "从右到左依次是"}.get(stated.relation or "", "")
        places = (place, "", "")
        return row + "，".join(_chinese_clause(t, stream, p) for t, p in zip(things, places, strict=True))
    first, second = things
    if first.motion == second.motion == "collides":
        text = f"{_chinese_noun(first, stream)}和{_chinese_noun(second, stream)}{place}相撞"
        if stated.relation is None:
            return text
        again = [_chinese_noun(_reference(t), stream, "") for t in (first, second)]
        return f"{text}，{again[0]}在{again[1]}{_say(stream, CHINESE, 'relation', stated.relation)}"
    if stated.relation is None:
        return f"{_chinese_clause(first, stream, place)}，{_chinese_clause(second, stream)}"
    relation = _say(stream, CHINESE, "relation", stated.relation)
    style = stream.random()
    if style < 0.4 and stated.relation in ("left of", "right of"):
        sides = ("左边是", "右边是") if stated.relation == "left of" else ("右边是", "左边是")
        return f"{place}{sides[0]}{_chinese_clause(first, stream)}，{sides[1]}{_chinese_clause(second, stream)}"
    again = [_chinese_noun(_reference(t), stream, "") for t in (first, second)]
    both = f"{_chinese_clause(first, stream, place)}，{_chinese_clause(second, stream)}"
    return f"{both}，{again[0]}在{again[1]}{relation}"


def _chinese(stated: Attributes, stream: Stream) -> str:
    time = _say(stream, CHINESE, "time", stated.time) if stated.time else ""
    ground = _say(stream, CHINESE, "ground", stated.ground) if stated.ground else ""
    style = stream.random()
    if style < 0.4:
        text = _chinese_things(stated, stream, ground if ground.startswith("在") else "")
        if ground and not ground.startswith("在"):
            text = f"{ground}，{text}"
        text = f"{time}，{text}" if time else text
    elif style < 0.75:
        text = "，".join(part for part in (time + ground, _chinese_things(stated, stream, "")) if part)
    else:
        text = "，".join(part for part in (_chinese_things(stated, stream, ""), ground, time) if part)
    for field, word in (("weather", stated.weather), ("sun", stated.sun)):
        if word:
            text = f"{text}，{_say(stream, CHINESE, field, word)}"
    if stated.camera:
        camera = _say(stream, CHINESE, "camera", stated.camera)
        text = f"{camera}，{text}" if stream.chance(0.2) else f"{text}，{camera}"
    return text + ("。" if stream.chance(0.3) else "")


# --- from words to attributes -------------------------------------------------------------------------------------


def phrases(text: str) -> list[tuple[str, str]]:
    """The phrases of a text as (field, canonical word), longest match first. Raises UnknownWords."""
    said, unknown, rest = [], [], tokens(text)
    position = 0
    while position < len(rest):
        for length in range(min(_LONGEST, len(rest) - position), 0, -1):
            meaning = _TABLE.get(tuple(rest[position : position + length]))
            if meaning is not None:
                said.append(meaning)
                position += length
                break
        else:
            unknown.append(rest[position])
            position += 1
    if unknown:
        raise UnknownWords(list(dict.fromkeys(unknown)))
    return said


class _Reader:
    """Gathers the things of a caption while its phrases go by."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self.sides: list[str | None] = []
        self.current: int | None = None  # the thing that the next motion is about
        self.definite = False  # "the red ball", or a Chinese noun without 一个: may name a thing again
        self.pending = Thing(None)  # size and colour before their noun
        self.side: str | None = None
        self.relation: tuple[int, str] | None = None  # (the thing before the word, the word)
        self.ends: tuple[int, int, str] | None = None
        self.row: str | None = None  # "from left to right"
        self.previous: int | None = None  # the thing named before the current one

    def noun(self, kind: str) -> None:
        thing = replace(self.pending, kind=kind)
        again = [
            i
            for i, known in enumerate(self.things)
            if self.definite and thing.size is None and known.kind == kind and thing.color in (None, known.color)
        ]
        self.previous = self.current
        if again:
            self.current = again[0]
        else:
            self.things.append(thing)
            self.sides.append(self.side)
            self.current = len(self.things) - 1
        if self.relation is not None and self.ends is None and self.relation[0] != self.current:
            self.ends = (self.relation[0], self.current, self.relation[1])
        self.pending, self.side, self.definite = Thing(None), None, True

    def motion(self, word: str) -> None:
        if self.current is not None:
            self.things[self.current] = replace(self.things[self.current], motion=word)

    def relate(self, word: str, chinese: bool) -> None:
        if chinese and self.current is not None and self.previous is not None:
            self.ends = (self.previous, self.current, word)
        elif self.current is not None:
            self.relation = (self.current, word)

    def result(self) -> tuple[tuple[Thing, ...], str | None]:
        """The things in the order of mention, and how the first relates to the second."""
        relation = None
        if self.ends is not None and len(self.things) == 2:
            first, _, relation = self.ends
            if first == 1:
                relation = OPPOSITES[relation]
        elif self.row is not None and len(self.things) > 1:
            relation = self.row
        elif len(self.things) == 2 and any(self.sides):
            left_first = self.sides[0] == "left" or (self.sides[0] is None and self.sides[1] == "right")
            relation = "left of" if left_first else "right of"
        return tuple(self.things), relation


def parse(text: str) -> Attributes:
    """What a caption states, in canonical form; None where it is silent.

    Raises UnknownWords (a ValueError) with the words that the world does not know.
    """
    reader = _Reader()
    scene: dict[str, str] = {}
    collision = False
    for field, word in phrases(text):
        if field == "filler":
            if word in ("a", "an", "一个"):
                reader.definite = False
            elif word == "the":
                reader.definite = True
        elif field == "kind":
            reader.noun(word)
        elif field in ("size", "color", "finish"):
            reader.pending = replace(reader.pending, **{field: word})
        elif field == "motion":
            reader.motion(word)
        elif field == "relation":
            reader.relate(word, chinese=not text.isascii())
        elif field == "side":
            reader.side = word
        elif field == "row":
            reader.row = word
        elif field == "collision":
            collision = True
        else:
            scene.setdefault(field, word)
    things, relation = reader.result()
    if collision:
        things = tuple(replace(thing, motion="collides") for thing in things)
    return Attributes(
        things=things,
        relation=relation,
        ground=scene.get("ground"),
        time=scene.get("time"),
        camera=scene.get("camera"),
        weather=scene.get("weather"),
        sun=scene.get("sun"),
    ).canonical()
