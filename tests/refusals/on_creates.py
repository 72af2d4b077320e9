"""Refusals of creates: what is asked for, the image, execd, the container and the way into it."""

from __future__ import annotations

import socket

import pytest

from manager.runtime.docker import host_port
from tests.docker.registries import broken_registry
from tests.refusals.catalogue import refusal, refused_creates
from tests.refusals.on_sandboxes import SAID
from tests.refusals.stage import Answer, Stage
from tests.refusals.variants import ELSEWHERE, MOST_SECONDS
from tests.server_process import SANDBOX_IMAGE, free_port

CREATE = r"/containers/create\?"
ADDRESS = r"127\.0\.0\.1:\d+"
LOST = r"\(.+\)"

refused_creates(
    "DOCKER::INVALID_ENTRYPOINT",
    400,
    ("an_open_quote", {"entrypoint": ['sh -c "open']}, r"entrypoint 'sh -c \"open' cannot be split: .*"),
    ("no_program", {"entrypoint": [""]}, r"entrypoint must name a program\."),
)
refused_creates(
    "DOCKER::INVALID_IMAGE",
    400,
    ("a_name_in_capitals", {"image": {"uri": "Upper/Case:1"}}, rf"Upper/Case:1 is not the name of an image\. {LOST}"),
)
refused_creates(
    "SANDBOX::INVALID_PARAMETER",
    400,
    (
        "a_timeout_above_the_most",
        {"timeout": MOST_SECONDS + 1},
        rf"Sandbox timeout {MOST_SECONDS + 1}s exceeds configured maximum of {MOST_SECONDS}s\.",
    ),
    (
        "a_limit_that_nobody_knows",
        {"resourceLimits": {"hugepages-2Mi": "64Mi"}},
        r"resourceLimits: 'hugepages-2Mi' is not known; what can be limited is cpu, memory, gpu and .*",
    ),
    (
        "a_limit_too_small_to_be_held",
        {"resourceLimits": {"cpu": "0.000001"}},
        r"resourceLimits\.cpu: '0\.000001' is too little to be held; the least is 10m\.",
    ),
    (
        "a_limit_that_the_engine_cannot_give",
        {"resourceLimits": {"cpu": "4000"}},
        r"resourceLimits\.cpu: the Engine cannot give this: .*",
    ),
)
refused_creates(
    "SANDBOX::INVALID_PARAMETER",
    400,
    ("no_such_network", {}, r"Docker network 'there-is-no-such-network' does not exist\. Create it first with .*"),
    house="missing-network",
)
refused_creates(
    "SANDBOX::INVALID_METADATA_LABEL",
    400,
    ("a_key_of_ours", {"metadata": {"opensandbox.io/id": "x"}}, r"metadata key 'opensandbox\.io/id': .* is reserved"),
)
refused_creates(
    "SANDBOX::UNSUPPORTED_POOL_REF",
    400,
    ("no_such_pool", {"extensions": {"poolRef": "p"}}, r"extensions\.poolRef: this server has no pool called 'p'; .*"),
)
refused_creates(
    "SANDBOX::API_NOT_SUPPORTED",
    400,
    (
        "a_template",
        {"templateId": "t", "image": None, "entrypoint": None, "resourceLimits": None},
        r"templateId: templates are not available with this runtime; name an image",
    ),
    (
        "hooks",
        {"lifecycle": {"preStart": {"command": ["x"]}}},
        r"lifecycle: hooks are not available with this runtime; leave the field out",
    ),
    ("windows", {"platform": {"os": "windows", "arch": "amd64"}}, r"platform\.os: 'windows' is not supported\."),
)
refused_creates(
    "DOCKER::ISOLATION_NOT_ALLOWED",
    403,
    (
        "isolation",
        {"extensions": {"bootstrap.execd.isolation": "enable"}},
        r"extensions\.bootstrap\.execd\.isolation: .* docker\.allow_isolation = true\.",
    ),
)


@refusal("DOCKER::SANDBOX_IMAGE_NOT_FOUND", 404, rf"Image {ADDRESS}/team/none:1 does not exist\. {LOST}")
def an_image_that_the_registry_has_not(stage: Stage) -> Answer:
    address, login = stage.registry()
    return stage.house("gateway").create(image={"uri": f"{address}/team/none:1", "auth": login})


@refusal(
    "DOCKER::SANDBOX_IMAGE_PULL_UNAUTHORIZED", 403, rf"The registry does not let us pull {ADDRESS}/team/none:1: .*"
)
def a_registry_that_knows_us_not(stage: Stage) -> Answer:
    address, _ = stage.registry()
    return stage.house("gateway").create(image={"uri": f"{address}/team/none:1"})


@refusal("DOCKER::SANDBOX_REGISTRY_UNREACHABLE", 503, rf"The registry of {ADDRESS}/x:1 cannot be reached .*")
def a_registry_that_is_not_there(stage: Stage) -> Answer:
    return stage.house("gateway").create(image={"uri": f"127.0.0.1:{free_port()}/x:1"})


