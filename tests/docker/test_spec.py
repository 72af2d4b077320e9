"""What a request becomes as a container: pure, so every flag is checked without an Engine."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from manager.domain import errors
from manager.domain.sandbox import NetworkPolicy, Platform, SandboxSpec
from manager.runtime.docker import labels
from manager.runtime.docker.container_defaults import Profile, profile, security_options
from manager.runtime.docker.isolation import seccomp_profile
from manager.runtime.docker.requirements import lacking
from manager.runtime.docker.sidecar import check_policy
from manager.runtime.docker.spec import Extras, Wiring, container_body, environment
from manager.settings.model import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
PROFILE = Profile(
    instance="i",
    network_mode="bridge",
    publish_on=None,
    ports=range(40000, 40200),
    env={"A": "config", "B": "config", "C": "config"},
    binds=("/srv:/srv:ro",),
    security=("no-new-privileges=true", "apparmor=docker-default", "seccomp={}"),
    drop=("NET_RAW", "SYS_ADMIN"),
    pids=4096,
    ulimits=(("nofile", 1024, 4096),),
)
EXTRAS = Extras(image="img", wiring=Wiring("bridge"), execd_volume="vol")


def spec(**changes: Any) -> SandboxSpec:
    """A spec with nothing special."""
    fields: dict[str, Any] = {"id": "s1", "created_at": NOW, "expires_at": None, "image": "img"}
    return SandboxSpec(**{**fields, **changes})


def test_environment_order() -> None:
    """Configured, then requested, None removes, ours last and not to be overridden."""
    made = environment(spec(env={"A": "request", "B": None, "OPENSANDBOX_ID": "forged"}), PROFILE, EXTRAS)
    assert made == [
        "A=request",
        "B",
        "C=config",
        "OPENSANDBOX_ID=s1",
        "EXECD_INIT",
        "EXECD=/.opensandbox/execd",
        "EXECD_ENVS=/var/tmp/.opensandbox.env",
        "OPENSANDBOX_EGRESS_MITMPROXY_TRANSPARENT",
    ]


def test_variables_of_the_sidecar_stay_out() -> None:
    """What configures the egress sidecar is not the sandbox's to see."""
    made = environment(spec(env={"OPENSANDBOX_EGRESS_LOG_LEVEL": "debug"}), PROFILE, EXTRAS)
    assert not any(entry.startswith("OPENSANDBOX_EGRESS_") for entry in made if "=" in entry)


def test_host_config_carries_limits_and_privileges() -> None:
    """Limits of the request; capabilities, processes, ulimits and security options of the configuration."""
    limits = {"cpu": "500m", "memory": "512Mi", "nvidia.com/gpu": "all", "ephemeral-storage": "1Gi"}
    host = container_body(spec(resource_limits=limits), PROFILE, EXTRAS)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 512 * 1024**2, 4096)
    assert host["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]
    assert host["StorageOpt"] == {"size": str(1024**3)}
    assert host["CapDrop"] == ["NET_RAW", "SYS_ADMIN"]
    assert host["SecurityOpt"] == ["no-new-privileges=true", "apparmor=docker-default", "seccomp={}"]
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1024, "Hard": 4096}]
    assert host["Binds"] == ["/srv:/srv:ro"]


def test_execd_is_a_read_only_mount() -> None:
    """The entrypoint points into the volume, which the sandbox cannot write."""
    body = container_body(spec(), PROFILE, EXTRAS)
    assert body["Entrypoint"] == ["/.opensandbox/bootstrap.sh"]
    assert body["HostConfig"]["Mounts"] == [
        {"Type": "volume", "Source": "vol", "Target": "/.opensandbox", "ReadOnly": True}
    ]


def test_without_a_volume_execd_is_where_it_is_copied_to() -> None:
    """The folder is the one that the bootstrap script assumes."""
    body = container_body(spec(), PROFILE, Extras(image="img", wiring=Wiring("bridge")))
    assert body["Entrypoint"] == ["/opt/opensandbox/bootstrap.sh"]
    assert "EXECD=/opt/opensandbox/execd" in body["Env"]
    assert "Mounts" not in body["HostConfig"]


