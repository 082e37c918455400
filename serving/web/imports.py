"""The pages to import a file: upload it, say which column is what, try it, and then do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.columns import check_text
from crm_core.errors import CRMError
from crm_core.fields import FieldDeclaration
from crm_core.importing.guessing import Guess, guess_date, guess_fields, guess_key
from crm_core.importing.planning import (
    IMPORTABLE,
    Plan,
    Preview,
    check_may_import,
    fields_offered,
    mapping_of,
    may_change_all,
    preview,
)
from crm_core.records import Role
from crm_core.store import Transaction
from crm_core.uploads import RUNNING, Import, ImportState, get_import, list_imports
from serving.importing import (
    ENDINGS,
    LONGEST_FILE,
    MOST_ROWS,
    Uploaded,
    begin,
    folder_of,
    is_kept,
    keep_upload,
    look_at_upload,
    put_upload,
    read_progress,
    read_refusals,
    read_report,
    refused_rows,
)
from serving.service import end_page_session, page_session, service, writing
from serving.web.language import choose_language
from serving.web.refusals import read_back, refusal, worded
from serving.web.words import word

pages = Blueprint("imports", __name__, url_prefix="/import")

PREVIEWED = 5
REFUSALS_SHOWN = 25
EARLIER = 10
_FROM = 2**20


@dataclass(frozen=True, kw_only=True)
class Line:
    """One column of the file in the form: what it is proposed or chosen to become."""

    column: str
    samples: tuple[str, ...]
    chosen: str
    guess: Guess


def allow_upload() -> None:
    """Let the one form that sends a file send a large one, if somebody is logged in."""
    if request.endpoint == "imports.upload" and current_user.is_authenticated:
        request.max_content_length = LONGEST_FILE + _FROM


@pages.get("")
def show_start() -> ResponseReturnValue:
    """Show the form for a file, and what was imported before."""
    check_may_write(current_user.user)
    return _start()


@pages.post("")
def upload() -> ResponseReturnValue:
    """Keep a file and go on to its columns."""
    user = current_user.user
    check_may_write(user)
    sent, record_type = request.files.get("file"), request.form.get("record_type", "")
    try:
        check_may_import(Reader(page_session(), user), record_type)
        content = sent.read(LONGEST_FILE + 1) if sent is not None else b""
        name = check_text("file", Path((sent.filename if sent is not None else "") or "").name)
        folder, looked = put_upload(service().settings.home_folder, name, content)
        end_page_session()  # SQLite lets nobody write from an old state
        with writing(user, Source.REP) as transaction:
            check_may_import(Reader(transaction.session, user), record_type)
            made = keep_upload(transaction, service().settings.home_folder, user, name, folder)
            made.plan = _proposed(transaction.session, made, record_type, looked).to_json()
            import_id = made.id
    except CRMError as error:
        return _start(refused=refusal(error)), 422
    return redirect(url_for("imports.show", import_id=import_id))


@pages.get("/<int:import_id>")
def show(import_id: int) -> ResponseReturnValue:
    """Show how far an import is: its columns, its run, or what came of it."""
    return _show(get_import(page_session(), current_user.user, import_id))


@pages.get("/<int:import_id>/progress")
def show_progress(import_id: int) -> ResponseReturnValue:
    """Give the part of the page that tells how far it is; a script asks for it again and again."""
    found = get_import(page_session(), current_user.user, import_id)
    answer = make_response(render_template("_import_progress.html", **_running(found)))
    answer.headers["X-Over"] = "no" if found.state in RUNNING else "yes"
    return answer


@pages.post("/<int:import_id>/plan")
def choose(import_id: int) -> ResponseReturnValue:
    """Keep what was chosen; then show what would come of it, try it, or use a shipped mapping."""
    user = current_user.user
    check_may_write(user)
    try:
        with writing(user, Source.REP) as transaction:
            found = get_import(transaction.session, user, import_id, lock=True)
            if found.state not in {ImportState.DONE, *RUNNING}:
                _choose(transaction, found)
    except CRMError as error:
        return _show(get_import(page_session(), user, import_id), refused=refusal(error)), 422
    _wake()
    return redirect(url_for("imports.show", import_id=import_id))


@pages.post("/<int:import_id>/run")
def run(import_id: int) -> ResponseReturnValue:
    """Import what was tried."""
    user = current_user.user
    check_may_write(user)
    with writing(user, Source.REP) as transaction:
        found = get_import(transaction.session, user, import_id, lock=True)
        if found.state == ImportState.CHECKED:
            begin(transaction, found, ImportState.IMPORTING)
    _wake()
    return redirect(url_for("imports.show", import_id=import_id))


@pages.get("/<int:import_id>/refused.csv")
def download_refused(import_id: int) -> ResponseReturnValue:
    """Give the refused rows with the reasons, to mend them and import them again."""
    found = get_import(page_session(), current_user.user, import_id)
    rows = "".join(refused_rows(_folder(found), worded))
    named = {"Content-Disposition": f'attachment; filename="refused-{import_id}.csv"'}
    return Response(rows, mimetype="text/csv", headers=named)


# ---------------------------------------------------------------- what pages show


def _start(refused: str | None = None) -> str:
    user = current_user.user
    reader = Reader(page_session(), user)
    types = [name for name in IMPORTABLE if _may(reader, name)]
    return render_template(
        "import_start.html",
        types=types,
        refused=refused,
        record_type=request.form.get("record_type", "lead"),
        earlier=list_imports(reader.session, user, limit=EARLIER),
        endings=ENDINGS,
        megabytes=LONGEST_FILE // 2**20,
        most_rows=MOST_ROWS,
    )


def _may(reader: Reader, record_type: str) -> bool:
    try:
        check_may_import(reader, record_type)
    except CRMError:
        return False
    return True


def _show(found: Import, refused: str | None = None) -> str:
    if found.state in {ImportState.DONE, *RUNNING}:
        return render_template("import_run.html", **_running(found))
    folder = _folder(found)
    if not is_kept(folder):
        return render_template("import_gone.html", found=found)
    reader = Reader(page_session(), current_user.user)
    plan = found.plan or {}
    looked = look_at_upload(folder)
    if "preset" in plan:
        return render_template("import_preset.html", refused=refused, **_running(found), looked=looked)
    chosen = Plan.from_json(plan)
    offered = fields_offered(reader, chosen.record_type)
    shown, why_not = _preview(reader, chosen, looked, folder)
    return render_template(
        "import_columns.html",
        refused=refused or read_back(found.failed),
        looked=looked,
        plan=chosen,
        lines=_lines(reader, chosen, looked),
        offered={name: _label(name, declared) for name, declared in offered.items()},
        shown=shown,
        why_not=why_not,
        labels={name: _label(name, declared) for name, declared in offered.items()},
        whole=may_change_all(reader, chosen.record_type),
        may_use_preset=current_user.user.role == Role.ADMIN,
        **_running(found),
    )


def _running(found: Import) -> dict[str, Any]:
    folder = _folder(found)
    done, total = read_progress(folder) if found.state in RUNNING else (0, 0)
    over = found.state in {ImportState.CHECKED, ImportState.DONE}
    refusals = read_refusals(folder) if over else []
    return {
        "found": found,
        "running": found.state in RUNNING,
        "done": done,
        "total": total,
        "report": found.report if over else None,
        "told": read_report(folder) if over else {},
        "refusals": refusals[:REFUSALS_SHOWN],
        "refusals_more": max(len(refusals) - REFUSALS_SHOWN, 0),
        "kept": is_kept(folder),
        "collection": {"lead": "leads", "deal": "deals", "account": "customers"}.get(
            (found.plan or {}).get("record_type", "")
        ),
    }


def _preview(reader: Reader, plan: Plan, looked: Uploaded, folder: Path) -> tuple[Preview | None, str | None]:
    try:
        mapping = mapping_of(reader, plan, looked.spec)
        clock = service().store.clock
        return preview(reader.session, mapping, folder, clock, limit=PREVIEWED), None
    except CRMError as error:
        return None, refusal(error)


def _lines(reader: Reader, plan: Plan, looked: Uploaded) -> list[Line]:
    guesses = guess_fields(looked.columns, _names(fields_offered(reader, plan.record_type)))
    return [
        Line(
            column=column.name,
            samples=column.samples,
            chosen=plan.columns.get(column.name, ""),
            guess=guess,
        )
        for column, guess in zip(looked.columns, guesses, strict=True)
    ]


def _proposed(session: Session, found: Import, record_type: str, looked: Uploaded) -> Plan:
    reader = Reader(session, current_user.user)
    guesses = guess_fields(looked.columns, _names(fields_offered(reader, record_type)))
    return Plan(
        record_type=record_type,
        origin=Path(found.file).stem[:40].replace("{", "(").replace("}", ")") or "file",
        at=found.uploaded_at,
        columns={each.column: each.field for each in guesses if each.field is not None},
        key=guess_key(looked.columns),
        dated=guess_date(looked.columns),
    )


def _chosen(session: Session, found: Import) -> dict[str, Any]:
    """Return what the form says; a record type that was changed has its columns proposed anew."""
    form, looked = request.form, look_at_upload(_folder(found))
    if form.get("then") == "preset" and looked.preset is not None:
        return {"preset": looked.preset}
    was = found.plan or {}
    if "preset" in was and form.get("then") == "check":
        return dict(was)
    record_type = form.get("record_type", "")
    check_may_import(Reader(session, current_user.user), record_type)
    if was.get("record_type") != record_type:
        return _proposed(session, found, record_type, looked).to_json()
    names = [column.name for column in looked.columns]
    chosen = {name: form.get(f"column-{at}", "") for at, name in enumerate(names)}
    return Plan(
        record_type=record_type,
        origin=form.get("origin", "").strip()[:40].replace("{", "(").replace("}", ")") or "file",
        at=found.uploaded_at,
        columns={name: field for name, field in chosen.items() if field},
        key=form.get("key") if form.get("key") in names else None,
        dated=form.get("dated") if form.get("dated") in names else None,
    ).to_json()


def _mapping(reader: Reader, found: Import) -> None:
    """Refuse what cannot be run before it becomes a job."""
    if "preset" not in (found.plan or {}):
        mapping_of(reader, Plan.from_json(found.plan), look_at_upload(_folder(found)).spec)


def _choose(transaction: Transaction, found: Import) -> None:
    found.plan, found.state = _chosen(transaction.session, found), ImportState.UPLOADED
    if request.form.get("then") == "check":
        _mapping(Reader(transaction.session, current_user.user), found)
        begin(transaction, found, ImportState.CHECKING)


def _names(offered: Mapping[str, FieldDeclaration | None]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(label for label in (declared.label_en, declared.label_zh) if label)
        if declared is not None
        else (str(word("field", name)),)
        for name, declared in offered.items()
    }


def _label(name: str, declared: FieldDeclaration | None) -> str:
    if declared is None:
        return str(word("field", name))
    label = declared.label_zh if choose_language() == "zh" else declared.label_en
    return label or declared.label_en or name.removeprefix("custom.")


def _folder(found: Import) -> Path:
    return folder_of(service().settings.home_folder, found)


def _wake() -> None:
    jobs = service().jobs
    if jobs is not None:
        jobs.wake()
