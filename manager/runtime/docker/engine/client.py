"""The Engine's calls that we use, typed, each with the lane it runs in. Knows Docker's API, not our sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from manager.domain import errors
from manager.domain.sandbox import RegistryAuth
from manager.runtime.docker.engine.connection import Engine, Lane
from manager.runtime.docker.engine.stream import Feed

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Calls:
    """The Engine's API calls. Every method raises the kinds of `manager.domain.errors`: NotFound for a 404, …"""

    engine: Engine

    async def ping(self) -> None:
        """Returns when the Engine answers a ping."""
        await self.engine.call(lambda client: client.ping(), Lane.HEALTH)

    async def api_version(self) -> tuple[int, ...]:
        """The newest version of its API that the Engine and the SDK both speak, as (1, 41)."""
        told = await self.engine.call(lambda client: str(client.api_version))
        return tuple(int(part) for part in told.split("."))

    async def info(self) -> Json:
        """`docker info`: the Engine and its host."""
        return await self.engine.call(lambda client: client.info())

    # containers

    async def create_container(self, name: str, body: Json, platform: str | None = None) -> str:
        """The id of a new container."""

        def work(client: Any) -> str:
            made = client.create_container_from_config(body, name, platform)
            return str(made["Id"])

        return await self.engine.call(work, Lane.CHANGE)

    async def start(self, ref: str) -> None:
        """Starts a container."""
        await self.engine.call(lambda client: client.start(ref), Lane.CHANGE)

    async def stop(self, ref: str, grace: int) -> None:
        """Stops a container, by force after `grace` seconds."""
        await self.engine.call(lambda client: client.stop(ref, timeout=grace), Lane.CHANGE)

    async def remove_container(self, ref: str) -> bool:
        """Kills and removes a container with its anonymous volumes; False when there was none."""
        try:
            await self.engine.call(lambda client: client.remove_container(ref, v=True, force=True), Lane.CHANGE)
        except errors.NotFound:
            return False
        except errors.Conflict as conflict:
            # Its removal is already in progress, which counts as removed.
            if "already in progress" not in conflict.message:
                raise
        return True

    async def pause(self, ref: str) -> None:
        """Pauses a container."""
        await self.engine.call(lambda client: client.pause(ref), Lane.CHANGE)

    async def unpause(self, ref: str) -> None:
        """Unpauses a container."""
        await self.engine.call(lambda client: client.unpause(ref), Lane.CHANGE)

    async def inspect_container(self, ref: str) -> Json | None:
        """Everything about one container, or None."""
        return await self._or_none(lambda client: client.inspect_container(ref))

    async def list_containers(self, labels: Sequence[str]) -> list[Json]:
        """Short entries of all containers, in any state, that carry all of these labels (`key` or `key=value`)."""
        return await self.engine.call(lambda client: client.containers(all=True, filters={"label": list(labels)}))

    async def commit(self, ref: str, repository: str, tag: str, changes: Sequence[str]) -> str:
        """The id of a new image with the container's file system; the container is paused meanwhile."""

        def work(client: Any) -> str:
            return str(client.commit(ref, repository=repository, tag=tag, changes=list(changes), pause=True)["Id"])

        return await self.engine.call(work, Lane.SLOW)

    async def get_archive(self, ref: str, path: str) -> bytes | None:
        """A file or directory of a container as a tar archive, or None when there is no such path."""

        def work(client: Any) -> bytes:
            chunks, _ = client.get_archive(ref, path)
            return b"".join(chunks)

        try:
            return await self.engine.call(work, Lane.CHANGE)
        except errors.NotFound:
            return None

    async def put_archive(self, ref: str, path: str, archive: bytes) -> None:
        """Unpacks a tar archive into a directory of a container."""
        await self.engine.call(lambda client: client.put_archive(ref, path, archive), Lane.CHANGE)

    async def logs(self, ref: str, *, tail: int, since: datetime | None, follow: bool) -> Feed[bytes]:
        """Output with timestamps, standard output and error in order."""

        def work(client: Any) -> Any:
            seconds = since.timestamp() if since else None
            return client.logs(ref, stream=True, follow=follow, timestamps=True, tail=tail, since=seconds)

        return await self.engine.stream(work)

    async def events(self, *, since: float, labels: Sequence[str], kinds: Sequence[str]) -> Feed[Json]:
        """Events of containers with these labels, those since `since` (seconds, the Engine's clock) first."""

        def work(client: Any) -> Any:
            filters = {"type": "container", "label": list(labels), "event": list(kinds)}
            return client.events(since=int(since), filters=filters, decode=True)

        return await self.engine.stream(work)

    async def network_events(self, *, since: float) -> Feed[Json]:
        """Network events: create, destroy, connect, disconnect."""

        def work(client: Any) -> Any:
            filters = {"type": "network", "event": ["create", "destroy", "connect", "disconnect"]}
            return client.events(since=int(since), filters=filters, decode=True)

        return await self.engine.stream(work)

    # images

    async def inspect_image(self, ref: str) -> Json | None:
        """Everything about one image, or None when it is not on the Engine."""
        return await self._or_none(lambda client: client.inspect_image(ref))

    async def pull(
        self, ref: str, platform: str | None, auth: RegistryAuth | None, line: Callable[[Json], None]
    ) -> None:
        """Pulls an image; `line` gets every progress record, on a thread, and may raise to end the pull."""
        credentials = {"username": auth.username, "password": auth.password} if auth else None

        def work(client: Any) -> None:
            if credentials is None:
                client.reload_config()  # what `docker login` has saved since the client was built
            for record in client.pull(ref, stream=True, decode=True, platform=platform, auth_config=credentials):
                line(record)

        await self.engine.call(work, Lane.SLOW)

    async def remove_image(self, ref: str) -> bool:
        """Removes an image; False when there was none. Raises Conflict while something uses it."""
        try:
            await self.engine.call(lambda client: client.remove_image(ref, force=False), Lane.CHANGE)
        except errors.NotFound:
            return False
        return True

    # volumes and networks

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Makes a named volume; an existing one is left as it is."""
        await self.engine.call(lambda client: client.create_volume(name, labels=dict(labels)), Lane.CHANGE)

    async def inspect_volume(self, name: str) -> Json | None:
        """Everything about one volume, or None."""
        return await self._or_none(lambda client: client.inspect_volume(name))

    async def list_volumes(self, labels: Sequence[str]) -> list[Json]:
        """All volumes that carry these labels."""
        answer: Json = await self.engine.call(lambda client: client.volumes(filters={"label": list(labels)}))
        return answer.get("Volumes") or []

    async def remove_volume(self, name: str) -> bool:
        """Removes a volume; False when there was none. Raises Conflict while a container has it."""
        try:
            await self.engine.call(lambda client: client.remove_volume(name), Lane.CHANGE)
        except errors.NotFound:
            return False
        return True

    async def inspect_network(self, name: str) -> Json | None:
        """Everything about one network, or None."""
        return await self._or_none(lambda client: client.inspect_network(name))

    async def networks_named(self, name: str) -> list[Json]:
        """Every network of exactly this name: several where it was made several times at once."""
        listed: list[Json] = await self.engine.call(lambda client: client.networks(names=[name]))
        return [network for network in listed if network["Name"] == name]

    async def list_networks(self, labels: Sequence[str]) -> list[Json]:
        """All networks that carry these labels."""
        return await self.engine.call(lambda client: client.networks(filters={"label": list(labels)}))

    async def create_network(self, name: str, options: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """Makes a bridge network. Raises Conflict when the name is taken."""
        await self.engine.call(
            lambda client: client.create_network(
                name, driver="bridge", options=dict(options), labels=dict(labels), check_duplicate=True
            ),
            Lane.CHANGE,
        )

    async def remove_network(self, name: str) -> bool:
        """Removes a network; False when there was none."""
        try:
            await self.engine.call(lambda client: client.remove_network(name), Lane.CHANGE)
        except errors.NotFound:
            return False
        return True

    async def _or_none(self, work: Callable[[Any], Json]) -> Json | None:
        try:
            return await self.engine.call(work)
        except errors.NotFound:
            return None
