"""What auditors read over HTTP: bundles, anchors, and the key that signs them. Nothing here changes anything."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from adapters.anchors import daily_numbers
from adapters.archive import open_archive
from adapters.bundle import open_bundle
from adapters.signing import SigningKey
from domain.anchor import Anchor, heads_of, inclusion_proof
from domain.case import CaseId, Role
from domain.district import Person
from domain.errors import Forbidden
from domain.verify import DigestName
from starter.api import API, Doors, OurDoors, Reader, _visible, identify
from starter.api import router as doors_router
from starter.auditor import bundle_of, gather
from starter.problems import Problem

_AUDITORS = frozenset({Role.AUDITOR, Role.SUPERVISOR})

router = APIRouter(
    prefix=API,
    dependencies=[Depends(identify)],
    tags=["审计"],
    responses=doors_router.responses,
)


def require_auditor(person: Person, district: str) -> None:
    """Raise unless the person is auditor or supervisor of the district, or of the city.

    Raises:
        Forbidden: `role_may_not`.
    """
    audits = any(
        post.role in _AUDITORS and (post.city or person.district == district) for post in person.posts
    )
    if not audits:
        raise Forbidden("role_may_not", "您的岗位不能执行此操作;该操作由审计、督查人员办理。")


def _key(doors: Doors) -> SigningKey:
    named = doors.settings.audit_key
    if named is None:
        raise Problem(503, "audit_key_missing", "服务未设置审计密钥(SHAODAO_AUDIT_KEY),请联系管理员。")
    return SigningKey.load(named.get_secret_value())


@router.get("/audit/key", summary="审计公钥")
async def show_key(doors: OurDoors) -> dict[str, str]:
    """审计包与锚定的签名公钥(Ed25519)。"""
    public = _key(doors).public
    return {
        "key_id": public.id,
        "fingerprint": public.fingerprint,
        "algorithm": "Ed25519",
        "public_key": public.raw.hex(),
        "pem": public.pem(),
    }


@router.get(
    "/cases/{case_id}/audit/bundle",
    summary="下载审计包",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "ZIP 文件"}},
)
async def download_bundle(
    case_id: str,
    doors: OurDoors,
    person: Reader,
    digest: Annotated[DigestName, Query(description="文件摘要算法")] = DigestName.SHA256,
) -> Response:
    """一个案件的执行历史、台账、读模型、时间线,带清单与签名;在办案件为截至此刻的内容。"""
    state = await _visible(doors, CaseId(case_id), person)
    require_auditor(person, state.call.district)
    key = _key(doors)
    named = doors.settings.archive
    archive = open_archive(named) if named else None
    gathered = await gather(doors.store, doors.cases.client, state.case_id, archive)
    content = bundle_of(gathered, key, digest=digest)
    number = open_bundle(content).manifest.sequence
    name = f"shaodao-{state.case_id}-{number}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, media_type="application/zip", headers=headers)


@router.get("/audit/anchors", summary="历次锚定")
async def list_anchors(doors: OurDoors, person: Reader, district: str | None = None) -> dict[str, Any]:
    """本区(市)的全部锚定,最早的在前;document 为被签名的原文,daily 标明每日首次锚定。"""
    wanted = district or person.district
    require_auditor(person, wanted)
    stored = await doors.store.anchors(wanted)
    daily = daily_numbers(stored)
    return {
        "district": wanted,
        "items": [
            {
                "number": each.number,
                "day": each.unreadable.get("day", each.day.isoformat()),
                "daily": each.number in daily,
                "document": each.document,
                "hash": each.hash,
                "signature": each.signature,
                "key_id": each.key_id,
            }
            for each in stored
        ],
    }


@router.get("/cases/{case_id}/audit/proof", summary="锚定证明")
async def show_proof(case_id: str, doors: OurDoors, person: Reader) -> dict[str, Any]:
    """证明本案在最近一次锚定之中(RFC 6962 包含证明)。"""
    state = await _visible(doors, CaseId(case_id), person)
    require_auditor(person, state.call.district)
    stored = await doors.store.anchors(state.call.district)
    heads = heads_of(Anchor.model_validate_json(each.document) for each in stored)
    head = heads.get(state.case_id)
    if head is None:
        raise Problem(404, "not_anchored", "该案件尚未锚定;请在下次定时锚定之后再试。")
    order = sorted(heads)
    leaves = [heads[each].leaf() for each in order]
    place = order.index(state.case_id)
    newest = Anchor.model_validate_json(stored[-1].document)
    return {
        "anchor": newest.number,
        "day": newest.day.isoformat(),
        "root": newest.root,
        "head": head.model_dump(mode="json"),
        "place": place,
        "count": len(order),
        "proof": [each.hex() for each in inclusion_proof(leaves, place)],
    }
