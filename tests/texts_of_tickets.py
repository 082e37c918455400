"""Articles and requests written by hand, each request by somebody who had not read the article before.

They share a subject with their article and few of its words, as customers' do.
"""

from __future__ import annotations

ARTICLES = {
    "leak": (
        "Pump seal leaks",
        "Seals dry out after two years. Close the valve, change the seal, open slowly.",
    ),
    "noise": (
        "Pump makes a loud noise",
        "Air in the housing or a worn bearing. Vent it; then measure vibration.",
    ),
    "password": ("Reset your password", "Use the link on the login page. It is valid for one hour."),
    "locked": (
        "Account locked after failed logins",
        "Wait fifteen minutes, or have an administrator unlock it.",
    ),
    "invoice": (
        "Change the address on an invoice",
        "Invoices are corrected until the end of the month. Send us the VAT id.",
    ),
    "e-invoice": ("Receive invoices by e-mail", "Choose electronic billing in your profile, under payment."),
    "delivery": (
        "Track a delivery",
        "The number of the parcel is in the dispatch mail; the carrier shows where it is.",
    ),
    "damage": (
        "Goods arrived damaged",
        "Take photographs of the box and report within seven days for a replacement.",
    ),
    "return": (
        "Send goods back",
        "Returns are free within thirty days. Print the label and hand in the parcel.",
    ),
    "export": (
        "Export reports to Excel",
        "Open the report, choose Export, then xlsx. Large tables take a minute.",
    ),
    "api": ("Use the API with a key", "Make a key in your profile and send it as a bearer token."),
    "slow": (
        "The system is slow",
        "Empty the browser's cache and check the network; write us the time it happened.",
    ),
    "漏水": ("水泵漏水怎么办", "密封圈老化会漏水。先关闭阀门, 再更换密封圈。"),
    "密码": ("忘记密码如何重置", "在登录页点击忘记密码, 链接一小时内有效。"),
    "发票": ("修改发票抬头", "月底前可以更正发票, 请提供税号和公司名称。"),
    "物流": ("查询物流进度", "发货邮件里有快递单号, 在承运商网站查询。"),
    "退货": ("如何退货", "三十天内免费退货, 打印标签后交给快递。"),
    "导出": ("报表导出到表格", "打开报表, 点击导出, 选择格式。数据多时需要一分钟。"),
}
"""By key: title and text."""

TICKETS = (
    ("Water under the pump", "There is water leaking from the seal since Monday, please help.", "leak"),
    ("leaking again", "The seal you changed is leaking again after two weeks", "leak"),
    ("Strange sound", "Our pump is very noisy since the weekend, a loud grinding noise", "noise"),
    ("Pump vibrates", "It vibrates and makes noise, is the bearing broken?", "noise"),
    ("Can't log in", "I forgot my password and the reset link does not work any more", "password"),
    ("New password", "How do I reset the password of a colleague?", "password"),
    ("Locked out", "After three failed logins my account is locked. Please unlock it.", "locked"),
    ("Login blocked", "the account says locked, we need an administrator?", "locked"),
    ("Wrong address", "The address on invoice 4711 is wrong, please correct it", "invoice"),
    ("Invoice correction", "Our VAT id is missing on the last invoice", "invoice"),
    ("Paperless", "We want invoices by e-mail and no longer on paper", "e-invoice"),
    ("Electronic billing", "How can we switch to electronic invoices?", "e-invoice"),
    ("Where is my parcel?", "Ordered last week, where is the delivery now? I want to track it", "delivery"),
    ("Tracking number", "I have no number of the carrier for our delivery", "delivery"),
    ("Broken on arrival", "The box was damaged and two goods are broken, need a replacement", "damage"),
    ("Damaged goods", "See photographs. Pump housing is cracked.", "damage"),
    ("Return", "We ordered too many and want to send goods back, who pays the label?", "return"),
    ("Sending back", "Can I still return the parcel after twenty days?", "return"),
    ("Excel", "How do I export the monthly report to xlsx?", "export"),
    ("Report export", "Export of the table to Excel never ends", "export"),
    ("Token", "Which bearer token does your API expect? Where do I make a key?", "api"),
    ("Integration", "our developer asks for an API key", "api"),
    ("Very slow today", "Everything is slow in the browser this morning", "slow"),
    ("Performance", "the system takes a minute for each page, network is fine", "slow"),
    ("泵下面有水", "从周一开始密封圈漏水, 请帮忙。", "漏水"),
    ("又漏水了", "上次换的密封圈又坏了", "漏水"),
    ("登录不了", "我忘记密码了, 重置链接无效", "密码"),
    ("密码", "怎么帮同事重置密码?", "密码"),
    ("发票抬头错误", "公司名称变更, 请修改发票", "发票"),
    ("开票信息", "发票上的税号写错了", "发票"),
    ("货到哪里了", "上周下单, 想查物流进度", "物流"),
    ("快递单号", "没有收到发货邮件, 快递单号是多少?", "物流"),
    ("想退货", "多订了两台, 可以免费退货吗?", "退货"),
    ("退回", "二十天了还能退货吗, 快递费谁付", "退货"),
    ("导出表格", "月度报表怎么导出?", "导出"),
    ("报表", "导出数据一直不结束", "导出"),
)
"""Subject, text, and the key of the article that answers it."""