@pytest.mark.defect(5)
def test_ports_are_published_only_where_told() -> None:
    """Nothing is exposed without publishing."""
    wiring = Wiring("bridge", {44772: ("127.0.0.1", "40001")})
    published = container_body(spec(), PROFILE, Extras(image="img", wiring=wiring))
    assert published["ExposedPorts"] == {"44772/tcp": {}}
    assert published["HostConfig"]["PortBindings"] == {"44772/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40001"}]}
    assert "ExposedPorts" not in container_body(spec(), PROFILE, EXTRAS)


ISOLATED = {"bootstrap.execd.isolation": "enable"}


def test_isolation_gets_its_privileges_and_nothing_more() -> None:
    """SYS_ADMIN under a seccomp profile of its own; masks, no-new-privileges and an AppArmor profile of ours stay."""
    allowed = replace(PROFILE, allow_isolation=True)
    host = container_body(spec(extensions=ISOLATED), allowed, EXTRAS)["HostConfig"]
    assert host["CapAdd"] == ["SYS_ADMIN"]
    assert host["CapDrop"] == ["NET_RAW"]
    assert host["SecurityOpt"] == ["no-new-privileges=true", "apparmor=unconfined", f"seccomp={seccomp_profile()}"]
    assert host["Tmpfs"] == {"/var/lib/execd/isolation": ""}
    assert not {"MaskedPaths", "ReadonlyPaths", "Privileged", "UsernsMode"} & host.keys()
    own = replace(allowed, security=("apparmor=written-by-the-operator",))
    kept = container_body(spec(extensions=ISOLATED), own, EXTRAS)["HostConfig"]["SecurityOpt"]
    assert kept[0] == "apparmor=written-by-the-operator"
    assert len(kept) == 2


def test_no_body_of_a_container_is_isolated_unless_that_is_allowed() -> None:
    """Wherever the spec comes from: the last step before the Engine looks too."""
    with pytest.raises(errors.Forbidden, match=r"docker\.allow_isolation = true"):
        container_body(spec(extensions=ISOLATED), PROFILE, EXTRAS)


