"""What the agent must do on every Python that a worker may have: run by each of them, standard library only.

Usage: pythonX.Y compat_checks.py PATH_OF_THE_AGENT
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

AGENT = sys.argv.pop(1)

MEMINFO = """MemTotal:       32614812 kB
MemFree:          802464 kB
MemAvailable:   24461109 kB
Buffers:          331456 kB
"""
STAT = """cpu  1000 20 300 8000 500 10 70 100 0 0
cpu0 500 10 150 4000 250 5 35 50 0 0
intr 12345
"""
OS_RELEASE = """PRETTY_NAME="Ubuntu 22.04.4 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
"""


def load():
    specification = importlib.util.spec_from_file_location("muster_agent", AGENT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["muster_agent"] = module
    specification.loader.exec_module(module)
    return module


agent = load()


class Probes(unittest.TestCase):
    def test_memory_is_total_and_the_share_that_is_not_available(self):
        self.assertEqual(agent.memory(MEMINFO), (33397567488, 25.0))

    def test_idle_and_waiting_time_is_not_busy(self):
        self.assertEqual(agent.cpu_times(STAT), (1500, 10000))

    def test_cpu_usage_is_the_share_between_two_readings(self):
        self.assertEqual(agent.cpu_usage((1500, 10000), (1750, 11000)), 25.0)
        self.assertIsNone(agent.cpu_usage((1500, 10000), (1500, 10000)))

    def test_the_cpu_has_a_name_on_x86_and_may_have_none_on_arm(self):
        for text, name in (
            ("processor : 0\nmodel\t\t: 113\nmodel name\t: AMD Ryzen 9  3900X\n", "AMD Ryzen 9 3900X"),
            ("processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\n", "ARMv7 Processor rev 4 (v7l)"),
            ("processor\t: 0\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4\n", "Raspberry Pi 4"),
            ("processor\t: 0\nBogoMIPS\t: 108.00\n", None),
            ("", None),
        ):
            self.assertEqual(agent.cpu_model(text), name)

    def test_architectures_are_named_as_kubernetes_does(self):
        names = [agent.architecture(name) for name in ("x86_64", "aarch64", "riscv64")]
        self.assertEqual(names, ["amd64", "arm64", "riscv64"])

    def test_the_system_is_named_by_its_pretty_name(self):
        self.assertEqual(agent.system_name(OS_RELEASE), "Ubuntu 22.04.4 LTS")
        self.assertEqual(agent.system_name("PRETTY_NAME='A \"B\" 1'\n"), 'A "B" 1')
        self.assertIsNone(agent.system_name("ID=x\n"))
        self.assertIsNone(agent.system_name('PRETTY_NAME="never ends\n'))

    def test_an_image_that_was_not_booted_yet_has_no_machine_id(self):
        self.assertEqual(agent.machine_id("0123456789abcdef0123456789abcdef\n"), "0123456789abcdef" * 2)
        self.assertIsNone(agent.machine_id("uninitialized\n"))
        self.assertIsNone(agent.machine_id(""))

    def test_a_host_key_is_sent_without_its_comment_and_only_if_ssh_still_knows_its_type(self):
        self.assertEqual(agent.public_key("ssh-ed25519 AAAAC3Nz root@worker1\n"), "ssh-ed25519 AAAAC3Nz")
        for text in ("\n", "ssh-dss AAAAB3Nz root@old", "ssh-rsa AAAA$(reboot)", "no key at all"):
            self.assertIsNone(agent.public_key(text))

    def test_texts_are_short_and_printable(self):
        self.assertEqual(agent.short("a\x1b[31m\n b\t" + "c" * 300), "a [31m b " + "c" * 191)

    def test_the_sequence_grows_with_every_number_and_over_restarts(self):
        first = agent.sequence(0)
        self.assertGreater(first, 0)
        self.assertGreater(agent.sequence(first), first)
        self.assertEqual(agent.sequence(2**62), 2**62 + 1)
        time.sleep(0.01)
        self.assertGreater(agent.sequence(0), first)

    def test_a_figure_that_cannot_be_measured_is_left_out(self):
        self.assertEqual(agent.figure(lambda: 5), 5)
        self.assertIsNone(agent.figure(lambda: agent.memory("")))
        self.assertIsNone(agent.figure(lambda: agent.cpu_times("")))
        gauges = agent.Gauges(agent.Config(api_url="http://127.0.0.1:1", disk_path="/nowhere"))
        self.assertEqual(sorted(gauges.read()), ["loadAverage", "memoryUsage"])

    def test_the_facts_of_this_machine_are_complete(self):
        facts = agent.facts(agent.Config(api_url="http://127.0.0.1:1"))
        self.assertEqual(facts["ipAddress"], "127.0.0.1")
        self.assertGreaterEqual(facts["cpuCores"], 1)
        self.assertGreater(facts["totalMemoryBytes"], 2**20)
        self.assertGreater(facts["totalStorageBytes"], 2**20)
        json.dumps(facts)

    def test_the_wait_after_failures_grows_and_is_bounded(self):
        waits = [[agent.backoff(failures) for _ in range(200)] for failures in (1, 4, 50)]
        self.assertLessEqual(max(waits[0]), 2)
        self.assertGreater(max(waits[1]), 4)
        self.assertLessEqual(max(waits[2]), 60)


class ControlApi(BaseHTTPRequestHandler):
    """A control API that answers as the real one does, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    asked = []
    connections = set()
    beat = threading.Event()
    left = threading.Event()

    def answer(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.command, self.path, self.headers["Authorization"], body))
        self.connections.add(self.client_address)
        if self.path == "/api/workers/register":
            data = {
                "workerId": "w1",
                "isRestart": False,
                "credential": "w1.1.mac",
                "joinToken": "K10aa::abcdef.0123456789abcdef",
                "masterUrl": "https://127.0.0.1:6443",
                "heartbeat": {"url": "/api/workers/w1/heartbeat", "intervalSeconds": 30},
            }
        elif self.path.endswith("/leave"):
            data = {"status": "INACTIVE"}
            self.left.set()
        else:
            data = {"nextInSeconds": 0.1, "status": "ACTIVE"}
            if len([1 for asked in self.asked if asked[0] == "PATCH"]) >= 2:
                self.beat.set()
        content = json.dumps({"success": True, "message": "done", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = answer

    def log_message(self, *_):
        pass


class WholeLife(unittest.TestCase):
    def test_a_worker_registers_beats_over_one_connection_and_says_goodbye(self):
        server = HTTPServer(("127.0.0.1", 0), ControlApi)
        server.timeout = 5
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory() as place:
            config = Path(place, "config.json")
            config.write_text(
                json.dumps(
                    {
                        "api_url": "http://127.0.0.1:%d" % server.server_address[1],
                        "state_dir": place,
                        "kubelet_healthz_url": None,
                    }
                )
            )
            Path(place, "token").write_text("enrolment-token\n")
            join = Path(place, "join-token")
            command = [
                sys.executable,
                AGENT,
                "register",
                "--config",
                str(config),
                "--token-file",
                place + "/token",
            ]
            out = subprocess.check_output([*command, "--join-token-file", str(join)], timeout=30)
            self.assertEqual(json.loads(out)["workerId"], "w1")
            self.assertNotIn(b"mac", out)
            self.assertEqual(join.read_text(), "K10aa::abcdef.0123456789abcdef\n")
            self.assertEqual(os.stat(str(join)).st_mode & 0o777, 0o600)
            self.assertEqual(os.stat(place + "/state.json").st_mode & 0o777, 0o600)

            ControlApi.connections.clear()
            service = subprocess.Popen(
                [sys.executable, AGENT, "run", "--config", str(config)], stderr=subprocess.PIPE
            )
            self.assertTrue(ControlApi.beat.wait(20))
            service.send_signal(signal.SIGTERM)
            self.assertEqual(service.wait(10), 0)
            service.stderr.close()
            self.assertTrue(ControlApi.left.is_set())
        server.shutdown()
        server.server_close()
        beats = [asked for asked in ControlApi.asked if asked[0] == "PATCH"]
        self.assertTrue(all(asked[2] == "Bearer w1.1.mac" for asked in beats))
        numbers = [asked[3]["seq"] for asked in beats]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(len(ControlApi.connections), 1)


if __name__ == "__main__":
    unittest.main()
