"""Everyday words for what the world has, and a prompt read with them.

The English words are members and kinds of the synsets of Princeton's WordNet 3.1 that mean the world's own words, the
Chinese ones members of their groups in Cilin (the extended Tongyici Cilin of the Harbin Institute of Technology);
`tests/data/everyday_words.tsv` names the synset or the group of 400 of them. Where a thing or a motion is not in the
world, the nearest that is stands for it (a pyramid is a cone), and the reader says so.

Not covered: words with several senses outside the world (`light`, `fall` for autumn), and grammar beyond the captions'.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any

from sorano.captions import ParsedPrompt
from sorano.world import caption

# What is written for it -> everyday words. Several targets, by commas: the first that the vocabulary has.
COLORS = {
    "red": (
        "crimson, scarlet, ruby, ruby-red, cherry-red, blood-red, carmine, vermilion, maroon, burgundy, claret, "
        "cerise, magenta, reddish, dark red, deep red, cherry red, pink, rose, ruddy, vermillion, cherry, cardinal, "
        "chrome red, oxblood red, turkey red, purplish-red, wine, wine red, brick red, firebrick, rust, rusty, "
        "raspberry, "
        "strawberry, salmon, salmon pink, coral, hot pink, deep pink, carnation, old rose, pinkish, rosy, indian red, "
        "venetian red, reddened, tomato, fuchsia, violet red"
    ),
    "green": (
        "emerald, jade, jade green, olive, olive-green, olive green, teal, chartreuse, sea green, bottle green, "
        "yellow green, pea green, bluish green, blue green, dark green, light green, lime, lime green, mint, "
        "mint green, "
        "forest green, sage, sage green, chrome green, paris green, spring green, lawn green, moss green, olive drab, "
        "hunter green, kelly green, grass green, apple green, army green, greenish, viridian, dark sea green, "
        "green yellow"
    ),
    "blue": (
        "azure, cerulean, sapphire, navy, navy blue, turquoise, aquamarine, aqua, ultramarine, sky-blue, "
        "sky blue, royal blue, steel blue, powder blue, dark blue, cobalt blue, light blue, cyan, indigo, bluish, "
        "cobalt, "
        "prussian blue, greenish blue, peacock blue, blueish, baby blue, midnight blue, slate blue, cadet blue, "
        "dodger blue, cornflower blue, cornflower, electric blue, ice blue, ocean blue, denim, periwinkle"
    ),
    "yellow": (
        "golden, gold, amber, lemon, lemon yellow, canary yellow, canary, saffron, ochre, ocher, pale yellow, "
        "yellowish, "
        "old gold, goldenrod, greenish yellow, brownish yellow, maize, straw, mustard, mustard yellow, khaki, gamboge, "
        "brass, sunny yellow, goldenrod yellow"
    ),
    "purple": (
        "lavender, mauve, lilac, royal purple, reddish purple, plum, purplish, tyrian purple, orchid, amethyst, "
        "blue violet, rebecca purple, thistle, grape, aubergine, eggplant, heliotrope"
    ),
    "orange": (  # brown is an orange of low brightness, says WordNet
        "reddish orange, tangerine, orange red, orangish, apricot, peach, brown, brownish, tan, chestnut, chocolate, "
        "chocolate-brown, dark-brown, deep brown, light brown, reddish brown, yellowish brown, sandy brown, "
        "rosy brown, "
        "saddle brown, coffee, mocha, caramel, hazel, umber, burnt umber, sienna, burnt sienna, raw sienna, sepia, "
        "mahogany, copper, bronze, cinnamon, fawn, carrot, pumpkin, terracotta, topaz, burlywood, peru"
    ),
    "white": (
        "ivory, pearl, off-white, off white, alabaster, snow-white, chalk, whitish, silver, gray, grey, cream, creamy, "
        "beige, ecru, eggshell, bone, linen, vanilla, greyish, grayish, ash grey, ash gray, light grey, light gray, "
        "silvery, ghost white, antique white, milky, milky white, alice blue, bisque, blanched almond, cornsilk, "
        "floral white, gainsboro, honeydew, lavender blush, lemon chiffon, mint cream, misty rose, moccasin, "
        "navajo white, old lace, papaya whip, peach puff, seashell, wheat, white smoke"
    ),
    "black": (
        "ebony, jet black, coal black, pitch black, jet-black, coal-black, pitch-black, inky, blackish, "
        "dark gray, dark grey, sable, soot black, blackened, charcoal, charcoal grey, charcoal gray, iron-grey, "
        "iron-gray, slate gray, slate grey, dim gray, dim grey, onyx, raven, midnight black"
    ),
}
SIZES = {
    "small": (
        "petite, diminutive, miniature, teeny, teensy, wee, minuscule, microscopic, smallish, dinky, minute, "
        "bitty, teeny-weeny, itsy-bitsy, itty-bitty, pocket-size, pocket-sized, undersized, mini, bantam, lilliputian, "
        "midget, weeny, weensy, teensy-weensy, dwarfish, dwarf, elfin, half-size, infinitesimal, micro, microscopical, "
        "miniscule, puny, runty, shrimpy, smaller, littler, tinier, smallest, tiniest, undersize, pint-sized, "
        "pint-size, "
        "compact, baby, bite-sized"
    ),
    "medium sized": "medium, medium-sized, mid-sized, midsize, average-sized, normal-sized, regular-sized, average",
    "large": (
        "giant, gigantic, enormous, immense, massive, colossal, vast, great, mammoth, jumbo, gargantuan, "
        "oversize, oversized, tremendous, humongous, whopping, sizable, sizeable, king-size, king-sized, "
        "biggish, largish, titanic, bulky, astronomical, astronomic, bigger, larger, biggest, largest, huger, "
        "enlarged, "
        "prodigious, stupendous, elephantine, grand, hulking, monumental, monstrous, mountainous, outsize, outsized, "
        "overlarge, queen-size, queen-sized, voluminous, whacking, walloping, thumping, ginormous, supersized, "
        "super-sized, giant-sized, life-size, life-sized, man-sized, full-size, extra-large, mega, humungous"
    ),
}
NOUNS = {
    "ball": (
        "globe, orb, football, basketball, baseball, volleyball, softball, marble, handball, soccer ball, "
        "tennis ball, golf ball, bowling ball, beach ball, billiard ball, rugby ball, bubble, bead, rubber ball, "
        "bouncy ball, cricket ball, croquet ball, lacrosse ball, medicine ball, ping-pong ball, ping pong ball, "
        "table tennis ball, polo ball, pool ball, snooker ball, squash ball, racquetball, playground ball, "
        "crystal ball, "
        "toy ball, yoga ball, exercise ball, disco ball, beachball, snowball, fireball, cannonball, mothball, globule, "
        "spherule, pellet, pearl"
    ),
    "cube": (
        "crate, carton, chest, dice, die, brick, square block, casket, cuboid, hexahedron, regular hexahedron, "
        "ice cube, "
        "cardboard box, gift box, wooden box, wooden crate, cereal box, shoebox, matchbox, mailbox, strongbox, "
        "package, "
        "parcel, trunk"
    ),
    "cylinder": (
        "tube, pipe, barrel, can, column, pillar, tubing, cask, keg, roller, soda can, tin can, tin, canister, "
        "test tube, "
        "oil drum, log, rod, pole"
    ),
    "cone": "pyramid, conoid, funnel, cone shape, traffic cone, ice cream cone, ice-cream cone, party hat",
    "torus": (
        "toroid, doughnut, hoop, annulus, halo, wheel, tyre, tire, anchor ring, bagel, hula hoop, life ring, "
        "inner tube, "
        "bracelet, wedding ring"
    ),
    "capsule": "lozenge, tablet, vitamin pill, vitamin, caplet",
    "tree": "oak, pine, fir, palm tree, birch",
    "house": "hut, home, cabin, building",
    "boat": "ship, yacht, dinghy, sailing boat",
    "balloon": "hot-air balloon",
    "car": "auto, motorcar, truck, van",
}
# finite, progressive -> verbs in their base form; "(left)" is kept where the prompt says a direction.
VERBS = {
    ("falls", "falling"): (
        "fall, drop, descend, plunge, tumble, sink, topple, plop, swoop, dive, cascade, go down, come down, "
        "fall down, drop down, plummet, plunk, crash, crash down, flop, settle, alight, land, subside, fall over, "
        "fall off, topple over, tip over, keel over, nosedive, free-fall, come crashing down"
    ),
    ("bounces", "bouncing"): (
        "bounce, rebound, spring, bound, ricochet, recoil, jounce, dribble, carom, resile, kick back, bounce around, "
        "bounce back"
    ),
    ("rises", "rising"): (
        "rise, ascend, lift, climb, go up, come up, move up, soar, arise, rise up, lift off, uprise, surge, mount, "
        "rocket, "
        "skyrocket, fly, fly up, fly away, shoot up, float up, take off"
    ),
    ("spins", "spinning"): (
        "spin, rotate, twirl, whirl, revolve, gyrate, reel, pirouette, spin around, go around, turn around, turn, "
        "swirl, twist, twiddle, birl, whirligig, go round, turn round, rotate around, whirl around"
    ),
    ("jumps", "jumping"): "jump, hop, leap, skip, vault, caper, leapfrog, jump up, saltate, take a hop, jump around",
    ("stays still", "staying still"): (
        "stay still, stand still, rest, stay, remain, lie, sit, stand, lie still, sit still, stay put, sit tight, "
        "stick around, linger, wait, stop, pause, freeze, hang, dangle, balance, keep still, remain still, "
        "stay in place, "
        "stay in one place, hang in the air, poise, sleep"
    ),
    ("rolls left", "rolling left"): (
        "roll left, roll to the left, trundle left, wheel left, roll leftward, roll leftwards, "
        "roll from right to left, "
        "roll towards the left, roll toward the left"
    ),
    ("rolls right", "rolling right"): (
        "roll right, roll to the right, trundle right, wheel right, roll rightward, roll rightwards, "
        "roll from left to right, roll towards the right, roll toward the right"
    ),
    ("slides left,rolls left", "sliding left,rolling left"): (
        "slide left, glide left, drift left, move left, go left, slide to the left, glide to the left, "
        "drift to the left, "
        "move to the left, go to the left, move leftward, move from right to left"
    ),
    ("slides right,rolls right", "sliding right,rolling right"): (
        "slide right, glide right, drift right, move right, go right, slide to the right, glide to the right, "
        "drift to the right, move to the right, go to the right, move rightward, move from left to right"
    ),
    ("floats,stays still", "floating,staying still"): "float, hover, levitate, drift, bob, waft, hang in midair",
    ("swings,stays still", "swinging,staying still"): "swing, sway, oscillate",
    ("orbits,spins", "orbiting,spinning"): "orbit, circle",
}
TIMES = {
    "at dawn": (
        "daybreak, sunrise, sunup, sun-up, morning, dawning, first light, break of day, cockcrow, the break of day, "
        "break of the day, dayspring, early morning, aurora"
    ),
    "at noon": (
        "midday, noonday, noontide, high noon, daytime, daylight, lunchtime, twelve noon, afternoon, midafternoon, "
        "broad daylight, full daylight, sunlight, bright sunlight, sunshine, bright sunshine"
    ),
    "at sunset": (
        "dusk, twilight, nightfall, sundown, evening, gloaming, evenfall, eventide, gloam, golden hour, blue hour, "
        "late afternoon, setting sun"
    ),
    "at night": "midnight, nighttime, night-time, darkness, dead of night, starlight, moonlight",
}
TIMES_AS_THEY_ARE = {  # with prepositions of their own
    "at dawn": "before sunrise, before dawn, as the sun rises, when the sun rises",
    "at noon": (
        "on a sunny day, on a bright day, by day, during the day, in the day, in the middle of the day, in the sun"
    ),
    "at sunset": "as the sun sets, when the sun sets, before dark",
    "at night": (
        "tonight, after dark, after sunset, under the stars, under the moon, under a full moon, under a starry sky, "
        "late at night, by night"
    ),
}
GROUNDS = {
    "on the grass": (
        "meadow, lawn, field, pasture, hayfield, prairie, grassland, turf, green meadow, green grass, grassy field, "
        "grassy ground, grassy meadow, grassy hill, grassy plain, grassy lawn, green field, green lawn, pastureland, "
        "savanna, savannah, bluegrass, ryegrass, garden, park, football field, football pitch, soccer field, "
        "backyard, hill, "
        "hillside"
    ),
    "on the sand": (
        "beach, desert, dune, dunes, seashore, seaside, shore, sand dune, sand dunes, sandy beach, sandy ground, "
        "sandy shore, sandy desert, white sand, golden sand, yellow sand, wet sand, beachfront, sandpit, sandbox"
    ),
    "on the snow": (
        "ice, glacier, snowfield, snowy field, snowy ground, snowy hill, snowy meadow, snowy landscape, snowy plain, "
        "snowy street, snow-covered ground, snow-covered field, deep snow, fresh snow, white snow, frost, "
        "frozen ground, "
        "frozen lake, icy ground, ski slope"
    ),
    "on the stone": (
        "rock, rocks, stones, pavement, cobblestones, concrete, gravel, floor, ground, street, road, sidewalk, "
        "asphalt, "
        "tarmac, rocky ground, rocky surface, rocky floor, stony ground, stone ground, bedrock, boulder, boulders, "
        "pebbles, paving, flagstones, tiles, tile floor, tiled floor, concrete floor, flooring, cliff, mountain, "
        "mountains, earth, soil, dirt"
    ),
    "on the water,on the sand": "lake, sea, ocean, river, pond",
}
CAMERA = {  # of the camera: verbs, and words for them alone
    "the camera zooms in": (
        "zoom in, push in, dolly in, move in, move closer, come closer",
        "zoom in, zoom-in, dolly in",
    ),
    "the camera zooms out": (
        "zoom out, pull out, pull back, dolly out, move out, move away, back away",
        "zoom out, zoom-out, dolly out",
    ),
    "the camera pans left": (
        "pan left, pan to the left, move left, move to the left, turn left, swing left",
        "pan left, panning left, left pan",
    ),
    "the camera pans right": (
        "pan right, pan to the right, move right, move to the right, turn right, swing right",
        "pan right, panning right, right pan",
    ),
    "the camera is still": (
        "stand still, stay still, rest, not move, stay put, keep still, remain still",
        "static shot, fixed camera, still camera, locked camera, stationary camera, static view, fixed shot",
    ),
}
CHINESE = {
    "红色": (
        "深红、大红、鲜红、血红、火红、朱红、赤红、猩红、殷红、通红、粉红、粉红色、鲜红色、紫红色、桃红、赤色、"
        "红彤彤、红通通、红艳艳、酒红、玫红、玫瑰红、珊瑚红、暗红、砖红、樱桃红、枣红"
    ),
    "绿色": (
        "碧绿、翠绿、青绿、墨绿、浅绿色、翠绿色、黄绿色、浓绿、嫩绿、绿油油、"
        "深绿、草绿、橄榄绿、军绿、薄荷绿、浅绿、苹果绿、森林绿"
    ),
    "蓝色": (
        "蔚蓝、天蓝、碧蓝、宝蓝、深蓝、浅蓝、深蓝色、天蓝色、蔚蓝色、暗蓝色、"
        "藏青、湖蓝、靛蓝、海蓝、海军蓝、青色、宝石蓝、孔雀蓝、淡蓝"
    ),
    "黄色": "金黄、金色、淡黄、嫩黄色、土黄色、黄灿灿、黄澄澄、金黄色",
    "紫色": ("淡紫、深紫、紫罗兰、青紫、浅紫、薰衣草紫、葡萄紫、粉紫"),
    "橙色": (
        "橙黄、橙黄色、杏黄、杏黄色、橘红色、桔黄色、橘色、橘黄、棕色、"
        "褐色、咖啡色、棕褐色、棕、褐、红棕色、茶色、古铜色、桔色"
    ),
    "白色": (
        "雪白、洁白、乳白、乳白色、灰白色、银色、银灰色、银灰、灰色、白花花、"
        "白茫茫、灰、米色、米白、象牙白、奶白、纯白、浅灰色、浅灰、奶油色"
    ),
    "黑色": "漆黑、乌黑、墨黑、黝黑、墨色、黢黑、灰黑色、黑油油、深灰色、深灰、炭黑、纯黑",
    "小": "微小、细小、很小、小小的、短小、迷你、极小",
    "巨大的": "庞大、硕大、宏大、特大、极大、巨型、高大、超大",
    "球": "球体、珠子、圆珠、皮球、足球、篮球、排球、气泡、弹珠、丸子",
    "方块": "正方体、立方、箱子、盒子、骰子、砖块、木箱",
    "圆柱": "柱子、管子、圆筒、桶、罐子、石柱、木柱",
    "圆锥": "金字塔、锥子、锥体、圆台、圆锥台、漏斗",
    "圆环": "圈子、圆圈、环子、线圈、轮子、轮胎、甜甜圈、铁环",
    "胶囊": "药丸、药片",
    "旋转": "转动、打转、转悠、旋动、自转、打转儿、团团转、转个不停",
    "落下": "掉落、坠落、跌落、下落、下降、掉下、落下来、坠下",
    "上升": "升起、升高、升腾、上浮、飞起、飞起来、升上去、上升起来",
    "跳跃": "蹦跳、跳动、蹦、雀跃、腾跃、跳起、蹦蹦跳跳",
    "弹跳": "弹起、蹦弹、反弹、回弹",
    "静止不动": "静止、一动不动、停着、躺着、停在、悬浮、盘旋",
    "向左滚动": "往左滚、向左滚、滚到左边、往左滚动",
    "向右滚动": "往右滚、向右滚、滚到右边、往右滚动",
    "在草地上": "在草坪上、在草原上、在绿地上、草坪上、草原上、田野上、在田野上、在草丛里",
    "在沙地上": "在沙滩上、在沙漠里、在海滩上、沙漠里、海滩上、在海边、海边、沙漠中、在沙漠中",
    "在雪地上": "在雪原上、雪原上、在冰上、冰面上、在冰面上、雪地里、在雪里",
    "在石地上": "在石头上、在岩石上、在地上、石头上、岩石上、地上、路上、在路上、在地面上、地面上、在石板上",
    "黎明时": "凌晨、破晓、早晨、早上、日出、日出时、大清早、一清早、一大早、清早",
    "正午": "晌午、午间、日中、白天、大白天、中午时分",
    "日落时": "日落、薄暮、夕阳下、傍晚时分、黄昏时分、暮色中",
    "夜里": "深夜、半夜、午夜、子夜、夜间、晚间、三更半夜、深更半夜、夜半、夜幕下、月光下",
}
IRREGULAR = {  # base -> other forms: -s, -ing, past
    "fall": ("falls", "falling", "fell"), "sink": ("sinks", "sinking", "sank"), "dive": ("dives", "diving", "dived"),
    "rise": ("rises", "rising", "rose"), "arise": ("arises", "arising", "arose"), "spin": ("spins", "spinning", "spun"),
    "spring": ("springs", "springing", "sprang"), "leap": ("leaps", "leaping", "leapt"),
    "go": ("goes", "going", "went"),
    "come": ("comes", "coming", "came"), "stand": ("stands", "standing", "stood"), "lie": ("lies", "lying", "lay"),
    "sit": ("sits", "sitting", "sat"), "swing": ("swings", "swinging", "swung"), "slide": ("slides", "sliding", "slid"),
    "fly": ("flies", "flying", "flew"), "shoot": ("shoots", "shooting", "shot"), "take": ("takes", "taking", "took"),
    "hang": ("hangs", "hanging", "hung"), "freeze": ("freezes", "freezing", "froze"),
    "keep": ("keeps", "keeping", "kept"), "stick": ("sticks", "sticking", "stuck"),
    "sleep": ("sleeps", "sleeping", "slept"),
    "not": ("does not", "not", "did not"),
}  # fmt: skip
DOUBLED = ("drop", "plop", "hop", "skip", "bob", "drum", "stop", "tip", "flop", "pan")  # dropping, not droping
PLURALS = {"torus": "tori", "dice": "dice", "box": "boxes"}
# before a colour, or before a size: they shade what the world has in one shade
SHADES = "light|dark|pale|deep|bright|vivid|neon|pastel|dull|soft|hot|baby|rich|brilliant|glowing|faded|dusty|medium"
DEGREES = "very|really|quite|rather|fairly|pretty|extra|super|extremely|incredibly|so|too|truly|unusually|relatively"
FUNCTION_WORDS = frozenset(
    "please show me us make create generate draw render picture image photo animation movie film footage some any "
    "this these those very really just now then its his her their my your our be been being was were are to for from "
    "by as into onto over above through during against under next near beside around about at".split()
)  # what is left out without a word: it states nothing that the world has
COUNTS = {"two": 2, "2": 2, "a pair of": 2, "both": 2, "twin": 2, "three": 3, "3": 3, "两": 2, "二": 2, "三": 3}
NEAR = 0.8  # likeness of an unknown word and a known one that is worth a guess

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+|[^\w\s]|_")
_WORD = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])[\w'-])+|\s+|.", re.DOTALL)
MOST_PIECES = 16  # of an everyday phrase: words and the spaces between them


def read(prompt: str, vocabulary: Collection[str]) -> ParsedPrompt:
    """A prompt in the words of a vocabulary. One that has nothing else comes back as it is.

    Everyday words become the world's, "two red balls" one ball and another, and what stays unknown is left out.
    """
    clean = "".join(
        char for char in prompt if unicodedata.category(char) != "Cf"
    )  # zero-width characters of pasted text
    clean = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", " ", _ESCAPES.sub("", clean))
    text = unicodedata.normalize("NFKC", clean).lower()
    read_as: dict[str, str] = {}
    text = _without_shades(_with_synonyms(text, frozenset(vocabulary), read_as), read_as)
    text = _one_by_one(text)
    pieces = _PIECE.findall(text)
    unknown = [piece for piece in pieces if piece not in vocabulary]
    words = [one for one in dict.fromkeys(unknown) if any(map(str.isalnum, one)) and one not in FUNCTION_WORDS]
    if not read_as and not unknown and text == unicodedata.normalize("NFKC", clean).lower():
        text = prompt if clean == prompt else clean
    elif unknown:
        text = " ".join(_PIECE.sub(lambda match: match[0] if match[0] in vocabulary else " ", text).split())
    words = [_as_written(one, prompt) for one in words]
    likely = _guesses(frozenset(vocabulary))
    near = {one: found for one in words if (found := _nearest(one.lower(), likely))}
    return ParsedPrompt(text, tuple(read_as.items()), tuple(words), near, bool(set(_things(text))))


@lru_cache(maxsize=4)
def _guesses(vocabulary: frozenset[str]) -> tuple[str, ...]:
    """What a word may have been meant for: words of the world that state something, and everyday words for them."""
    own = {one for pieces in caption.PHRASES for one in pieces} & vocabulary or vocabulary
    empty = FUNCTION_WORDS | {"the", "and", "that", "does", "not", "with", "while"}
    everyday = {one for one in _synonyms(vocabulary) if one.isalpha() and one.isascii()}
    return tuple(sorted(one for one in {*own, *everyday} - empty if len(one) > 2 and one.isalpha()))


def _nearest(word: str, likely: Sequence[str]) -> str | None:
    """The word that this one was probably meant for: one letter longer or shorter at most, two where it is long."""
    slack = 1 + (len(word) >= 8)
    alike = [one for one in likely if abs(len(one) - len(word)) <= slack]
    return next(iter(get_close_matches(word, alike, n=1, cutoff=NEAR)), None)


def _without_shades(text: str, read_as: dict[str, str]) -> str:
    """ "pale blue" as "blue", "very small" as "small": the world has one shade of a colour, and three sizes."""

    def put(match: re.Match[str]) -> str:
        if match["shade"]:
            read_as[f"{match['shade']} {match['color']}"] = match["color"]
        return match["color"] or match["size"]

    return re.sub(_shaded(), put, text)


@lru_cache(maxsize=1)
def _shaded() -> str:
    """The pattern of a colour or a size with words of degree before it."""
    colors = "|".join(name for names in caption.ENGLISH["color"].values() for name in names)
    sizes = "|".join(name for names in caption.ENGLISH["size"].values() for name in names)
    return (
        rf"(?<![\w-])(?:(?P<shade>{SHADES})[\s-]*(?P<color>{colors})|(?:(?:{DEGREES})\s+)+(?P<size>{sizes}))(?![\w-])"
    )


def _as_written(word: str, prompt: str) -> str:
    match = re.search(re.escape(word), prompt, re.IGNORECASE)
    return match[0] if match else word


def things(vocabulary: Collection[str]) -> list[str]:
    """The things that a model with this vocabulary can make."""
    tables = (caption.ENGLISH["kind"], caption.FULL_ENGLISH["kind"])
    return [kind for table in tables for kind, names in table.items() if names[0] in vocabulary]


def _things(text: str) -> list[str]:
    """The kinds of things in a text, by the world's own phrases."""
    found, rest = [], caption.tokens(text)
    names = _kind_phrases()
    for start in range(len(rest)):
        for length in (3, 2, 1):
            kind = names.get(tuple(rest[start : start + length]))
            if kind is not None:
                found.append(kind)
                break
    return found


