"""A Dovecot of the tests' own: IMAP over a Maildir in a temporary folder, as an ordinary user."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

PASSWORD: Final = "only-here"

_SETTINGS: Final = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_location = maildir:{maildir}/%u
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}
}}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service stats {{
  chroot =
}}
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that has a mailbox for everybody who asks."""

    port: int
    folder: Path
    owner: tuple[int, int] | None

    def mailbox(self, user: str) -> Mailbox:
        """Return an empty mailbox."""
        maildir = self.folder / user
        for part in ("", "tmp", "new", "cur"):
            (maildir / part).mkdir()
            if self.owner is not None:
                os.chown(maildir / part, *self.owner)
        return Mailbox(port=self.port, user=user, maildir=maildir, owner=self.owner)


@dataclass(frozen=True, kw_only=True)
class Mailbox:
    """A mailbox that is read by IMAP, and delivered to by writing files."""

    port: int
    user: str
    maildir: Path
    owner: tuple[int, int] | None

    def deliver(self, raw: bytes) -> None:
        """Put a mail into it, as a mail server does: written aside, then moved in."""
        name = f"{time.time_ns()}.M{os.getpid()}.tests"
        aside = self.maildir / "tmp" / name
        aside.write_bytes(raw)
        if self.owner is not None:
            os.chown(aside, *self.owner)
        aside.rename(self.maildir / "new" / name)

    def count(self) -> int:
        """Return how many mails lie in it."""
        return sum(1 for part in ("new", "cur") for _ in (self.maildir / part).iterdir())


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Start a server that keeps its files in `folder`."""
    binary = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
    if binary is None:
        reason = "Dovecot (IMAP server) is not installed: dovecot was not found"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    who = _who()
    maildir, port = folder / "mail", _free_port()
    maildir.mkdir()
    config = folder / "dovecot.conf"
    names = pwd.getpwuid(who[0]).pw_name, grp.getgrgid(who[1]).gr_name
    config.write_text(
        _SETTINGS.format(
            folder=folder, maildir=maildir, port=port, user=names[0], group=names[1], password=PASSWORD
        )
    )
    owner = who if os.geteuid() == 0 else None
    if owner is not None:
        _give(folder, owner)
    with subprocess.Popen(
        [binary, "-F", "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            _wait_for(port, process, folder)
            yield Server(port=port, folder=maildir, owner=owner)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: what it started ends with it


def _who() -> tuple[int, int]:
    """Return who runs it: this user, or an ordinary one where this is root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _give(folder: Path, owner: tuple[int, int]) -> None:
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o711)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *owner)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            said = process.stderr.read().decode() if process.stderr is not None else ""
            pytest.fail(f"Dovecot did not start: {said}{_log(folder)}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"Dovecot does not listen: {_log(folder)}")


def _log(folder: Path) -> str:
    log = folder / "log"
    return log.read_text() if log.exists() else ""
