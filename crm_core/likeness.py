"""How likely two records are the same: evidence for and against, added up in log-odds.

Each fact that two records agree or differ in moves the likelihood by what it is worth: a mail address of
one's own tells much, the switchboard's number little; a name that differs speaks against. The weights are
judged on pairs that people would decide, in `tests/crm_core/test_duplicates.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler

from crm_core.addresses import (
    company_domain,
    company_key,
    is_shared_mailbox,
    mail_key,
    person_key,
    phone_key,
    site_key,
)
from crm_core.grams import is_ideograph

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.object_]
Columns = Mapping[str, Sequence[Any]]

PRIOR: Final = -4.5
"""The log-odds of two records that were compared because something about them is alike."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A fact about two records, and by how much it moves the log-odds that they are the same."""

    fact: str
    log_odds: float
    en: str
    zh: str

    @property
    def field(self) -> str:
        """Return the field that tells it."""
        return _TOLD_BY[self.fact.split("_")[0]]


_TOLD_BY: Final = {
    "mail": "email",
    "domain": "email",
    "phone": "phone",
    "name": "name",
    "firm": "name",
    "numbers": "name",
    "company": "company",
    "site": "website",
    "region": "region",
}
"""By the first word of a fact, the field that tells it."""


FACTS: Final[dict[str, tuple[float, str, str]]] = {
    "mail_equal": (6.5, "The same mail address", "邮箱相同"),
    "mail_shared": (2.5, "The same mailbox, one that several people read", "公共邮箱相同"),
    "mail_alike": (3.5, "Mail addresses that differ by one character", "邮箱仅差一个字符"),
    "mail_differs": (-1.0, "Different mail addresses", "邮箱不同"),
    "domain_equal": (1.0, "Mail addresses of the same company", "邮箱域名相同"),
    "phone_equal": (4.0, "The same telephone number", "电话相同"),
    "phone_differs": (-0.7, "Different telephone numbers", "电话不同"),
    "name_equal": (3.5, "The same name", "姓名相同"),
    "name_equal_short": (2.8, "The same name, a short one that many people have", "姓名相同、常见短名"),
    "name_alike": (2.2, "Names that are spelt almost the same", "姓名相近"),
    "name_initial": (1.5, "The same name, once with an initial only", "姓名缩写一致"),
    "name_differs": (-3.2, "Different names", "姓名不同"),
    "company_equal": (2.2, "The same company", "公司相同"),
    "company_alike": (1.4, "Companies that are spelt almost the same", "公司名称相近"),
    "company_differs": (-1.8, "Different companies", "公司不同"),
    "firm_equal": (5.9, "The same company name", "公司名称相同"),
    "firm_alike": (4.2, "Company names that are spelt almost the same", "公司名称相近"),
    "firm_within": (0.6, "One company name is part of the other", "公司名称互为包含"),
    "firm_differs": (-3.5, "Different company names", "公司名称不同"),
    "numbers_differ": (-5.0, "Names with different numbers in them", "名称中的编号不同"),
    "site_equal": (4.5, "The same website", "网站相同"),
    "site_differs": (-1.2, "Different websites", "网站不同"),
    "region_equal": (0.4, "The same region", "地区相同"),
    "region_differs": (-1.2, "Different regions", "地区不同"),
}
"""By fact: what it is worth in log-odds, and how it is said in English and in Chinese."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What was found about pairs: `likelihood` in [0, 1], float64[n]; `facts`: for each fact, bool[n]."""

    likelihood: Floats
    facts: Mapping[str, Flags]

    def evidence(self, at: int) -> tuple[Evidence, ...]:
        """Return the evidence about the pair at a position, what tells most first."""
        found = [_evidence(fact) for fact, flags in self.facts.items() if flags[at]]
        return tuple(sorted(found, key=lambda each: (-abs(each.log_odds), each.fact)))


