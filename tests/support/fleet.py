"""Many connected clients in one process of their own: what it runs, told line by line."""

# Each has a session of its own: holders have a PE each, the others wait for the first one's.
FLEET = """
import threading, time

class Fleet:
    def __init__(self, holders, waiters):
        self.holders = [Connection.open(client=f"holder {n}") for n in range(holders)]
        self.leases = [
            holder.acquire(DeviceSpec.parse(f"npu:{n // 2}:{n % 2}")).id
            for n, holder in enumerate(self.holders)
        ]
        self.waiters = [Connection.open(client=f"waiter {n}") for n in range(waiters)]
        self.got = []
        self.failed = []
        self.threads = []
        for number, waiter in enumerate(self.waiters):
            self.threads.append(threading.Thread(target=self.wait, args=(number, waiter)))
            self.threads[-1].start()
            while len(self.holders[0].overview().waiters) != number + 1:
                pass

    def wait(self, number, waiter):
        try:
            lease = waiter.acquire(DeviceSpec.parse("npu:0:0"), wait_limit=600)
            self.got.append(number)
            waiter.release(lease.id)
        except Exception as exc:
            self.failed.append(repr(exc))

    def state(self):  # as each of them sees it
        seen = {
            tuple(sorted((lease.id, lease.state.value) for lease in connection.leases()))
            for connection in (*self.holders, *self.waiters)
        }
        waiting = [waiter.session for waiter in self.holders[0].overview().waiters]
        return [sorted(map(list, seen.pop())) if len(seen) == 1 else "contradictory", waiting]

    def serve(self):  # the waiters, one after the other
        self.holders[0].release(self.leases[0])
        for thread in self.threads:
            thread.join()
        return [self.got, self.failed]

    def close(self):
        for connection in (*self.holders, *self.waiters):
            connection.close()

class Visitors:  # who come and go, by both sockets
    def __init__(self):
        self.failed, self.visits, self.stop = [], {"handoff": 0, "grpc": 0}, False
        self.threads = [threading.Thread(target=self.run, args=(each,)) for each in self.visits]
        for thread in self.threads:
            thread.start()

    def run(self, kind):
        while not self.stop:
            try:
                getattr(self, kind)()
            except Exception as exc:
                self.failed.append(f"{kind}: {exc!r}")
                return
            self.visits[kind] += 1

    def handoff(self):
        with Connection.open(client="visitor") as visitor:
            visitor.devices()

    def grpc(self):
        import grpc
        from furiosa.proto.broker.v1 import devices_pb2, devices_pb2_grpc
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own for each
        with grpc.insecure_channel("unix:/run/furiosa/broker.sock", options) as channel:
            devices_pb2_grpc.DevicesStub(channel).List(devices_pb2.ListDevicesRequest(), timeout=30)

    def seen(self, more):  # once there were so many more visits of each kind
        goals = {kind: count + more for kind, count in self.visits.items()}
        while not self.failed and any(self.visits[kind] < goals[kind] for kind in goals):
            time.sleep(0.01)
        return self.failed

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join()
        return self.failed
"""