@refusal("DOCKER::SANDBOX_IMAGE_PULL_TIMEOUT", 504, rf"The pull of {ADDRESS}/x:1 is not done after 1 seconds; .*")
def a_registry_that_says_nothing(stage: Stage) -> Answer:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        return stage.house("impatient").create(image={"uri": f"{address}/x:1"})


@refusal("DOCKER::SANDBOX_IMAGE_PULL_FAILED", 500, rf"Failed to pull image {ADDRESS}/x:1: .*")
def a_registry_that_is_broken(stage: Stage) -> Answer:
    with broken_registry() as address:
        return stage.house("gateway").create(image={"uri": f"{address}/x:1"})


@refusal("DOCKER::SANDBOX_IMAGE_PULL_FAILED", 500, rf"Failed to pull image \S+: {SAID}")
def an_image_that_the_engine_cannot_look_at(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with stage.refusing("GET", rf"/images/{SANDBOX_IMAGE}/json", SAID):
        return house.create()


@refusal(
    "DOCKER::SANDBOX_EXECD_DISTRIBUTION_FAILED",
    500,
    r"The image \S+ has no /execd; set runtime\.execd_image to an execd image\.",
)
def an_execd_image_without_execd(stage: Stage) -> Answer:
    return stage.house("without-execd").create()


@refusal(
    "DOCKER::SANDBOX_EXECD_START_FAILED", 503, rf"The container that execd is taken from could not be made: {SAID}"
)
def an_execd_image_that_the_engine_cannot_use(stage: Stage) -> Answer:
    with stage.refusing("POST", rf"{CREATE}.*name=sandbox-execd-", SAID):
        return stage.house("starting").create()


@refusal(
    "DOCKER::SANDBOX_BOOTSTRAP_INSTALL_FAILED",
    500,
    r"Failed to copy execd into the container: .* The image must leave /opt/opensandbox to it\.",
)
def a_folder_of_execds_that_cannot_be_written(stage: Stage) -> Answer:
    folder = stage.data / "execd"
    folder.mkdir(exist_ok=True)
    volume = {"name": "v", "host": {"path": str(folder)}, "mountPath": "/opt/opensandbox", "readOnly": True}
    answer = stage.house("isolating").create(volumes=[volume], extensions={"bootstrap.execd.isolation": "enable"})
    folder.rmdir()
    return answer


@refusal("VOLUME::INVALID_MOUNT_PATH", 400, r"volumes: the image has a file where one of them is to be mounted, .*")
def a_volume_on_a_file_of_the_image(stage: Stage) -> Answer:
    volume = {"name": "v", "pvc": {"claimName": f"{stage.instance}-on-a-file"}, "mountPath": "/etc/passwd"}
    return stage.house("gateway").create(volumes=[volume])


@refusal("DOCKER::SANDBOX_START_FAILED", 500, r"Failed to create or start container: .*read-only file system.*")
def a_volume_inside_one_that_is_read_only(stage: Stage) -> Answer:
    outer = {"name": "v", "pvc": {"claimName": f"{stage.instance}-outer"}, "mountPath": "/v", "readOnly": True}
    inner = {"name": "w", "pvc": {"claimName": f"{stage.instance}-inner"}, "mountPath": "/v/w"}
    return stage.house("gateway").create(volumes=[outer, inner])


@refusal("DOCKER::SANDBOX_START_FAILED", 500, rf"Failed to create or start container: {SAID}")
def a_network_that_the_engine_cannot_look_at(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with stage.refusing("GET", "/networks/", SAID):
        return house.create()


@refusal("DOCKER::SANDBOX_START_FAILED", 503, r"The Engine found no free host port: .* Try again .*port_range_min.*")
def a_host_without_a_free_port(stage: Stage) -> Answer:
    house = stage.house("impatient")
    with stage.refusing("POST", r"/containers/[^/]+/start", "driver failed: Bind failed: port is already allocated"):
        return house.create()


@refusal("DOCKER::ENGINE_DISK_FULL", 500, r"The Engine's disk is full; free space on it\. \(.*no space left .*\)")
def an_engine_whose_disk_is_full(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with stage.refusing("POST", rf"{CREATE}.*name=sandbox-", "mkdir /var/lib/docker/x: no space left on device"):
        return house.create()


@refusal(
    "DOCKER::HOST_PORT_IN_USE",
    409,
    r"docker\.network_mode = 'host': port \d+ of the Engine's host is taken, .* use network_mode = 'bridge'\.",
)
def a_second_sandbox_on_the_hosts_network(stage: Stage) -> Answer:
    house = stage.house("host")
    with socket.create_server(("127.0.0.1", 0)) as first, pytest.MonkeyPatch.context() as patch:
        # Execd's own port lies among those that any connection of this machine may be using.
        patch.setattr(host_port, "EXECD_PORT", first.getsockname()[1])
        return house.create()


@refusal(
    "DOCKER::SANDBOX_UNREACHABLE", 500, r"No sandbox could be reached: docker\.publish_host = '127\.0\.0\.1' is .*"
)
def ports_that_only_the_engines_machine_can_dial(stage: Stage) -> Answer:
    house = stage.house("elsewhere")
    assert ELSEWHERE in str(house.settings.docker.host)
    return house.create()
