"""Services around the server: `[renew_intent]`, `[events]`, `[otel]` and `[tenants]`."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from manager.settings.table import Table, option
from manager.settings.values import OptionalSecret, OptionalText, OrNone


def _http_url(text: str | None) -> str | None:
    if text is not None:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("must be http://host[:port]/path or https://host[:port]/path, without user")
    return text


class RedisSettings(Table):
    """`[renew_intent.redis]`"""

    enabled: bool = option(False, doc="Whether renewals also arrive through a Redis list")
    dsn: OptionalSecret = option(None, secret=True, doc="Connection string of Redis")
    queue_key: str = option("opensandbox:renew:intent", doc="Name of the list")
    consumer_concurrency: int = option(8, least=1, doc="Renewals worked on at once")


class RenewIntentSettings(Table):
    """`[renew_intent]`"""

    enabled: bool = option(False, doc="Whether traffic extends the life of sandboxes that asked for it")
    min_interval_seconds: int = option(60, least=1, doc="Shortest time between two renewals of one sandbox, in seconds")
    redis: RedisSettings = option(RedisSettings, doc="Renewals from other gateways")


class WebhookSettings(Table):
    """`[events.webhook]`"""

    url: Annotated[str | None, OrNone, AfterValidator(_http_url)] = option(
        None, allowed="an http or https URL", doc="Every event of a sandbox is sent there by POST; unset sends none"
    )
    secret: OptionalSecret = option(
        None, secret=True, doc="Key of the signature that goes with it (HMAC-SHA256); required beside url"
    )


class EventsSettings(Table):
    """`[events]`"""

    keep_days: float = option(7.0, above=0, doc="For how long events of sandboxes are kept, in days")
    keep_events: int = option(100_000, least=1, doc="Most events that are kept")
    webhook: WebhookSettings = option(WebhookSettings, doc="Events for another program")


class OtelSettings(Table):
    """`[otel]`"""

    enabled: bool = option(False, doc="Whether metrics are sent to an OpenTelemetry collector")
    endpoint: OptionalText = option(None, doc="Address of the collector")
    service_name: str = option("opensandbox-server", doc="Name under which we report")
    export_interval_millis: int = option(60000, least=1000, doc="Time between two reports, in milliseconds")


class TenantsSettings(Table):
    """`[tenants]`; present with any key it switches multi-tenancy on."""

    provider: Literal["file", "http"] = option("file", doc="Where tenants are looked up")
    endpoint: OptionalText = option(None, doc="Address of the tenant service; required by provider http")
    max_stale_seconds: float = option(
        300, least=0, doc="How long a known answer serves when the service is away, in seconds"
    )
    timeout_seconds: float = option(5, above=0, doc="Longest wait for one answer of the service, in seconds")
    auth_header: OptionalText = option(None, doc="Header in which we identify ourselves to the service")
    auth_token: OptionalSecret = option(None, secret=True, doc="Value of that header")