def test_the_profile_of_isolation_is_closed_by_default() -> None:
    """What is not listed is refused, and user namespaces are not to be had by any call that is."""
    rules = json.loads(seccomp_profile())
    assert rules["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = [rule for rule in rules["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    names = [name for rule in allowed for name in rule["names"]]
    assert not {"bpf", "keyctl", "kexec_load", "init_module", "open_by_handle_at", "clone3", "fsopen"} & set(names)
    for rule in allowed:
        if {"clone", "unshare"} & set(rule["names"]):
            (argument,) = rule["args"]
            assert (argument["value"], argument["valueTwo"], argument["op"]) == (1 << 28, 0, "SCMP_CMP_MASKED_EQ")


def test_a_policed_sandbox_cannot_change_the_filter() -> None:
    """NET_ADMIN goes even if the configuration would leave it, and NET_RAW, which can mark packets as the sidecar's."""
    lenient = replace(PROFILE, drop=("SYS_ADMIN",))
    host = container_body(spec(network_policy=NetworkPolicy()), lenient, EXTRAS)["HostConfig"]
    assert host["CapDrop"] == ["SYS_ADMIN", "NET_ADMIN", "NET_RAW"]


def test_name_servers_of_sandboxes() -> None:
    """docker.dns, except where the network, and with it the file that lists them, is another container's."""
    named = replace(PROFILE, dns=("10.0.0.2",))
    shared = replace(EXTRAS, wiring=Wiring("container:x"))
    assert container_body(spec(), named, EXTRAS)["HostConfig"]["Dns"] == ["10.0.0.2"]
    assert "Dns" not in container_body(spec(), named, shared)["HostConfig"]
    assert "Dns" not in container_body(spec(), PROFILE, EXTRAS)["HostConfig"]


def test_secure_runtime_on_request_only() -> None:
    """The documentation's spelling is opt-in, the released server's is for every sandbox."""
    opt_in = Profile(instance="i", network_mode="bridge", publish_on=None, ports=range(2), secure_runtime="runsc")
    always = Profile(
        instance="i", network_mode="bridge", publish_on=None, ports=range(2), secure_runtime="runsc", secure_always=True
    )
    assert "Runtime" not in container_body(spec(), opt_in, EXTRAS)["HostConfig"]
    assert container_body(spec(secure_runtime=True), opt_in, EXTRAS)["HostConfig"]["Runtime"] == "runsc"
    assert container_body(spec(), always, EXTRAS)["HostConfig"]["Runtime"] == "runsc"


@pytest.mark.defect(1)
def test_every_label_that_is_read_is_written() -> None:
    """So that a label of the image can never speak for the sandbox."""
    made = labels.sandbox_labels(spec(), "i", entrypoint=("a",))
    assert set(labels.SANDBOX_LABELS) <= made.keys()


@pytest.mark.parametrize("expires", [None, NOW])
def test_labels_read_back_as_written(expires: datetime | None) -> None:
    """Facts survive the round trip through labels."""
    asked = spec(
        expires_at=expires,
        metadata={"a": "b", "ü": '"'},
        extensions={"x": "1"},
        snapshot_id="snap",
        platform=Platform("linux", "arm64"),
        secure_token="t",
    )
    facts = labels.read_facts(labels.sandbox_labels(asked, "i", entrypoint=("a", "b c"), volumes=("v",)))
    assert (facts.id, facts.created_at, facts.expires_at) == ("s1", NOW, expires)
    assert facts.manual_cleanup == (expires is None)
    assert (facts.metadata, facts.extensions) == (asked.metadata, asked.extensions)
    assert (facts.entrypoint, facts.volumes) == (("a", "b c"), ("v",))
    assert (facts.platform, facts.secure_token, facts.snapshot_id) == (asked.platform, "t", "snap")


def test_broken_labels_count_as_absent() -> None:
    """A sandbox is never lost over a label that somebody else wrote."""
    facts = labels.read_facts({labels.ID: "x", labels.METADATA: "{", labels.EXPIRES_AT: "soon", labels.VOLUMES: "3"})
    assert (facts.metadata, facts.expires_at, facts.volumes) == ({}, None, ())


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-11-23T06:11:58.439282123Z", 439282),
        ("2026-11-23T06:11:58Z", 0),
        ("2026-11-23T06:11:58.5+00:00", 500000),
    ],
)
def test_the_engines_times_are_understood(text: str, microsecond: int) -> None:
    """Nanoseconds, none, or any number of digits."""
    time = labels.read_time(text)
    assert time == datetime(2026, 11, 23, 6, 11, 58, microsecond, UTC)


def test_a_seccomp_file_is_sent_as_its_content(tmp_path: Any) -> None:
    """The Engine's API takes the profile itself, not its path."""
    file = tmp_path / "seccomp.json"
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert security_options(False, None, str(file)) == ('seccomp={"defaultAction": "SCMP_ACT_ALLOW"}',)
    assert security_options(False, None, "unconfined") == ("seccomp=unconfined",)


@pytest.mark.parametrize(
    ("requests", "limits", "host"),
    [
        ({}, {}, {}),
        ({"cpu": "250m"}, {}, {"CpuShares": 256}),
        ({"cpu": "1m"}, {}, {"CpuShares": 2}),
        ({"cpu": "1000"}, {}, {"CpuShares": 262144}),
        ({"memory": "64Mi"}, {"memory": "64Mi"}, {"MemoryReservation": 64 * 1024**2}),
    ],
)
def test_what_is_to_be_had_when_others_want_it(
    requests: dict[str, str], limits: dict[str, str], host: dict[str, int]
) -> None:
    """Shares within what the kernel takes, and a soft limit."""
    made = container_body(spec(resource_requests=requests, resource_limits=limits), PROFILE, EXTRAS)["HostConfig"]
    assert {key: made[key] for key in ("CpuShares", "MemoryReservation") if key in made} == host


@pytest.mark.parametrize(
    ("requests", "limits", "field"),
    [
        ({"cpu": "2"}, {"cpu": "1"}, r"resourceRequests\.cpu"),
        ({"memory": "2Gi"}, {"memory": "1Gi"}, r"resourceRequests\.memory"),
        ({"cpu": "0"}, {}, r"resourceRequests\.cpu"),
        ({"memory": "lots"}, {}, r"resourceRequests\.memory"),
    ],
)
def test_requests_that_make_no_sense(requests: dict[str, str], limits: dict[str, str], field: str) -> None:
    """Refused by name."""
    with pytest.raises(errors.Invalid, match=field):
        container_body(spec(resource_requests=requests, resource_limits=limits), PROFILE, EXTRAS)


