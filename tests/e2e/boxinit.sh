#!/bin/bash
# First process of a node box, in new mount, pid, network, ipc and uts namespaces: makes them a node, says "ready",
# and stays until its standard input ends, which is when the tests are over or dead. All in the box then ends with it.
set -eu
box=$1

# Mounts made here go to the containers and never back to the host.
mount --make-rshared /
hostname boxnode

# The kernel's settings are the whole machine's. The kubelet sees those it wants and none can be written.
mount --bind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
mkdir -p "$box/sys"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=$box/sys/$(basename "${setting%=*}")
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done

# Devices: the usual ones, and two stand-ins for the SGX driver's. Their numbers are those of fuse and autofs: present
# in every kernel, harmless to open, and not among those that every container may open anyway.
dev=$box/dev
mkdir -p "$dev"
mount -t tmpfs -o mode=755 dev "$dev"
node() { mknod -m "$2" "$dev/$1" c "$3" "$4"; }
node null 666 1 3
node zero 666 1 5
node full 666 1 7
node random 666 1 8
node urandom 666 1 9
node kmsg 644 1 11
node tty 666 5 0
node sgx_enclave 660 10 229
node sgx_provision 660 10 235
mkdir "$dev/pts" "$dev/shm" "$dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$dev/pts"
mount -t tmpfs shm "$dev/shm"
mount -t mqueue mqueue "$dev/mqueue"
ln -s pts/ptmx "$dev/ptmx"
ln -s /proc/self/fd "$dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "$dev/${stream#*:}"; done
mount --rbind "$dev" /dev

# What a node writes under the system's own names lies on the box's disk; /run is new with each start, as after a boot.
mkdir -p "$box/disk/lib" "$box/disk/log"
mount --bind "$box/disk/lib" /var/lib
mount --bind "$box/disk/log" /var/log
mount -t tmpfs -o mode=755 run /run
mkdir /run/lock
mount --make-rshared /

# The node's root file system as the agent sees it in a container: the host's own folders, mounted somewhere else.
# What no file here describes (CPU, EPC) the tests describe beside them.
root=$box/root
mkdir -p "$root/dev" "$root/run" "$root/var"
mount --rbind /dev "$root/dev"
mount --bind /run "$root/run"
ln -sfn /run "$root/var/run"

# A network of its own. The kubelet wants an interface with a default route: a cable to nowhere does.
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
ip link add eth0 type veth peer name eth0far
ip address add 10.66.0.2/24 dev eth0
ip link set eth0 up
ip link set eth0far up
ip route add default dev eth0

echo ready
# Bash collects the processes whose parents are gone while it waits here.
read -r _ || true
