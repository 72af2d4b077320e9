#!/bin/sh
# Stand-in for the bootstrap of an execd image: starts execd beside the user's command; the container lives as long as the command.
: "${EXECD:=/opt/opensandbox/execd}"
: "${EXECD_ENVS:=/opt/opensandbox/.env}"
export EXECD EXECD_ENVS
: 2>/dev/null >>"$EXECD_ENVS" || true
if [ -n "${EXECD_BOOTSTRAP_PRE_SCRIPT:-}" ] && [ -r "$EXECD_BOOTSTRAP_PRE_SCRIPT" ]; then
  . "$EXECD_BOOTSTRAP_PRE_SCRIPT"
fi

"$EXECD" &

if [ $# -eq 0 ]; then
  set -- "${BOOTSTRAP_SHELL:-/bin/sh}"
  [ -n "${BOOTSTRAP_CMD:-}" ] && set -- "$1" -c "$BOOTSTRAP_CMD"
elif [ "$1" = "-c" ]; then
  set -- "${BOOTSTRAP_SHELL:-/bin/sh}" "$@"
fi
"$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
code=$?
# A trapped signal ends the first wait early; the second one gives the command's own exit status.
if kill -0 "$child" 2>/dev/null; then
  wait "$child"
  code=$?
fi
exit "$code"
