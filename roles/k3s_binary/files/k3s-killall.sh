#!/bin/sh
# Stops K3s with all its pods and takes their mounts, network links and firewall rules away. What is on disk stays.
set -u
[ "$(id -u)" -eq 0 ] || { echo "$0 must be run by root." >&2; exit 1; }

DATA=/var/lib/rancher/k3s

systemctl stop k3s.service k3s-agent.service 2>/dev/null

# K3s leaves its containers running (KillMode=process): end each one's shim, and all that the shim has started.
tree() {
    for pid in "$@"; do
        echo "$pid"
        # shellcheck disable=SC2046 # one word a process
        tree $(ps -o pid= --ppid "$pid")
    done
}
shims=$(ps -e -o pid= -o args= | awk -v data="$DATA/data/" 'index($2, data) == 1 && $2 ~ /containerd-shim/ {print $1}')
if [ -n "$shims" ]; then
    # shellcheck disable=SC2046,SC2086
    kill -KILL $(tree $shims) 2>/dev/null
fi

# The innermost mounts first; the directory of a pod's mount goes with it.
for top in /run/k3s /var/lib/kubelet/pods /var/lib/kubelet/plugins /run/netns/cni-; do
    awk -v top="$top" 'index($2, top) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r path; do
        umount -f "$path" 2>/dev/null || umount -l "$path"
        case "$top" in /run/k3s) ;; *) rm -rf "$path" ;; esac
    done
done

ip -o link show master cni0 2>/dev/null | awk -F'[:@ ]+' '{print $2}' | while read -r link; do
    ip link delete "$link"
done
for link in cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0; do
    ip link delete "$link" 2>/dev/null
done
ip netns list 2>/dev/null | awk '/^cni-/ {print $1}' | while read -r space; do
    ip netns delete "$space"
done
rm -rf /var/lib/cni

# Only what K3s has put in goes; the tables of nftables that others keep are not touched.
for family in iptables ip6tables; do
    if command -v "$family-save" >/dev/null && "$family-save" | grep -qiE 'KUBE-|CNI-|flannel'; then
        "$family-save" | grep -vE 'KUBE-|CNI-' | grep -vi flannel | "$family-restore"
    fi
done
exit 0
