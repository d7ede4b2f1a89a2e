"""What the server says in Chinese: every sentence of its code, and of the engine's that requests come to, has one."""

import ast
import re
from pathlib import Path

import pytest

import sorano
from sorano.errors import SoranoError
from sorano.serve import chinese_report
from sorano.web.chinese import CODES, MARK, NOTES, SENTENCES, message_in_chinese, sentence_in_chinese
from sorano.web.problems import CODES as TABLE
from sorano.web.problems import Problem, as_parameters

PACKAGE = Path(sorano.__file__).parent
ANSWERED = ["serve", "web", "request.py", "resolve.py", "prompt_editing.py", "conditions", "shapes.py", "segments.py"]
ANSWERED += ["storyboard.py", "plan/generate.py"]
OF_OPERATORS = {  # who starts a server or a worker, or types a command, reads these in a terminal
    "serve/server.py", "serve/maker.py", "serve/nsfw.py", "serve/webhooks.py", "web/database.py", "web/migrate.py",
    "web/server.py",
}  # fmt: skip
OF_COMMANDS = [
    "{path}", "memory ", "use memory", "LoRA", "unknown device", "use auto, cpu", "unknown dtype", "in memory cannot",
    "save them first", "10s=", "there is no scope", "scopes are", "a key has a name", "say who or what uses it",
    "was revoked", "makes a new one", "there is no key", "list shows them", "there is no classifier", "name it MODULE",
    "cannot be read", "give a text file", "the lease was lost", "the request cannot be read", "it is TOML",
    "begin one with", "rising times", "the prompts change at", "{text} is no number of parameters", "{param}: {first",
]  # fmt: skip
ERRORS = {one.__name__ for one in SoranoError.__subclasses__()} | {"SoranoError", "Problem"}
HAS_CHINESE = re.compile("[\u4e00-\u9fff]")


