"""Unit tests of rules, without a kernel and without root: python3 test_rules.py"""
import ctypes
import json
import os
import unittest

lib = ctypes.CDLL(os.environ.get("KUMATP_LIBRARY", "libkumatp.so.1"))
for name in ("kumatp_error_message", "kumatp_text_data"):
    getattr(lib, name).restype = ctypes.c_char_p
for name in ("config", "facts", "plan", "text", "error"):
    getattr(lib, f"kumatp_{name}_free").argtypes = [ctypes.c_void_p]

# Metrics are fetched past the sidecar, SSH is left alone, and all else is redirected.
RULES = b"redirect: {inbound: {excludePorts: [22]}, outbound: {excludePorts: [9000-9100]}}"


def call(name, *arguments):
    out, error = ctypes.c_void_p(), ctypes.c_void_p()
    status = getattr(lib, "kumatp_" + name)(*arguments, ctypes.byref(out), ctypes.byref(error))
    if status != 0:
        message = lib.kumatp_error_message(error).decode()
        lib.kumatp_error_free(error)
        raise ValueError(message)
    return out


class Rules(unittest.TestCase):
    def setUp(self):
        config = call("config_parse", RULES, ctypes.c_size_t(len(RULES)), 2)  # KUMATP_FORMAT_YAML
        facts = call("facts_capable_host", 5678)
        self.plan = call("plan_build", config, facts)
        self.addCleanup(lib.kumatp_plan_free, self.plan)
        lib.kumatp_facts_free(facts)
        lib.kumatp_config_free(config)

    def expect(self, packet, end, port=None, key=None):
        document = json.dumps(packet).encode()
        text = call("plan_explain", self.plan, 1, document, ctypes.c_size_t(len(document)))  # KUMATP_ENGINE_NETLINK
        explanation = json.loads(lib.kumatp_text_data(text))
        lib.kumatp_text_free(text)
        request = explanation["request"]
        told = explanation["summary"] + "\n" + json.dumps(request["trace"], indent=2)
        self.assertEqual((request["verdict"]["end"], request["verdict"].get("port")), (end, port), told)
        if key is not None:
            self.assertEqual(request["trace"][request["decidedBy"]]["key"], key, told)

    def test_rules(self):
        self.expect("tcp 10.1.2.3:9042 uid 1000", "delivered", key="redirect.outbound.excludePorts[0]")
        self.expect("tcp 10.1.2.3:443 uid 1000", "redirected", 15001, "redirect.outbound.enabled")
        self.expect("tcp 10.1.2.3:443 uid 5678", "delivered")  # the sidecar's own
        self.expect("inbound tcp 10.0.0.5:22", "delivered", key="redirect.inbound.excludePorts[0]")

    def test_no_packet(self):
        with self.assertRaisesRegex(ValueError, "^packet: '10.1.2.3' is not valid: expected an address with a port"):
            self.expect("tcp 10.1.2.3", "delivered")


if __name__ == "__main__":
    unittest.main()
