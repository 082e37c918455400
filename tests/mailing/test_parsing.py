"""A mail is read whatever somebody put into it, and what is read is safe to keep."""

from __future__ import annotations

import time
from email.message import EmailMessage

import pytest

from crm_core.columns import check_text
from crm_core.errors import InvalidValueError
from crm_core.incoming.parsing import LARGEST, read_mail
from crm_core.incoming.quoting import shown_part


def nested(depth: int) -> bytes:
    levels = (f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(depth))
    return b"From: a@b.example\n" + "".join(levels).encode() + b"\nhello\n"


HOSTILE = {
    "a hundred thousand headers": b"X: y\n" * 100_000 + b"From: a@b.example\n\nhello",
    "one endless header": b"From: a@b.example\nX: " + b"y" * 3_000_000 + b"\n\nhello",
    "comments inside of comments": b"From: " + b"(" * 100_000 + b"a@b.example\n\nhello",
    "a hundred thousand receivers": b"To: " + b"a@b.example," * 100_000 + b"\n\nhello",
    "half an encoded word, often": b"Subject: " + b"=?utf-8?b?" * 20_000 + b"\n\nhello",
    "parts five hundred deep": nested(500),
    "parts a hundred deep over many lines": nested(100) + b"x\n" * 200_000,
    "mails inside of mails": b"From: a@b.example\n" + b"Content-Type: message/rfc822\n\n" * 250,
    "no such charset": b"Content-Type: text/plain; charset=nonsense\n\n\x00\xff\xfe\xed\xa0\x80",
    "a charset that is no text": b"Content-Type: text/plain; charset=zip\n\nhello",
    "bytes only": bytes(range(256)) * 40,
    "endless tags": b"Content-Type: text/html\n\n" + b"<div>" * 200_000,
    "tags that never end": b"Content-Type: text/html\n\n<a " + b"x='" * 100_000,
    "a tag begun again and again": b"Content-Type: text/html\n\n" + b"<a " * 300_000,
    "comments that never end": b"Content-Type: text/html\n\n" + b"<!--" * 200_000,
    "parameters without end": b'Content-Type: multipart/mixed; x="' + b";" * 300_000 + b"\n\nhello",
    "a date that is none": b"Date: 99 Foo 99999 99:99:99 +99999\n\nhello",
    "an id of two lines": b"Message-ID: <a\n b@c>\n\nhello",
    "base64 that is none": b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!!====",
    "a name that is a path": b"Content-Disposition: attachment; filename=../../etc/passwd\n\nx",
    "odd parameters": b"Content-Type: multipart/mixed; boundary*0*=x'y'; charset*99999999999=\n\nx",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mails_are_read_in_bounded_time_and_can_be_kept(name: str) -> None:
    began = time.process_time()
    mail = read_mail(HOSTILE[name])
    assert time.process_time() - began < 20  # hours, where a limit is missing
    for text in (
        mail.subject,
        mail.from_name,
        mail.text,
        mail.shown,
        *mail.to,
        *mail.answers,
        mail.message_id,
    ):
        check_text("mail", text, longest=200_000)


def test_an_empty_mail_and_one_that_is_too_large_are_refused() -> None:
    for raw in (b"", b"  \r\n", b"x" * (LARGEST + 1)):
        with pytest.raises(InvalidValueError):
            read_mail(raw)


def test_the_same_mail_without_an_id_is_told_by_its_bytes() -> None:
    one, two = read_mail(b"From: a@b.example\n\nhello"), read_mail(b"From: a@b.example\n\nhello")
    assert one.message_id == two.message_id
    assert read_mail(b"From: a@b.example\n\nhello!").message_id != one.message_id


def test_chinese_is_read_by_whatever_charset_it_says_it_has() -> None:
    text = "您好，合同已盖章。朱镕"
    for charset, named in (
        ("gb18030", "gb2312"),
        ("utf-8", "utf-8"),
        ("gb18030", "us-ascii"),
        ("big5", "big5"),
    ):
        said = text if charset != "big5" else "您好"
        raw = f"Content-Type: text/plain; charset={named}\n\n".encode() + said.encode(charset)
        assert read_mail(raw).text == said


@pytest.mark.parametrize(
    ("named", "text"), [("punycode", "Kln-sna"), ("-Punycode", "Kln-sna"), ("raw_unicode_escape", "\\u4e2d")]
)
def test_an_encoding_of_names_or_programs_is_none_of_a_mail(named: str, text: str) -> None:
    assert read_mail(f"Content-Type: text/plain; charset={named}\n\n{text}".encode()).text == text


def test_a_page_is_read_as_its_text_without_scripts_and_marks_what_it_quotes() -> None:
    page = (
        "<html><head><title>t</title><style>p{}</style></head><body><p>We&nbsp;take <b>them</b>.</p>"
        "<script>alert(1)</script><blockquote>the offer</blockquote></body></html>"
    )
    mail = read_mail(f"Content-Type: text/html; charset=utf-8\n\n{page}".encode())
    assert mail.shown == "We take them."
    assert mail.text == "We take them.\n\n> the offer"
    broken = b"Content-Type: text/html\n\n1 < 2 <b title='>'>&lt;3</b><br/>4 <!-- 5 > 6 --> 7<script>8 </p>"
    assert read_mail(broken).text == "1 < 2 <3\n4  7"
    assert "alert" not in mail.text


def test_files_are_handed_on_as_bytes_and_never_opened() -> None:
    message = EmailMessage()
    message["From"] = "a@b.example"
    message.set_content("See the file.")
    message.add_attachment(
        b"PK\x03\x04 no zip at all", maintype="application", subtype="zip", filename="a.zip"
    )
    (part,) = read_mail(bytes(message)).attachments
    assert (part.name, part.content) == ("a.zip", b"PK\x03\x04 no zip at all")


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Yes.\n\nOn Mon, 2 Mar 2026 at 09:00, Ana <a@b.c> wrote:\n> offer", "Yes."),
        ("Yes.\n\nOn Mon, 2 Mar 2026 at 09:00,\nAna <a@b.c> wrote:\n> offer", "Yes."),
        ("好的。\n\n在 2026年3月2日，Ana <a@b.c> 写道：\n> 报价", "好的。"),
        ("好的。\n\n发件人: Ana\n发送时间: 2026年3月2日\n收件人: 王芳\n主题: 报价\n\n报价", "好的。"),
        ("Yes.\n\n-----Original Message-----\nFrom: Ana\nSent: Monday\n\noffer", "Yes."),
        ("Yes.\n\n________________________________\nFrom: Ana\nSent: Monday\n\noffer", "Yes."),
        ("Ja.\n\nAm 02.03.26 um 09:00 schrieb Ana:\n> Angebot", "Ja."),
        ("One.\n\n----------\nTwo.", "One.\n\n----------\nTwo."),
        ("From: here on we agree.\nSee you.", "From: here on we agree.\nSee you."),
        ("> only\n> quoted", "> only\n> quoted"),
        ("See > below, and > above.", "See > below, and > above."),
    ],
)
def test_what_somebody_wrote_themselves_is_told_from_what_they_quote(text: str, own: str) -> None:
    assert shown_part(text) == own
