"""Tests of the load generator against servers whose answers are known: load_test.py LOAD_PROGRAM.

Bounds are such that a slow or busy machine only goes further on the right side of them.
"""
import selectors
import socket
import sys
import time
import unittest

from rivals import output_of, parse_figures

LOAD = ""


def serve(address, seconds_a_request):
    """Answers one line after the other on all connections, each after so many seconds."""
    host, port = address.split(":")
    listener = socket.create_server((host, int(port)), backlog=64)
    poller = selectors.DefaultSelector()
    poller.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in poller.select():
            if key.fileobj is listener:
                poller.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            line = key.fileobj.recv(4096)
            if line:
                time.sleep(seconds_a_request)
                key.fileobj.sendall(line)
            else:
                poller.unregister(key.fileobj)
                key.fileobj.close()


def load(*options, seconds_a_request):
    # LOAD adds `--addr HOST:PORT --procs N` to what stands behind `--`.
    return parse_figures(output_of([LOAD, *options, "--procs", "2", "--", sys.executable, __file__, "--serve",
                                    str(seconds_a_request)]))


class Load(unittest.TestCase):
    def test_an_open_loop_counts_from_when_a_request_was_due(self):
        # 20 answers a second, 100 requests: the last one waits for seconds although each is answered in 50 ms. A client
        # that counted from when it could send would see four times 50 ms, the number of its connections.
        got = load("open", "--connections", "4", "--rate", "100", "--seconds", "0.5", seconds_a_request=0.05)
        self.assertGreater(got["p50_us"], 500_000)
        self.assertGreater(got["p99_us"], 1_000_000)
        self.assertLess(got["rate"], 40)

    def test_an_open_loop_keeps_its_rate(self):
        got = load("open", "--connections", "8", "--rate", "200", "--seconds", "1", seconds_a_request=0)
        self.assertLess(got["rate"], 300)  # what fell due during the warm-up may be in it
        self.assertEqual(got["unanswered"], 0)
        self.assertLessEqual(got["p50_us"], got["p99_us"])
        self.assertLessEqual(got["p99_us"], got["p999_us"])
        self.assertLessEqual(got["p999_us"], got["max_us"])

    def test_a_closed_loop_is_as_slow_as_the_server(self):
        got = load("closed", "--connections", "4", "--seconds", "0.5", seconds_a_request=0.05)
        self.assertLess(got["rate"], 40)
        self.assertGreater(got["p50_us"], 100_000)  # four connections wait for one server
        self.assertEqual(got["client_is_bottleneck"], 0)
        self.assertLess(got["client_cpu"], 0.5)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[sys.argv.index("--addr") + 1], float(sys.argv[2]))
    LOAD = sys.argv.pop(1)
    unittest.main()
