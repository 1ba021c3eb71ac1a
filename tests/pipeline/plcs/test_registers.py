"""The register table: one layout, read and written alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PlcError
from pipeline.plcs import PASS_CODE, SLOTS, LineStatus, PlcImage, Result, SlotSeen, check_word, registers

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
WORDS = st.lists(U16, min_size=registers.PLC_COUNT, max_size=registers.PLC_COUNT)
PANEL_IDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=16).map(str.rstrip)
SLOTS_SEEN = st.builds(
    SlotSeen, trigger_seq=U32, panel_id=PANEL_IDS, recipe_no=U16, window_ms=U16, ack_seq=U32, ack_code=U16
)
IMAGES = st.builds(
    PlcImage,
    slots=st.tuples(*[SLOTS_SEEN] * SLOTS),
    heartbeat=U16,
    triggers=U32,
    passed=U32,
    rejected=U32,
)
RESULTS = st.builds(Result, U32, *[U16] * 11)
STATUSES = st.builds(LineStatus, U16, U16, U32, U32, U32)


@given(IMAGES)
def test_an_image_comes_back_as_it_was(image):
    words = registers.pack_image(image)
    assert len(words) == registers.PLC_COUNT
    assert registers.unpack_image(words) == image


@given(RESULTS)
def test_a_result_comes_back_with_its_check_word_and_its_copy(result):
    seen = registers.unpack_result(registers.pack_result(result))
    assert seen.result == result
    assert seen.seq_copy == result.seq
    assert seen.check == check_word(result.seq, result.code, result.recipe_echo)


@given(STATUSES)
def test_a_status_comes_back_as_it_was(status):
    assert registers.unpack_status(registers.pack_status(status)) == status


@given(WORDS)
def test_any_words_are_read_without_an_error(words):
    image = registers.unpack_image(words)
    assert all(slot.panel_id.isprintable() and slot.panel_id.isascii() for slot in image.slots)


@given(st.lists(U16, min_size=registers.RESULT_COUNT, max_size=registers.RESULT_COUNT))
def test_unpacking_a_result_loses_nothing(words):
    seen = registers.unpack_result(words)
    packed = registers.pack_result(seen.result)
    own = [*range(registers.RESULT_COUNT - registers.COPY_COUNT - 1)]
    assert [packed[i] for i in own] == [words[i] for i in own]


def test_the_table_has_no_gap_and_no_overlap():
    expected = 0
    for row in registers.TABLE:
        assert row.offset == expected
        expected += row.type.value
    assert expected == registers.COUNT


def test_one_read_gets_the_whole_side_of_the_plc():
    assert registers.PLC_COUNT <= registers.MAX_READ
    assert registers.VISION_COUNT <= registers.MAX_READ


@pytest.mark.parametrize("slot", range(SLOTS))
def test_what_is_written_last_lies_where_an_upward_copy_needs_it(slot):
    trigger, ack = registers.find("trigger_seq", slot), registers.find("ack_seq", slot)
    assert all(trigger.offset < registers.find(name, slot).offset for name in ("panel_id", "recipe_no", "window_ms"))
    assert ack.offset < registers.find("ack_code", slot).offset
    assert registers.group(registers.Side.VISION, slot)[-1].name == "result_seq_copy"


def test_a_u32_has_its_high_word_first():
    assert registers.find("trigger_seq", 0).encode(0x0001_0002) == [1, 2]


def test_text_has_two_characters_a_register_and_the_first_one_high():
    assert registers.find("panel_id", 0).encode("AB") == [0x4142, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("text", ["x" * 17, "Pañel", "a\nb"])
def test_a_panel_id_that_does_not_fit_is_refused(text):
    with pytest.raises(PlcError, match="printable ASCII"):
        registers.find("panel_id", 0).encode(text)


def test_informative_numbers_saturate_counters_wrap_and_binding_ones_are_refused():
    assert registers.find("score_x1000", 0).encode(70_000) == [0xFFFF]
    assert registers.find("x_mm10", 0).encode(-3) == [0]
    assert registers.find("vision_heartbeat").encode(0x1_0001) == [1]
    with pytest.raises(PlcError, match="recipe_echo"):
        registers.pack_result(Result(seq=1, code=PASS_CODE, fault=0, recipe_echo=0x1_0000))


def test_an_empty_slot_is_not_a_pass():
    seen = registers.unpack_result([0] * registers.RESULT_COUNT)
    assert seen.result.code != PASS_CODE
    assert seen.check != check_word(0, 0, 0)