def _evidence(fact: str) -> Evidence:
    log_odds, en, zh = FACTS[fact]
    return Evidence(fact=fact, log_odds=log_odds, en=en, zh=zh)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Records in the form in which they are compared: a column a key, None where there is none."""

    keys: dict[str, Keys]

    def __getitem__(self, key: str) -> Keys:
        """Return one key of all records."""
        return self.keys[key]


def compared_people(columns: Columns) -> Compared:
    """Return leads or contacts as they are compared; `company` may be missing among the columns."""
    names = columns["name"]
    keys: dict[str, Callable[[], Iterable[str | None]]] = {
        "mail": lambda: map(mail_key, columns["email"]),
        "phone": lambda: map(phone_key, columns["phone"]),
        "name": lambda: map(person_key, names),
        "company": lambda: map(company_key, columns.get("company") or [None] * len(names)),
    }
    return Compared(keys={key: _objects(made()) for key, made in keys.items()})


def compared_accounts(columns: Columns) -> Compared:
    """Return accounts as they are compared."""
    keys = {
        "phone": map(phone_key, columns["phone"]),
        "site": map(site_key, columns["website"]),
        "name": map(company_key, columns["name"]),
        "region": columns["region"],
    }
    return Compared(keys={key: _objects(made) for key, made in keys.items()})


def _objects(values: Iterable[str | None]) -> Keys:
    found = list(values)
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def likeness_of_people(records: Compared, left: Ints, right: Ints) -> Likeness:
    """Return how likely the leads or contacts at positions `left` and `right` are the same person."""
    facts = {
        **_mail_facts(records["mail"][left], records["mail"][right]),
        **_equal_or_not("phone", records["phone"][left], records["phone"][right]),
        **_name_facts(records["name"][left], records["name"][right]),
        **_company_facts("company", records["company"][left], records["company"][right], 0.88),
    }
    # Colleagues have a company, a mailbox and a switchboard in common: that is one fact, not three.
    named = _both(records["name"][left], records["name"][right]) & ~facts["name_differs"]
    for fact in ("company_equal", "company_alike", "domain_equal"):
        facts[fact] &= named
    return _sum(facts)


def likeness_of_accounts(records: Compared, left: Ints, right: Ints) -> Likeness:
    """Return how likely the accounts at positions `left` and `right` are the same company."""
    one, two = records["name"][left], records["name"][right]
    facts = {
        **_equal_or_not("phone", records["phone"][left], records["phone"][right]),
        **_equal_or_not("site", records["site"][left], records["site"][right]),
        **_company_facts("firm", one, two, 0.9),
        **_equal_or_not("region", records["region"][left], records["region"][right]),
    }
    within = facts["firm_differs"] & _within(one, two)
    facts["firm_within"] = within
    facts["firm_differs"] &= ~within
    return _sum(facts)


def _sum(facts: dict[str, Flags]) -> Likeness:
    log_odds = PRIOR + sum(flags * FACTS[fact][0] for fact, flags in facts.items())
    return Likeness(likelihood=1 / (1 + np.exp(-np.asarray(log_odds, dtype=np.float64))), facts=facts)


def _both(one: Keys, two: Keys) -> Flags:
    return np.asarray((one != None) & (two != None))  # noqa: E711  element by element


def _equal_or_not(what: str, one: Keys, two: Keys) -> dict[str, Flags]:
    both, equal = _both(one, two), np.asarray(one == two)
    return {f"{what}_equal": both & equal, f"{what}_differs": both & ~equal}


def _mail_facts(one: Keys, two: Keys) -> dict[str, Flags]:
    both, equal = _both(one, two), np.asarray(one == two)
    shared = _each(is_shared_mailbox, one, both & equal)
    distance = _compared(OSA.distance, one, two, both & ~equal, missing=9)
    alike = distance <= 1
    same_domain = _each_pair(_same_company, one, two, both & ~equal & ~alike)
    return {
        "mail_equal": both & equal & ~shared,
        "mail_shared": shared,
        "mail_alike": alike,
        "mail_differs": both & ~equal & ~alike,
        "domain_equal": same_domain,
    }


def _same_company(one: str, two: str) -> bool:
    return company_domain(one) is not None and company_domain(one) == company_domain(two)


def _name_facts(one: Keys, two: Keys) -> dict[str, Flags]:
    both, equal = _both(one, two), np.asarray(one == two)
    # A name in Chinese characters and one in Latin letters may be the same; nothing here can tell.
    told = both & _each_pair(_same_script, one, two, both)
    short = _each(_is_common, one, told & equal)
    ratio = _compared(JaroWinkler.normalized_similarity, one, two, told & ~equal, missing=0)
    apart = told & ~equal
    initial = apart & _each_pair(_is_initial, one, two, apart)
    alike = apart & ~initial & (ratio >= 0.92) & ~_each(_in_ideographs, one, apart)
    return {
        "name_equal": told & equal & ~short,
        "name_equal_short": told & equal & short,
        "name_alike": alike,
        "name_initial": initial,
        "name_differs": apart & ~initial & ~alike,
    }


def _company_facts(what: str, one: Keys, two: Keys, least: float) -> dict[str, Flags]:
    equal = np.asarray(one == two)
    both = _both(one, two) & (equal | _each_pair(_same_script, one, two, _both(one, two)))
    apart = both & ~equal
    ratio = _compared(JaroWinkler.normalized_similarity, one, two, apart, missing=0)
    distance = _compared(OSA.normalized_similarity, one, two, apart, missing=0)
    numbers = apart & _each_pair(_differ_in_numbers, one, two, apart & (distance >= 0.5))
    alike = apart & ~numbers & (ratio >= least) & (distance >= 0.75)
    return {
        f"{what}_equal": both & equal,
        f"{what}_alike": alike,
        f"{what}_differs": apart & ~alike & ~numbers,
        "numbers_differ": numbers,
    }


def _within(one: Keys, two: Keys) -> Flags:
    return _each_pair(_is_part, one, two, _both(one, two))


def _is_part(one: str, two: str) -> bool:
    if is_ideograph(one[0]) and is_ideograph(two[0]):
        return min(len(one), len(two)) >= 3 and (one in two or two in one)
    fewer, more = sorted((set(one.split()), set(two.split())), key=len)
    return fewer <= more and sum(map(len, fewer)) >= 4


def _same_script(one: str, two: str) -> bool:
    return is_ideograph(one[0]) == is_ideograph(two[0])


def _in_ideographs(name: str) -> bool:
    return is_ideograph(name[0])


def _is_common(name: str) -> bool:
    """Say whether a name is so short that many people have it."""
    return len(name) <= 2 if is_ideograph(name[0]) else " " not in name


def _is_initial(one: str, two: str) -> bool:
    """Say whether two names are the same, one with an initial in the place of a word."""
    left, right = set(one.split()), set(two.split())
    rest, other = left - right, right - left
    if not (left & right) or len(rest) != 1 or len(other) != 1:
        return False
    short, long = sorted((*rest, *other), key=len)
    return len(short) == 1 and long.startswith(short)


_NUMERALS: Final = frozenset("一二三四五六七八九十")


def _differ_in_numbers(one: str, two: str) -> bool:
    """Say whether two names hold different numbers, as the names of branches do."""
    return _numbers(one) != _numbers(two)


def _numbers(name: str) -> list[str]:
    spaced = "".join(each if each.isdecimal() or each in _NUMERALS else " " for each in name)
    return spaced.split()


def _each(test: Callable[[str], bool], keys: Keys, where: Flags) -> Flags:
    """Return a test's answers for the keys at `where`, False elsewhere; each key is asked about once."""
    found = np.zeros(keys.size, dtype=bool)
    at = np.flatnonzero(where)
    some = keys[at].tolist()
    answers = {key: test(key) for key in set(some)}
    found[at] = [answers[key] for key in some]
    return found


def _each_pair(test: Callable[[str, str], bool], one: Keys, two: Keys, where: Flags) -> Flags:
    found = np.zeros(one.size, dtype=bool)
    at = np.flatnonzero(where)
    found[at] = [test(*pair) for pair in zip(one[at].tolist(), two[at].tolist(), strict=True)]
    return found


def _compared(scorer: Any, one: Keys, two: Keys, where: Flags, *, missing: float) -> Floats:  # noqa: ANN401  one of RapidFuzz
    """Return RapidFuzz's measure for the pairs at `where`, `missing` elsewhere."""
    found = np.full(one.size, missing, dtype=np.float64)
    at = np.flatnonzero(where)
    if at.size:
        found[at] = process.cpdist(one[at].tolist(), two[at].tolist(), scorer=scorer, dtype=np.float64)
    return found