@lru_cache(maxsize=1)
def _kind_phrases() -> dict[tuple[str, ...], str]:
    tables = (caption.ENGLISH, caption.CHINESE, caption.FULL_ENGLISH, caption.FULL_CHINESE)
    return {
        tuple(caption.tokens(phrase)): kind
        for table in tables
        for kind, phrases in table["kind"].items()
        for phrase in phrases
    }


@lru_cache(maxsize=4)
def _synonyms(vocabulary: frozenset[str]) -> dict[str, str]:
    """Every everyday phrase to what stands for it in this vocabulary."""
    table: dict[str, str] = {}

    @cache
    def is_written(target: str) -> bool:
        return set(_PIECE.findall(target.rstrip("*"))) <= vocabulary

    for pairs in (_names(), _verbs(), _places_and_times(), _camera(), _chinese()):
        for source, targets in pairs:
            target = next(filter(is_written, targets.split(",")), source)
            if source != target and not _is_known(source, vocabulary):
                table.setdefault(source, target)
    for pieces in caption.PHRASES:  # the world's own phrases stay whole: "on snow" is not "on" and a synonym
        own = "".join(pieces) if not pieces[0].isascii() else " ".join(pieces)
        if len(pieces) > 1 and set(pieces) <= vocabulary:
            table.setdefault(own, own)
    return table


