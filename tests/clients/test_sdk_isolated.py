"""Isolated sessions and files as another user by the official SDK, as far as the stand-in for execd serves them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, cast

import pytest
from opensandbox import Sandbox
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.filesystem import WriteEntry
from opensandbox.models.isolated import CreateIsolatedSessionRequest, IsolatedRunOpts, IsolatedWorkspaceSpec
from opensandbox.services.filesystem import Filesystem
from opensandbox.services.isolated import IsolationSession

NOBODY = 65534
END_SECONDS = 20


@pytest.fixture
async def isolated(shared: Sandbox, place: str) -> IsolationSession:
    """A session in a folder of its own."""
    await shared.files.create_directories([WriteEntry(path=place)])
    workspace = IsolatedWorkspaceSpec(path=place)
    return await shared.isolation.create(CreateIsolatedSessionRequest(workspace=workspace))


async def test_an_isolated_session_runs_code(shared: Sandbox, isolated: IsolationSession, place: str) -> None:
    """It is found by its id, runs with the environment of a run, has files, and is gone once deleted."""
    assert (await shared.isolation.capabilities()).isolator == "none"
    again = await shared.isolation.attach(isolated.session_id)
    options = IsolatedRunOpts(envs={"FROM_RUN": "a"})
    assert (await again.run("pwd; echo $FROM_RUN", opts=options)).logs.stdout[1].text.strip() == "a"
    await again.files.write_file(f"{place}/a.txt", "text")
    assert await isolated.files.read_file(f"{place}/a.txt") == "text"
    assert isolated.session_id in [one.session_id for one in await shared.isolation.list()]
    await isolated.delete()
    with pytest.raises(SandboxApiException) as refused:
        await again.get()
    assert refused.value.status_code == 404


async def test_an_isolated_run_in_the_background(isolated: IsolationSession) -> None:
    """Its state and its log are asked for."""
    run = await isolated.run_background("echo one; exit 3")
    async with asyncio.timeout(END_SECONDS):
        while (await isolated.run_status(run.run_id)).running:
            pass
    assert (await isolated.run_status(run.run_id)).exit_code == 3
    assert (await isolated.run_logs(run.run_id)).text == "one\n"
    assert (await isolated.get()).status == "active"


async def test_one_isolated_run(shared: Sandbox) -> None:
    """A session that lasts as long as its one run."""
    assert (await shared.isolation.run_once("pwd", workspace="/tmp")).text.strip() == "/tmp"


async def as_user(sandbox: Sandbox, number: int) -> Filesystem:
    """The files as another user; one flavour answers at once, the other is awaited like all its calls."""
    files: Any = sandbox.files_with_identity(number, number)
    return cast(Filesystem, await files if inspect.isawaitable(files) else files)


async def test_files_as_another_user(shared: Sandbox, place: str) -> None:
    """What that user writes is that user's, and what is root's is refused."""
    theirs, path = await as_user(shared, NOBODY), place.replace("/root/", "/tmp/")
    await theirs.write_file(path, "text")
    assert (await shared.files.get_file_info([path]))[path].owner == "nobody"
    await shared.files.write_file(f"{path}.root", "secret", mode=600)
    with pytest.raises(SandboxApiException) as refused:
        await theirs.read_file(f"{path}.root")
    assert refused.value.status_code == 403
