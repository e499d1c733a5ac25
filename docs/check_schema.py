"""Fails unless the JSON Schema judges each document of tests/fixtures/schema.json as it says there."""

import json
import sys
from pathlib import Path

import jsonschema

root = Path(__file__).resolve().parent.parent
schema = json.loads((root / "docs/pages/reference/kumatp.schema.json").read_text())
cases = json.loads((root / "tests/fixtures/schema.json").read_text())
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
wrong = [case["document"] for case in cases if validator.is_valid(case["document"]) != case["schema"]]
for document in wrong:
    print(f"the schema judges this otherwise: {json.dumps(document)}", file=sys.stderr)
sys.exit(bool(wrong))
