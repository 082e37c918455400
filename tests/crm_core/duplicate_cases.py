"""Pairs of records that a person would decide at a glance, and many that were copied by tired people."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Fields = dict[str, Any]


def lead(name: str | None, company: str | None, email: str | None = None, phone: str | None = None) -> Fields:
    return {"name": name, "company": company, "email": email, "phone": phone}


def account(
    name: str, phone: str | None = None, website: str | None = None, region: str | None = None
) -> Fields:
    return {"name": name, "phone": phone, "website": website, "region": region}


SAME_LEADS: list[tuple[Fields, Fields]] = [
    (
        lead("Wang Fang", "Fangda Valves", "wang.fang@fangda.example", "+86 138 0013 8000"),
        lead("Fang Wang", "Fangda Valves Ltd", "Wang.Fang@Fangda.example", None),
    ),
    (
        lead("王芳", "方达阀门有限公司", "wang.fang@fangda.example"),
        lead("Wang Fang", "Fangda Valves", "wang.fang@fangda.example"),
    ),
    (
        lead("张晓明", "上海远东电缆有限公司", None, "13800138000"),
        lead("张晓明", "上海远东电缆", None, "+86 138-0013-8000"),
    ),
    (
        lead("John Smith", "Hill & Sons", "john@hill.example"),
        lead("J. Smith", "Hill and Sons GmbH", "john@hill.example"),
    ),
    (
        lead("John Smith", "Hill & Sons", None, "+49 30 5551234"),
        lead("Jon Smith", "Hill & Sons", None, "0049 (0)30 555 1234"),
    ),
    (
        lead("Maria Keller", "Nordwind", "maria.keller@nordwind.example"),
        lead("Maria Keller", "Nordwind AG", "maria.kellr@nordwind.example"),
    ),
    (lead("Maria Keller", "Nordwind", "maria@nordwind.example"), lead(None, None, "MARIA@nordwind.example ")),
    (
        lead("欧阳娜娜", "北京乐声文化有限公司", "ouyang@yuesheng.example", "13911112222"),
        lead("欧阳娜娜", "北京乐声文化", "nana@163.com", "139 1111 2222"),
    ),
    (
        lead("Anna Müller", "Bücher Meyer", "anna@bücher.de"),
        lead("Anna Mueller", "Bücher Meyer", "anna@xn--bcher-kva.de"),
    ),
    (
        lead("Dr. Felix Novak", "Berg", None, "+420 224 123 456"),
        lead("Felix Novak", "Berg s.r.o.", None, "00420 224123456"),
    ),
    (lead("Sofia Rossi", "Costa SpA", "s.rossi@costa.example"), lead("Rossi, Sofia", "Costa", None)),
    (
        lead("Ruth Victor", "Stone & Marsh", None, None),
        lead("Ruth Victor", "Stone and Marsh Ltd.", None, None),
    ),
    (
        lead("李晓燕", "泰和精密制造有限公司", "lixy@qq.com"),
        lead("李晓燕", "泰和精密制造有限公司", None, "13700001111"),
    ),
    (
        lead("Oscar Berg", "Lane", "oscar.berg@gmail.com", "+46 8 123 456 78"),
        lead("Oscar Berg", None, "oscar.berg@gmail.com"),
    ),
    (
        lead("Clara Dubois", "Moreau", "clara@moreau.example", "+33 1 42 68 53 00"),
        lead("Clara Dubios", "Moreau SARL", "clara@moreau.example"),
    ),
    (
        lead("陈桂英", "远东物流", None, "021-62345678转12"),
        lead("陈桂英", "远东物流有限公司", None, "(021) 6234 5678 分机12"),
    ),
]

DIFFERENT_LEADS: list[tuple[Fields, Fields]] = [
    (
        lead("Wang Fang", "Fangda Valves", "wang.fang@fangda.example"),
        lead("Li Wei", "Fangda Valves", "li.wei@fangda.example"),
    ),
    (
        lead("王伟", "方达阀门有限公司", None, "13800138000"),
        lead("王伟", "远东电缆有限公司", None, "13911112222"),
    ),
    (
        lead("John Smith", "Hill & Sons", "john.smith@hill.example"),
        lead("John Smith", "Cooper Ward", "jsmith@cooper.example"),
    ),
    (
        lead("Maria Keller", "Nordwind", "info@nordwind.example", "+49 30 5551234"),
        lead("Peter Frost", "Nordwind", "info@nordwind.example", "+49 30 5551234"),
    ),
    (
        lead("张晓明", "上海远东电缆", None, "021-62345678"),
        lead("李志强", "上海远东电缆", None, "021-62345678"),
    ),
    (lead("Anna Berg", "Lane", None), lead("Hanna Berg", "Stone", None)),
    (lead("王芳", "方达阀门", "wangf@fangda.example"), lead("王芬", "方达阀门", "wangfen@fangda.example")),
    (lead("Emma Hill", None, "emma@gmail.com"), lead("Emma Stone", None, "emma.s@gmail.com")),
    (
        lead("陈桂英", "远东物流", None, "021-62345678转12"),
        lead("陈文博", "远东物流", None, "021-62345678转15"),
    ),
    (lead(None, "Hill & Sons", "sales@hill.example"), lead("Noah Reed", "Hill & Sons", "sales@hill.example")),
    (
        lead("Lucas Martin", "Walker", "lucas@walker.example"),
        lead("Martin Lucas Young", "Baker", "martin@baker.example"),
    ),
    (lead("李娜", None, None, None), lead("李娜", "泰和软件", None, None)),
    (
        lead("Julia Lane", "Frost", None, "+1 650 253 0000"),
        lead("Simon Lane", "Frost", None, "+1 650 253 0000"),
    ),
    (lead("刘洋", "第一机床厂", None, "13811110000"), lead("刘洋", "第二机床厂", None, "13922220000")),
    (
        lead("Adam Young", "Reed", "a.young@reed.example"),
        lead("Alice Young", "Reed", "al.young@reed.example"),
    ),
]

SAME_ACCOUNTS: list[tuple[Fields, Fields]] = [
    (account("Hill & Sons GmbH"), account("Hill and Sons")),
    (account("方达阀门有限公司", "010-62345678"), account("方达阀门", "(010) 6234 5678")),
    (
        account("Nordwind Pumpen AG", None, "https://www.nordwind.example"),
        account("Nordwind", None, "nordwind.example/de"),
    ),
    (account("Fangda Valves", region="North"), account("Fangda Valvse Ltd", region="North")),
    (account("上海远东电缆股份有限公司", region="上海"), account("上海远东电缆有限公司", region="上海")),
    (account("Stone & Marsh", "+49 30 5551234"), account("Stone Marsh Consulting", "0049 30 5551234")),
    (account("Müller Maschinenbau"), account("Muller Maschinenbau GmbH & Co. KG")),
]

DIFFERENT_ACCOUNTS: list[tuple[Fields, Fields]] = [
    (account("Hill & Sons"), account("Hill Brothers")),
    (account("第一机床厂"), account("第二机床厂")),
    (account("Store 12", region="North"), account("Store 13", region="North")),
    (account("方达阀门有限公司", region="北京"), account("方达电缆有限公司", region="北京")),
    (
        account("Nordwind", "+49 30 5551234", "nordwind.example"),
        account("Suedwind", "+49 30 5551299", "suedwind.example"),
    ),
    (
        account("Acme", region="North", website="acme.example"),
        account("Acme", region="South", website="acme-south.example"),
    ),
    (account("Baker", "+1 650 253 0000"), account("Barker", "+1 650 253 0001")),
    (account("瑞科制造"), account("瑞科软件")),
]


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Leads of which some are copies: `original[i]` is the position of what lead i copies, or i itself."""

    leads: list[Fields]
    original: list[int]


