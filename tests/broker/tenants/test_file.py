import asyncio
import os
import pwd
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from furiosa.broker.tenants.file import MOST_BYTES, TenantsFile
from furiosa.broker.tenants.parse import BadTenants
from furiosa.broker.tenants.policy import Tenants
from furiosa.broker.tenants.principal import Principal
from support.waiting import until

ME = os.geteuid()


def rules(name: str) -> str:
    return f'[unmatched]\npolicy = "refuse"\n[[tenant]]\nname = "{name}"\nmatch = [{{uid = 7}}]\n'


class Told:
    """What a file told, and the file."""

    def __init__(self, path: Path, *, embedded: bool = False) -> None:
        self.changes: list[tuple[str, ...]] = []
        self.refusals: list[str] = []
        self.threads: set[int] = set()
        self.file = TenantsFile(
            path, embedded=embedded, on_change=self._changed, on_refusal=self.refusals.append
        )

    def _changed(self, tenants: Tenants) -> None:
        assert self.file.current is tenants
        self.threads.add(threading.get_ident())
        self.changes.append(tenants.names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.toml"
    write(path, rules("old"))
    return path


def write(path: Path, text: str) -> None:
    """As careful editors do: in one step, under another inode."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o644)


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@asynccontextmanager
async def watched(file: TenantsFile) -> AsyncIterator[None]:
    task = asyncio.create_task(file.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_without_a_path_each_user_is_a_tenant_and_the_brokers_own_administers() -> None:
    file = TenantsFile(None, own_uid=7)
    assert file.current.policy_for(Principal(8, 8)).name == "uid:8"
    assert file.current.policy_for(Principal(7, 7)).admin
    assert not file.current.policy_for(Principal(8, 8)).admin


async def test_without_a_path_nothing_is_ever_read() -> None:
    file = TenantsFile(None)
    before = file.current
    await file.check()
    assert await file.reload() is before is file.current


async def test_a_change_is_in_force_when_two_looks_have_found_it_the_same(path: Path) -> None:
    told = Told(path)
    await told.file.check()
    assert told.changes == []
    write(path, rules("new"))
    await told.file.check()
    assert told.file.current.names == ("old",)
    await told.file.check()
    assert told.file.current.names == ("new",)
    assert told.changes == [("new",)]
    assert told.threads == {threading.get_ident()}
    await told.file.check()
    await told.file.check()
    assert told.changes == [("new",)]


async def test_a_file_that_is_still_being_written_is_left_alone(path: Path) -> None:
    told = Told(path)
    for names in range(1, 5):
        with path.open("w") as file:
            file.write(rules("x" * names))
        await told.file.check()
    assert told.changes == []
    await told.file.check()
    assert told.changes == [("xxxx",)]


async def test_what_is_pointed_to_by_a_link_counts(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    other = tmp_path / "other.toml"
    write(other, rules("other"))
    link.symlink_to(path)
    told = Told(link)
    link.unlink()
    link.symlink_to(other)
    await told.file.check()
    await told.file.check()
    assert told.changes == [("other",)]


async def test_a_bad_file_keeps_the_old_and_says_why_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(path)
    write(path, rules("new") + "max-cores = -1\nburst = 0\n")
    for _ in range(5):
        await told.file.check()
    assert told.file.current.names == ("old",)
    assert told.changes == []
    (refusal,) = told.refusals
    assert 'tenant[1] "new": max-cores is -1' in refusal
    assert "burst is 0" in refusal
    assert caplog.text.count("tenants.not_reloaded") == 1
    assert caplog.text.count("burst is 0") == 1
    write(path, rules("newer"))
    for _ in range(2):
        await told.file.check()
    assert told.changes == [("newer",)]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "No such file"),
        (lambda path: path.chmod(0o664), "others than its owner may write it, mode 0664"),
        (lambda path: path.chmod(0o646), "others than its owner may write it, mode 0646"),
        (lambda path: path.write_bytes(b"\xff"), "utf-8"),
        (lambda path: path.write_text("#" * (MOST_BYTES + 1)), f"more than {MOST_BYTES} bytes"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (make_pipe, "is not a file"),
        (lambda path: path.write_text(""), "policy is missing"),
    ],
)
async def test_a_file_that_cannot_be_trusted_keeps_the_old(
    path: Path, harm: Callable[[Path], object], said: str
) -> None:
    told = Told(path)
    harm(path)
    with pytest.raises(BadTenants, match=said):
        await told.file.reload()
    assert told.file.current.names == ("old",)
    assert said in told.refusals[0]
    with pytest.raises(BadTenants, match=said):
        TenantsFile(path)


@pytest.mark.skipif(ME != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    os.chown(path, 12_345, -1)
    with pytest.raises(BadTenants, match="belongs to uid 12345, expected 0"):
        TenantsFile(path, own_uid=0)
    assert TenantsFile(path, own_uid=12_345).current.names == ("old",)


async def test_rights_that_are_mended_count_as_a_change(path: Path) -> None:
    told = Told(path)
    write(path, rules("new"))
    path.chmod(0o666)
    for _ in range(2):
        await told.file.check()
    assert told.changes == []
    path.chmod(0o600)
    for _ in range(2):
        await told.file.check()
    assert told.changes == [("new",)]


def test_an_embedded_broker_does_not_mind_who_may_write_it(path: Path) -> None:
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    assert TenantsFile(path, embedded=True).current.names == ("old",)


def test_a_bad_file_at_the_start_is_told_to_who_starts_the_broker(path: Path) -> None:
    path.write_text("max-cores = 1")
    with pytest.raises(BadTenants) as caught:
        TenantsFile(path)
    assert caught.value.problems[0].startswith('unknown key "max-cores"')


async def test_watch_sees_a_change_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furiosa.broker.tenants.file.LOOK_SECONDS", 0.005)
    told = Told(path)
    async with watched(told.file):
        write(path, "bad")
        await until(lambda: told.refusals != [])
        write(path, rules("new"))
        await until(lambda: told.changes == [("new",)])


async def test_asked_it_is_read_changed_or_not_and_a_bad_file_does_not_end_the_watch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furiosa.broker.tenants.file.LOOK_SECONDS", 3600.0)
    told = Told(path)
    async with watched(told.file):
        told.file.ask()
        await until(lambda: told.changes == [("old",)])
        write(path, "bad")
        told.file.ask()
        await until(lambda: len(told.refusals) == 1)
        write(path, rules("new"))
        told.file.ask()
        await until(lambda: told.changes == [("old",), ("new",)])


async def test_names_are_looked_up_outside_the_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def slow(name: str) -> object:
        asked.append(threading.get_ident())
        raise KeyError(name)

    told = Told(path)
    monkeypatch.setattr(pwd, "getpwnam", slow)
    write(path, rules("new").replace("uid = 7", 'user = "alice"'))
    with pytest.raises(BadTenants, match='user is "alice"'):
        await told.file.reload()
    assert asked
    assert threading.get_ident() not in asked


async def test_reloads_at_the_same_time_come_one_after_the_other(path: Path) -> None:
    told = Told(path)
    write(path, rules("new"))
    results = await asyncio.gather(*(told.file.reload() for _ in range(5)))
    assert {tenants.names for tenants in results} == {("new",)}
    assert results[-1] is told.file.current


async def test_a_broker_that_has_no_thread_to_read_it_with_keeps_the_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(path)
    write(path, rules("new"))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(BadTenants, match="can't start new thread"):
            await told.file.reload()
    assert told.file.current.names == ("old",)
    await told.file.reload()
    assert told.file.current.names == ("new",)
