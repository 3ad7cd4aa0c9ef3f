"""Words out of texts: where each stands, and what entities by characters make of them."""

from __future__ import annotations

import random
import sys
import unicodedata

import pytest

from multitask_bert.data.words import Entity, is_unspaced, share_tokens, split_at_borders, split_words, tags_of
from multitask_bert.records import CONTINUES_WORD


@pytest.mark.parametrize(("text", "words"), [
    ("Asha alikuja.", ["Asha", "alikuja", "."]),
    ("  Dar-es-Salaam's  \n", ["Dar-es-Salaam's"]),
    ("ng'ombe 'wa' kinyang\u2019anyiro - 2021-24", ["ng'ombe", "'", "wa", "'", "kinyang\u2019anyiro", "-", "2021-24"]),
    ("U.S. $3.50 a_b", ["U", ".", "S", ".", "$", "3", ".", "50", "a_b"]),
    ("@juma #simba...", ["@", "juma", "#", "simba", ".", ".", "."]),
    ("e\u0301te\u0301 हिन्दी", ["e\u0301te\u0301", "हिन्दी"]),  # marks belong to their letter
    ("क\u094d\u200dष", ["क\u094d\u200dष"]),  # so do joiners
    ("❤\ufe0f👨\u200d👩", ["❤\ufe0f", "👨\u200d", "👩"]),
    ("東京へ行くABC、2020年", ["東", "京", "へ", "行", "く", "ABC", "、", "2020", "年"]),
    ("人々 \u3007 か\u3099 ｶﾞー", ["人", "々", "\u3007", "か\u3099", "ｶﾞ", "ー"]),  # marks on kana, also halfwidth ones
    ("ที่น้ำ๒๕๖๓", ["ที่", "น้ำ", "๒๕๖๓"]),  # digits are words as elsewhere
    ("ນ້ຳ ລາວ", ["ນ້ຳ", "ລ", "າ", "ວ"]),
    ("ខ្មែរ", ["ខ្មែ", "រ"]),  # a letter stacked under another
    ("က္ကမြန်", ["က္က", "မြ", "န်"]),
    ("한국어를 ቤት", ["한국어를", "ቤት"]),  # written with spaces
    ("日本-人 ไทย'ไทย", ["日", "本", "-", "人", "ไ", "ท", "ย", "'", "ไ", "ท", "ย"]),
    ("a\u00a0b\u2028c", ["a", "b", "c"]),
    (" \t\n", []),
])  # fmt: skip
def test_words_are_runs_of_letters_and_digits_or_single_signs(text: str, words: list[str]) -> None:
    assert [text[begin:end] for begin, end in split_words(text)] == words


def test_letters_of_unspaced_scripts_are_those_of_unicode() -> None:
    regex = pytest.importorskip("regex")  # which transformers needs
    scripts = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
    of_scripts = regex.compile("[" + "".join(rf"\p{{Script_Extensions={name}}}" for name in scripts) + "]")
    characters = (chr(code) for code in range(sys.maxunicode + 1))
    letters = [letter for letter in characters if unicodedata.category(letter) in ("Lo", "Lm", "Nl")]
    expected = {letter for letter in letters if of_scripts.fullmatch(letter)}
    assert {letter for letter in letters if is_unspaced(letter)} == expected - {"\u02bc", "\uff9e", "\uff9f"}
    # The apostrophe joins words of other scripts; halfwidth sound marks belong to the letter before them.


def test_every_character_but_white_space_is_in_exactly_one_word() -> None:
    draw = random.Random(1)
    alphabet = "abZé1_ \t\n-.#'\"\u0301\ufe0f\u200b\u200d\u00a0中🙂かกำ្က\u1039ﾞ"
    for _ in range(500):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 20)))
        covered = [place for begin, end in split_words(text) for place in range(begin, end)]
        assert covered == [place for place, character in enumerate(text) if not character.isspace()]
        assert len(covered) == len(set(covered))


def test_precomposed_and_decomposed_letters_give_the_same_words() -> None:
    text = "Çağ école naïve"
    cut = {
        form: [unicodedata.normalize("NFC", changed[begin:end]) for begin, end in split_words(changed)]
        for form in ("NFC", "NFD")
        for changed in [unicodedata.normalize(form, text)]
    }
    assert cut["NFC"] == cut["NFD"] == text.split()


def test_tags_give_back_the_entities_they_were_made_of() -> None:
    draw = random.Random(1)
    for _ in range(500):
        text = "".join(draw.choices("ab .", k=20))
        borders = sorted(draw.sample(range(21), 6))
        pairs = [(borders[0], borders[1]), (borders[2], borders[3]), (borders[4], borders[5])]
        entities = [Entity(a, b, draw.choice("XY")) for a, b in pairs if text[a:b].strip()]
        offsets = split_at_borders(split_words(text), entities)
        found: list[Entity] = []
        for (begin, end), tag in zip(offsets, tags_of(offsets, entities), strict=True):
            if tag.startswith("B-"):
                found.append(Entity(begin, end, tag[2:]))
            elif tag.startswith("I-"):
                found[-1] = found[-1]._replace(end=end)
                assert found[-1].label == tag[2:]
        assert [(text[e.start : e.end].strip(), e.label) for e in found] == [
            (text[e.start : e.end].strip(), e.label) for e in entities
        ]


def test_a_word_has_the_tag_of_the_first_entity_that_touches_it() -> None:
    entities = [Entity(0, 2, "X"), Entity(3, 7, "Y"), Entity(9, 10, "X")]
    assert tags_of([(0, 4), (5, 8), (8, 11), (12, 13)], entities) == ("B-X", "B-Y", "B-X", "O")


def test_a_letter_of_an_unspaced_script_continues_the_one_that_shares_its_token() -> None:
    words = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 7)]
    assert share_tokens("我在北..ab", words, [1, 1, 1, 2, 2, 2]) == (1, CONTINUES_WORD, CONTINUES_WORD, 2, 2, 2)
    assert share_tokens("我在", [(0, 1), (1, 2)], [-1, -1]) == (-1, -1)  # neither has a token


def test_words_inside_of_which_no_entity_begins_or_ends_stay_whole() -> None:
    assert split_at_borders([(0, 4), (5, 9)], [Entity(0, 4, "X"), Entity(4, 7, "Y")]) == [(0, 4), (5, 7), (7, 9)]
