"""Stand-in for the egress sidecar in tests: a supervisor, and the worker that enforces a policy and answers for it.

It filters for real: look-ups of its network namespace are redirected to it whatever server they are meant for, and in
mode dns+nft packets are dropped unless their address is allowed or was looked up. It puts no credential into a request
and reads no traffic: with the transparent proxy on, it only does what others wait for (see `interception`).

Two variables are its own: STAND_IN_START_SECONDS delays every start of the worker, STAND_IN_MITM_SECONDS the readiness of
the transparent proxy.
"""

import os
import signal
import sys
import time

import filters
import interception
import names
import policies
import web

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
HEALTHY_AFTER = 60.0
MOST_STARTS, WITHIN = 10, 300.0


def work():
    """One life of the worker: whatever goes wrong before it answers ends it."""
    time.sleep(float(os.environ.get("STAND_IN_START_SECONDS", "0")))
    state = policies.State()
    packets = filters.Packets(state, names.upstreams(), names.nameservers(), names.exempt())
    names.serve(state, packets)
    filters.redirect(names.exempt())
    packets.enforce(state.policy)
    proxy = interception.Proxy()
    web.serve(state, packets, proxy)


def start():
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        work()
    except Exception as error:
        print(f"egress: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


class Supervisor:
    """Starts the worker again when it ends, more slowly each time; gives up when it never stays."""

    def __init__(self):
        self.worker = 0
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def stop(self, *_):
        if self.worker:
            os.kill(self.worker, signal.SIGKILL)
        filters.remove_all()
        os._exit(0)

    def run(self):
        starts, wait = [], FIRST_WAIT
        while True:
            begun = time.monotonic()
            starts = [at for at in starts if begun - at < WITHIN] + [begun]
            if len(starts) > MOST_STARTS:
                sys.exit(1)
            filters.remove_redirects()
            self.worker = start()
            os.waitpid(self.worker, 0)
            self.worker = 0
            wait = FIRST_WAIT if time.monotonic() - begun > HEALTHY_AFTER else wait
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)


if __name__ == "__main__":
    Supervisor().run()
