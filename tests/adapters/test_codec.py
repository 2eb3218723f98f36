"""Keys, ciphers, and what a payload looks like in Temporal."""

import base64
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext

from adapters.codec import PayloadUnreadable, data_converter, district_of, encrypting, is_encrypted
from adapters.keys import AES_256_GCM, DEFAULT, LENGTHS, OLD, SM4_GCM, Altered, Keys, Sm4Gcm, new_line
from adapters.settings import Settings, SettingsInvalid
from tests.payloads import key_id, used_for

CASE = "case/sample-20260304-aaaaaa"
TODAY = date(2026, 3, 4)


def of(converter: DataConverter, workflow_id: str = CASE) -> DataConverter:
    return converter.with_context(WorkflowSerializationContext(namespace="any", workflow_id=workflow_id))


# --- ciphers -----------------------------------------------------------------------------------------------


async def test_sm4_gcm_gives_what_rfc_8998_says(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    nonce = bytes.fromhex("00001234567800000000ABCD")
    bound = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    letters = ("AA" * 8, "BB" * 8, "CC" * 8, "DD" * 8, "EE" * 8, "FF" * 8, "EE" * 8, "AA" * 8)
    plain = bytes.fromhex("".join(letters))
    monkeypatch.setattr("adapters.keys.os.urandom", lambda _: nonce)
    cipher = Sm4Gcm("rfc", key)
    sealed = await cipher.encrypt(plain, bound)
    assert sealed[:12] == nonce
    assert sealed[12:-16].hex().upper() == (
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
        "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
    )
    assert sealed[-16:].hex().upper() == "83DE3541E4C2B58177E065A9BF7B62EC"
    assert await cipher.decrypt(sealed, bound) == plain


@pytest.mark.parametrize("algorithm", LENGTHS)
@given(plain=st.binary(max_size=300), bound=st.binary(max_size=80), place=st.integers(min_value=0))
async def test_what_is_encrypted_comes_back_and_any_changed_byte_is_noticed(
    algorithm: str, plain: bytes, bound: bytes, place: int
) -> None:
    key = Keys(new_line(algorithm, DEFAULT, TODAY)).to_encrypt(None)
    sealed = await key.encrypt(plain, bound)
    assert await key.decrypt(sealed, bound) == plain
    changed = bytearray(sealed)
    changed[place % len(sealed)] ^= 1
    with pytest.raises(Altered):
        await key.decrypt(bytes(changed), bound)
    with pytest.raises(Altered):
        await key.decrypt(sealed, bound + b"x")


@pytest.mark.parametrize("algorithm", LENGTHS)
@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 27])
async def test_what_is_too_short_to_have_been_encrypted_counts_as_altered(
    algorithm: str, sealed: bytes
) -> None:
    with pytest.raises(Altered):
        await Keys(new_line(algorithm, DEFAULT, TODAY)).to_encrypt(None).decrypt(sealed, b"")


# --- key rings ---------------------------------------------------------------------------------------------


def test_the_key_of_a_district_encrypts_for_it_and_the_default_for_everybody_else() -> None:
    ours, theirs = new_line(AES_256_GCM, DEFAULT, TODAY), new_line(SM4_GCM, "sample,other", TODAY)
    old = new_line(AES_256_GCM, OLD, TODAY)
    keys = Keys(f"# three keys\n{ours}  # the installation's\n\n{theirs};{old}")
    assert keys.to_encrypt("sample").id == keys.to_encrypt("other").id == key_id(theirs)
    assert keys.to_encrypt("third").id == keys.to_encrypt(None).id == key_id(ours)
    assert [line.uses for line in keys.lines] == [("default",), ("sample", "other"), ("old",)]
    for line in (ours, theirs, old):
        found = keys.to_decrypt(key_id(line))
        assert found is not None
        assert found.id == key_id(line)
    assert keys.to_decrypt("another") is None


def test_everything_wrong_with_keys_is_named_at_once_and_no_key_is_shown() -> None:
    short = base64.urlsafe_b64encode(b"sixteen-bytes-!!").decode()
    lines = [
        f"k1 aes-256-gcm {short} default",
        f"k2 sm4-gcm {short} old,default",
        f"k3 des {short} default",
        f"k/4 sm4-gcm {short} sample",
        "k5 sm4-gcm default",
        f"k6 sm4-gcm {short} same",
        f"k6 sm4-gcm {short} same",
    ]
    with pytest.raises(SettingsInvalid) as refused:
        Keys("\n".join(lines))
    detail = refused.value.detail
    for words in (
        "第 1 条的密钥应为 32 字节",
        "第 2 条的用途",
        "第 3 条的算法应为 aes-256-gcm、sm4-gcm",
        "第 4 条的编号",
        "第 5 条应有四项",
        "编号“k6”重复",
        "用途“same”已有另一个现用密钥",
    ):
        assert words in detail
    assert short not in detail


