"""Who may enter a sandbox, and how much of it: credentials, API keys, throttles, quotas."""
