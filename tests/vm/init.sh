#!/bin/busybox sh
# The first process of the guest: makes the host's files and the devices available, runs the
# command, says how it ended and turns the machine off.
#
# All of it runs from the initramfs; only the command is put into the host's root (chroot), so
# nothing here depends on that share. A step that fails ends this script and turns the machine off:
# the host finds no exit code, and the reason in the console's log.
#
# From the kernel's command line: NAMESPACES, how many there are to wait for, and options of the
# modules in the initramfs (which a kernel with everything built in does not have), written
# MODULE.OPTION=VALUE.
set -eu
export PATH=/bin
trap "poweroff -f" EXIT

# await NUMBER PATTERN: wait for that many device nodes. Drivers probe in the background.
await() {
    tries=0
    until count $2; [ "$found" -ge "$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 3000 ] || { echo "init: $found of $1 $2 after 30 seconds"; exit 1; }
        usleep 10000
    done
}

# count NODE...: set found to how many there are; a pattern that fits none stays as it is.
count() {
    found=0
    if [ -e "$1" ]; then
        found=$#
    fi
}

# load GROUP: load its modules in order, with their options.
load() {
    for file in /modules/"$1"/*.ko; do
        [ -e "$file" ] || break
        name=${file##*/??-}
        name=${name%.ko}
        options=
        for word in $command_line; do
            case $word in "$name".*) options="$options ${word#*.}" ;; esac
        done
        insmod "$file" $options
    done
}

# share TAG FOLDER OPTIONS: mount a folder of the host's.
share() {
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
command_line=$(cat /proc/cmdline)

load host
# The host's files do not change during a run as far as the guest is concerned: cache everything.
share host /host ro,cache=loose
for folder in dev proc sys; do
    mount -o bind /$folder /host/$folder
done
mkdir /dev/pts /dev/shm
mount -t devpts devpts /host/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /host/dev/shm
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t tmpfs -o mode=755 tmpfs /host/run
mkdir /host/run/control /host/run/home /host/run/modules /host/run/results /host/run/tmp
mount -o bind /modules /host/run/modules
share control /host/run/control cache=none
share results /host/run/results cache=mmap
ip link set lo up

# Debian's kernels start with one CPU, and the others come up only now. An emulated CPU may run into
# the breakpoint by which another one is replacing code (jump labels) after that is over, and the
# kernel oopses. Most such replacements happen while the kernel and the modules above initialise
# (nvme_core and what it needs is among them). Only the NVMe driver itself comes after this: it
# makes its queues for the CPUs there are. Our kernels replace no code, and have the other CPUs
# already, except with --icount (see qemu.py).
for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do
    if [ -e "$cpu" ]; then
        echo 1 > "$cpu"
    fi
done
load nvme
# A namespace's character device is the last thing that the driver makes for it.
await "$NAMESPACES" "/dev/ng*"

# The command's output goes through a pipe, because the port can be opened only once and
# /dev/stdout can be opened by anybody.
await 1 /dev/vport0p1
mkfifo /output
cat /output > /dev/vport0p1 &
echo > /host/run/control/started
status=0
setsid chroot /host /bin/sh /run/control/command < /dev/null > /output 2>&1 || status=$?
# For the rest of the output: until no process that the command left behind can write any more.
wait
sync
echo "$status" > /host/run/control/status