@pytest.mark.parametrize(
    "text", ["", "# nothing", new_line(AES_256_GCM, OLD, TODAY)], ids=["empty", "comment", "old key only"]
)
def test_keys_without_a_default_are_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="没有用途为 default 的密钥"):
        Keys(text)


@pytest.mark.parametrize(
    ("workflow_id", "district"),
    [
        ("case/sample-20260304-aaaaaa", "sample"),
        ("case/sam-ple_2-20260304-aaaaaa", "sam-ple_2"),
        ("notices/sample", "sample"),
        ("bulletins/sample/2026-03", "sample"),
        ("archive/sample-2026-03-04T00:00:00Z", "sample"),
        ("something", None),
        ("", None),
    ],
)
def test_the_district_is_read_from_the_workflow_id(workflow_id: str, district: str | None) -> None:
    assert district_of(workflow_id) == district


# --- payloads ----------------------------------------------------------------------------------------------


async def test_nothing_of_a_payload_is_readable_but_key_algorithm_and_workflow() -> None:
    line = new_line(AES_256_GCM, DEFAULT, TODAY)
    converter = of(encrypting(Keys(line)))
    (payload,) = await converter.encode([{"title": "小造纸厂排污"}])
    assert dict(payload.metadata) == {
        "encoding": b"binary/encrypted",
        "key-id": key_id(line).encode(),
        "algorithm": b"aes-256-gcm",
        "workflow-id": CASE.encode(),
    }
    raw = payload.SerializeToString()
    assert "造纸".encode() not in raw
    assert b"title" not in raw
    assert b"json/plain" not in raw
    assert await converter.decode([payload]) == [{"title": "小造纸厂排污"}]


async def test_the_same_payload_twice_looks_different() -> None:
    converter = encrypting(Keys(new_line(AES_256_GCM, DEFAULT, TODAY)))
    first, second = await converter.encode(["签收", "签收"])
    assert first.data != second.data


async def test_payloads_of_every_age_are_read_side_by_side_after_rotation() -> None:
    first, second = new_line(AES_256_GCM, DEFAULT, TODAY), new_line(SM4_GCM, DEFAULT, TODAY)
    never, before = (
        await encrypting_nothing().encode(["明文"]),
        await of(encrypting(Keys(first))).encode(["旧"]),
    )
    after = of(encrypting(Keys(f"{second}\n{used_for(first, OLD)}")))
    now = await after.encode(["新"])
    assert now[0].metadata["key-id"] == key_id(second).encode()
    assert await after.decode([*never, *before, *now]) == ["明文", "旧", "新"]


async def test_a_key_may_be_handed_out_for_reading_before_it_is_used() -> None:
    first, second = new_line(AES_256_GCM, DEFAULT, TODAY), new_line(AES_256_GCM, DEFAULT, TODAY)
    prepared = of(encrypting(Keys(f"{first}\n{used_for(second, OLD)}")))
    switched = of(encrypting(Keys(f"{used_for(first, OLD)}\n{second}")))
    assert await prepared.decode(await switched.encode(["新"])) == ["新"]
    assert await switched.decode(await prepared.encode(["旧"])) == ["旧"]


async def test_a_missing_key_is_named_in_chinese_under_a_stable_code() -> None:
    line = new_line(AES_256_GCM, DEFAULT, TODAY)
    payloads = await of(encrypting(Keys(line))).encode(["x"])
    with pytest.raises(PayloadUnreadable) as missing:
        await of(encrypting(Keys(new_line(AES_256_GCM, DEFAULT, TODAY)))).decode(payloads)
    assert missing.value.code == "payload_key_missing"
    assert key_id(line) in missing.value.detail
    assert "案件不会丢失" in missing.value.detail


