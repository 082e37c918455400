"""Writing mails on records, templates of mails, mail sequences, unsubscribing, and calendar feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.calendar_feeds import end_feed, find_feed, find_reader_of_feed, make_feed
from crm_core.changes import Source
from crm_core.errors import AccessDeniedError, CRMError, StaleRecordError
from crm_core.incoming.filing import unsubscribe
from crm_core.mail_templates import (
    LANGUAGES,
    PEOPLE,
    ROOTS,
    Draft,
    MailTemplate,
    fits,
    get_template,
    list_templates,
    may_change,
    offered_fields,
    retire_template,
    save_template,
)
from crm_core.messages import find_dead
from crm_core.outgoing import Agreement, agreement_of
from crm_core.records import Activity, Contact, Lead, Record
from crm_core.saved import Shared, list_segments
from crm_core.sequences import (
    MailSequence,
    Standing,
    Step,
    Wanted,
    get_sequence,
    list_runs,
    list_sequences,
    list_with_runs,
    may_change_sequences,
    save_sequence,
    standing_of,
    start_as,
    stop_run,
)
from serving.calendar_out import calendar_of
from serving.mail import mail_is_on
from serving.service import end_page_session, page_session, service, writing
from serving.shares import Share
from serving.web.asked import whole, whole_typed
from serving.web.language import gettext
from serving.web.places import path_of, shown_records, title_in
from serving.web.refusals import refusal
from serving.writing_mail import (
    Letter,
    address_of,
    fill_in,
    fitting_templates,
    get_written_on,
    list_mails_on,
    send_letter,
    usual_reader_of,
)

pages = Blueprint("mail_pages", __name__)

STEPS = 8
"""Rows for steps in the form of a sequence."""

_SHOWN_RUNS = 100


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


# ---------------------------------------------------------------------------------------- a mail on a record


@pages.get("/records/<string:record_type>/<int:record_id>/mail")
def show_letter(record_type: str, record_id: int) -> ResponseReturnValue:
    """Show the form of a mail; with a template, filled in as it would be sent."""
    check_may_write(current_user.user)
    reader, about = _reader(), (record_type, record_id)
    record = get_written_on(reader, about)
    person = usual_reader_of(reader, record)
    values, why = {"to": address_of(reader, person) or ""}, ""
    templates = fitting_templates(reader.session, reader.user, record_type)
    template_id = request.args.get("template", type=whole)
    if template_id is not None:
        try:
            offered = next((each for each in templates if each.id == template_id), template_id)
            filled = fill_in(reader, offered, record, person)
            values |= {"subject": filled.subject, "text": filled.text}
        except CRMError as error:
            why = refusal(error)
    answers = request.args.get("answers", type=whole)
    if answers is not None:
        values |= _answer_to(reader, answers)
    values |= {"template": str(template_id or "")}
    return _letter(reader, record, templates, values, why)


@pages.post("/records/<string:record_type>/<int:record_id>/mail")
def send(record_type: str, record_id: int) -> ResponseReturnValue:
    """Send a mail about a record."""
    check_may_write(current_user.user)
    about, form = (record_type, record_id), request.form
    get_written_on(_reader(), about)
    letter = Letter(
        about=about,
        to=form.get("to", "").strip() or None,
        subject=form.get("subject", "").strip() or None,
        text=form.get("text", "").replace("\r\n", "\n").strip() or None,
        template_id=form.get("template", type=whole),
        answers=form.get("answers", type=whole),
    )
    try:
        with writing(current_user.user, Source.REP) as transaction:
            send_letter(transaction, current_user.user, letter)
    except (CRMError, ValueError) as error:
        return _refused(about, form, refusal(error))
    on_its_way = gettext("The mail is on its way.")
    kept = gettext("The mail waits: it goes out once an administrator has turned mail on.")
    flash(on_its_way if mail_is_on(service().settings) else kept)
    return redirect(path_of(*about) or url_for("web.start"))


def _answer_to(reader: Reader, activity_id: int) -> dict[str, str]:
    """Return what a form holds for the answer to a mail."""
    activity = reader.masked(reader.get(Activity, activity_id))
    subject = activity.subject or ""
    begun = subject if subject.lower().startswith(("re:", "回复")) else f"Re: {subject}"
    quoted = "\n".join(f"> {line}" for line in (activity.body or "").splitlines()[:200])
    return {"subject": begun[:300], "text": f"\n\n{quoted}" if quoted else "", "answers": str(activity_id)}


def _refused(about: tuple[str, int], values: Mapping[str, str], why: str) -> ResponseReturnValue:
    end_page_session()
    reader = _reader()
    templates = fitting_templates(reader.session, reader.user, about[0])
    return _letter(reader, get_written_on(reader, about), templates, values, why)


def _letter(
    reader: Reader, record: Record, templates: Sequence[MailTemplate], values: Mapping[str, str], why: str
) -> ResponseReturnValue:
    about = (record.record_type, record.id)
    to = values.get("to", "")
    with_sequences = isinstance(record, Lead | Contact)
    every, runs = list_with_runs(reader.session, *about) if with_sequences else ((), ())
    text = render_template(
        "mail_letter.html",
        about=about,
        back=path_of(*about),
        title=title_in(reader, record),
        values=values,
        why=why,
        templates=templates,
        agreement=agreement_of(reader.session, to, about) if to else Agreement.NEVER_ASKED,
        dead=find_dead(reader.session, to) if to else None,
        is_on=mail_is_on(service().settings),
        mails=list_mails_on(reader, about),
        with_sequences=with_sequences,
        sequences=[each for each in every if each.active and each.record_type == about[0]],
        runs=[(each, get_sequence(reader.session, each.sequence_id)) for each in runs],
    )
    return make_response(text, 422 if why else 200)


@pages.post("/records/<string:record_type>/<int:record_id>/sequence")
def start(record_type: str, record_id: int) -> ResponseReturnValue:
    """Begin a sequence with somebody."""
    check_may_write(current_user.user)
    about = (record_type, record_id)
    get_written_on(_reader(), about)
    try:
        wanted = request.form.get("sequence", 0, type=whole)
        with writing(current_user.user, Source.REP) as transaction:
            run = start_as(
                transaction, current_user.user, wanted, record_id, zone=service().settings.time_zone
            )
    except CRMError as error:
        return _refused(about, {}, refusal(error))
    begun, before = gettext("The sequence has begun."), gettext("They went through it before.")
    flash(begun if run is not None else before)
    return redirect(url_for("mail_pages.show_letter", record_type=record_type, record_id=record_id))


# ------------------------------------------------------------------------------------------------ templates


@pages.get("/intake/templates")
def show_templates() -> ResponseReturnValue:
    """List the templates that somebody may use, and show the form for a new one."""
    return _templates({}, "", 200)


@pages.get("/intake/templates/<int:template_id>")
def show_template(template_id: int) -> ResponseReturnValue:
    """Show a template in the form."""
    found = get_template(page_session(), current_user.user, template_id)
    names = ("name", "subject", "body", "language", "shared", "version")
    values = {name: str(getattr(found, name)) for name in names}
    return _templates(values, "", 200, found)


@pages.post("/intake/templates")
def save() -> ResponseReturnValue:
    """Save a template, a new one or one that is changed."""
    return _save(None)


@pages.post("/intake/templates/<int:template_id>")
def change(template_id: int) -> ResponseReturnValue:
    """Change a template, or offer it no more."""
    if request.form.get("do") == "retire":
        with writing(current_user.user, Source.REP) as transaction:
            retire_template(transaction, current_user.user, template_id)
        flash(gettext("The template is not offered any more."))
        return redirect(url_for("mail_pages.show_templates"))
    return _save(template_id)


def _save(template_id: int | None) -> ResponseReturnValue:
    check_may_write(current_user.user)
    form = request.form
    shared = form.get("shared", "own")
    draft = Draft(
        name=form.get("name", ""),
        subject=form.get("subject", "").strip(),
        body=form.get("body", "").replace("\r\n", "\n"),
        language=form.get("language", ""),
        shared=Shared(shared) if shared in set(Shared) else Shared.OWN,
    )
    found = get_template(page_session(), current_user.user, template_id) if template_id is not None else None
    try:
        with writing(current_user.user, Source.REP) as transaction:
            version = form.get("version", type=whole)
            save_template(transaction, current_user.user, draft, template_id=template_id, version=version)
    except StaleRecordError:
        return _templates(form, gettext("Somebody has changed it meanwhile: open it again."), 409, found)
    except AccessDeniedError:
        raise
    except CRMError as error:
        return _templates(form, refusal(error), 422, found)
    flash(gettext("Saved."))
    return redirect(url_for("mail_pages.show_templates"))


def _templates(
    values: Mapping[str, str], why: str, status: int, found: MailTemplate | None = None
) -> ResponseReturnValue:
    end_page_session()
    session, user = page_session(), current_user.user
    text = render_template(
        "mail_templates.html",
        templates=list_templates(session, user),
        found=found,
        values=values,
        why=why,
        mine=found is None or may_change(found, user),
        languages_of_mail=LANGUAGES,
        shares=tuple(Shared),
        places={
            root: [f"{root}.{name}" for name in offered_fields(session, root)] for root in (*ROOTS, *PEOPLE)
        },
    )
    return make_response(text, status)


# ------------------------------------------------------------------------------------------------ sequences


@pages.get("/intake/sequences")
def show_sequences() -> ResponseReturnValue:
    """List sequences and how they do, and show the form for a new one."""
    return _sequences({}, "", 200)


@pages.post("/intake/sequences")
def make_sequence() -> ResponseReturnValue:
    """Save a new sequence."""
    return _save_sequence(None)


@pages.get("/intake/sequences/<int:sequence_id>")
def show_sequence(sequence_id: int) -> ResponseReturnValue:
    """Show how a sequence does, who goes through it, and its form."""
    found = get_sequence(page_session(), sequence_id)
    return _sequence(found, _form_of(found), "", 200)


@pages.post("/intake/sequences/<int:sequence_id>")
def change_sequence(sequence_id: int) -> ResponseReturnValue:
    """Change a sequence, or turn it on or off."""
    return _save_sequence(sequence_id)


@pages.post("/intake/sequences/<int:sequence_id>/stop")
def stop(sequence_id: int) -> ResponseReturnValue:
    """End somebody's way through a sequence."""
    check_may_write(current_user.user)
    with writing(current_user.user, Source.REP) as transaction:
        stop_run(transaction, current_user.user, request.form.get("run", 0, type=whole))
    flash(gettext("They get no more mails of it."))
    return redirect(url_for("mail_pages.show_sequence", sequence_id=sequence_id))


