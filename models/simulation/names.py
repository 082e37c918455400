"""Names of people and companies, Chinese and English, all invented, with addresses under example.com."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.simulation.world import FREE_MAIL, OVERSEAS

Ints = npt.NDArray[np.int64]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Return pairs of characters and their sound."""
    words = text.split()
    return tuple(zip(words[::2], words[1::2], strict=True))


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


_SURNAMES = _pairs(
    "王 wang 李 li 张 zhang 刘 liu 陈 chen 杨 yang 黄 huang 赵 zhao 周 zhou 吴 wu 徐 xu 孙 sun 胡 hu "
    "朱 zhu 高 gao 林 lin 何 he 郭 guo 马 ma 罗 luo 梁 liang 宋 song 郑 zheng 谢 xie 韩 han 唐 tang "
    "冯 feng 于 yu 董 dong 萧 xiao"
)
_GIVEN = _pairs(
    "伟 wei 芳 fang 敏 min 静 jing 强 qiang 磊 lei 洋 yang 艳 yan 勇 yong 军 jun 杰 jie 娟 juan 涛 tao "
    "明 ming 超 chao 霞 xia 平 ping 刚 gang 桂英 guiying 文博 wenbo 子涵 zihan 思远 siyuan 雨桐 yutong "
    "浩然 haoran 晓燕 xiaoyan 志强 zhiqiang 建国 jianguo 丽华 lihua 海燕 haiyan 俊杰 junjie"
)
_SYLLABLES = _pairs(
    "瑞 rui 科 ke 华 hua 泰 tai 安 an 德 de 信 xin 诚 cheng 宏 hong 远 yuan 博 bo 达 da 恒 heng 利 li "
    "金 jin 辉 hui 创 chuang 新 xin 天 tian 成 cheng 万 wan 佳 jia 正 zheng 和 he 丰 feng 源 yuan "
    "通 tong 海 hai 东 dong 智 zhi"
)
_FIRST = _words(
    "Emma Liam Olivia Noah Sofia Lucas Mia Oscar Clara Hugo Nina Felix Laura Simon Julia Adam "
    "Irene Marco Elena David Grace Henry Alice Peter Sarah Daniel Anna Martin Ruth Victor"
)
_LAST = _words(
    "Smith Keller Novak Rossi Dubois Jensen Fischer Moreau Silva Larsen Wagner Costa Meyer Berg "
    "Martin Lopez Walker Young Baker Hill Cooper Ward Turner Reed Brooks Hayes Stone Frost Lane "
    "Marsh"
)
_LINES_ZH = {
    "manufacturing": "精密制造",
    "software": "软件",
    "retail": "商贸",
    "logistics": "物流",
    "healthcare": "医疗科技",
    "education": "教育",
    "energy": "能源",
}
_LINES_EN = {
    "manufacturing": "Manufacturing",
    "software": "Software",
    "retail": "Retail",
    "logistics": "Logistics",
    "healthcare": "Health",
    "education": "Learning",
    "energy": "Energy",
}
_EARLY = _words(
    "North Bright Clear Stone River Silver Green High Blue Iron Oak West Summit Harbor Maple "
    "Falcon Amber Granite Cedar Crescent Meadow Union Pioneer Sterling Beacon"
)
_LATE = _words(
    "water field bridge gate wood path light port way mark point works line land crest peak ford "
    "stead side view"
)
_CITIES = {
    "East China": ("上海", "杭州", "南京", "苏州", "宁波"),
    "South China": ("深圳", "广州", "东莞", "厦门"),
    "North China": ("北京", "天津", "青岛", "石家庄"),
    "West China": ("成都", "重庆", "西安", "昆明"),
}
TITLES = (
    "Purchasing manager",
    "IT director",
    "Operations manager",
    "CEO",
    "Finance manager",
    "Engineer",
    "采购经理",
    "总经理",
    "信息部主任",
    "运营总监",
    "财务经理",
    "工程师",
)


@dataclass(frozen=True, kw_only=True)
class Company:
    """A company's name and the host of its addresses."""

    name: str
    host: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person's name and the part of an address before the @."""

    name: str
    mailbox: str


def companies(rng: np.random.Generator, regions: list[str], industries: list[str]) -> list[Company]:
    """Return one invented company a region and industry."""
    draws = rng.integers(0, 1 << 30, size=(len(regions), 4)).tolist()
    return [
        _english_company(draw, industry) if region in OVERSEAS else _chinese_company(draw, region, industry)
        for draw, region, industry in zip(draws, regions, industries, strict=True)
    ]


def _chinese_company(draw: list[int], region: str, industry: str) -> Company:
    cities = _CITIES[region]
    one, two, three = (_SYLLABLES[number % len(_SYLLABLES)] for number in draw[:3])
    kind = "有限公司" if draw[3] % 3 else "股份有限公司"
    sign = one[0] + two[0] + (three[0] if draw[3] % 4 == 0 else "")
    host = one[1] + two[1] + (three[1] if draw[3] % 4 == 0 else "")
    city = cities[draw[3] % len(cities)]
    return Company(name=f"{city}{sign}{_LINES_ZH[industry]}{kind}", host=f"{host}.example.com")


def _english_company(draw: list[int], industry: str) -> Company:
    word = _EARLY[draw[0] % len(_EARLY)] + _LATE[draw[1] % len(_LATE)]
    form = ("Ltd", "Inc", "GmbH", "Group")[draw[2] % 4]
    line = _LINES_EN[industry]
    return Company(name=f"{word} {line} {form}", host=f"{word.lower()}-{line.lower()}.example.com")


def persons(rng: np.random.Generator, regions: list[str]) -> list[Person]:
    """Return one invented person a region."""
    draws = rng.integers(0, 1 << 30, size=(len(regions), 2)).tolist()
    return [
        _english(first, last) if region in OVERSEAS else _chinese(first, last)
        for (first, last), region in zip(draws, regions, strict=True)
    ]


def _english(first: int, last: int) -> Person:
    given, family = _FIRST[first % len(_FIRST)], _LAST[last % len(_LAST)]
    return Person(name=f"{given} {family}", mailbox=f"{given}.{family}".lower())


def _chinese(first: int, last: int) -> Person:
    given, family = _GIVEN[first % len(_GIVEN)], _SURNAMES[last % len(_SURNAMES)]
    return Person(name=family[0] + given[0], mailbox=f"{family[1]}.{given[1]}")


def colleague(rng: np.random.Generator, number: int) -> tuple[str, str]:
    """Return the name and the address of an employee of ours, unlike any with another number."""
    first, last = (int(draw) for draw in rng.integers(0, 1 << 30, size=2))
    person = _chinese(first, last) if number % 3 else _english(first, last)
    return person.name, f"{person.mailbox}.{number}@example.com"


def mail_host(rng: np.random.Generator, size: int) -> list[str]:
    """Return free mail hosts."""
    return [FREE_MAIL[number] for number in rng.integers(0, len(FREE_MAIL), size=size).tolist()]