_SURNAMES = ("Smith", "Keller", "Novak", "Rossi", "Dubois", "Jensen", "Fischer", "Moreau", "Silva", "Larsen")
_FIRST = (
    "Emma",
    "Liam",
    "Olivia",
    "Noah",
    "Sofia",
    "Lucas",
    "Oscar",
    "Clara",
    "Hugo",
    "Nina",
    "Felix",
    "Laura",
)
_ZH_SURNAMES = "王李张刘陈杨黄赵周吴徐孙胡朱高林何郭马罗"
_ZH_GIVEN = "伟芳敏静强磊洋艳勇军杰娟涛明超霞平刚英文博子涵思远雨桐浩然晓燕志建国丽华海俊"
_PARTS = (
    "Nord",
    "Sued",
    "Berg",
    "Tal",
    "Stein",
    "Wald",
    "Hoch",
    "Alt",
    "Neu",
    "Gold",
    "Silber",
    "Rhein",
    "Elb",
)
_ZH_PARTS = "瑞科华泰安德信诚宏远博达恒利金辉创新天成万佳正和丰源通海东智"
_LINES = ("Pumpen", "Valves", "Logistics", "Software", "Foods", "Textil", "Energy", "Optics")
_ZH_LINES = ("阀门", "电缆", "软件", "物流", "机械", "商贸", "医疗科技", "精密制造")


