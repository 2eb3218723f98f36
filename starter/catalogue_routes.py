"""The responsibility list over HTTP: searched, suggested from, compared and exported, in any version."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from adapters.catalogue_files import FORMATS, MEDIA_TYPES
from adapters.store import Store
from domain import words
from domain.catalogue import LONGEST, Difference, Hit, Index, Match, diff
from domain.district import District, Item, OrganisationKind
from domain.errors import Invalid
from starter import api
from starter.api import OurDoors, Reader
from starter.bodies import Body
from starter.problems import Problem

_KEPT = 8
Version = Annotated[str | None, Field(max_length=200, description="清单版本,缺省为现行版本")]


class Catalogues:
    """Every version of every list that is asked for, with its index; the last few stay in memory.

    A version never changes (its name ends in a digest of the content), so that nothing here grows stale.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._indexes: OrderedDict[tuple[str, str], Index] = OrderedDict()
        self._building = asyncio.Lock()

    async def index(self, district: District, version: str | None) -> Index:
        """Return the index of the district's list, or of an older version of it.

        Raises:
            Problem: there is no such version.
        """
        key = (district.code, version or district.catalogue_version)
        async with self._building:
            if key not in self._indexes:
                items = await self._items(district, key[1])
                self._indexes[key] = await asyncio.to_thread(Index, items)
            self._indexes.move_to_end(key)
            while len(self._indexes) > _KEPT:
                self._indexes.popitem(last=False)
            return self._indexes[key]

    async def _items(self, district: District, version: str) -> Sequence[Item]:
        if version == district.catalogue_version:
            return district.items
        items = await self._store.catalogue(district.code, version)
        if items is None:
            raise Problem(404, "unknown_version", f"没有该清单版本:{version}。请查询 /catalogue/versions。")
        return items


def _catalogues(request: Request, doors: OurDoors) -> Catalogues:
    state = request.app.state
    if not hasattr(state, "catalogues"):
        state.catalogues = Catalogues(doors.store)
    kept: Catalogues = state.catalogues
    return kept


OurCatalogues = Annotated[Catalogues, Depends(_catalogues)]

router = APIRouter(
    prefix=f"{api.API}/catalogue",
    tags=["事项清单"],
    dependencies=[Depends(api.identify)],
    responses=api.router.responses,
)


# --- what is asked -----------------------------------------------------------------------------------------


class Which(Body):
    """Which list: the reader's own district and the current version, where not said otherwise."""

    district: Annotated[str | None, Field(max_length=40)] = None
    version: Version = None


class ItemFilters(Which):
    """What to list."""

    field: Annotated[str | None, Field(max_length=40, description="领域")] = None
    department: Annotated[str | None, Field(max_length=40, description="主体责任或配合责任部门的编号")] = None
    text: Annotated[str | None, Field(max_length=100, description="要找的词,可容一个错字;按相符程度排列")] = (
        None
    )
    limit: Annotated[int | None, Field(ge=1, le=10_000, description="条数,缺省为全部;按词查找时为 20")] = None

    def fit(self, item: Item) -> bool:
        """Whether field and department are those that are asked for."""
        departments = {str(item.primary), *map(str, item.cooperating)}
        return self.field in {None, item.field} and self.department in {None, *departments}


class SuggestionQuery(Which):
    """What a call is about, in the caller's words."""

    text: Annotated[str, Field(min_length=1, max_length=LONGEST, description="标题和内容")]
    limit: Annotated[int, Field(ge=1, le=20)] = 5


class DiffQuery(Body):
    """Which two versions."""

    district: Annotated[str | None, Field(max_length=40)] = None
    old: Annotated[str, Field(alias="from", max_length=200, description="旧版本")]
    new: Annotated[str | None, Field(alias="to", max_length=200, description="新版本,缺省为现行版本")] = None


class ExportQuery(Which):
    """In which form."""

    format: Literal["csv", "xlsx"] = "csv"


# --- what is answered --------------------------------------------------------------------------------------


class ItemView(Item):
    """An item, with the words that people read."""

    category_label: str
    limit_class_label: str
    primary_name: str
    cooperating_names: tuple[str, ...]


class HitView(ItemView):
    """An item that was found; `score` (0 to 100) and `matched` say why, and are empty where nothing was sought."""

    score: float | None = None
    matched: tuple[Match, ...] = ()


class ItemsView(BaseModel):
    """Items of one version."""

    district: str
    version: str
    items: list[HitView]


class OneItemView(BaseModel):
    """One item."""

    district: str
    version: str
    item: ItemView


class VersionView(BaseModel):
    """A version of the list; `loaded_at` is when it was first loaded."""

    version: str
    current: bool
    loaded_at: datetime
    items: int


class VersionsView(BaseModel):
    """All versions, the newest first."""

    district: str
    items: list[VersionView]


class DiffView(BaseModel):
    """What became of the list between two versions."""

    district: str
    from_version: str
    to_version: str
    difference: Difference


# --- routes ------------------------------------------------------------------------------------------------


