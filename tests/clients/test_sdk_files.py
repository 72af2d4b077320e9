"""Files, directories, sessions and metrics by the official SDK, in every way of addressing."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.execd import ExecutionHandlers, OutputMessage, RunCommandOpts
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
ODD_NAME = "/root/ä b%2Fc+d&e=f;g#h?.txt"
END_SECONDS = 10
TEXT = "first\nsecond ünïcode\nthird\n"


async def test_text_comes_back_as_it_went(clients: Clients) -> None:
    """What is written is read again, whole, by range and by lines."""
    files = (await clients.create()).files
    await files.write_file("/root/a.txt", TEXT)
    assert await files.read_file("/root/a.txt") == TEXT
    assert await files.read_file("/root/a.txt", range_header="bytes=0-4") == "first"


async def test_odd_names_survive_every_hop(clients: Clients) -> None:
    """Characters that addresses quote reach the sandbox as they were."""
    files = (await clients.create()).files
    await files.write_file(ODD_NAME, TEXT)
    assert await files.read_file(ODD_NAME) == TEXT
    assert list(await files.get_file_info([ODD_NAME])) == [ODD_NAME]


async def test_large_file_both_ways(clients: Clients) -> None:
    """Megabytes go up and come down without a wrong byte."""
    sandbox = await clients.create()
    content = random.Random(1).randbytes(LARGE)
    await sandbox.files.write_file("/root/large", content)
    inside = await sandbox.commands.run("sha256sum /root/large")
    expected = hashlib.sha256(content).hexdigest()
    assert inside.text.split()[0] == expected
    down = hashlib.sha256()
    async for chunk in await sandbox.files.read_bytes_stream("/root/large"):
        down.update(chunk)
    assert down.hexdigest() == expected


async def test_directories_and_search(clients: Clients) -> None:
    """Directories are made, listed, searched, moved and deleted."""
    files = (await clients.create()).files
    await files.create_directories([WriteEntry(path="/root/d/e", mode=755)])
    await files.write_files([WriteEntry(path=f"/root/d/e/{name}.txt", data=name) for name in "ab"])
    found = await files.search(SearchEntry(path="/root/d", pattern="*.txt"))
    assert sorted(entry.path for entry in found) == ["/root/d/e/a.txt", "/root/d/e/b.txt"]
    await files.move_files([MoveEntry(source="/root/d/e/a.txt", destination="/root/d/moved.txt")])
    listed = await files.list_directory(DirectoryListEntry(path="/root/d"))
    assert {"/root/d/e", "/root/d/moved.txt"} <= {entry.path for entry in listed}
    await files.delete_directories(["/root/d"])
    with pytest.raises(SandboxApiException):
        await files.list_directory(DirectoryListEntry(path="/root/d"))


async def test_permissions_and_replacement(clients: Clients) -> None:
    """The mode changes; text is replaced in place."""
    files = (await clients.create()).files
    await files.write_file("/root/a.txt", "one two", mode=644)
    await files.set_permissions([SetPermissionEntry(path="/root/a.txt", mode=600)])
    await files.replace_contents([ContentReplaceEntry(path="/root/a.txt", old_content="two", new_content="three")])
    assert (await files.get_file_info(["/root/a.txt"]))["/root/a.txt"].mode == 600
    assert await files.read_file("/root/a.txt") == "one three"


async def test_missing_file_is_an_error_of_execd(clients: Clients) -> None:
    """An error answer of execd comes through as it is."""
    files = (await clients.create()).files
    with pytest.raises(SandboxApiException) as refused:
        await files.read_file("/root/none")
    assert refused.value.status_code == 404


async def test_output_streams_while_the_command_runs(clients: Clients) -> None:
    """A line arrives before the command is done: it ends only after it has been answered."""
    sandbox = await clients.create()
    seen: list[str] = []

    async def answer(message: OutputMessage) -> None:
        seen.append(message.text.strip())
        if seen == ["ready"]:
            await sandbox.files.write_file("/root/answer", "go")

    script = "echo ready; until [ -e /root/answer ]; do sleep 0.05; done; echo done"
    await sandbox.commands.run(script, handlers=ExecutionHandlers(on_stdout=answer))
    assert seen == ["ready", "done"]


async def test_background_command_is_interrupted(clients: Clients) -> None:
    """A command in the background has a status and ends when it is told to."""
    commands = (await clients.create()).commands
    started = await commands.run("sleep 600", opts=RunCommandOpts(background=True))
    assert started.id
    assert (await commands.get_command_status(started.id)).running
    await commands.interrupt(started.id)
    async with asyncio.timeout(END_SECONDS):
        while (await commands.get_command_status(started.id)).running:
            pass


async def test_session_keeps_its_shell(clients: Clients) -> None:
    """The folder lasts from one command of a session to the next."""
    commands = (await clients.create()).commands
    session = await commands.create_session(working_directory="/root")
    await commands.run_in_session(session, "cd /usr")
    done = await commands.run_in_session(session, "pwd")
    assert done.text.strip() == "/usr"
    await commands.delete_session(session)


async def test_metrics(clients: Clients) -> None:
    """The sandbox tells its processors and memory."""
    metrics = await (await clients.create()).get_metrics()
    assert metrics.cpu_count > 0
    assert metrics.memory_total_in_mib > 0