Pairs = Iterator[tuple[str, str]]  # an everyday phrase, and what stands for it: the first that a vocabulary has


def _names() -> Pairs:
    for target, sources in COLORS.items():
        for source in sources.split(", "):
            yield source, target  # and as in lists of colours: "sky-blue", "skyblue", "darkskyblue"
            yield source.replace(" ", "-"), target
            for shade in ("", "dark", "light", "medium", "pale", "deep"):
                yield shade + source.replace(" ", ""), target
    for target, sources in SIZES.items():
        yield from ((source, target) for source in sources.split(", "))
    for target, sources in NOUNS.items():
        for source in [target, *sources.split(", "), *caption.ENGLISH["kind"].get(target, ())]:
            yield source, target
            yield PLURALS.get(source, f"{source}s"), f"{target}*"  # "*": more than one


def _verbs() -> Pairs:
    for (finite, progressive), verbs in VERBS.items():
        for verb in verbs.split(", "):
            base, *others = _forms(verb)
            yield from ((form, finite) for form in (base, others[0], others[2]))
            yield others[1], progressive
    for still in ("is still", "is motionless", "is stationary", "is not moving", "isn't moving", "doesn't move"):
        yield still, "stays still"
    for still in ("motionless", "stationary", "not moving", "immobile"):
        yield still, "staying still"