def copied_leads(count: int, copies: int, seed: int) -> Copied:
    """Return `count` different leads, and `copies` of some of them with what goes wrong when copying."""
    dice = random.Random(seed)
    leads = [_chinese(dice) if dice.random() < 0.5 else _western(dice) for _ in range(count)]
    original = list(range(count))
    for source in dice.sample(range(count), copies):
        original.append(source)
        leads.append(_copy(dice, leads[source]))
    return Copied(leads=leads, original=original)


def _western(dice: random.Random) -> Fields:
    first, last = dice.choice(_FIRST), dice.choice(_SURNAMES)
    company = "".join(dice.choices(_PARTS, k=3)).capitalize() + f" {dice.choice(_LINES)}"
    domain = company.lower().replace(" ", "-")
    mail = f"{first}.{last}@{domain}.example".lower()
    phone = f"+49 {dice.randrange(30, 999)} {dice.randrange(10**6, 10**7)}"
    return _thinned(dice, lead(f"{first} {last}", f"{company} GmbH", mail, phone))


def _chinese(dice: random.Random) -> Fields:
    name = dice.choice(_ZH_SURNAMES) + "".join(dice.choices(_ZH_GIVEN, k=dice.choice([1, 2, 2])))
    company = "".join(dice.choices(_ZH_PARTS, k=3)) + dice.choice(_ZH_LINES) + "有限公司"
    mail = f"{dice.randrange(10**8, 10**9)}@qq.com"
    return _thinned(dice, lead(name, company, mail, f"13{dice.randrange(10**8, 10**9)}"))


def _thinned(dice: random.Random, whole: Fields) -> Fields:
    """Leave out the mail or the telephone number of some."""
    gone = dice.choice(["email", "phone", None, None])
    return {**whole, gone: None} if gone else whole


def _copy(dice: random.Random, source: Fields) -> Fields:
    copy = dict(source)
    if dice.random() < 0.5 and copy["phone"]:
        copy["phone"] = (
            copy["phone"].replace("+49 ", "0049-") if "+49" in copy["phone"] else f"+86 {copy['phone']}"
        )
    if dice.random() < 0.3:
        copy["company"] = copy["company"].removesuffix(" GmbH").removesuffix("有限公司")
    if dice.random() < 0.3 and copy["email"]:
        copy["email"] = copy["email"].upper()
    if dice.random() < 0.4:
        copy["name"] = _slip(dice, copy["name"])
    if dice.random() < 0.4 and copy["email"] and copy["phone"]:
        copy[dice.choice(["email", "phone"])] = None
    return copy


def _slip(dice: random.Random, name: str) -> str:
    if " " not in name:
        return name
    first, last = name.split()
    kind = dice.randrange(3)
    if kind == 0:
        return f"{last}, {first}"
    if kind == 1:
        return f"{first[0]}. {last}"
    at = dice.randrange(1, len(last) - 1)
    return f"{first} {last[:at]}{last[at + 1]}{last[at]}{last[at + 2 :]}"
