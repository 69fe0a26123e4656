import re
from pathlib import Path

import bastide.pods
from bastide.pods.lint_rules import rule_of, rules

SOURCES = Path(bastide.pods.__file__).parent
CODE = re.compile(r'"((?:' + "|".join(sorted({one.code.split(".")[0] for one in rules()})) + r')\.[a-z-]+)"')


def test_every_code_that_a_rule_can_give_has_words_of_its_own() -> None:
    files = [*SOURCES.glob("lint*.py"), *(SOURCES / name for name in ("request.py", "resources.py", "images.py"))]
    used = {code for file in files if file.name != "lint_rules.py" for code in CODE.findall(file.read_text())}
    assert len(used) > 40
    assert {code for code in used if "See the message" in rule_of(code).help} == set()


def test_titles_are_short_and_without_a_full_stop() -> None:
    assert [one.code for one in rules() if len(one.title) > 90 or one.title.endswith(".") or not one.help] == []


def test_codes_from_elsewhere_have_a_rule_too() -> None:
    assert rule_of("gate.unheard-of").code == "gate.unheard-of"
