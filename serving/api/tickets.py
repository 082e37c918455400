"""What is done with tickets and articles over HTTP beside writing their fields."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import BeforeValidator, Field
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_administer
from crm_core.articles import list_versions, restore, suggest
from crm_core.changes import Source
from crm_core.errors import RecordNotFoundError
from crm_core.external_ids import hold_keys
from crm_core.records import Article, Feedback, Ticket
from crm_core.service_desk import (
    MOST_MINUTES,
    USUAL,
    Queue,
    Target,
    TicketQueue,
    find_queue,
    list_queues,
    set_queue,
    set_target,
    target_of,
)
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, mark_of, tagged
from serving.api.pages import PageQuery
from serving.api.records import blueprint_of, created_record
from serving.api.records_given import written_json
from serving.api.records_schemas import COLLECTIONS
from serving.editing import Editor, kind_of
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc, as_whole
from serving.service import service, writing
from serving.tickets import (
    answer as answer_customer,
)
from serving.tickets import (
    get_ticket,
    give,
    give_next,
    judge_article,
    merge,
    note_feedback,
    read_figures,
)

tickets = blueprint_of("ticket")
articles = blueprint_of("article")
customers = blueprint_of("account")
api: APIBlueprint = new_blueprint("service", "How tickets are served: queues, targets and what comes of it.")

TicketOut, ActivityOut = COLLECTIONS["ticket"].given, COLLECTIONS["activity"].given
ArticleOut = COLLECTIONS["article"].given
_BODY = (400, 413, 415)
_LONG = Annotated[str, Field(min_length=1, max_length=100_000)]


class TicketAnswerIn(Taken):
    """An answer to the customer."""

    text: _LONG
    status: Literal["open", "pending", "solved", "closed"] | None = Field(
        default=None, description="What the ticket is brought to; default: it stays."
    )
    article_ids: Annotated[list[Id], Field(max_length=20)] = Field(
        default_factory=list, description="Articles that the answer was made with."
    )


class TicketAnsweredOut(Given):
    """An answer, and whether it is sent."""

    activity_id: int
    sent: bool = Field(description="False: it is only noted, for `unsent`.")
    unsent: Literal["no_address", "mail_off"] | None


class TicketAssignIn(Taken):
    """Who is to have a ticket."""

    owner_id: Id | None = Field(default=None, description="Null: whoever is next in the ticket's queue.")


class TicketMergeIn(Taken):
    """Which ticket becomes part of this one."""

    gone_id: Id


class ArticleSuggestionOut(Given):
    """An article that may answer a ticket."""

    article_id: int
    title: str
    language: str
    likeness: float = Field(description="From 0 (nothing shared) to 1 (the same text).")


class ArticleSuggestionsOut(Given):
    """Articles that may answer a ticket, the most like first."""

    items: list[ArticleSuggestionOut]


class ArticleVersionOut(Given):
    """An article as somebody left it."""

    number: int
    title: str
    body: str
    at: Utc
    by_id: int | None


class ArticleVersionsPage(Given):
    """The versions of an article, the newest first."""

    items: list[ArticleVersionOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class ArticleRestoreIn(Taken):
    """Which version is to be the newest again."""

    number: Annotated[int, Field(ge=1, le=10**6), BeforeValidator(as_whole)]


class ArticleHelpfulIn(Taken):
    """Whether an article helped with a ticket."""

    ticket_id: Id
    helpful: bool


class CustomerFeedbackIn(Taken):
    """What a customer says of us."""

    kind: Literal["complaint", "praise", "idea"]
    text: _LONG
    contact_id: Id | None = None


class TicketQueueOut(Given):
    """A queue."""

    key: str
    name: str
    team_id: int | None
    members: list[int]
    round_robin: bool
    retired: bool
    version: int


class ServiceTargetOut(Given):
    """How soon tickets are to be answered and solved, in minutes of working time."""

    queue: str = Field(description="Empty: all queues without targets of their own.")
    priority: str
    first_minutes: int
    solve_minutes: int


class ServiceDeskOut(Given):
    """How tickets are served."""

    queues: list[TicketQueueOut]
    targets: list[ServiceTargetOut]


class TicketQueuePath(Asked):
    """Which queue."""

    key: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class TicketQueueIn(Taken):
    """A queue as it is to be."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    team_id: Id | None = None
    members: Annotated[list[Id], Field(max_length=500)] = Field(default_factory=list)
    round_robin: bool = False
    retired: bool = False


class ServiceTargetIn(Taken):
    """How soon tickets are to be answered and solved."""

    queue: Annotated[str, Field(max_length=40)] = Field(default="", description="Empty: all queues.")
    priority: Literal["low", "normal", "high", "urgent"]
    first_minutes: Annotated[int, Field(ge=1, le=MOST_MINUTES), BeforeValidator(as_whole)]
    solve_minutes: Annotated[int, Field(ge=1, le=MOST_MINUTES), BeforeValidator(as_whole)]