@router.get("/items", summary="查询事项清单")
async def list_items(
    doors: OurDoors, catalogues: OurCatalogues, person: Reader, filters: Annotated[ItemFilters, Query()]
) -> ItemsView:
    """按领域、部门、文字查询;文字可容一个错字,依名称、关键词、领域、其他内容的次序排列。"""
    district = api.district_of(doors, person, filters.district)
    index = await catalogues.index(district, filters.version)
    _require_department(district, filters.department)
    text = (filters.text or "").strip()
    hits = (
        index.search(text, filters.limit or 20, fits=filters.fit)
        if text
        else [
            Hit.model_construct(item=item, score=0.0, matched=()) for item in index.items if filters.fit(item)
        ]
    )
    return ItemsView(
        district=district.code,
        version=filters.version or district.catalogue_version,
        items=[_hit_view(hit, district) for hit in hits[: filters.limit]],
    )


@router.get("/items/{code}", summary="事项")
async def one_item(
    code: str, doors: OurDoors, catalogues: OurCatalogues, person: Reader, which: Annotated[Which, Query()]
) -> OneItemView:
    """查询一个事项:主体责任、配合责任、镇街职责、依据、时限类别、办结条件与运行流程。"""
    district = api.district_of(doors, person, which.district)
    index = await catalogues.index(district, which.version)
    item = next((item for item in index.items if item.code == code), None)
    if item is None:
        raise Problem(404, "unknown_item", f"事项“{code}”不在事项清单中。")
    version = which.version or district.catalogue_version
    return OneItemView(district=district.code, version=version, item=_item_view(item, district))


@router.get("/suggestions", summary="推荐事项")
async def suggestions(
    doors: OurDoors, catalogues: OurCatalogues, person: Reader, asked: Annotated[SuggestionQuery, Query()]
) -> ItemsView:
    """根据标题和内容推荐可能的事项,供吹哨时选择;没有把握时为空。"""
    district = api.district_of(doors, person, asked.district)
    hits = (await catalogues.index(district, asked.version)).suggest(asked.text, asked.limit)
    return ItemsView(
        district=district.code,
        version=asked.version or district.catalogue_version,
        items=[_hit_view(hit, district) for hit in hits],
    )


@router.get("/versions", summary="清单版本")
async def versions(
    doors: OurDoors, person: Reader, district: Annotated[str | None, Query(max_length=40)] = None
) -> VersionsView:
    """历次装载的版本,最新的在前;在办案件沿用立案时的版本。"""
    found = api.district_of(doors, person, district)
    return VersionsView(
        district=found.code,
        items=[
            VersionView(
                version=each.version,
                current=each.version == found.catalogue_version,
                loaded_at=each.loaded_at,
                items=each.items,
            )
            for each in await doors.store.catalogue_versions(found.code)
        ],
    )


@router.get("/diff", summary="比较两个版本")
async def compare(
    doors: OurDoors, catalogues: OurCatalogues, person: Reader, asked: Annotated[DiffQuery, Query()]
) -> DiffView:
    """新增、删除和修改的事项;修改的逐栏列出新旧内容。"""
    district = api.district_of(doors, person, asked.district)
    old, new = await catalogues.index(district, asked.old), await catalogues.index(district, asked.new)
    return DiffView(
        district=district.code,
        from_version=asked.old,
        to_version=asked.new or district.catalogue_version,
        difference=diff(old.items, new.items),
    )


@router.get(
    "/export",
    summary="导出事项清单",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}},
)
async def export(
    doors: OurDoors, catalogues: OurCatalogues, person: Reader, asked: Annotated[ExportQuery, Query()]
) -> Response:
    """导出为 CSV(带 BOM)或 .xlsx,可修改后重新装载。"""
    district = api.district_of(doors, person, asked.district)
    items = (await catalogues.index(district, asked.version)).items
    content = await asyncio.to_thread(FORMATS[asked.format], items)
    name = quote(f"{district.name}事项清单.{asked.format}")
    plain = f"catalogue-{district.code}.{asked.format}"
    return Response(
        content,
        media_type=MEDIA_TYPES[asked.format],
        headers={"Content-Disposition": f"attachment; filename={plain}; filename*=UTF-8''{name}"},
    )


def _require_department(district: District, code: str | None) -> None:
    known = {office.code for office in district.organisations if office.kind is OrganisationKind.DEPARTMENT}
    if code is not None and code not in known:
        raise Invalid("unknown_department", f"部门“{code}”不存在,请查询 /organisations。")


def _item_view(item: Item, district: District) -> ItemView:
    return ItemView(**_labelled(item, district))


def _hit_view(hit: Hit, district: District) -> HitView:
    return HitView(
        **_labelled(hit.item, district), score=hit.score if hit.matched else None, matched=hit.matched
    )


def _labelled(item: Item, district: District) -> dict[str, object]:
    names = {str(office.code): office.name for office in district.organisations}
    return {
        **dict(item),
        "category_label": words.CATEGORIES[item.category],
        "limit_class_label": words.LIMIT_CLASSES[item.limit_class],
        "primary_name": names.get(item.primary, item.primary),
        "cooperating_names": tuple(names.get(code, code) for code in item.cooperating),
    }