def _places_and_times() -> Pairs:
    for target, sources in TIMES_AS_THEY_ARE.items():
        yield from ((source, target) for source in sources.split(", "))
    for field, prepositions in (
        (TIMES, "at|in|during|by|around|after"),
        (GROUNDS, "on|in|at|over|across|along|onto|upon|by"),
    ):
        for target, sources in field.items():
            for source in sources.split(", "):
                for preposition in prepositions.split("|"):
                    for article in ("", "the ", "a ", "an "):
                        yield f"{preposition} {article}{source}", target
                if field is TIMES:
                    yield source, target


def _camera() -> Pairs:
    for target, (verbs, alone) in CAMERA.items():
        yield from ((source, target) for source in alone.split(", "))
        for verb in verbs.split(", "):
            base, third, progressive, _ = _forms(verb)
            for form in (base, third, f"is {progressive}", progressive):
                yield f"the camera {form}", target
                yield f"camera {form}", target


def _chinese() -> Pairs:
    for target, sources in CHINESE.items():
        for source in sources.split("、"):
            yield source, target
            if target.endswith("色") and not source.endswith("色"):
                yield f"{source}色", target


def _is_known(phrase: str, vocabulary: frozenset[str]) -> bool:
    """Whether the vocabulary has a phrase as one of the world's own."""
    pieces = caption.tokens(phrase)
    if not set(pieces) <= vocabulary:
        return False
    if phrase.isascii():
        return tuple(pieces) in caption.PHRASES
    try:
        fields = [field for field, _ in caption.phrases(phrase)]
        return len(set(fields)) == len(fields)  # 大红 may be "large" and "red"; 橙黄 cannot be two colours
    except caption.UnknownWords:
        return False


