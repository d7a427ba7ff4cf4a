#!/bin/sh
# The command of an installed avdrift: for root and for the service's own user, with the models and the rig of the service.
program=/opt/avdrift/venv/bin/avdrift
state=/var/lib/avdrift
case $(id -un) in
avdrift) STATE_DIRECTORY=$state exec "$program" "$@" ;;
root)
    STATE_DIRECTORY=$state "$program" "$@"
    code=$?
    # The service must be able to replace what root has put there.
    [ ! -d "$state" ] || chown -R --no-dereference avdrift:avdrift "$state"
    exit "$code"
    ;;
*) exec "$program" "$@" ;;
esac
