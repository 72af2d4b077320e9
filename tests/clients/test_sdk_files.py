"""Files, directories, commands and sessions by the official SDK, in both flavours and every way of addressing."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest
from opensandbox import Sandbox
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.execd import OutputMessage, RunCommandOpts
from opensandbox.models.filesystem import (
    ContentReplaceEntry,
    DirectoryListEntry,
    MoveEntry,
    SearchEntry,
    SetPermissionEntry,
    WriteEntry,
)

from tests.clients.conftest import Clients

LARGE = 24 * 1024 * 1024
ODD_NAME = "ä b%2Fc+d&e=f;g#h?.txt"
END_SECONDS = 30
TEXT = "first\nsecond ünïcode\nthird\n"


async def test_text_comes_back_as_it_went(shared: Sandbox, place: str) -> None:
    """What is written is read again, whole, by range and by lines."""
    files = shared.files
    await files.write_file(f"{place}/a.txt", TEXT)
    assert await files.read_file(f"{place}/a.txt") == TEXT
    assert await files.read_file(f"{place}/a.txt", range_header="bytes=0-4") == "first"
    assert await files.read_file(f"{place}/a.txt", offset=2, limit=1) == "second ünïcode"
    assert await files.read_bytes(f"{place}/a.txt") == TEXT.encode()
    await files.delete_files([f"{place}/a.txt"])
    with pytest.raises(SandboxApiException):
        await files.read_bytes(f"{place}/a.txt")


async def test_odd_names_survive_every_hop(shared: Sandbox, place: str) -> None:
    """Characters that addresses quote reach the sandbox as they were."""
    files, path = shared.files, f"{place}/{ODD_NAME}"
    await files.write_file(path, TEXT)
    assert await files.read_file(path) == TEXT
    assert list(await files.get_file_info([path])) == [path]


async def test_large_file_both_ways(shared: Sandbox, place: str) -> None:
    """Megabytes go up and come down without a wrong byte."""
    content = random.Random(1).randbytes(LARGE)
    await shared.files.write_file(f"{place}/large", content)
    inside = await shared.commands.run(f"sha256sum {place}/large")
    expected = hashlib.sha256(content).hexdigest()
    assert inside.text.split()[0] == expected
    down = hashlib.sha256()
    async for chunk in await shared.files.read_bytes_stream(f"{place}/large"):
        down.update(chunk)
    assert down.hexdigest() == expected


async def test_directories_and_search(shared: Sandbox, place: str) -> None:
    """Directories are made, listed, searched, moved and deleted."""
    files = shared.files
    await files.create_directories([WriteEntry(path=f"{place}/d/e", mode=755)])
    await files.write_files([WriteEntry(path=f"{place}/d/e/{name}.txt", data=name) for name in "ab"])
    found = await files.search(SearchEntry(path=f"{place}/d", pattern="*.txt"))
    assert sorted(entry.path for entry in found) == [f"{place}/d/e/a.txt", f"{place}/d/e/b.txt"]
    await files.move_files([MoveEntry(source=f"{place}/d/e/a.txt", destination=f"{place}/d/moved.txt")])
    listed = await files.list_directory(DirectoryListEntry(path=f"{place}/d"))
    assert {f"{place}/d/e", f"{place}/d/moved.txt"} <= {entry.path for entry in listed}
    await files.delete_directories([f"{place}/d"])
    with pytest.raises(SandboxApiException):
        await files.list_directory(DirectoryListEntry(path=f"{place}/d"))


async def test_permissions_and_replacement(shared: Sandbox, place: str) -> None:
    """The mode changes; text is replaced in place."""
    files = shared.files
    await files.write_file(f"{place}/a.txt", "one two", mode=644)
    await files.set_permissions([SetPermissionEntry(path=f"{place}/a.txt", mode=600)])
    await files.replace_contents([ContentReplaceEntry(path=f"{place}/a.txt", old_content="two", new_content="three")])
    assert (await files.get_file_info([f"{place}/a.txt"]))[f"{place}/a.txt"].mode == 600
    [again] = await files.replace_contents_detailed([
        ContentReplaceEntry(path=f"{place}/a.txt", old_content="three", new_content="four")
    ])  # fmt: skip
    assert (again.replaced_count, await files.read_file(f"{place}/a.txt")) == (1, "one four")


async def test_missing_file_is_an_error_of_execd(shared: Sandbox, place: str) -> None:
    """An error answer of execd comes through as it is."""
    with pytest.raises(SandboxApiException) as refused:
        await shared.files.read_file(f"{place}/none")
    assert refused.value.status_code == 404


async def test_output_streams_while_the_command_runs(clients: Clients, shared: Sandbox, place: str) -> None:
    """A line arrives before the command is done: it ends only after it has been answered."""
    seen: list[str] = []

    async def answer(message: OutputMessage) -> None:
        seen.append(message.text.strip())
        if seen == ["ready"]:
            await shared.files.write_file(f"{place}/answer", "go")

    script = f"echo ready; until [ -e {place}/answer ]; do sleep 0.05; done; echo done"
    await shared.commands.run(script, handlers=clients.flavour.handlers(on_stdout=answer))
    assert seen == ["ready", "done"]


async def test_background_command_is_interrupted(shared: Sandbox) -> None:
    """A command in the background has a log and a status, and ends when it is told to."""
    commands = shared.commands
    started = await commands.run("echo begun; exec sleep 600", opts=RunCommandOpts(background=True))
    assert started.id
    async with asyncio.timeout(END_SECONDS):
        while not (logs := await commands.get_background_command_logs(started.id)).content:
            pass
    assert (logs.content, logs.cursor) == ("begun\n", 1)
    assert (await commands.get_command_status(started.id)).running
    await commands.interrupt(started.id)
    async with asyncio.timeout(END_SECONDS):
        while (await commands.get_command_status(started.id)).running:
            pass


async def test_an_environment_variable_stays(shared: Sandbox, place: str) -> None:
    """What is set once is there for every command after."""
    name = f"SET_{place.rpartition('/')[2]}"
    await shared.commands.set_env(name, 'kept "as it" was')
    assert (await shared.commands.run(f'echo "${name}"')).text.strip() == 'kept "as it" was'


async def test_session_keeps_its_shell(shared: Sandbox) -> None:
    """Folder, variables and functions last from one command of a session to the next, and no longer than it."""
    commands = shared.commands
    session = await commands.create_session(working_directory="/root")
    await commands.run_in_session(session, "cd /usr; name=kept; say() { echo said $name; }")
    done = await commands.run_in_session(session, "pwd; say; exit 3")
    assert [line.text.strip() for line in done.logs.stdout] == ["/usr", "said kept"]
    assert done.exit_code == 3
    await commands.delete_session(session)
    with pytest.raises(SandboxApiException) as refused:
        await commands.run_in_session(session, "true")
    assert refused.value.status_code == 404
