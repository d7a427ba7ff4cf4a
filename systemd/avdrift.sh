#!/bin/sh
# The command of an installed avdrift: for root and for the service's own user, with the models and the rig of the service.
program=/opt/avdrift/venv/bin/avdrift
state=/var/lib/avdrift
configuration=/etc/avdrift
case $(id -un) in
avdrift) STATE_DIRECTORY=$state CONFIGURATION_DIRECTORY=$configuration exec "$program" "$@" ;;
root)
    # Commands that change or run the models there first become the folder's owner: so it must be the service's.
    [ -e "$state" ] || install -d -m 750 -o avdrift -g avdrift "$state"
    STATE_DIRECTORY=$state CONFIGURATION_DIRECTORY=$configuration exec "$program" "$@"
    ;;
*) exec "$program" "$@" ;;
esac