def _save_sequence(sequence_id: int | None) -> ResponseReturnValue:
    form = request.form
    if not may_change_sequences(current_user.user):
        raise AccessDeniedError("only managers and administrators may change sequences")
    found = get_sequence(page_session(), sequence_id) if sequence_id is not None else None
    try:
        with writing(current_user.user, Source.REP) as transaction:
            version = form.get("version", type=whole)
            saved = save_sequence(
                transaction, current_user.user, _wanted(form), sequence_id=sequence_id, version=version
            )
    except StaleRecordError:
        return _again(found, form, gettext("Somebody has changed it meanwhile: open it again."), 409)
    except CRMError as error:
        return _again(found, form, refusal(error), 422)
    flash(gettext("Saved."))
    return redirect(url_for("mail_pages.show_sequence", sequence_id=saved.id))


def _again(found: MailSequence | None, form: Mapping[str, str], why: str, status: int) -> ResponseReturnValue:
    return _sequences(form, why, status) if found is None else _sequence(found, form, why, status)


def _wanted(form: Mapping[str, str]) -> Wanted:
    steps = []
    for number in range(STEPS):
        template = form.get(f"template-{number}", "")
        if template:
            wait = form.get(f"wait-{number}", "0").strip() or "0"
            working = form.get(f"days-{number}", "working") == "working"
            steps.append(
                Step(
                    template_id=whole_typed(f"steps.{number + 1}", template),
                    wait_days=whole_typed(f"steps.{number + 1}.wait_days", wait),
                    working=working,
                )
            )
    segment = form.get("segment", "")
    return Wanted(
        name=form.get("name", ""),
        record_type=form.get("record_type", "lead"),
        steps=tuple(steps),
        segment_id=whole_typed("segment_id", segment) if segment else None,
        active=form.get("active", "no") == "yes",
    )