def _forms(verb: str) -> tuple[str, str, str, str]:
    """A verb's base, -s, -ing and past, with what follows the verb: "roll left", "rolls left" ..."""
    base, _, rest = verb.partition(" ")
    rest = f" {rest}" if rest else ""
    if base in IRREGULAR:
        forms: Sequence[str] = (base, *IRREGULAR[base])
    else:
        stem = base[:-1] if base.endswith("e") and not base.endswith("ee") else base
        stem += stem[-1] if base in DOUBLED else ""
        third = f"{base}es" if base.endswith(("s", "x", "sh", "ch")) else f"{base}s"
        if base.endswith("y") and base[-2] not in "aeiou":
            third = f"{base[:-1]}ies"
        forms = (base, third, f"{stem}ing", f"{stem}ed")
    return (forms[0] + rest, forms[1] + rest, forms[2] + rest, forms[3] + rest)


def _with_synonyms(text: str, vocabulary: frozenset[str], read_as: dict[str, str]) -> str:
    table = _synonyms(vocabulary)
    own = own_plurals()
    pieces = _WORD.findall(text)
    read, at = "", 0
    while at < len(pieces):
        source, end = _longest(pieces, at, table)
        target = table.get(source, source)
        if source != target and source not in own and not _is_form(source, target):
            read_as[source] = target.rstrip("*")
        read, at = read + target, end
    return read


