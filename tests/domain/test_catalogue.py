"""The responsibility list is found in people's own words, and its versions are compared column by column."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.case import Category, OrganisationCode
from domain.catalogue import LONGEST, Change, Hit, How, Index, diff, words_of
from domain.district import Item
from domain.policy import LimitClass


def item(code: str, name: str, *keywords: str, field: str = "生态环境", **more: object) -> Item:
    """Return an item with little in it."""
    return Item.model_validate(
        {
            "code": code,
            "field": field,
            "category": Category.ENFORCEMENT,
            "name": name,
            "keywords": keywords,
            "primary": OrganisationCode("ecology"),
            "limit_class": LimitClass.ORDINARY,
            **more,
        }
    )


POLLUTERS = item("polluters", "“散乱污”企业联合整治", "小造纸", "偷排", township_duty="排查上报")
STRAW = item("straw", "露天焚烧秸秆", "秸秆", "浓烟", evidence=("火点照片", "处理记录"))
DOORWAY = item("doorway", "私开门洞(破坏承重结构)", "承重墙", "砸墙", field="综合执法")
HOUSES = item("houses", "危险房屋处置", "危房", "墙体开裂", field="城乡建设")
SMOKE = item("smoke", "企业排放废气", "浓烟", "刺鼻", township_duty="偷排取证")
ITEMS = (POLLUTERS, STRAW, DOORWAY, HOUSES, SMOKE)
INDEX = Index(ITEMS)


def codes(hits: list[Hit]) -> list[str]:
    """Return what was found, in order."""
    return [hit.item.code for hit in hits]


@pytest.mark.parametrize(
    ("text", "code", "how"),
    [
        ("散乱污", "polluters", How.EXACT),
        ("散乱屋", "polluters", How.NEAR),  # one wrong
        ("乱散污", "polluters", How.NEAR),  # two swapped
        ("散污", "polluters", How.NEAR),  # one missing
        ("散乱乱污", "polluters", How.NEAR),  # one superfluous
        ("承重樯", "doorway", How.NEAR),
        ("门私洞", "doorway", How.NEAR),
        ("危方", "houses", How.NEAR),  # of two letters, only a whole keyword
        ("房危", "houses", How.NEAR),
        ("秸秆焚烧", "straw", How.PART),  # another order
        ("群众反映房屋墙体开裂无人过问", "houses", How.PART),
    ],
)
def test_an_item_is_found_as_written_with_one_slip_and_in_pieces(text: str, code: str, how: How) -> None:
    hits = INDEX.search(text)
    assert codes(hits)[:1] == [code]
    assert hits[0].matched[0].how is how


@pytest.mark.parametrize(
    "text",
    [
        "散乱污",
        " 散乱污。",
        "“散乱污”",
        "「散乱污」",
        "散乱污!!",
        "\t散乱污\n",
        "\N{IDEOGRAPHIC SPACE}散乱污;",
    ],
)
def test_punctuation_and_space_around_a_word_change_nothing(text: str) -> None:
    assert INDEX.search(text) == INDEX.search("散乱污")


def test_full_width_letters_and_digits_are_the_same_as_half_width() -> None:
    index = Index([item("hydrogen", "PM2.5超标")])
    full_width = "".join(chr(ord(sign) + 0xFEE0) for sign in "pm")
    assert codes(index.search(full_width)) == ["hydrogen"]
    assert words_of("PM2.5,扬尘") == ["pm2", "5", "扬尘"]


def test_a_name_counts_more_than_a_keyword_a_field_and_a_duty() -> None:
    index = Index(
        [
            item("in-duty", "甲", township_duty="巡查扬尘"),
            item("in-field", "乙", field="扬尘治理"),
            item("in-keyword", "丙", "工地扬尘"),
            item("in-name", "扬尘污染"),
        ]
    )
    hits = index.search("扬尘")
    assert codes(hits) == ["in-name", "in-keyword", "in-field", "in-duty"]
    assert [hit.matched[0].column for hit in hits] == ["name", "keywords", "field", "township_duty"]
    assert [hit.matched[0].text for hit in hits] == ["扬尘污染", "工地扬尘", "扬尘治理", "巡查扬尘"]


def test_what_is_written_exactly_keeps_slips_away() -> None:
    assert codes(INDEX.search("浓烟")) == ["straw", "smoke"]
    assert codes(INDEX.search("处理记录")) == ["straw"]
    assert INDEX.search("处理记录")[0].matched[0].text == "处理记录"


def test_of_several_words_items_with_all_come_alone_else_items_with_any() -> None:
    assert codes(INDEX.search("浓烟 秸秆")) == ["straw"]
    assert set(codes(INDEX.search("秸秆 承重墙"))) == {"straw", "doorway"}
    assert codes(INDEX.search("秸秆 云计算")) == ["straw"]
    matched = INDEX.search("浓烟 秸秆")[0].matched
    assert [(each.column, each.text) for each in matched] == [("keywords", "浓烟"), ("name", "露天焚烧秸秆")]


def test_a_code_finds_its_item_first() -> None:
    index = Index([item("straw-fire", "草垛起火"), item("straw", "露天焚烧秸秆")])
    hits = index.search("straw")
    assert [(hit.item.code, hit.score) for hit in hits] == [("straw", 100.0), ("straw-fire", 55.0)]


def test_only_items_that_fit_are_returned_however_well_others_answer() -> None:
    assert codes(INDEX.search("浓烟", fits=lambda each: each.code != "straw")) == ["smoke"]
    assert INDEX.search("浓烟", fits=lambda each: each.code == "houses") == []


@pytest.mark.parametrize("text", ["", "   ", "!?。", "\x00", "\ud800", "\N{ZERO WIDTH SPACE}"])
def test_a_text_without_words_finds_nothing(text: str) -> None:
    assert INDEX.search(text) == []
    assert INDEX.suggest(text) == []


def test_a_text_is_looked_at_up_to_its_longest() -> None:
    assert codes(INDEX.suggest("啊" * (LONGEST - 4) + "。承重墙")) == ["doorway"]
    assert INDEX.suggest("啊" * LONGEST + "。承重墙") == []


def test_no_more_are_returned_than_asked_for_the_first_of_equal_ones_first() -> None:
    index = Index([item(f"same-{number}", "扬尘") for number in range(9)])
    assert codes(index.search("扬尘", 3)) == ["same-0", "same-1", "same-2"]
    assert index.search("扬尘", 0) == []
    assert index.items[0].code == "same-0"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("楼上装修把承重墙砸了,担心房子塌", "doorway"),
        ("村西头有个小造纸厂,夜里偷排,臭气熏天", "polluters"),
        ("地里有人焚烧玉米秸秆,浓烟滚滚", "straw"),
        ("老屋墙体开裂,怀疑是危房", "houses"),
    ],
)
def test_a_call_in_the_callers_words_suggests_its_item_first(text: str, code: str) -> None:
    hits = INDEX.suggest(text)
    assert codes(hits)[0] == code
    assert all(each.how is How.PART for each in hits[0].matched)


def test_a_keyword_that_few_items_have_says_more() -> None:
    common = [item(f"common-{number}", f"第{number}类", "投诉") for number in range(8)]
    index = Index([*common, item("rare", "另类", "野味")])
    assert codes(index.suggest("有人投诉饭店卖野味"))[0] == "rare"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("楼上装修把承种墙给拆了,担心塌", "doorway"),  # one wrong
        ("楼上装修把称重墙给拆了,担心塌", "doorway"),  # the first wrong
        ("楼上装修把承重的墙给拆了", "doorway"),  # one superfluous
        ("村西头有个小纸造厂,臭气熏天", "polluters"),  # two swapped
        ("老屋的墙休开裂了,没人管", "houses"),
    ],
)
def test_a_slip_inside_a_sentence_is_forgiven(text: str, code: str) -> None:
    assert codes(INDEX.suggest(text))[:1] == [code]


def test_where_one_wrong_letter_leaves_no_pair_it_is_said_to_be_near() -> None:
    (hit,) = INDEX.suggest("楼上装修把承种墙给拆了,担心塌")
    assert [(each.text, each.how) for each in hit.matched] == [("承重墙", How.NEAR)]


@pytest.mark.parametrize("text", ["墙", "墙。", "墙 烟", "a"])
def test_letters_alone_suggest_nothing_though_they_are_searched_for(text: str) -> None:
    assert INDEX.suggest(text) == []
    assert codes(INDEX.search("墙")) == ["doorway", "houses"]


def test_suggestions_for_one_word_with_a_slip_are_searched_for() -> None:
    assert codes(INDEX.suggest("散某污")) == ["polluters"]
    assert INDEX.suggest("今天天气很好") == []


@given(st.text(max_size=80))
def test_whatever_is_typed_is_answered_in_order_and_says_why(text: str) -> None:
    for hits in (INDEX.search(text), INDEX.suggest(text)):
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 100 for score in scores)
        assert all(hit.matched for hit in hits)
        assert len(set(codes(hits))) == len(hits)


WORDS = [word for each in ITEMS for word in each.keywords if len(word) > 2]


@given(
    st.sampled_from(WORDS), st.integers(0, 3), st.sampled_from(["wrong", "missing", "superfluous", "swapped"])
)
def test_one_slip_in_a_keyword_of_three_letters_or_more_still_finds_its_item(
    word: str, place: int, slip: str
) -> None:
    place %= len(word) - 1
    before, after = word[:place], word[place + 1 :]
    typed = {
        "wrong": before + "某" + after,
        "missing": before + after,
        "superfluous": before + word[place] + "某" + after,
        "swapped": before + after[0] + word[place] + after[1:],
    }[slip]
    meant = {each.code for each in ITEMS if word in each.keywords}
    assert meant <= set(codes(INDEX.search(typed)))


# --- versions ----------------------------------------------------------------------------------------------


def test_a_list_compared_with_itself_in_any_order_is_the_same() -> None:
    assert diff(ITEMS, reversed(ITEMS)).is_empty


def test_two_versions_differ_by_item_and_column() -> None:
    changed = STRAW.model_copy(update={"name": "焚烧秸秆", "evidence": ("照片",)})
    difference = diff([POLLUTERS, STRAW, DOORWAY], [changed, DOORWAY, HOUSES])
    assert not difference.is_empty
    assert [each.code for each in difference.added] == ["houses"]
    assert [each.code for each in difference.removed] == ["polluters"]
    assert [(each.code, each.name) for each in difference.changed] == [("straw", "焚烧秸秆")]
    assert difference.changed[0].changes == (
        Change(column="name", old="露天焚烧秸秆", new="焚烧秸秆"),
        Change(column="evidence", old=("火点照片", "处理记录"), new=("照片",)),
    )


def test_a_document_in_which_evidence_was_one_text_is_read_as_names() -> None:
    document = json.loads(STRAW.model_dump_json()) | {"evidence": "现场照片;处置文书"}
    assert Item.model_validate(document).evidence == ("现场照片", "处置文书")
    assert Item.model_validate_json(json.dumps(document | {"evidence": ""})).evidence == ()
    assert Item.model_validate_json(STRAW.model_dump_json()) == STRAW