def _form_of(found: MailSequence) -> dict[str, str]:
    values = {
        "name": found.name,
        "record_type": found.record_type,
        "segment": str(found.segment_id or ""),
        "active": "yes" if found.active else "no",
        "version": str(found.version),
    }
    for number, step in enumerate(found.steps):
        values[f"template-{number}"] = str(step["template_id"])
        values[f"wait-{number}"] = str(step["wait_days"])
        values[f"days-{number}"] = "working" if step["working"] else "all"
    return values


def _sequences(values: Mapping[str, str], why: str, status: int) -> ResponseReturnValue:
    end_page_session()
    session = page_session()
    found = list_sequences(session)
    text = render_template(
        "mail_sequences.html",
        sequences=found,
        standing=standing_of(session, [each.id for each in found]),
        none_yet=Standing(),
        Share=Share,
        values=values or {"active": "yes"},
        why=why,
        **_choices(values),
    )
    return make_response(text, status)


def _sequence(found: MailSequence, values: Mapping[str, str], why: str, status: int) -> ResponseReturnValue:
    reader = _reader()
    runs = list_runs(reader, found.id, limit=_SHOWN_RUNS)
    text = render_template(
        "mail_sequence.html",
        found=found,
        standing=standing_of(reader.session, [found.id]).get(found.id, Standing()),
        runs=runs,
        people=shown_records(reader, {(each.record_type, each.record_id) for each in runs}),
        Share=Share,
        values=values,
        why=why,
        **_choices(values, found.record_type),
    )
    return make_response(text, status)


