#!/usr/bin/env python3
"""Two network namespaces with a link of a given delay and rate between them, and a command that runs in the first: two machines with a slow network, on one.

    sudo scripts/slow_link.py --delay 0.001 --rate 25e6 -- \\
        mpirun --host 10.9.0.1:1,10.9.0.2:1 -n 2 --bind-to none --mca btl tcp,self PROGRAM

Packets go through this program, which holds each one back: it leaves when those before it have been sent at the rate (bytes a second, each way), and
arrives the delay (seconds) later. So nothing is asked of the kernel but TUN devices; where it has `netem`, `tc qdisc add dev … netem` does the same.
Open MPI starts its daemon in the second namespace by PRTE_MCA_plm_ssh_agent, which is set for the command; there is no ssh.
"""

import argparse
import fcntl
import heapq
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

NAMES = [f"slow-{os.getpid()}-{side}" for side in "ab"]
ADDRESSES = ["10.9.0.1", "10.9.0.2"]
MTU = 65000
QUEUE = 0.05  # seconds of sending that may wait, as of a switch
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def device(name, namespace, address):
    """A TUN device that lies in the namespace; what is sent into it is read from the descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    ip("link", "set", name, "netns", namespace)
    ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    ip("-n", namespace, "link", "set", name, "mtu", str(MTU), "txqueuelen", "10000", "up")
    ip("-n", namespace, "link", "set", "lo", "up")
    return descriptor


def carry(descriptors, delay, rate, stopped):
    """Takes packets from each device to the other, late."""
    free = [0.0, 0.0]  # when each way has sent what came before
    waiting, number = [], 0
    while not stopped.is_set():
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(descriptors[to], packet)
            except BlockingIOError:
                pass  # lost, as on a full link; TCP sends it again
        rest = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.1
        for descriptor in select.select(descriptors, [], [], rest)[0]:
            way = descriptors.index(descriptor)
            packet = os.read(descriptor, MTU + 100)
            now = time.monotonic()
            if free[way] - now > QUEUE:
                continue  # lost: the queue is full
            free[way] = max(free[way], now) + len(packet) / rate
            number += 1
            heapq.heappush(waiting, (free[way] + delay, number, 1 - way, packet))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, each way")
    parser.add_argument("--rate", type=float, default=1e12, help="bytes a second, each way")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("give a command after --")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is taken away
    made, descriptors, stopped, carrier = [], [], threading.Event(), None
    try:
        for side, (namespace, address) in enumerate(zip(NAMES, ADDRESSES)):
            ip("netns", "add", namespace)
            made.append(namespace)
            descriptors.append(device(f"slow{side}", namespace, address))
        carrier = threading.Thread(target=carry, args=(descriptors, args.delay, args.rate, stopped), daemon=True)
        carrier.start()
        with tempfile.TemporaryDirectory() as folder:
            agent = os.path.join(folder, "agent")
            with open(agent, "w") as file:
                # As ssh: options, the host, the command's words.
                file.write(f'#!/bin/sh\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nshift\nexec ip netns exec {NAMES[1]} unshare --uts sh -c "hostname {NAMES[1]}; $*"\n')
            os.chmod(agent, 0o755)
            environment = {**os.environ, "PRTE_MCA_plm_ssh_agent": agent}
            ended = subprocess.call(["ip", "netns", "exec", NAMES[0], *command], env=environment)
        return ended
    finally:
        stopped.set()
        if carrier:
            carrier.join()
        for namespace in made:
            subprocess.run(["ip", "netns", "del", namespace])


if __name__ == "__main__":
    sys.exit(main())
