#!/bin/sh
# Stops K3s and removes it with all its data from this host: unit, configuration, datastore, images, binaries.
# The node's identity in /etc/rancher/node stays, so that the same machine may join again under its name.
set -u
[ "$(id -u)" -eq 0 ] || { echo "$0 must be run by root." >&2; exit 1; }
[ "${1:-}" = --yes ] || { echo "This deletes K3s and all its data from $(hostname): $0 --yes" >&2; exit 2; }

/usr/local/bin/k3s-killall.sh

for unit in k3s k3s-agent; do
    systemctl disable "$unit.service" 2>/dev/null
    rm -rf "/etc/systemd/system/$unit.service" "/etc/systemd/system/$unit.service.d" "/etc/systemd/system/$unit.service.env"
done
systemctl daemon-reload
systemctl reset-failed k3s.service k3s-agent.service 2>/dev/null

# A directory that is a mount of its own is emptied and stays.
empty() {
    if mountpoint -q "$1"; then
        find "$1" -mindepth 1 -maxdepth 1 -exec rm -rf --one-file-system {} +
    else
        rm -rf --one-file-system "$1"
    fi
}
empty /etc/rancher/k3s
empty /run/k3s
empty /run/flannel
if mountpoint -q /var/lib/rancher; then empty /var/lib/rancher; else empty /var/lib/rancher/k3s; fi
empty /var/lib/kubelet

rm -f /usr/local/bin/k3s /usr/local/bin/k3s-v*
rm -f /usr/local/bin/k3s-killall.sh /usr/local/bin/k3s-uninstall.sh