class ServiceFiguresQuery(Asked):
    """Which tickets."""

    days: int = Field(default=90, ge=1, le=3660, description="Those opened in so many days up to now.")


class SatisfactionOut(Given):
    """An average with its 95 % interval."""

    count: int
    mean: float | None
    low: float | None = Field(description="Null with fewer than two.")
    high: float | None


class ServiceFiguresOut(Given):
    """What came of tickets."""

    since: Utc
    opened: int
    answered_in_time: int
    answered_late: int
    solved_in_time: int
    solved_late: int
    satisfaction: SatisfactionOut


@tickets.post(
    "/tickets/<int:id>/answer",
    operation_id="answer_ticket",
    responses={"201": TicketAnsweredOut, **documented(*_BODY, 403, 404, 409)},
)
def answer_ticket(path: RecordPath, body: TicketAnswerIn) -> Response:
    """Answer the customer by mail, with the ticket's number in the subject; internal notes are comments."""
    with writing(caller(), Source.API) as transaction:
        said = answer_customer(
            transaction,
            caller(),
            service().settings,
            path.id,
            body.text,
            status=body.status,
            article_ids=body.article_ids,
        )
        given = TicketAnsweredOut(activity_id=said.activity.id, sent=said.unsent is None, unsent=said.unsent)
        return created(given, f"activities/{said.activity.id}")


@tickets.post(
    "/tickets/<int:id>/assign",
    operation_id="assign_ticket",
    responses={"200": TicketOut, **documented(*_BODY, 403, 404)},
)
def assign(path: RecordPath, body: TicketAssignIn) -> Response:
    """Give a ticket to somebody, or to who is next in its queue."""
    with writing(caller(), Source.API) as transaction:
        if body.owner_id is None:
            ticket = give_next(transaction, caller(), path.id)
        else:
            ticket = give(transaction, caller(), path.id, body.owner_id)
        given = written_json(Reader(transaction.session, caller()), ticket)
    return tagged(given, ticket.version)


@tickets.post(
    "/tickets/<int:id>/merge",
    operation_id="merge_tickets",
    responses={"200": TicketOut, **documented(*_BODY, 403, 404, 409)},
)
def merge_into(path: RecordPath, body: TicketMergeIn) -> Response:
    """Move another ticket's conversation to this one; the other is closed and points here."""
    with writing(caller(), Source.API) as transaction:
        ticket = merge(transaction, caller(), path.id, body.gone_id)
        given = written_json(Reader(transaction.session, caller()), ticket)
    return tagged(given, ticket.version)


@tickets.get(
    "/tickets/<int:id>/suggestions",
    operation_id="suggest_articles",
    responses={"200": ArticleSuggestionsOut, **documented(403, 404)},
)
def list_suggestions(path: RecordPath) -> Response:
    """Say which published articles are most like what a ticket asks."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        ticket = reader.masked(reader.get(Ticket, path.id))
        found = suggest(reader, ticket.subject or "", ticket.description)
        items = [
            ArticleSuggestionOut(
                article_id=each.article.id,
                title=each.article.title if reader.may_read_field("article", "title") else "",
                language=each.article.language,
                likeness=each.likeness,
            )
            for each in found
        ]
    return answer(ArticleSuggestionsOut(items=items))


@articles.get(
    "/articles/<int:id>/versions",
    operation_id="list_article_versions",
    responses={"200": ArticleVersionsPage, **documented(403, 404)},
)
def versions(path: RecordPath, query: PageQuery) -> Response:
    """List what an article said, who wrote it and when."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        article = reader.get(Article, path.id)
        seen = {name: reader.may_read_field("article", name) for name in ("title", "body")}
        every = list_versions(session, article)
        found, more = query.part(every, lambda each: (each.number,), falling=True)
        items = [
            ArticleVersionOut(
                number=each.number,
                title=each.title if seen["title"] else "",
                body=each.body if seen["body"] else "",
                at=each.at,
                by_id=each.by_id,
            )
            for each in found
        ]
    return answer(ArticleVersionsPage(items=items, next_cursor=more))


@articles.post(
    "/articles/<int:id>/restore",
    operation_id="restore_article",
    responses={"200": ArticleOut, **documented(*_BODY, 403, 404)},
)
def restore_version(path: RecordPath, body: ArticleRestoreIn) -> Response:
    """Make an article say again what one of its versions said."""
    with writing(caller(), Source.API) as transaction:
        editor = Editor(transaction, caller())
        article = editor.get_to_write(kind_of(transaction.session, "article"), path.id)
        editor.reader.check_fields("article", ("title", "body"))
        assert isinstance(article, Article)  # noqa: S101  what was asked for
        restore(transaction, article, body.number)
        given = written_json(editor.reader, article)
    return tagged(given, article.version)


