"""`shaodao audit`: what an auditor does, without the HTTP door and without trusting it.

Exit statuses for scripts: 0 all good, 1 something is wrong, 2 something could not be checked.
"""

import asyncio
import os
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain.calendar import SHANGHAI
from domain.verify import DigestName

if TYPE_CHECKING:
    from starter.audit_runs import Wanted

audit_app = typer.Typer(help="导出、核验审计包,锚定台账。", no_args_is_help=True, rich_markup_mode=None)

_DATA = Path(".shaodao")
_ONE_DAY = timedelta(days=1)

Data = Annotated[Path, typer.Option(help="内置服务的数据目录。")]
Period = Annotated[str | None, typer.Option(help="吹哨日期范围,例如 2026-11-01..2026-11-30(含首尾)。")]
District = Annotated[str | None, typer.Option(help="区(市)编号。")]


@audit_app.command("export")
def export(
    cases: Annotated[list[str] | None, typer.Argument(help="案件编号,可多个。")] = None,
    period: Period = None,
    district: District = None,
    out: Annotated[Path, typer.Option(help="写入的目录。")] = Path(),
    digest: Annotated[DigestName, typer.Option(help="文件摘要算法:sha256 或 sm3。")] = DigestName.SHA256,
    data: Data = _DATA,
) -> None:
    """导出审计包:每案一个 ZIP 文件,带清单与签名。"""
    from starter import audit_runs

    if not (cases or period or district):
        raise typer.BadParameter("请指定案件编号、--period 或 --district。")
    audit_runs.use(data)
    raise typer.Exit(asyncio.run(audit_runs.export(_wanted(cases, period, district), out, digest)))


@audit_app.command("verify")
def verify(
    subjects: Annotated[list[str] | None, typer.Argument(help="审计包文件或案件编号,可多个。")] = None,
    period: Period = None,
    district: District = None,
    public_key: Annotated[
        Path | None, typer.Option(help="可信公钥文件(PEM);签名必须出自此钥。缺省用本机安装的公钥。")
    ] = None,
    attachments: Annotated[Path | None, typer.Option(help="附件原件所在目录。")] = None,
    anchors: Annotated[bool, typer.Option("--anchors", help="以历次锚定核对现有台账与日志。")] = False,
    anchor_files: Annotated[Path | None, typer.Option(help="已发布锚定文件的目录,一并核对。")] = None,
    journals: Annotated[
        bool, typer.Option("--journals", help="核验受理链、运维日志链、解密记录链;--period 也含此项。")
    ] = False,
    jobs: Annotated[int, typer.Option(help="并行进程数。", min=1)] = os.cpu_count() or 1,
    sdk: Annotated[
        bool, typer.Option("--sdk", help="每件均由 Temporal SDK 重放(约慢三倍);审计包总是如此。")
    ] = False,
    data: Data = _DATA,
) -> None:
    """核验审计包文件,或直接核验案件:每项一行,✓ 无误,✗ 有误,? 无法核验。"""
    from adapters.signing import PublicKey
    from starter import audit_runs

    pinned = PublicKey.from_pem(_content(public_key)) if public_key else None
    files = [subject for subject in subjects or [] if subject.endswith(".zip") or Path(subject).is_file()]
    wanted = _wanted([each for each in subjects or [] if each not in files], period, district)
    trusted, whose = (pinned, "指定公钥") if pinned else (audit_runs.key_at_hand(data), "本机公钥")
    statuses = [audit_runs.verify_file(Path(file), trusted, attachments, whose=whose) for file in files]
    by_anchor = anchors or anchor_files is not None
    if wanted.cases or (wanted.by_query and not ((by_anchor or journals) and period is None)):
        audit_runs.use(data)
        statuses.append(
            audit_runs.verify_wanted(wanted, attachments, jobs, anchor_files=anchor_files, by_sdk=sdk)
        )
    if journals or period is not None:
        audit_runs.use(data)
        statuses.append(asyncio.run(audit_runs.verify_journals(district)))
    if by_anchor:
        audit_runs.use(data)
        statuses.append(asyncio.run(audit_runs.verify_anchors(district, anchor_files, pinned)))
    if not statuses:
        raise typer.BadParameter(
            "请指定审计包文件、案件编号、--period、--district、--journals 或 --anchors。"
        )
    raise typer.Exit(audit_runs.worst(statuses))


@audit_app.command("anchor")
def anchor(
    district: District = None,
    day: Annotated[
        str | None, typer.Option("--date", help="重新发布该日(2026-11-24)的锚定;默认今日。")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="发布目录;默认取 SHAODAO_ANCHOR_DIR。")] = None,
    data: Data = _DATA,
) -> None:
    """对一个区(市)现有的全部台账与日志锚定并发布;此后没有变化时只重新发布。现有内容与锚定矛盾的,退出状态为 1。"""
    from starter import audit_runs

    audit_runs.use(data)
    raise typer.Exit(asyncio.run(audit_runs.anchor(district, _day(day) if day else None, out)))


@audit_app.command("key")
def key(
    new: Annotated[Path | None, typer.Option("--new", help="生成新密钥写入此文件(仅本人可读)。")] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="只显示此公钥文件(PEM)的编号与指纹,用于与安装方核对。")
    ] = None,
    data: Data = _DATA,
) -> None:
    """显示签名公钥(PEM)及其指纹;--new 生成一把新密钥。"""
    from adapters.signing import PublicKey
    from starter import audit_runs

    if public_key is not None:
        shown = PublicKey.from_pem(_content(public_key))
    elif new is not None:
        shown = audit_runs.new_key(new).public
        typer.echo(f"已写入 {new};请设置 SHAODAO_AUDIT_KEY={new}", err=True)
    else:
        audit_runs.use(data)
        shown = audit_runs.signing_key().public
    typer.echo(f"公钥编号 {shown.id}\n指纹(SHA-256) {shown.fingerprint}", err=True)
    typer.echo(shown.pem().rstrip())


def _wanted(cases: list[str] | None, period: str | None, district: str | None) -> "Wanted":
    from starter.audit_runs import Wanted

    first, before = _days(period) if period else (None, None)
    return Wanted(cases=tuple(cases or ()), called_from=first, called_before=before, district=district)


def _days(period: str) -> tuple[datetime, datetime]:
    """Return the half-open period of whole local days."""
    first, dots, last = period.partition("..")
    start, end = _day(first), _day(last if dots else first)
    if end < start:
        raise typer.BadParameter("日期范围的起止颠倒。")
    midnight = datetime.min.time()
    return datetime.combine(start, midnight, SHANGHAI), datetime.combine(end + _ONE_DAY, midnight, SHANGHAI)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"日期应写成 2026-11-24:{text}") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise typer.BadParameter(f"文件无法读取:{path}") from None
