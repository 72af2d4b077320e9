"""The data plane: a proxy in front of sandboxes, alone or inside a server. These names are its public face."""

from gateway.access.credentials import AccessRule, Keyring
from gateway.addressing.routing import RoutingConfig
from gateway.errors import GatewayError
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.table import Removal, Resolution, Resolver, RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

__all__ = [
    "AccessRule",
    "Gateway",
    "GatewayError",
    "GatewayOptions",
    "Keyring",
    "Limits",
    "Removal",
    "Resolution",
    "Resolver",
    "RouteState",
    "RouteTable",
    "RoutingConfig",
    "SandboxRoute",
    "Targets",
]