@pytest.mark.defect(15)
@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '"unconfined"'])
def test_a_seccomp_file_that_is_no_profile_is_refused_at_start(tmp_path: Any, content: str | None) -> None:
    """By name: the Engine would refuse every single sandbox for it, or take what is not meant."""
    file = tmp_path / "seccomp.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(errors.Invalid, match=r"docker\.seccomp_profile: .*seccomp\.json"):
        security_options(True, None, str(file))


@pytest.mark.parametrize(
    ("keys", "always"),
    [
        ({"oci_runtime_name": "runsc"}, False),
        ({"docker_runtime": "runsc"}, True),
        ({"k8s_runtime_class": "gvisor"}, True),
    ],
)
def test_only_the_documentations_spelling_is_opt_in(keys: dict[str, str], always: bool) -> None:
    """What the released server would put every sandbox on goes on doing so."""
    tables = {"runtime": {"type": "docker", "execd_image": "e"}, "secure_runtime": {"type": "gvisor", **keys}}
    made = profile(Settings.model_validate(tables))
    assert (made.secure_runtime, made.secure_always) == ("runsc", always)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gvisor", "runsc"),
        ("kata", "kata-runtime"),
        ("kata-qemu", "kata-qemu"),
        ("kata-fc", "kata-fc"),
        ("kata-clh", "kata-clh"),
    ],
)
def test_every_kind_of_secure_runtime_has_a_usual_name(kind: str, name: str) -> None:
    """That of the Engine's registration where none is configured; only gVisor cannot enforce policies."""
    secure = {"type": kind, "k8s_runtime_class": "for-elsewhere"}
    tables = {"runtime": {"type": "docker", "execd_image": "e"}, "secure_runtime": secure, "egress": {"image": "x"}}
    settings = Settings.model_validate({**tables, "docker": {"network_mode": "bridge"}})
    made = profile(settings)
    assert made.secure_runtime == name
    policed = spec(network_policy=NetworkPolicy())
    if kind == "gvisor":
        with pytest.raises(errors.Invalid, match="gVisor"):
            check_policy(policed, made, settings.egress)
    else:
        check_policy(policed, made, settings.egress)


NO_APPARMOR = {"Runtimes": {"runc": {}}, "SecurityOptions": ["name=seccomp,profile=default"]}


@pytest.mark.parametrize(
    ("options", "info", "words"),
    [
        (("apparmor=docker-default",), NO_APPARMOR, "no AppArmor"),
        (("apparmor=unconfined",), NO_APPARMOR, ""),
        (("no-new-privileges=true",), NO_APPARMOR, ""),
        (("apparmor=docker-default",), {**NO_APPARMOR, "SecurityOptions": ["name=apparmor"]}, ""),
        (("apparmor=docker-default",), {"Runtimes": {}}, "no AppArmor"),
    ],
)
def test_a_profile_that_the_host_would_ignore(options: tuple[str, ...], info: dict[str, Any], words: str) -> None:
    """The Engine drops it without a word, so we say it, for every sandbox."""
    missing = lacking(info, replace(PROFILE, security=options, secure_runtime=None)).for_spec(spec(), PROFILE)
    assert words in (missing or "")
    assert bool(missing) == bool(words)


def test_a_runtime_that_is_not_registered_concerns_those_who_ask_for_it() -> None:
    """Others are made as before; the operator hears of it."""
    opt_in = replace(PROFILE, security=(), secure_runtime="runsc")
    missing = lacking(NO_APPARMOR, opt_in)
    assert "'runsc'" in str(missing.for_all(opt_in))
    assert missing.for_spec(spec(), opt_in) is None
    assert missing.for_spec(spec(secure_runtime=True), opt_in) == missing.for_all(opt_in)
    assert missing.for_spec(spec(), replace(opt_in, secure_always=True)) == missing.for_all(opt_in)
