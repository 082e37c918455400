"""The page of something that is done with many rows: how far it is, and what became of it."""

from __future__ import annotations

from flask import Blueprint, abort, make_response, render_template, send_file
from flask.typing import ResponseReturnValue
from flask_login import current_user

from serving.list_work import Work, get_work
from serving.service import page_session, service
from serving.web.lists import KINDS

pages = Blueprint("list_work", __name__, url_prefix="/jobs")


@pages.get("/<int:job_id>")
def show(job_id: int) -> ResponseReturnValue:
    """Show how far it is."""
    work = _work(job_id)
    return render_template("list_work.html", work=work, kind=KINDS[work.record_type])


@pages.get("/<int:job_id>/progress")
def show_progress(job_id: int) -> ResponseReturnValue:
    """Give the part of the page that tells how far it is; a script asks for it again and again."""
    work = _work(job_id)
    answer = make_response(render_template("_list_work.html", work=work, kind=KINDS[work.record_type]))
    answer.headers["X-Over"] = "yes" if work.over else "no"
    return answer


@pages.get("/<int:job_id>/file")
def download(job_id: int) -> ResponseReturnValue:
    """Give the file that was made."""
    work = _work(job_id)
    if work.file is None:
        abort(404)
    return send_file(work.file, as_attachment=True, download_name=work.file.name, max_age=0)


def _work(job_id: int) -> Work:
    return get_work(page_session(), service().settings.home_folder, current_user.user, job_id)
