"""`shaodao keys`: payload keys, made and looked at; rotation step by step is in docs/security.md."""

import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from adapters.keys import AES_256_GCM, DEFAULT, LENGTHS, OLD, USE_SHOULD_BE, Keys, is_use, keys_of, new_line
from adapters.settings import KeySettings
from domain.calendar import SHANGHAI
from starter.local import DEFAULT_DATA, use_data
from starter.screen import console

key_app = typer.Typer(help="载荷密钥:生成与检查。", no_args_is_help=True, rich_markup_mode=None)
out = console()
err = console(stderr=True)


@key_app.command("new")
def new(
    algorithm: Annotated[str, typer.Option(help=f"算法:{'、'.join(LENGTHS)}。")] = AES_256_GCM,
    use: Annotated[str, typer.Option(help=f"用途:{DEFAULT}、{OLD},或区(市)代码(多个用逗号分隔)。")] = DEFAULT,
) -> None:
    """生成一个新密钥,输出一行,可追加到密钥文件:shaodao keys new >> 密钥文件."""
    if algorithm not in LENGTHS:
        err.print(f"[red]算法应为 {'、'.join(LENGTHS)}。[/red]")
        raise typer.Exit(2)
    if not is_use(use):
        err.print(f"[red]{USE_SHOULD_BE}。[/red]")
        raise typer.Exit(2)
    sys.stdout.write(new_line(algorithm, use, datetime.now(UTC).astimezone(SHANGHAI).date()) + "\n")


@key_app.command("check")
def check(data: Annotated[Path, typer.Option(help="内置服务的数据目录。")] = DEFAULT_DATA) -> None:
    """检查密钥配置,列出编号、算法、用途与校验值(不显示密钥)。"""
    use_data(data)
    settings = KeySettings()
    keys = keys_of(settings)
    if keys is None:
        err.print("[red]载荷加密已明确关闭(SHAODAO_PAYLOAD_ENCRYPTION=off),且未配置密钥。[/red]")
        raise typer.Exit(1)
    out.print(table_of(keys))
    if settings.payload_encryption == "off":
        err.print("[red]载荷加密已明确关闭:密钥只用于解密。[/red]")
    if settings.payload_keys_file and others_may_read(settings.payload_keys_file):
        err.print(f"[red]其他用户可以读取密钥文件,请执行:chmod 600 {settings.payload_keys_file}[/red]")
        raise typer.Exit(1)


def table_of(keys: Keys) -> Table:
    """Return the keys as people may see them."""
    table = Table(title="载荷密钥", title_justify="left")
    table.add_column("编号", no_wrap=True)
    for column in ("算法", "用途", "校验值"):
        table.add_column(column, overflow="fold")
    for line in keys.lines:
        table.add_row(line.id, line.algorithm, "、".join(line.uses), line.check)
    return table


def others_may_read(file: Path) -> bool:
    """Whether users who neither own the file nor are of its group may read it."""
    return bool(file.stat().st_mode & stat.S_IROTH)