@articles.post(
    "/articles/<int:id>/helpful",
    operation_id="judge_article",
    responses={"204": None, **documented(*_BODY, 403, 404)},
)
def judge(path: RecordPath, body: ArticleHelpfulIn) -> Response:
    """Say whether an article helped with a ticket; said again, the last word counts."""
    with writing(caller(), Source.API) as transaction:
        get_ticket(transaction, caller(), body.ticket_id)
        judge_article(transaction, caller(), path.id, body.ticket_id, helpful=body.helpful)
        return Response(status=204)


@customers.post(
    "/accounts/<int:id>/feedback",
    operation_id="note_feedback",
    responses={"201": ActivityOut, **documented(*_BODY, 403, 404)},
)
def feedback(path: RecordPath, body: CustomerFeedbackIn) -> Response:
    """Note a complaint, praise or an idea of a customer."""
    with writing(caller(), Source.API) as transaction:
        said = note_feedback(
            transaction, caller(), path.id, Feedback(body.kind), body.text, contact_id=body.contact_id
        )
        given = written_json(Reader(transaction.session, caller()), said)
        return created_record(given, said)


@api.get("/service", responses={"200": ServiceDeskOut, **documented(403)})
def get_service_desk(header: ReadHeaders) -> Response:
    """Say which queues there are, and how soon tickets are to be answered and solved."""
    with service().store.reading() as session:
        given = _desk(session)
    return header.answer(given, _mark_of(given))


def _desk(session: Session) -> ServiceDeskOut:
    queues = list_queues(session, retired=True)
    targets = [
        ServiceTargetOut(
            queue=queue,
            priority=priority,
            first_minutes=target_of(session, queue, priority).first_minutes,
            solve_minutes=target_of(session, queue, priority).solve_minutes,
        )
        for queue in ("", *(each.key for each in queues))
        for priority in USUAL
    ]
    return ServiceDeskOut(queues=[_queue(each) for each in queues], targets=targets)


def _mark_of(desk: ServiceDeskOut) -> int:
    """Return what stands for the targets; queues have versions of their own."""
    return mark_of(desk.model_copy(update={"queues": []}))


def _queue(queue: TicketQueue) -> TicketQueueOut:
    return TicketQueueOut.model_validate(queue, from_attributes=True)


@api.get(
    "/service/queues/<string:key>",
    operation_id="get_service_queue",
    responses={"200": TicketQueueOut, **documented(404)},
)
def get_queue(path: TicketQueuePath, header: ReadHeaders) -> Response:
    """Read a queue, offered still or not."""
    with service().store.reading() as session:
        found = find_queue(session, path.key)
        if found is None:
            raise RecordNotFoundError("ticket queue", path.key)
        return header.answer(_queue(found), found.version)


@api.put(
    "/service/queues/<string:key>",
    operation_id="put_service_queue",
    responses={"200": TicketQueueOut, "201": TicketQueueOut, **documented(*_BODY, 403)},
)
def put_queue(path: TicketQueuePath, header: WriteHeaders, body: TicketQueueIn) -> Response:
    """Set a queue up or change it."""
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        wanted = Queue(
            key=path.key,
            name=body.name,
            team_id=body.team_id,
            members=body.members,
            round_robin=body.round_robin,
            retired=body.retired,
        )
        present = find_queue(transaction.session, path.key)
        version = header.version(0 if present is None else present.version)
        made = set_queue(transaction.session, wanted, version=version)
        if made.version == 1:
            return created(_queue(made), f"service/queues/{made.key}", made.version)
        return tagged(_queue(made).model_dump_json(), made.version)


@api.put(
    "/service/targets",
    operation_id="put_service_target",
    responses={"200": ServiceTargetOut, **documented(*_BODY, 403, 404)},
)
def put_target(header: WriteHeaders, body: ServiceTargetIn) -> Response:
    """Set how soon tickets of a priority are to be answered and solved."""
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        hold_keys(transaction.session, ["service targets"])
        header.check("service targets", 0, _mark_of(_desk(transaction.session)))
        wanted = Target(first_minutes=body.first_minutes, solve_minutes=body.solve_minutes)
        set_target(transaction.session, body.queue, body.priority, wanted)
        return answer(ServiceTargetOut(**body.model_dump()))


@api.get("/service/figures", responses={"200": ServiceFiguresOut, **documented(403)})
def get_service_figures(query: ServiceFiguresQuery) -> Response:
    """Say what came of the tickets that you see: targets met, and how content customers are."""
    now = service().store.clock.now()
    since: datetime = now - timedelta(days=query.days)
    with service().store.reading() as session:
        found = read_figures(Reader(session, caller()), since=since, until=now)
    plain = {
        name: getattr(found, name)
        for name in ServiceFiguresOut.model_fields
        if name not in {"since", "satisfaction"}
    }
    mean = SatisfactionOut.model_validate(found.satisfaction, from_attributes=True)
    return answer(ServiceFiguresOut(since=since, satisfaction=mean, **plain))
