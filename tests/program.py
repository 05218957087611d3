"""Runs the installed program as its users do."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

PROGRAM = str(Path(sys.executable).parent / "otel-analytics")
ROOT = Path(__file__).parents[1]


def environ(dsn):
    """For commands that need PostgreSQL and nothing else."""
    return {
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "OTEL_ANALYTICS_POSTGRES_DSN": dsn,
        "OTEL_ANALYTICS_REDIS_URL": "redis://127.0.0.1:1/0",
    }


def run(dsn, *arguments, code=0, program=(PROGRAM,), cwd=ROOT, **more):
    """Standard output and standard error, not run in a terminal; `more` goes into the environment."""
    done = subprocess.run(
        [*program, *arguments],
        env=environ(dsn) | more,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def sent_to_terminal(dsn, columns, *arguments):
    """All that a terminal of so many columns is sent, in order."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    process = subprocess.Popen(
        [PROGRAM, *arguments], env=environ(dsn), cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while block := os.read(ours, 65_536):
            seen += block
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait(30) == 0, seen
    return seen.decode()


def in_terminal(dsn, columns, *arguments):
    """What a terminal of so many columns shows in the end, line by line, style taken away."""
    text = re.sub("[^\n]*\r\x1b\\[K", "", sent_to_terminal(dsn, columns, *arguments))
    return re.sub("\x1b\\[[0-9;]*m", "", text).replace("\r\n", "\n").splitlines()