async def test_a_payload_cannot_be_moved_into_another_case() -> None:
    converter = encrypting(Keys(new_line(AES_256_GCM, DEFAULT, TODAY)))
    payloads = await of(converter).encode(["签收"])
    other = "case/sample-20260304-bbbbbb"
    for reader, stolen in (
        (of(converter, other), payloads[0]),
        (of(converter, other), with_metadata(payloads[0], "workflow-id", other.encode())),
        (converter, with_metadata(payloads[0], "workflow-id", other.encode())),
        (of(converter, other), with_metadata(payloads[0], "workflow-id", b"")),
        (of(converter), with_metadata(payloads[0], "algorithm", b"none")),
    ):
        with pytest.raises(PayloadUnreadable) as altered:
            await reader.decode([stolen])
        assert altered.value.code == "payload_altered"
    assert await converter.decode(payloads) == ["签收"]


async def test_an_activity_reads_what_its_workflow_wrote_and_the_other_way_round() -> None:
    converter = encrypting(Keys(new_line(AES_256_GCM, DEFAULT, TODAY)))
    activity = converter.with_context(
        ActivitySerializationContext(
            namespace="other",
            activity_id="1",
            activity_type="record",
            activity_task_queue="q",
            workflow_id=CASE,
            workflow_type="Case",
            is_local=True,
        )
    )
    assert await activity.decode(await of(converter).encode(["去"])) == ["去"]
    assert await of(converter).decode(await activity.encode(["回"])) == ["回"]


async def test_what_a_schedule_starts_reads_what_the_schedule_holds() -> None:
    converter = encrypting(Keys(new_line(AES_256_GCM, DEFAULT, TODAY)))
    held = await of(converter, "archive/sample").encode(["x"])
    first, second = "archive/sample-2026-03-04T00:00:00Z", "archive/sample-2026-03-04T01:00:00Z"
    assert await of(converter, first).decode(held) == ["x"]
    result = await of(converter, first).encode(
        ["y"]
    )  # Temporal hands it to the next that the schedule starts
    assert await of(converter, second).decode(result) == ["y"]
    for other in (
        "archive/other-2026-03-04T01:00:00Z",
        "archive/sample-2026-03-04T01:00:00Z-x",
        "archive/sampl",
    ):
        with pytest.raises(PayloadUnreadable, match="payload_altered"):
            await of(converter, other).decode(result)


async def test_a_payload_of_one_case_is_none_of_another_that_its_id_begins() -> None:
    converter = encrypting(Keys(new_line(AES_256_GCM, DEFAULT, TODAY)))
    held = await of(converter, "case/sample-20260304-abc").encode(["x"])
    with pytest.raises(PayloadUnreadable, match="payload_altered"):
        await of(converter, "case/sample-20260304-abc-d").decode(held)


# --- settings ----------------------------------------------------------------------------------------------


def settings(**values: object) -> Settings:
    return Settings(database_url="sqlite://", secret=SecretStr("x" * 40), **values)


def test_without_keys_nothing_starts_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYS", "KEYS_FILE", "ENCRYPTION"):
        monkeypatch.delenv(f"SHAODAO_PAYLOAD_{name}", raising=False)
    with pytest.raises(SettingsInvalid, match="SHAODAO_PAYLOAD_ENCRYPTION=off"):
        data_converter(settings())
    assert data_converter(settings(payload_encryption="off")).payload_codec is None


async def test_switched_off_it_still_reads_what_was_encrypted() -> None:
    line = new_line(AES_256_GCM, DEFAULT, TODAY)
    before = await of(data_converter(settings(payload_keys=SecretStr(line)))).encode(["旧"])
    off = of(data_converter(settings(payload_keys=SecretStr(line), payload_encryption="off")))
    (now,) = await off.encode(["新"])
    assert not is_encrypted(now)
    assert await off.decode([*before, now]) == ["旧", "新"]


def test_keys_come_from_one_place_and_a_file_that_is_away_is_named(tmp_path: object) -> None:
    line = new_line(AES_256_GCM, DEFAULT, TODAY)
    with pytest.raises(SettingsInvalid, match="只能设置一个"):
        data_converter(settings(payload_keys=SecretStr(line), payload_keys_file=f"{tmp_path}/keys"))
    with pytest.raises(SettingsInvalid, match="无法读取文件"):
        data_converter(settings(payload_keys_file=f"{tmp_path}/keys"))
    assert line.split()[2] not in repr(settings(payload_keys=SecretStr(line)))


def encrypting_nothing() -> DataConverter:
    from temporalio.contrib.pydantic import pydantic_data_converter

    return pydantic_data_converter


def with_metadata(payload: Payload, name: str, value: bytes) -> Payload:
    """Return the payload with one readable field changed, as somebody could who may write to Temporal's database."""
    changed = Payload()
    changed.CopyFrom(payload)
    changed.metadata[name] = value
    return changed
