"""Which column of a file is meant for which field: by its name, English or Chinese, and by what it holds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from crm_core.importing.readers import Fault, Source, read_rows
from crm_core.importing.values import as_text

SAMPLED: Final = 500
"""Rows that are looked at for a guess."""

SHOWN: Final = 3
"""Different values of a column that are shown beside it."""

CALLED: Final[dict[str, tuple[str, ...]]] = {
    "name": (
        *("name", "full name", "contact name", "lead name", "deal name", "opportunity", "account name"),
        *("姓名", "名字", "名称", "联系人", "联系人姓名", "客户名称", "公司名称", "商机名称", "线索名称"),
    ),
    "company": (
        "company",
        "company name",
        "organisation",
        "organization",
        "公司",
        "公司名称",
        "单位",
        "企业",
    ),
    "email": ("email", "e mail", "mail", "email address", "邮箱", "电子邮箱", "邮件", "电子邮件"),
    "phone": (
        "phone",
        "telephone",
        "mobile",
        "tel",
        "cell",
        "电话",
        "手机",
        "手机号",
        "联系电话",
        "手机号码",
    ),
    "title": ("title", "job title", "position", "职位", "职务", "头衔"),
    "source": ("source", "lead source", "channel", "来源", "线索来源", "渠道"),
    "campaign": ("campaign", "活动", "市场活动"),
    "industry": ("industry", "sector", "行业", "所属行业"),
    "region": ("region", "province", "city", "area", "地区", "区域", "省份", "城市"),
    "territory": ("territory", "大区"),
    "employees": (
        "employees",
        "number of employees",
        "headcount",
        "size",
        "员工数",
        "人数",
        "公司规模",
        "规模",
    ),
    "website": ("website", "web", "url", "homepage", "网站", "网址", "官网"),
    "birthday": ("birthday", "date of birth", "生日", "出生日期"),
    "amount": ("amount", "value", "revenue", "price", "金额", "商机金额", "预计金额"),
    "currency": ("currency", "币种", "货币"),
    "stage": ("stage", "phase", "阶段", "销售阶段"),
    "expected_close_on": (
        "expected close",
        "close date",
        "expected close date",
        "预计成交日期",
        "预计签约日期",
    ),
    "rep_probability": ("probability", "概率", "赢单概率", "把握"),
    "account_id": ("account", "account id", "customer id", "客户编号", "客户id"),
    "contact_id": ("contact id", "联系人编号"),
    "consent": ("consent", "同意"),
}
"""What fields are called in files, folded; the words of the pages and custom labels come on top."""

KEYS: Final = (
    "id",
    "key",
    "external id",
    "number",
    "record id",
    "no",
    "编号",
    "序号",
    "客户编号",
    "线索编号",
)
DATES: Final = (
    "created",
    "created at",
    "created on",
    "create date",
    "创建时间",
    "创建日期",
    "录入时间",
    "日期",
)

_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+?[\d\s\-()./]{7,20}")
_WEB = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
_LOOKS = {"email": _MAIL, "phone": _PHONE, "website": _WEB}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its first different values, and the shares of its cells that are filled and that differ."""

    name: str
    samples: tuple[str, ...]
    filled: float
    different: float


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a column may be meant for: a field, or None; `confidence` is from 0 to 1, and why in a word."""

    column: str
    field: str | None
    confidence: float
    why: str


def look_at_columns(source: Source) -> list[Column]:
    """Return the columns of a file, by its first rows."""
    rows = [row[1] for row in islice(read_rows(source), SAMPLED) if not isinstance(row, Fault)]
    return [
        _column(name, [row[at] for row in rows], source.spec.empty) for at, name in enumerate(source.header)
    ]


def _column(name: str, cells: Sequence[object], empty: Collection[str]) -> Column:
    texts = [text for cell in cells if cell is not None and (text := as_text(cell).strip()) not in empty]
    unlike = list(dict.fromkeys(texts))
    return Column(
        name=name,
        samples=tuple(text[:80] for text in unlike[:SHOWN]),
        filled=len(texts) / len(cells) if cells else 0.0,
        different=len(unlike) / len(texts) if texts else 0.0,
    )


def guess_fields(columns: Sequence[Column], labels: dict[str, tuple[str, ...]]) -> list[Guess]:
    """Return one guess a column, each field once; `labels` are what each field is called.

    A name that is just a field's counts most, then one that holds or begins like it, then what the cells look
    like. A column that nothing speaks for is left for a person to decide.
    """
    rated = sorted(
        (
            (confidence, -at, field, why)
            for at, column in enumerate(columns)
            for field, names in labels.items()
            for confidence, why in [_rate(column, field, (*names, *CALLED.get(field, ())))]
            if confidence > 0
        ),
        reverse=True,
    )
    found: dict[int, Guess] = {}
    taken: set[str] = set()
    for confidence, at, field, why in rated:
        if -at not in found and field not in taken:
            found[-at] = Guess(column=columns[-at].name, field=field, confidence=confidence, why=why)
            taken.add(field)
    nothing = [Guess(column=each.name, field=None, confidence=0.0, why="") for each in columns]
    return [found.get(at, none) for at, none in enumerate(nothing)]


def _rate(column: Column, field: str, names: Sequence[str]) -> tuple[float, str]:
    name, known = folded(column.name), [folded(each) for each in (field, *names)]
    fits = _fits(column, field)
    if name in known:
        return (1.0 if fits is not False else 0.6), "name"
    part = max((len(each) / len(name) for each in known if len(each) > 1 and each in name), default=0.0)
    if part >= 0.5 and fits is not False:
        return 0.5 + 0.3 * part, "part"
    return (0.55, "values") if fits else (0.0, "")


def _fits(column: Column, field: str) -> bool | None:
    """Say whether a column's values look like those of a field; None where values cannot tell."""
    pattern = _LOOKS.get(field)
    if pattern is None or not column.samples:
        return None
    return all(pattern.fullmatch(each) is not None for each in column.samples)


def guess_key(columns: Sequence[Column]) -> str | None:
    """Return the column that tells rows apart: all filled, all different, called so or an address."""
    whole = [each for each in columns if each.filled == 1.0 and each.different == 1.0]
    called = [each.name for each in whole if folded(each.name) in KEYS or folded(each.name).endswith(" id")]
    mails = [each.name for each in whole if each.samples and all(map(_MAIL.fullmatch, each.samples))]
    return next(iter((*called, *mails)), None)


def guess_date(columns: Sequence[Column]) -> str | None:
    """Return the column that says since when there is a record."""
    return next((each.name for each in columns if folded(each.name) in DATES and each.filled == 1.0), None)


def folded(name: str) -> str:
    """Return a name in small letters, with one space for whatever stands between its words."""
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    return re.sub(r"[^\w]+|_", " ", text).strip()
