"""Authentication and limits of requests to sandboxes: credentials, API keys, throttles, quotas."""
