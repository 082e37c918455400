"""Make the checkout's own environment, .venv, hold what the lock files name.

    python3 .ci/environment.py [--exact] LOCK...

Run by make with any Python that fits; needs nothing but that Python and its pip. Every package is checked
against the hashes in the lock. A lock that has not changed since it was last installed costs nothing. The
checkout itself is not installed but pointed at: its folder goes on the import path, and each command of
[project.scripts] into .venv/bin.
"""

import argparse
import collections
import hashlib
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

Command = list[str | Path]

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 11), (3, 12), (3, 13))
PIP = ("-m", "pip", "install", "--no-input", "--no-deps", "--no-compile", "--disable-pip-version-check")
PIP_OPTIONS = ("--progress-bar", "off", "--require-hashes")
TAKEN_UP = re.compile(
    r"(?:Collecting|Processing|Requirement already satisfied:) (?P<what>\S+).*\(line \d+\)\)"
)
TICK = 0.5  # seconds between two looks at the clock while nothing else moves
LINE_EVERY = 5.0  # seconds between two lines in a log, where a line cannot move
# Read by sh as a command and by Python as a string, so that a path of any length and with any spaces will do.
LAUNCHER = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
'''
import sys

from {module} import {function}

if __name__ == "__main__":
    sys.exit({function}())
"""


class SetupRefusedError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def say(text: str) -> None:
    """Tell the person at the terminal, on standard error: standard output belongs to what make runs."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """One line that moves on a terminal; a line now and then in a log."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._last_said = self._started
        self._moving = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Show where the work stands."""
        line = self._line(text)
        if self._moving:
            sys.stderr.write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
        elif time.monotonic() - self._last_said >= LINE_EVERY:
            self._last_said = time.monotonic()
            say(line)

    def finish(self, text: str) -> None:
        """Leave one line that says what was done and how long it took."""
        say(("\r\033[K" if self._moving else "") + self._line(text))

    def _line(self, text: str) -> str:
        return f"{self._title}: {text} ({time.monotonic() - self._started:.0f} s)"


# ------------------------------------------------------------------------------------------ the environment


def interpreter(home: Path) -> Path:
    """Return the path of an environment's Python."""
    return home / "bin" / "python"


def site_packages(home: Path) -> Path:
    """Return the folder that an environment's packages are in."""
    (folder,) = home.glob("lib/python3*/site-packages")
    return folder


def version_of(home: Path) -> tuple[int, int] | None:
    """Return the version of an environment's Python, or None where none works or pip is missing."""
    command: Command = [interpreter(home), "-c", "import pip, sys; print(*sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = answer.stdout.split()
    return int(major), int(minor)


def ensure_environment(home: Path, *, exact: bool) -> None:
    """Make the environment, or make it anew where its Python is gone or not the one wanted."""
    present, mine = version_of(home), sys.version_info[:2]
    if present == mine or (present in SUPPORTED and not exact):
        return
    say(f"Making {home.name} with Python {mine[0]}.{mine[1]}")
    try:
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(home)
    except subprocess.CalledProcessError as error:
        raise SetupRefusedError(
            f"{sys.executable} could not make an environment with pip in it ({error}). "
            "On Debian and Ubuntu: apt-get install python3-venv."
        ) from error


# ------------------------------------------------------------------------------------------ the packages


def stamp_of(home: Path, lock: Path) -> Path:
    """Return the file that tells which contents of a lock were installed."""
    return home / f".installed-{lock.stem}"


def fingerprint(lock: Path) -> str:
    """Return what a stamp holds: equal exactly when the lock is the same."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def is_installed(home: Path, lock: Path) -> bool:
    """Tell whether this lock, as it is now, was installed to the end."""
    stamp = stamp_of(home, lock)
    return stamp.is_file() and stamp.read_text() == fingerprint(lock)


def count_requirements(lock: Path) -> int:
    """Return how many packages a lock names, whatever this machine needs of them."""
    return len(re.findall(r"^[a-z0-9].*==", lock.read_text(), re.MULTILINE))


def name_of(what: str) -> str:
    """Return `name version` from what pip calls a package: a requirement, or the path of a wheel."""
    if what.endswith(".whl"):
        return " ".join(Path(what).name.split("-")[:2])
    return what.replace("==", " ")


def pip_lines(home: Path, lock: Path) -> Iterator[str]:
    """Run pip on a lock and yield its lines, an empty one whenever it is silent; raise where it fails."""
    command: Command = [interpreter(home), *PIP, *PIP_OPTIONS, "-r", lock]
    last: collections.deque[str] = collections.deque(maxlen=15)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        while (line := next_line(lines)) is not None:
            if line:
                last.append(line)
            yield line
    if process.returncode != 0:
        raise SetupRefusedError("\n".join([*last, f"pip could not install {lock.name}: see above."]))


def pump(stream: Iterable[str], lines: queue.Queue[str | None]) -> None:
    """Move lines from a stream to a queue, and None at its end."""
    for line in stream:
        lines.put(line.rstrip())
    lines.put(None)


def next_line(lines: queue.Queue[str | None]) -> str | None:
    """Return the next line, an empty one where none comes in time, None at the end."""
    try:
        return lines.get(timeout=TICK)
    except queue.Empty:
        return ""


def compile_packages(home: Path, progress: Progress) -> None:
    """Compile the packages on all cores, where pip would use one."""
    command: Command = [interpreter(home), "-m", "compileall", "-q", "-j", "0", site_packages(home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            progress.show("compiling")
            time.sleep(TICK)


def install(home: Path, lock: Path) -> None:
    """Install every package of a lock, each checked against its hashes, showing what is being done."""
    progress = Progress(lock.name)
    total, done, text = count_requirements(lock), 0, "asking pip"
    for line in pip_lines(home, lock):
        if line.startswith("Ignoring "):
            total -= 1
        elif taken_up := TAKEN_UP.match(line):
            done += 1
            text = f"{done} of {total}, {name_of(taken_up['what'])}"
        elif line.startswith("Installing collected packages"):
            text = "unpacking"
        progress.show(text)
    compile_packages(home, progress)
    stamp_of(home, lock).write_text(fingerprint(lock))
    progress.finish(f"{done} packages in place")


# ------------------------------------------------------------------------------------------ the checkout


def scripts(root: Path) -> dict[str, str]:
    """Return the commands that pyproject.toml declares, each with its `module:function`."""
    with (root / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"]["scripts"])


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it already says so."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def link_checkout(home: Path, root: Path) -> None:
    """Put the checkout on the environment's import path, and its commands into the environment's bin."""
    write_if_changed(site_packages(home) / "predictive_crm_checkout.pth", f"{root}\n")
    for command, target in scripts(root).items():
        module, function = target.split(":")
        path = home / "bin" / command
        write_if_changed(path, LAUNCHER.format(python=interpreter(home), module=module, function=function))
        path.chmod(0o755)


LOOPS = {"features/kernels.py": "features.compiled", "models/contributions.py": "models.contributions"}
"""Files with compiled loops, and the modules whose `warm` compiles them."""


def compile_loops(home: Path, root: Path) -> None:
    """Compile the loops of features and reasons, so that nobody waits for it later."""
    sources = [(root / path).stat() for path in LOOPS]
    # What was compiled before counts only for files of the same time and size.
    stamp = home / ".compiled-loops"
    now = " ".join(f"{source.st_mtime_ns} {source.st_size}" for source in sources)
    if stamp.is_file() and stamp.read_text() == now:
        return
    say("Compiling the loops of features and reasons (seconds, once)")
    calls = "; ".join(f"import {module}; {module}.warm()" for module in LOOPS.values())
    done = subprocess.run([interpreter(home), "-c", calls], cwd=root, check=False)
    if done.returncode == 0:
        stamp.write_text(now)


def main() -> int:
    """Do what the command line asks; 0 when the environment is as the locks say."""
    parser = argparse.ArgumentParser(description="Make .venv hold what the lock files name.")
    parser.add_argument("--exact", action="store_true", help="remake .venv unless it has this Python version")
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    chosen = parser.parse_args()
    home = ROOT / ".venv"
    try:
        ensure_environment(home, exact=chosen.exact)
        for lock in chosen.locks:
            if not is_installed(home, lock):
                install(home, lock)
        link_checkout(home, ROOT)
        compile_loops(home, ROOT)
    except SetupRefusedError as error:
        say(f"\n{error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
