"""The pages of the knowledge base: finding, reading, writing and taking back articles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.articles import difference, get_version, list_versions, restore, uses_of
from crm_core.changes import Source
from crm_core.errors import InvalidValueError, StaleRecordError
from crm_core.records import Article, ArticleState
from crm_core.search import search
from crm_core.store import Transaction
from serving.editing import Editor, kind_of
from serving.service import end_page_session, page_session, writing
from serving.web.asked import whole
from serving.web.facts import may_write, names_of_people
from serving.web.language import LANGUAGES, choose_language, gettext
from serving.web.markdown import plain_text, to_html
from serving.web.refusals import refusal

ROWS = 25
_MOST_PAGES = 200

pages = Blueprint("article_pages", __name__, url_prefix="/articles")


@pages.get("")
def list_records() -> ResponseReturnValue:
    """List articles, or find them by what they say."""
    reader = _reader()
    text = request.args.get("q", "").strip()[:200]
    state = request.args.get("state", "")
    state = state if state in set(ArticleState) else ""
    language = request.args.get("language", "")
    language = language if language in LANGUAGES else ""
    number = min(max(request.args.get("page", 1, type=whole) or 1, 1), _MOST_PAGES)
    query = reader.select(Article)
    if state:
        query = query.where(Article.state == state)
    if language:
        query = query.where(Article.language == language)
    if text:
        hits = search(reader, text, types=["article"], limit=100)
        order = {hit.record_id: place for place, hit in enumerate(hits)}
        rows = reader.session.scalars(query.where(Article.id.in_(list(order)))).all()
        found = sorted(rows, key=lambda each: order[each.id])[(number - 1) * ROWS : number * ROWS + 1]
    else:
        newest = query.order_by(Article.title, Article.id)
        found = list(reader.session.scalars(newest.offset((number - 1) * ROWS).limit(ROWS + 1)))
    shown = found[:ROWS]
    return render_template(
        "articles.html",
        rows=[(reader.masked(each), plain_text(each.body)[:160]) for each in shown],
        uses=uses_of(reader.session, [each.id for each in shown]) if shown else {},
        people=names_of_people(reader.session),
        text=text,
        state=state,
        language_asked=language,
        states=list(ArticleState),
        more=len(found) > ROWS,
        number=number,
        writes=_may_create(reader),
    )


def _may_create(reader: Reader) -> bool:
    return reader.user.role != "analyst" and reader.right("article").write != "none"


@pages.get("/new")
def show_new() -> ResponseReturnValue:
    """Show the form for a new article."""
    check_may_write(current_user.user)
    return _form(None, {"language": str(choose_language()), "state": ArticleState.DRAFT}, None)


@pages.post("/new")
def create() -> ResponseReturnValue:
    """Write an article; what is refused stays in the form."""
    check_may_write(current_user.user)
    made: list[int] = []

    def act(transaction: Transaction) -> None:
        kind = kind_of(transaction.session, "article")
        made.append(Editor(transaction, current_user.user).create(kind, _typed()).id)

    failed = _try(act)
    if failed is not None:
        return _form(None, request.form, *failed)
    flash(gettext("Saved."))
    return redirect(url_for("article_pages.show", record_id=made[0]))


@pages.get("/<int:record_id>")
def show(record_id: int) -> ResponseReturnValue:
    """Show an article, one of its versions, or what differs between one and now."""
    reader = _reader()
    article = reader.get(Article, record_id)
    seen = reader.masked(article)
    wanted = request.args.get("version", type=whole)
    old = get_version(reader.session, article, wanted) if wanted is not None else None
    hidden = not reader.may_read_field("article", "body") or not reader.may_read_field("article", "title")
    if old is not None and hidden:
        old = None
    return render_template(
        "article.html",
        article=seen,
        html=to_html((seen.body if old is None else old.body) or ""),
        old=old,
        changed=difference(old.body, seen.body or "") if old is not None else [],
        versions=[] if hidden else list_versions(reader.session, article),
        uses=uses_of(reader.session, [article.id]).get(article.id),
        people=names_of_people(reader.session),
        writes=may_write(reader, kind_of(reader.session, "article"), article),
        states=list(ArticleState),
    )


@pages.get("/<int:record_id>/edit")
def show_edit(record_id: int) -> ResponseReturnValue:
    """Show the form in which an article is changed."""
    check_may_write(current_user.user)
    reader = _reader()
    article = reader.masked(reader.get_to_write(Article, record_id))
    values = {
        name: getattr(article, name) or "" for name in ("title", "body", "language", "state", "version")
    }
    return _form(record_id, values, None)


@pages.post("/<int:record_id>/edit")
def edit(record_id: int) -> ResponseReturnValue:
    """Change an article; where somebody else did meanwhile, both texts are shown."""
    check_may_write(current_user.user)
    version = request.form.get("version", type=whole)

    def act(transaction: Transaction) -> None:
        kind = kind_of(transaction.session, "article")
        versions = None if version is None else [version]
        Editor(transaction, current_user.user).update(kind, record_id, _typed(), versions=versions)

    failed = _try(act)
    if failed is not None:
        return _form(record_id, request.form, *failed)
    flash(gettext("Saved."))
    return redirect(url_for("article_pages.show", record_id=record_id))


@pages.post("/<int:record_id>/restore")
def restore_version(record_id: int) -> ResponseReturnValue:
    """Make an article say again what a version said."""
    number = request.form.get("number", 0, type=whole) or 0

    def act(transaction: Transaction) -> None:
        editor = Editor(transaction, current_user.user)
        article = editor.get_to_write(kind_of(transaction.session, "article"), record_id)
        editor.reader.check_fields("article", ("title", "body"))
        assert isinstance(article, Article)  # noqa: S101  what was asked for
        restore(transaction, article, number)

    with writing(current_user.user, Source.REP) as transaction:
        act(transaction)
    end_page_session()
    flash(gettext("Version %(number)s is the newest again.", number=number))
    return redirect(url_for("article_pages.show", record_id=record_id))


def _typed() -> dict[str, Any]:
    form = request.form
    return {
        "title": form.get("title", "").strip(),
        "body": form.get("body", "").replace("\r\n", "\n").strip(),
        "language": form.get("language", ""),
        "state": form.get("state", ""),
    }


def _wrong() -> str | None:
    typed = _typed()
    if not typed["title"] or not typed["body"]:
        return gettext("An article needs a title and a text.")
    if typed["language"] not in LANGUAGES or typed["state"] not in set(ArticleState):
        return gettext("Choose a language and a state of the list.")
    return None


def _form(
    record_id: int | None, values: Mapping[str, Any], refused: str | None, status: int = 200
) -> ResponseReturnValue:
    theirs: Article | None = None
    changed: Sequence[tuple[str, str]] = ()
    if status == 409 and record_id is not None:
        reader = _reader()
        theirs = reader.masked(reader.get(Article, record_id))
        changed = difference(theirs.body or "", str(values.get("body", "")))
    text = render_template(
        "article_form.html",
        record_id=record_id,
        values=values,
        refused=refused,
        theirs=theirs,
        changed=changed,
        states=list(ArticleState),
        languages_of=LANGUAGES,
        preview=to_html(str(values.get("body", ""))) if values.get("body") else None,
    )
    return make_response(text, status)


def _try(act: Callable[[Transaction], object]) -> tuple[str, int] | None:
    wrong = _wrong()
    if wrong is not None:
        return wrong, 422
    try:
        with writing(current_user.user, Source.REP) as transaction:
            act(transaction)
    except StaleRecordError:
        end_page_session()
        return gettext("Somebody changed this article meanwhile. What you wrote is kept below."), 409
    except InvalidValueError as error:
        end_page_session()
        return refusal(error), 422
    end_page_session()
    return None


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)