def literals(node):
    """The texts that an expression may be, f-strings with their expressions in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = (one.value if isinstance(one, ast.Constant) else f"{{{ast.unparse(one.value)}}}" for one in node.values)
        return ["".join(parts)]
    if isinstance(node, ast.IfExp):
        return [*literals(node.body), *literals(node.orelse)]
    if isinstance(node, ast.BinOp):
        return [a + b for a in literals(node.left) for b in literals(node.right)]
    if isinstance(node, ast.Tuple):
        return [text for one in node.elts for text in literals(one)]
    return []


def sentences(path):
    """The sentences of a module's errors: the cause and the next step of each, and what is named `said` or `hint`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            given = node.args[1:3] if node.func.id == "Problem" else node.args[:2]
            texts = [text for one in given for text in literals(one)]
        elif isinstance(node, ast.Assign):
            names = {one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
            texts = literals(node.value) if names & {"said", "hint"} else []
        else:
            continue
        for text in texts:
            yield from (one for one in as_parameters(text).split("; ") if re.search("[a-z]{2}", one))


def said(sentence):
    """A sentence as somebody may get it: its expressions filled in."""
    words = {"row['status']": "queued", "source['status']": "queued", "wanted": "a number", "wants": "picture"}
    words |= {
        "kind": "video",
        "lowest": "above 0",
        "names[0]": "localhost",
        "it": "that",
        "name": "prompt",
        "what": "file",
    }
    words |= {"'s'[:source.num_frames > 1]": "s", "name[:80]": "'x'"}
    sentence = re.sub(r"\{(\"[^}]*)\}", r"<\1>", sentence)  # braces of JSON
    filled = re.sub(r"\{(.+?)\}", lambda one: words.get(one[1], "7"), sentence)
    return re.sub(r"<(\"[^>]*)>", r"{\1}", filled)


def modules():
    found = (
        path for one in ANSWERED for path in ([PACKAGE / one] if one.endswith(".py") else (PACKAGE / one).rglob("*.py"))
    )
    return sorted(path for path in found if path.relative_to(PACKAGE).as_posix() not in OF_OPERATORS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_sentence_of_an_error_is_there_in_chinese(path):
    asked = [one for one in sentences(path) if not any(part in one for part in OF_COMMANDS)]
    missing = {one for one in asked if not HAS_CHINESE.search(message_in_chinese(said(one)))}
    assert not missing, missing


def test_there_is_something_to_say():
    assert sum(len(list(sentences(path))) for path in modules()) > 200


def evidence_of(path):
    """The sentences of a module's evidence, its expressions in braces."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Evidence":
            for text in (text for one in node.args[1:] for text in literals(one)):
                yield from (one for one in text.split("; ") if re.search("[a-z]{3}", re.sub(r"\{.*?\}", "", one)))


@pytest.mark.parametrize("name", ["trust/judge.py", "trust/copies/lookup.py"])
def test_every_sentence_of_evidence_is_there_in_chinese(name):
    words = {"leads": "the mark's id leads to a manifest by X", "made": "made by AI", "which": "public"}
    words |= {"one.says": "is AI-generated", "rest": "", "note": "", "wrong": "", "whole": "nobody changed the bytes"}
    words |= {"'has ended' if ended else 'is not valid yet'": "has ended", "limited": "", "mark.where": ""}
    words |= {"'s'[:len(regions) > 1]": "s", "where": "1.0 to 2.0 s, 5%-9% across, 1%-2% down", "_shown(one)": ""}

    def filled(sentence):
        return re.sub(r"\{(.+?)\}", lambda one: words.get(one[1], "7"), sentence)

    asked = set(evidence_of(PACKAGE / name))
    assert len(asked) > 20
    missing = {one for one in asked if not HAS_CHINESE.search(chinese_report.said(filled(one)))}
    assert not missing, missing


def test_a_report_in_chinese_keeps_its_verdict_and_its_names():
    found = "signed by Ann, under a root that is trusted here (Ann's); who says: made by AI; no time stamp says when"
    evidence = {"about": "credential", "found": found, "proves": "the file is byte for byte as they signed it"}
    evidence |= {"does_not_prove": "what nobody translated", "next_step": ""}
    summary = "it is as Ann signed it, who says: made by AI"
    told = chinese_report.report_in_chinese({"verdict": "VERIFIED", "summary": summary, "evidence": [evidence]})
    assert told["verdict"] == "VERIFIED" and told["summary"] == "它与 Ann 签名时完全一致，签名者称：由 AI 生成"
    (one,) = told["evidence"]
    assert one["about"] == "内容凭证" and one["does_not_prove"] == "what nobody translated" and one["next_step"] == ""
    assert one["found"] == "由 Ann 签名，其根证书在此处受信任（Ann's）；签名者称：由 AI 生成；没有时间戳说明签名时间"


def test_every_code_has_its_chinese_and_so_has_every_next_step():
    assert set(CODES) == set(TABLE)
    for code, kind in TABLE.items():
        assert HAS_CHINESE.search(message_in_chinese(kind.step)), kind.step
        said_of = Problem(code, "what nobody translated", "").body(in_chinese=True)["error"]
        assert said_of["message"].startswith(f"{CODES[code]}：what nobody translated；")
        assert (said_of["code"], said_of["type"]) == (code, kind.type)


def test_a_template_names_in_chinese_what_it_names_in_english():
    for english, chinese in (*NOTES, *SENTENCES, *chinese_report.SENTENCES):
        names = {mark[1] for mark in MARK.finditer(english)} - {"*"}
        assert {mark[1] for mark in MARK.finditer(chinese)} <= names and len(names) == len(
            [mark for mark in MARK.finditer(english) if mark[1] != "*"]
        ), english


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("video_1 is in_progress; wait until it is completed", "video_1 的状态是：制作中；请等它完成"),
        (
            "seed must be a number: got 'a; b'; send a number",
            "seed 必须是数字，收到的是 'a；b'；请提供数字",
        ),
        (
            "image cannot be used: it is 61 s long; cut the part that matters",
            "image 无法使用：长 61 秒；请剪出需要的部分",
        ),
        ("the prompt is now: try again; wait", "描述现在是：try again; wait"),
        ("a draft of 8 steps; the same seed makes it; and more", "草稿：8 步；用同一随机种子、不选草稿即可制作成片"),
    ],
)
def test_messages_in_chinese(english, chinese):
    assert message_in_chinese(english, "invalid_type") == chinese


def test_what_is_quoted_is_not_taken_for_a_sentence():
    assert sentence_in_chinese("the prompt") is None and sentence_in_chinese("") is None
    assert sentence_in_chinese("there is no parameter '<1>'") == "没有参数 '<1>'"
