"""The rules of a configuration file, from Python: python3 plan.py transparent-proxy.yaml"""
import ctypes
import os
import sys

lib = ctypes.CDLL(os.environ.get("KUMATP_LIBRARY", "libkumatp.so.1"))
for name in ("kumatp_error_message", "kumatp_text_data"):
    getattr(lib, name).restype = ctypes.c_char_p
for name in ("config", "facts", "plan", "text", "error"):
    getattr(lib, f"kumatp_{name}_free").argtypes = [ctypes.c_void_p]


def call(name, *arguments):
    out, error = ctypes.c_void_p(), ctypes.c_void_p()
    status = getattr(lib, "kumatp_" + name)(*arguments, ctypes.byref(out), ctypes.byref(error))
    if status != 0:
        message = lib.kumatp_error_message(error).decode()
        lib.kumatp_error_free(error)
        raise RuntimeError(message)
    return out


with open(sys.argv[1], "rb") as file:
    document = file.read()
config = call("config_parse", document, ctypes.c_size_t(len(document)), 2)  # KUMATP_FORMAT_YAML
facts = call("facts_capable_host", 5678)
plan = call("plan_build", config, facts)
text = call("plan_render", plan, 1, 0, 0)  # KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_ALL
print(lib.kumatp_text_data(text).decode(), end="")
for name, handle in (("text", text), ("plan", plan), ("facts", facts), ("config", config)):
    getattr(lib, f"kumatp_{name}_free")(handle)
