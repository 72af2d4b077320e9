"""`/ping` and the sandbox's own measures."""

import os
import time

from web import Events, route


@route("GET", "/ping")
def ping(request):
    request.answer()


def metrics():
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {
        "cpu_count": os.cpu_count(), "cpu_used_pct": min(100.0, 100 * os.getloadavg()[0] / os.cpu_count()),
        "mem_total_mib": memory["MemTotal"], "mem_used_mib": memory["MemTotal"] - memory["MemAvailable"],
        "timestamp": int(time.time() * 1000),
    }


@route("GET", "/metrics")
def metrics_once(request):
    request.answer(metrics())


@route("GET", "/metrics/watch")
def metrics_watch(request):
    events = Events(request)
    while True:
        events.send("metrics", **{k: v for k, v in metrics().items() if k != "timestamp"})
        time.sleep(1)