@lru_cache(maxsize=1)
def own_plurals() -> frozenset[str]:
    """The world's own things in the plural, which are read without a word."""
    plurals = {PLURALS.get(kind, f"{kind}s") for kind in NOUNS}
    return frozenset(plurals | {"spheres", "boxes", "blocks", "rings", "donuts", "pills"})


def _longest(pieces: Sequence[str], at: int, table: Mapping[str, str]) -> tuple[str, int]:
    """The longest phrase of the table that begins at a piece, and where it ends; else the piece itself."""
    found, end, phrase = pieces[at], at + 1, ""
    for index in range(at, min(len(pieces), at + MOST_PIECES)):
        piece = pieces[index]
        phrase += " " if piece.isspace() else piece
        if phrase in table:
            found, end = phrase, index + 1
    return found, end


def _is_form(source: str, target: str) -> bool:
    """Whether a word is another form of what stands for it: nothing to tell."""
    first = target.split()[0]
    return any(first in _forms(base) and source.split()[0] in _forms(base) for base in _bases())


@lru_cache(maxsize=1)
def _bases() -> tuple[str, ...]:
    return ("fall", "bounce", "rise", "spin", "jump", "stay", "roll", "slide", "float", "swing", "orbit")


def _one_by_one(text: str) -> str:
    """ "two red ball* bounces" as "a red ball bounces and a red ball bounces"; a plural without a number is two."""

    def english(match: re.Match[str]) -> str:
        number = COUNTS.get(" ".join((match["count"] or "two").split()), 2)
        verb = " ".join((match["verb"] or "").split())
        one = " ".join(part for part in ("a", (match["words"] or "").strip(), match["kind"], verb) if part)
        return " and ".join([one] * number)

    text = re.sub(_counted_english(), english, text)

    def chinese(match: re.Match[str]) -> str:
        return ",".join([f"一个{match[2]}{match[3]}"] * COUNTS[match[1]])

    return re.sub(_counted_chinese(), chinese, text)