def _choices(values: Mapping[str, str], record_type: str | None = None) -> dict[str, Any]:
    session, user = page_session(), current_user.user
    kind = record_type or values.get("record_type") or "lead"
    templates = [each for each in list_templates(session, user) if fits(each, kind) or record_type is None]
    segments = [each for each in list_segments(session, user) if each.record_type in {"lead", "contact"}]
    return {
        "templates": templates,
        "segments": segments,
        "steps": range(STEPS),
        "may_change": may_change_sequences(user),
        "is_on": mail_is_on(service().settings),
    }


# --------------------------------------------------------------------------------------------- unsubscribing


@pages.get("/unsubscribe/<string:token>")
def ask_to_unsubscribe(token: str) -> ResponseReturnValue:
    """Ask whoever follows the link in a mail whether they want no more: programs follow links, too."""
    return render_template("unsubscribe.html", token=token, done=False)


@pages.post("/unsubscribe/<string:token>")
def do_unsubscribe(token: str) -> ResponseReturnValue:
    """Unsubscribe whoever a mail went to; mail programs send this by themselves (RFC 8058).

    A token that is none gets the same answer: it tells nobody anything.
    """
    standing = service().limits.anonymous.ask(request.remote_addr or "", service().store.clock.now())
    if standing is not None and standing.refused:
        abort(429)
    with service().store.transaction(source=Source.API) as transaction:
        unsubscribe(transaction, token[:100])
    return render_template("unsubscribe.html", token=token, done=True)


# ------------------------------------------------------------------------------------------------ calendars


@pages.get("/intake/calendar")
def show_calendar() -> ResponseReturnValue:
    """Show whether somebody's calendar is read by a program, and how to have it read."""
    return _calendar(None)


@pages.post("/intake/calendar")
def change_calendar() -> ResponseReturnValue:
    """Make a secret address for somebody's calendar, or end the one that there is."""
    with writing(current_user.user, Source.REP) as transaction:
        if request.form.get("do") == "end":
            end_feed(transaction, current_user.user)
            secret = None
        else:
            secret = make_feed(transaction, current_user.user)
    if secret is None:
        flash(gettext("Nobody can read it by that address any more."))
        return redirect(url_for("mail_pages.show_calendar"))
    return _calendar(secret)


def _calendar(secret: str | None) -> ResponseReturnValue:
    end_page_session()
    base = (service().settings.public_url or request.host_url).rstrip("/")
    address = f"{base}/calendar/{secret}.ics" if secret is not None else None
    feed = find_feed(page_session(), current_user.user.id)
    return render_template("mail_calendar.html", address=address, feed=feed)


@pages.get("/calendar/<string:secret>.ics")
def give_calendar(secret: str) -> ResponseReturnValue:
    """Give somebody's calendar program what they have planned, as they may see it."""
    user = find_reader_of_feed(page_session(), secret[:100])
    if user is None:
        abort(404)
    settings = service().settings
    text = calendar_of(
        Reader(page_session(), user),
        now=service().store.clock.now(),
        domain=(settings.mail_from or "crm.invalid").rpartition("@")[2],
    )
    answer = Response(text, content_type="text/calendar; charset=utf-8")
    answer.headers["Cache-Control"] = "private, no-store"
    answer.headers["Content-Disposition"] = 'attachment; filename="crm.ics"'
    return answer
