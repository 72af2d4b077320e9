"""Requests that are wrong in themselves: each wrong value, where it is, and what the answer calls the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LIST = "/v1/sandboxes"
RENEW = "/v1/sandboxes/nobody/renew-expiration"
ENDPOINT = "/v1/sandboxes/nobody/endpoints"
TEMPLATE = {"templateId": "t"}


@dataclass(frozen=True)
class Wrong:
    """One wrong request. `body` is what differs from a plain create where `method` is empty, else the whole body."""

    name: str
    message: str
    body: Any = None
    method: str = ""
    path: str = LIST


WRONG = (
    Wrong("a_timeout_below_the_least", r"timeout: must be at least 60, got 59", {"timeout": 59}),
    Wrong("page_zero", r"page: must be at least 1, got '0'", None, "GET", f"{LIST}?page=0"),
    Wrong("a_page_too_large", r"pageSize: must be at most 200, got '201'", None, "GET", f"{LIST}?pageSize=201"),
    Wrong("snapshots_page_zero", r"page: must be at least 1, got '0'", None, "GET", "/v1/snapshots?page=0"),
    Wrong("nothing_at_all", r"Exactly one of image or snapshotId must be provided\.", {}, "POST"),
    Wrong("no_image", r"Exactly one of image or snapshotId must be provided\.", {"image": None}),
    Wrong("image_and_snapshot", r"Exactly one of image or snapshotId must be provided\.", {"snapshotId": "s"}),
    Wrong("no_entrypoint", r"entrypoint is required when image is provided\.", {"entrypoint": None}),
    Wrong("an_empty_entrypoint", r"entrypoint: must have at least 1 item\(s\), got a list", {"entrypoint": []}),
    Wrong("no_limits", r"resourceLimits is required when poolRef is not provided\.", {"resourceLimits": None}),
    Wrong("an_image_as_text", r"image: must be an object, got 'x'", {"image": "x"}),
    Wrong(
        "a_volume_without_backend",
        r"volumes\.0: exactly one backend \(host, pvc, ossfs\) must be specified, but none was provided\.",
        {"volumes": [{"name": "d", "mountPath": "/d"}]},
    ),
    Wrong(
        "a_volume_with_two_backends",
        r"volumes\.0: exactly one backend \(host, pvc, ossfs\) must be specified, but host, pvc were provided\.",
        {"volumes": [{"name": "d", "mountPath": "/d", "host": {"path": "/d"}, "pvc": {"claimName": "d"}}]},
    ),
    Wrong(
        "a_mount_path_that_is_relative",
        r"volumes\.0\.mountPath: must be an absolute path, which begins with '/', got 'd'",
        {"volumes": [{"name": "d", "host": {"path": "/d"}, "mountPath": "d"}]},
    ),
    Wrong(
        "a_credential_proxy_without_policy",
        r"credentialProxy\.enabled requires networkPolicy\.",
        {"credentialProxy": {"enabled": True}},
    ),
    Wrong(
        "a_variable_that_is_reserved",
        r"env: 'OPENSANDBOX_LIFECYCLE' is reserved. Use the lifecycle request field instead\.",
        {"env": {"OPENSANDBOX_LIFECYCLE": "x"}},
    ),
    Wrong(
        "a_template_with_what_it_says_itself",
        r"templateId cannot be combined with image, entrypoint, resourceLimits: the template says what runs\.",
        TEMPLATE,
    ),
    *(
        Wrong(
            f"a_template_with_{field}",
            rf"templateId cannot be combined with {field}: the template says what runs\.",
            {**TEMPLATE, "timeout": 600, field: value},
            "POST",
        )
        for field, value in {
            "image": {"uri": "x"},
            "snapshotId": "s",
            "entrypoint": ["x"],
            "env": {"A": "b"},
            "resourceLimits": {"cpu": "1"},
            "resourceRequests": {"cpu": "1"},
            "volumes": [{"name": "d", "host": {"path": "/d"}, "mountPath": "/d"}],
            "platform": {"os": "linux", "arch": "amd64"},
            "credentialProxy": {"enabled": True},
            "secureAccess": True,
            "secureRuntime": True,
            "lifecycle": {"preStart": {"command": ["x"]}},
        }.items()
    ),
    Wrong("a_port_of_letters", r"port: must be a whole number, got 'abc'", None, "GET", f"{ENDPOINT}/abc"),
    Wrong(
        "a_switch_that_is_a_fruit",
        r"use_server_proxy: must be true or false, got 'banana'",
        None,
        "GET",
        f"{ENDPOINT}/80?use_server_proxy=banana",
    ),
    Wrong("a_moment_that_is_none", r"expiresAt: .+, got 'soon'", {"expiresAt": "soon"}, "POST", RENEW),
    Wrong("no_moment", r"expiresAt: is required", {}, "POST", RENEW),
    Wrong("half_a_body", r"body: is not JSON: .+ at line 1 column 2", b"{", "POST"),
    Wrong("no_body", r"body: a JSON body is required, got none", b"", "POST"),
    Wrong(
        "an_operating_system_nobody_has",
        r"Unsupported platform\.os 'darwin'\. Supported values: \['linux', 'windows'\]\.",
        {"platform": {"os": "darwin", "arch": "amd64"}},
    ),
    Wrong(
        "an_architecture_nobody_has",
        r"Unsupported platform\.arch 'mips'\. Supported values: \['amd64', 'arm64'\]\.",
        {"platform": {"os": "linux", "arch": "mips"}},
    ),
    Wrong("a_text_in_place_of_a_map", r"metadata\.a: must be a string, got 1", {"metadata": {"a": 1}}),
    Wrong("a_number_for_a_limit", r"resourceLimits\.cpu: must be a string, got 1", {"resourceLimits": {"cpu": 1}}),
    Wrong(
        "a_limit_without_meaning",
        r"Invalid resourceLimits\.memory: 'lots'; must resolve to a positive resource limit\.",
        {"resourceLimits": {"memory": "lots"}},
    ),
    Wrong("a_secure_runtime_nobody_configured", r"secureRuntime: no secure runtime .+", {"secureRuntime": True}),
    Wrong(
        "secure_access_without_a_gateway", r"secureAccess: needs ingress\.mode = gateway, .+", {"secureAccess": True}
    ),
    Wrong("a_policy_without_a_sidecar", r"networkPolicy: egress\.image is not configured .+", {"networkPolicy": {}}),
    Wrong(
        "an_extension_out_of_range",
        r"extensions\.access\.renew\.extend\.seconds: must be 300 to 86400 seconds, got '5'",
        {"extensions": {"access.renew.extend.seconds": "5"}},
    ),
)
"""The first rows are those of the reference's list of samples, in its order; others follow."""