@lru_cache(maxsize=1)
def _counted_english() -> str:
    """The pattern of a number, words, a thing in the plural (marked by "*") and its verb."""
    joined = "|".join(re.escape(count) for count in COUNTS if count.isascii())
    return (
        rf"(?:(?<!\w)(?:the|some|many|several)\s+)?(?:(?<!\w)(?P<count>{joined})\s+)?(?P<words>(?:(?!(?:{joined}|and|the|a|an|some|many|several|of|with|that)\b)[a-z-]+\s+){{0,3}}?)(?P<kind>[a-z]+)\*"
        r"(?P<verb>(?:\s+(?:is\s+|are\s+)?(?:bounc|fall|ris|spin|jump|roll|stay|slid|float|swing|orbit|rest|rotat|drop|hop)"
        r"\w*(?:\s+(?:still|left|right))?)?)"
    )


@lru_cache(maxsize=1)
def _counted_chinese() -> str:
    """The pattern of a number, a measure word, words and a thing."""
    tables = (caption.CHINESE, caption.FULL_CHINESE)
    names = {name for table in tables for phrases in table["kind"].values() for name in phrases}
    kinds = "|".join(sorted(names, key=lambda name: (-len(name), name)))
    return rf"([两二三])[个只颗块]([^，。、,.]{{0,6}}?)({kinds})"


def rules(vocabulary: Collection[str]) -> dict[str, Any]:
    """What `read` does, as data for other languages; patterns are in the syntax of ECMAScript.

    A synonym is a phrase to what stands for it, or to [that, 0] where `read` says nothing of it.
    """
    own = own_plurals()
    table: dict[str, Any] = {}
    for source, target in _synonyms(frozenset(vocabulary)).items():
        is_said = source != target and source not in own and not _is_form(source, target)
        table[source] = target if is_said else [target, 0]

    def ecmascript(pattern: str) -> str:
        return pattern.replace("(?P<", "(?<").replace(r"\ ", " ").replace(r"\-", "-")

    return {
        "vocabulary": sorted(vocabulary),
        "ignored": sorted(FUNCTION_WORDS),
        "synonyms": table,
        "mostPieces": MOST_PIECES,
        "things": [list(pieces) for pieces in _kind_phrases()],
        "makes": things(vocabulary),
        "shaded": ecmascript(_shaded()),
        "counted": ecmascript(_counted_english()),
        "countedChinese": ecmascript(_counted_chinese()),
        "counts": COUNTS,
    }
