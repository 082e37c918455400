"""Words that fields hold, as they are read in a sentence: those that the program knows, in both languages.

What a company types itself is no word of the program and stays as it was typed.
"""

from __future__ import annotations

from collections.abc import Mapping

from crm_core.pipelines import PIPELINES

Choices = Mapping[str, tuple[str, str]]
"""English and Chinese by the word that is stored."""

_SOURCES: Choices = {
    "ad": ("advertisement", "广告"),
    "cold call": ("cold call", "陌生电话"),
    "direct traffic": ("direct traffic", "直接访问"),
    "display": ("display advertisement", "展示广告"),
    "email": ("mail", "邮件"),
    "event": ("event", "活动"),
    "organic search": ("organic search", "自然搜索"),
    "other": ("other", "其他"),
    "other publicities": ("other publicity", "其他宣传"),
    "paid search": ("paid search", "付费搜索"),
    "partner": ("partner", "合作伙伴"),
    "phone": ("telephone", "电话"),
    "referral": ("referral", "转介绍"),
    "social": ("social media", "社交媒体"),
    "trade show": ("trade show", "展会"),
    "unknown": ("unknown", "未知"),
    "web": ("web", "网络"),
    "web form": ("web form", "网页表单"),
    "website": ("web site", "网站"),
}

_INDUSTRIES: Choices = {
    "agriculture": ("agriculture", "农业"),
    "automotive": ("automotive", "汽车"),
    "construction": ("construction", "建筑"),
    "consulting": ("consulting", "咨询"),
    "education": ("education", "教育"),
    "energy": ("energy", "能源"),
    "finance": ("finance", "金融"),
    "government": ("government", "政府"),
    "healthcare": ("healthcare", "医疗健康"),
    "logistics": ("logistics", "物流"),
    "manufacturing": ("manufacturing", "制造业"),
    "media": ("media", "媒体"),
    "real estate": ("real estate", "房地产"),
    "retail": ("retail", "零售"),
    "software": ("software", "软件"),
    "technology": ("technology", "科技"),
    "telecommunications": ("telecommunications", "通信"),
    "travel": ("travel", "旅游"),
}

_REGIONS: Choices = {
    "africa": ("Africa", "非洲"),
    "asia": ("Asia", "亚洲"),
    "east": ("east", "东部"),
    "east china": ("East China", "华东"),
    "europe": ("Europe", "欧洲"),
    "north": ("north", "北部"),
    "north america": ("North America", "北美"),
    "north china": ("North China", "华北"),
    "oceania": ("Oceania", "大洋洲"),
    "south": ("south", "南部"),
    "south america": ("South America", "南美"),
    "south china": ("South China", "华南"),
    "west": ("west", "西部"),
    "west china": ("West China", "中国西部"),
}

_STAGES: Choices = {
    stage.key.replace("_", " "): (stage.name_en, stage.name_zh)
    for stages in PIPELINES.values()
    for stage in stages
}

_KINDS: Choices = {
    "call": ("call", "电话"),
    "feedback": ("feedback", "客户反馈"),
    "mail": ("mail", "邮件"),
    "meeting": ("meeting", "会面"),
    "note": ("note", "备注"),
    "task": ("task", "任务"),
    "visit": ("visit", "拜访"),
    "web": ("web visit", "网站访问"),
}

_DIRECTIONS: Choices = {
    "inbound": ("from the customer", "客户发起"),
    "outbound": ("from us", "我方发起"),
}

_OUTCOMES: Choices = {
    "busy": ("busy", "占线"),
    "cancelled": ("cancelled", "已取消"),
    "complaint": ("complaint", "投诉"),
    "connected": ("connected", "已接通"),
    "held": ("held", "已进行"),
    "idea": ("idea", "建议"),
    "no answer": ("no answer", "无人接听"),
    "praise": ("praise", "表扬"),
    "voicemail": ("voicemail", "语音留言"),
}

CHOICES: Mapping[str, Choices] = {
    "direction": _DIRECTIONS,
    "industry": _INDUSTRIES,
    "kind": _KINDS,
    "outcome": _OUTCOMES,
    "region": _REGIONS,
    "source": _SOURCES,
    "stage": _STAGES,
}
"""The words of fields, by the name of the field."""


def choices_of(field: str) -> Choices:
    """Return the words that the program knows of a field; none for one whose words are a company's own."""
    return CHOICES.get(field, {})


def read_as(word: str, choices: Choices, language: str) -> str:
    """Return a stored word as it is read; one that is not known as it was typed."""
    known = choices.get(word) or choices.get(word.casefold().replace("_", " ").strip())
    return word if known is None else known[1 if language.startswith("zh") else 0]
